"""What a recipe is: a few settings that know how to produce a parallel corpus and to say where it comes from."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice, repeat
from tempfile import mkstemp
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.data.text import is_blank
from seq2seq.errors import DataProblem
from seq2seq.folders import cache_folder

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

Pair = tuple[str, str]
MaybePair = tuple[str | None, str | None]


@dataclass(frozen=True)
class FileRecord:
    """One file a corpus was read from."""

    name: str
    bytes: int
    sha256: str
    path: str = ""
    """Where it was; kept in the run folder, and in no bundle."""


@dataclass(frozen=True)
class Provenance:
    """Where a corpus comes from, kept in every bundle trained on it."""

    origin: str
    licence: str
    files: tuple[FileRecord, ...] = ()
    notes: tuple[str, ...] = ()
    """What was dropped or changed on the way in, counted."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """By split, how many pairs were dropped because a side was blank or damaged."""

    def as_dict(self) -> dict[str, Any]:
        """For the model card: without the places of files."""
        return asdict(replace(self, files=tuple(replace(file, path="") for file in self.files)))


@dataclass(frozen=True)
class Corpus:
    """A parallel corpus: `splits` has `train`, `validation` and perhaps `test`, each with text columns `source`, `target`.

    `train` may have a column `weight`: how often an epoch takes the pair.
    """

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
    """The door for pairs: one record is one line, blank sides take their partner with them, and so do damaged ones; all are counted.

    A side is damaged if it holds U+FFFD, which a reader puts in the place of bytes that are not UTF-8.
    """

    drop_damaged: bool = False
    blank: int = 0
    folded: int = 0
    damaged: int = 0

    def __call__(self, pairs: Iterable[MaybePair]) -> Iterator[Pair]:
        return ((source, target) for source, target, _ in self.weighted(pairs, repeat(1.0)))

    def weighted(self, pairs: Iterable[MaybePair], weights: Iterable[float]) -> Iterator[tuple[str, str, float]]:
        """The clean pairs, each with its weight."""
        for (source, target), weight in zip(pairs, weights, strict=False):
            if source is None or target is None or is_blank(source) or is_blank(target):
                self.blank += 1
                continue
            if self.drop_damaged and ("\ufffd" in source or "\ufffd" in target):
                self.damaged += 1
                continue
            if "\n" in source or "\n" in target:
                self.folded += 1
                source, target = source.replace("\n", " "), target.replace("\n", " ")
            yield source, target, weight

    @property
    def dropped(self) -> int:
        return self.blank + self.damaged

    def notes(self, split: str) -> tuple[str, ...]:
        said = (
            (self.blank, f"{split}: {self.blank:,} pairs with a blank side dropped"),
            (self.damaged, f"{split}: {self.damaged:,} pairs with bytes that are not UTF-8 dropped"),
            (self.folded, f"{split}: {self.folded:,} pairs had a line break inside, made a space"),
        )
        return tuple(text for count, text in said if count)


def make_corpus(
    languages: tuple[str, str],
    splits: Mapping[str, Iterable[MaybePair]],
    origin: str,
    licence: str,
    files: Iterable[FileRecord] = (),
    weights: Iterable[float] | None = None,
    drop_damaged: bool = False,
) -> Corpus:
    """A corpus from pairs by split, cleaned, with notes on what that dropped.

    Args:
        weights: for each training pair in turn, how often an epoch takes it.
        drop_damaged: leave out pairs with U+FFFD.

    Raises:
        DataProblem: a split has not one pair.
    """
    import datasets

    made: dict[str, datasets.Dataset] = {}
    notes: list[str] = []
    dropped: dict[str, int] = {}
    for name, pairs in splits.items():
        clean = PairCleaner(drop_damaged)
        weigh = name == "train" and weights is not None
        columns = ("source", "target", "weight") if weigh else ("source", "target")
        made[name] = dataset_of(clean.weighted(pairs, weights if weigh and weights is not None else repeat(1.0)), columns)
        if not len(made[name]):
            raise DataProblem(f"{name} holds no pair of sentences", "check the paths and languages of the recipe")
        notes += clean.notes(name)
        dropped[name] = clean.dropped
    return Corpus(datasets.DatasetDict(made), *languages, Provenance(origin, licence, tuple(files), tuple(notes), dropped))


_IN_MEMORY = 200_000
_BLOCK = 10_000


def dataset_of(rows: Iterable[tuple[Any, ...]], columns: Sequence[str]) -> "Dataset":
    """A data set of the first columns of `rows`: a short one in memory, a long one on disk, of which memory holds what is being read."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    rows = iter(rows)

    def block(size: int) -> dict[str, list[Any]]:
        taken = list(islice(rows, size))
        return {column: [row[i] for row in taken] for i, column in enumerate(columns)}

    first = block(_IN_MEMORY)
    types = {column: datasets.Value("float32" if column == "weight" else "string") for column in columns}
    features = datasets.Features(types)
    if len(first["source"]) < _IN_MEMORY:
        return datasets.Dataset.from_dict(first, features=features)
    folder = cache_folder("corpora")
    folder.mkdir(parents=True, exist_ok=True)
    descriptor, path = mkstemp(suffix=".arrow", dir=folder)
    os.close(descriptor)
    try:
        with ArrowWriter(features=features, path=path) as writer:
            for start in range(0, _IN_MEMORY, _BLOCK):
                writer.write_batch({column: values[start : start + _BLOCK] for column, values in first.items()})
            del first
            while (more := block(_BLOCK))["source"]:
                writer.write_batch(more)
            writer.finalize()
        return datasets.Dataset.from_file(path)
    finally:
        os.unlink(path)  # what is mapped stays there without a name, and goes when this process does
