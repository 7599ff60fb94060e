"""What the commands that judge share: a test set, out of a recipe or out of files."""

import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.cli.typed import asked
from seq2seq.data.directions import asked_for, by_direction
from seq2seq.data.recipe import base_of, name_of, texts_of
from seq2seq.errors import ConfigProblem, MachineProblem, machine_problem
from seq2seq.folders import digest_of

if TYPE_CHECKING:
    from seq2seq.evaluation import Metric


@dataclass(frozen=True)
class TestSet:
    """What is translated and compared with."""

    name: str
    sources: list[str]
    """Empty if they were not given."""
    references: list[str]
    target: str
    """Language code, as far as it is known."""
    notes: tuple[str, ...] = ()
    """What the recipe dropped."""

    def file_name(self, models: Sequence[str], *ways: object) -> str:
        """Of what these models reach on it, as one if they are several. Another test set has another name, and so have other models beside the
        first, and other `ways` to translate and to compare."""
        words = re.findall(r"\w+", self.name)
        several = f"-by-{len(models)}-models" if len(models) > 1 else ""
        return f"{'-'.join(words)[:80]}{several}-{digest_of(self.sources, self.references, *models[1:], *ways)[:8]}.json"


class Judging(Protocol):
    """The settings that say what to compare with."""

    @property
    def recipe(self) -> Any: ...
    @property
    def split(self) -> str: ...
    @property
    def source(self) -> str | None: ...
    @property
    def reference(self) -> str | None: ...
    @property
    def direction(self) -> str | None: ...


def check_test_set(job: Judging) -> None:
    """Raises ConfigProblem unless either a recipe or a reference is given."""
    if (job.recipe is None) == (job.reference is None):
        raise ConfigProblem(
            "say what to compare with: either recipe= and split=, or reference=", "for example recipe=cldr split=test"
        )


def check_output(output: Path, read: Iterable[str | None], mark: str) -> None:
    """Whether results can be written once they are there, which may take hours.

    Args:
        read: files that are read.
        mark: what an earlier result holds near its beginning, and no other file.

    Raises:
        ConfigProblem: something is there that must not be written over.
        MachineProblem: its folder cannot be written to.
    """
    for path in read:
        if path and output.absolute() == Path(path).absolute():
            raise ConfigProblem(f"output would take the place of {path}", "choose another output")
    if output.exists():
        with suppress(IsADirectoryError), output.open("rb") as file:
            if mark.encode() in file.read(1000):
                return
        raise ConfigProblem(f"{output} is there, and no result that this release has written", "choose another output")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=output.parent).close()
    except OSError as error:
        problem = machine_problem(error)
        raise MachineProblem(f"{output} cannot be written: {problem.message}", "choose another output") from None


def test_set_of(job: Judging, languages: tuple[str, str] | None) -> TestSet:
    """A split of the recipe, or the files.

    Args:
        languages: source and target of the models that are judged, if they are known.

    Raises:
        DataProblem: the files cannot be read, or do not fit line by line.
    """
    languages = languages or asked_for(job.direction)
    return _split(job, languages) if job.recipe is not None else _files(job, languages)


def _split(job: Judging, languages: tuple[str, str] | None) -> TestSet:
    recipe = job.recipe
    if languages and not hasattr(recipe, "of"):
        _check_asked(languages)
        recipe = replace(recipe, source=languages[0], target=languages[1])
    corpus, wanted = recipe.load((job.split,)), languages or (recipe.source, recipe.target)
    parts = dict(by_direction(corpus.splits[job.split], (corpus.source, corpus.target)))
    if wanted not in parts:
        raise ConfigProblem(
            f"the recipe has {', '.join(' to '.join(each) for each in parts)}, and no {' to '.join(wanted)}",
            "judge by a recipe that has it: recipe=NAME",
        )
    data = parts[wanted]
    base = base_of(recipe) if wanted[0] != wanted[1] else recipe  # what is to be made whole after noise is no text of the base
    usual = getattr(type(base), "test", None)
    special = f" {base.test}" if isinstance(usual, str) and base.test != usual and job.split == "test" else ""
    name = f"{name_of(base)} {job.split}{special}, {wanted[0]} to {wanted[1]}"
    return TestSet(name, list(texts_of(data, "source")), list(texts_of(data, "target")), wanted[1], corpus.provenance.notes)


def metrics_of(metrics: Sequence["Metric"], tokenize: str, target: str) -> list["Metric"]:
    """Those that can be counted; what is left out is said.

    Raises:
        ConfigProblem: none can.
    """
    from seq2seq.evaluation import with_meaning

    left = with_meaning(metrics, tokenize, target)
    if len(left) < len(metrics):
        print("TER is left out: it counts words, and there are no spaces between them", file=sys.stderr)
    return left


def _check_asked(languages: tuple[str, str]) -> None:
    """Raises ConfigProblem if others were typed than those of the models."""
    typed = dict(argument.partition("=")[::2] for argument in asked())
    wanted = tuple(
        typed.get(f"recipe.{side}", code).strip("'\"") for side, code in zip(("source", "target"), languages, strict=True)
    )
    if wanted != languages:
        raise ConfigProblem(
            f"the model translates {' to '.join(languages)}, and the recipe is asked for {' to '.join(wanted)}",
            f"leave recipe.source and recipe.target out, or of a model that knows it direction={'-'.join(wanted)}",
        )


def _files(job: Judging, languages: tuple[str, str] | None) -> TestSet:
    from seq2seq.data.lines import read_lines
    from seq2seq.data.packing import unpacked_name
    from seq2seq.data.parallel import parallel_pairs

    reference = Path(str(job.reference))
    language = languages[1] if languages else unpacked_name(reference).suffix.removeprefix(".")
    if job.source:
        pairs = list(parallel_pairs(Path(job.source), reference))
        return TestSet(reference.name, [source for source, _ in pairs], [target for _, target in pairs], language)
    return TestSet(reference.name, [], list(read_lines(reference)), language)
