"""What a recipe is: a few settings that know how to produce a parallel corpus and to say where it comes from."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.data.lines import is_blank
from seq2seq.errors import DataProblem

if TYPE_CHECKING:
    from datasets import DatasetDict

Pair = tuple[str, str]
MaybePair = tuple[str | None, str | None]


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

    def __call__(self, pairs: Iterable[MaybePair]) -> Iterator[Pair]:
        for source, target in pairs:
            if source is None or target is None or is_blank(source) or is_blank(target):
                self.blank += 1
                continue
            if "\n" in source or "\n" in target:
                self.folded += 1
                source, target = source.replace("\n", " "), target.replace("\n", " ")
            yield source, target

    def notes(self, split: str) -> tuple[str, ...]:
        said = (
            (self.blank, f"{split}: {self.blank} pairs with a blank side dropped"),
            (self.folded, f"{split}: {self.folded} pairs had a line break inside, made a space"),
        )
        return tuple(text for count, text in said if count)


def make_corpus(
    languages: tuple[str, str],
    splits: Mapping[str, Iterable[MaybePair]],
    origin: str,
    licence: str,
    files: Iterable[FileRecord] = (),
) -> Corpus:
    """A corpus from pairs by split, cleaned, with notes on what that dropped.

    Raises:
        DataProblem: a split has not one pair.
    """
    import datasets

    made: dict[str, datasets.Dataset] = {}
    notes: list[str] = []
    for name, pairs in splits.items():
        clean = PairCleaner()
        columns: dict[str, list[str]] = {"source": [], "target": []}
        for source, target in clean(pairs):
            columns["source"].append(source)
            columns["target"].append(target)
        if not columns["source"]:
            raise DataProblem(f"{name} holds no pair of sentences", "check the paths and languages of the recipe")
        made[name] = datasets.Dataset.from_dict(columns)
        notes += clean.notes(name)
    return Corpus(datasets.DatasetDict(made), *languages, Provenance(origin, licence, tuple(files), tuple(notes)))
