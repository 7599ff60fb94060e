"""seq2seq-compare: two or more systems on one test set, and whether one is better."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seq2seq.cli.command import Command
from seq2seq.cli.test_sets import TestSet, check_output, check_test_set, metrics_of, test_set_of
from seq2seq.cli.translating import load_translator, run_of
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.schema import require

if TYPE_CHECKING:
    from seq2seq.comparison import System, Verdict
    from seq2seq.page import Curve, Sentence
    from seq2seq.translator import Translator

COMMAND = Command(
    "compare",
    "two or more systems on one test set: scores, chance, and a page",
    (
        "seq2seq-compare 'systems=[runs/a/bundle,runs/b/bundle]' recipe=multi30k split=test",
        "seq2seq-compare 'systems=[out.a.de,out.b.de]' source=test.en reference=test.de output=a-b.html",
    ),
    ("recipe", "decoding", "engine"),
)


@dataclass(frozen=True)
class CompareJob:
    """conf/compare.yaml."""

    decoding: Any
    engine: Any
    systems: list[str]
    names: list[str] | None
    split: Literal["train", "validation", "test"]
    source: str | None
    reference: str | None
    output: str
    examples: int
    metrics: list[Literal["bleu", "chrf", "chrf++", "ter"]]
    tokenize: str
    lowercase: bool
    test: Literal["bootstrap", "randomisation"]
    samples: int
    direction: str | None
    batch_size: int
    device: str
    offline: bool
    recipe: Any = None

    def __post_init__(self) -> None:
        require(
            (not isinstance(self.recipe, dict), "recipe: choose one first, recipe=NAME"),
            (self.names is None or len(self.names) == len(self.systems), "names: as many as there are systems, or none"),
            (bool(self.metrics) and len(set(self.metrics)) == len(self.metrics), "metrics: at least one, and each once"),
            (self.samples >= 2, f"samples is {self.samples}, it must be at least 2"),
            (self.examples >= 0, "examples must not be negative"),
            (self.batch_size >= 1, f"batch_size is {self.batch_size}, it must be at least 1"),
        )


def main() -> None:
    COMMAND.main(CompareJob, run)


def run(job: CompareJob, config: Mapping[str, Any]) -> None:
    """Judge, print the table, write the page."""
    from seq2seq.atomic import write_text
    from seq2seq.comparison import by_length, judged, sentence_scores, wins
    from seq2seq.data.download import go_offline
    from seq2seq.data.text import has_spaces
    from seq2seq.evaluation import chosen_tokenizer, evaluate
    from seq2seq.page import Comparison, page

    check_test_set(job)
    if len(job.systems) < 2:
        raise ConfigProblem(
            f"there are {len(job.systems)} systems, to compare takes two at least", "systems=[A,B], bundles or files"
        )
    check_output(Path(job.output), (*job.systems, job.source, job.reference), 'content="seq2seq-compare"')
    if job.offline:
        go_offline()
    translators = [_translator(job, path) for path in job.systems]
    test_set = test_set_of(job, _languages(translators))
    if not test_set.references:
        raise DataProblem("there is nothing to compare: no line at all", "check the files or the split")
    tokenize = chosen_tokenizer(job.tokenize, test_set.target)
    metrics = metrics_of(job.metrics, tokenize, test_set.target)
    names = job.names or _names(job.systems)
    systems = [
        _system(name, path, translator, test_set) for name, path, translator in zip(names, job.systems, translators, strict=True)
    ]

    def bleu(translations: list[str], references: list[str]) -> float:
        return evaluate(translations, references, ("bleu",), tokenize, job.lowercase)[0].value

    references = test_set.references
    verdicts = judged(systems, references, metrics, tokenize, job.lowercase, job.test, job.samples)
    scores = [sentence_scores(system, references, job.lowercase) for system in systems]
    beside = [wins(of_one, scores[0]) for of_one in scores[1:]]
    better, worse = _examples(job.examples, test_set, systems, scores)
    spaces = has_spaces(test_set.target)
    buckets, curves = by_length(systems, references, bleu, spaces), _curves(names, job.systems)
    test = "paired bootstrap" if job.test == "bootstrap" else "paired approximate randomisation"
    found = Comparison(
        test_set.name, test, systems, verdicts, beside, buckets, "words" if spaces else "characters", better, worse, curves
    )
    _show(test_set, names, verdicts, beside, test)
    write_text(Path(job.output), page(found))
    print(f"\nwritten to {job.output}")


def _translator(job: CompareJob, path: str) -> "Translator | None":
    """Of a bundle; a file holds translations already.

    Raises:
        DataProblem: it is neither.
    """
    if Path(path).is_file():
        return None
    if not Path(path).exists():
        raise DataProblem(f"there is no {path}", "name a bundle, a folder that training has written, or a file of translations")
    return load_translator(path, job)


def _languages(translators: "Sequence[Translator | None]") -> tuple[str, str] | None:
    """Raises ConfigProblem if the bundles do not translate from and into the same."""
    known = {(t.bundle.config.source, t.bundle.config.target) for t in translators if t is not None}
    if len(known) > 1:
        pairs = ", ".join(" to ".join(pair) for pair in sorted(known))
        raise ConfigProblem(f"the bundles translate {pairs}", "compare systems of one direction")
    return next(iter(known), None)


def _names(paths: Sequence[str]) -> list[str]:
    """What differs between the paths, without the folder `bundle` at their end."""
    parts = [[part for part in Path(path).parts if part != "bundle"] for path in paths]
    while min(map(len, parts)) > 1 and len({of_one[0] for of_one in parts}) == 1:
        parts = [of_one[1:] for of_one in parts]
    return ["/".join(of_one) for of_one in parts]


def _system(name: str, path: str, translator: "Translator | None", test_set: TestSet) -> "System":
    from seq2seq.cli.progress import with_progress
    from seq2seq.comparison import System
    from seq2seq.data.lines import read_lines

    if translator is None:
        translations = list(read_lines(Path(path)))
    elif not test_set.sources:
        raise ConfigProblem("a bundle needs something to translate", "source=FILE beside reference=FILE")
    else:
        translations = [t.text for t in with_progress(translator.stream(test_set.sources), len(test_set.sources))]
    if len(translations) != len(test_set.references):
        raise DataProblem(
            f"{path} has {len(translations):,} translations for {len(test_set.references):,} references", "check both files"
        )
    return System(name, translations)


def _examples(
    count: int, test_set: TestSet, systems: "Sequence[System]", scores: Sequence[Sequence[float]]
) -> "tuple[list[Sentence], list[Sentence]]":
    """Where the last system gains most over the first, and where it loses most."""
    from seq2seq.page import Sentence

    gains = [last - first for last, first in zip(scores[-1], scores[0], strict=True)]
    order = sorted(range(len(gains)), key=lambda row: -gains[row])

    def sentence(row: int) -> Sentence:
        source = test_set.sources[row] if test_set.sources else ""
        translations = [system.translations[row] for system in systems]
        return Sentence(row + 1, source, test_set.references[row], translations, [of_one[row] for of_one in scores])

    better = [sentence(row) for row in order[:count] if gains[row] > 0]
    return better, [sentence(row) for row in reversed(order[-count:] if count else []) if gains[row] < 0]


def _curves(names: Sequence[str], paths: Sequence[str]) -> "list[Curve]":
    """Of the systems whose run folder is there."""
    from seq2seq.page import Curve

    curves = []
    for name, path in zip(names, paths, strict=True):
        metrics = run_of(path) / "metrics.csv"
        if Path(path).is_dir() and metrics.is_file():
            with metrics.open(newline="", encoding="utf-8") as file:
                points = [(float(row["step"]), float(row["bleu"])) for row in csv.DictReader(file) if row.get("bleu")]
            curves += [Curve(name, points)] if points else []
    return curves


def _show(
    test_set: TestSet,
    names: Sequence[str],
    verdicts: "Sequence[Verdict]",
    beside: Sequence[tuple[int, int, int]],
    test: str,
) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(test_set.name)}[/], {len(test_set.references):,} sentences\n")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("system", "metric", "score", "95 % interval", "p"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=heading != "system")
    for number, name in enumerate(names):
        for verdict in verdicts:
            of = verdict.systems[number]
            chance = "" if of.p_value is None else f"{of.p_value:.4f}"
            said = escape(name) if verdict is verdicts[0] else ""
            table.add_row(said, verdict.metric, f"[bold cyan]{of.value:.2f}[/]", f"{of.low:.2f} to {of.high:.2f}", chance)
    console.print(table)
    for name, (better, same, worse) in zip(names[1:], beside, strict=True):
        console.print(
            f"{escape(name)}: {better:,} sentences better, {same:,} the same, {worse:,} worse than {escape(names[0])}, by chrF++"
        )
    for verdict in verdicts:
        console.print(f"[dim]{verdict.metric:<7} {verdict.signature}[/]")
    console.print(f"[dim]p against {escape(names[0])}, by {test}[/]")
