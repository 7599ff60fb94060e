"""What a recipe is: a few settings that know how to produce a parallel corpus and to say where it comes from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.data.lines import is_blank, read_lines, sha256
from seq2seq.errors import DataProblem

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Pair = tuple[str, str]


@dataclass(frozen=True)
class FileRecord:
    """One file a corpus was read from."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """Where a corpus comes from, kept in every bundle trained on it."""

    origin: str
    licence: str
    files: tuple[FileRecord, ...] = ()
    notes: tuple[str, ...] = ()
    """What was dropped or changed on the way in, counted."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Corpus:
    """A parallel corpus: `splits` has `train`, `validation` and perhaps `test`, each with text columns `source`, `target`."""

    splits: "DatasetDict"
    source: str
    target: str
    provenance: Provenance


class Recipe(Protocol):
    """A frozen dataclass with the languages it is asked for and a `load`. One corpus, one file in `recipes/`."""

    @property
    def source(self) -> str: ...
    @property
    def target(self) -> str: ...
    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        """Produce the given splits.

        Raises:
            DataProblem: something is missing, damaged or does not align.
        """
        ...


@dataclass
class PairCleaner:
    """The door for pairs: one record is one line, blank sides take their partner with them; both are counted."""

    blank: int = 0
    folded: int = 0
    kept: int = 0

    def __call__(self, pairs: Iterable[tuple[str | None, str | None]]) -> Iterator[Pair]:
        for source, target in pairs:
            if source is None or target is None or is_blank(source) or is_blank(target):
                self.blank += 1
                continue
            if "\n" in source or "\n" in target:
                self.folded += 1
                source, target = source.replace("\n", " "), target.replace("\n", " ")
            self.kept += 1
            yield source, target

    def notes(self, split: str) -> tuple[str, ...]:
        said = (
            (self.blank, f"{split}: {self.blank} pairs with a blank side dropped"),
            (self.folded, f"{split}: {self.folded} pairs had a line break inside, made a space"),
        )
        return tuple(text for count, text in said if count)


def make_split(pairs: Iterable[tuple[str | None, str | None]], name: str) -> tuple["Dataset", tuple[str, ...]]:
    """Pairs -> a data set with columns `source` and `target`, and notes on what was dropped.

    Raises:
        DataProblem: not one pair is left.
    """
    import datasets

    clean = PairCleaner()
    columns: dict[str, list[str]] = {"source": [], "target": []}
    for source, target in clean(pairs):
        columns["source"].append(source)
        columns["target"].append(target)
    if not clean.kept:
        raise DataProblem(f"{name} holds no pair of sentences", "check the paths and languages of the recipe")
    return datasets.Dataset.from_dict(columns), clean.notes(name)


def parallel_pairs(source: Path, target: Path) -> Iterator[Pair]:
    """Line i of one file beside line i of the other.

    Raises:
        DataProblem: the files do not have the same number of lines.
    """
    sources, targets = read_lines(source), read_lines(target)
    number = 0
    for number, line in enumerate(sources, start=1):
        other = next(targets, None)
        if other is None:
            rest = sum(1 for _ in sources)
            raise _unequal(source, number + rest, target, number - 1)
        yield line, other
    if (rest := sum(1 for _ in targets)) > 0:
        raise _unequal(source, number, target, number + rest)


def _unequal(source: Path, source_lines: int, target: Path, target_lines: int) -> DataProblem:
    return DataProblem(
        f"{source} has {source_lines} lines, {target} has {target_lines}: they must be translations line by line",
        "find where they part, for example with: paste FILE FILE | less",
    )


def record_file(path: Path) -> FileRecord:
    return FileRecord(path.name, path.stat().st_size, sha256(path))


def find_side(prefix: Path, language: str) -> Path | None:
    """`prefix.language` or `prefix.language.gz`, whichever exists."""
    for suffix in ("", ".gz"):
        path = prefix.with_name(f"{prefix.name}.{language}{suffix}")
        if path.is_file():
            return path
    return None
