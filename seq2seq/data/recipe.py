"""What a recipe is: a few settings that know how to produce a parallel corpus and to say where it comes from."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.data.text import is_blank
from seq2seq.errors import DataProblem
from seq2seq.folders import cache_folder, digest_of, remembered

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

    There may be more columns: `weight` of `train`, how often an epoch takes the pair; `tags`, what stands before its source;
    `direction`, its languages where they are not those of the corpus.
    """

    splits: "DatasetDict"
    source: str
    target: str
    provenance: Provenance
    keys: dict[str, str] = field(default_factory=dict)
    """By split, what tells its pairs from others, where that is known without reading them."""
    tags: tuple[str, ...] = ()
    """All that may stand before a source."""
    directions: tuple[tuple[str, str], ...] = ()
    """Of a corpus of several, which they are."""

    def key(self, split: str) -> str:
        """What tells the pairs of a split from others."""
        if split not in self.keys:
            digest = hashlib.sha256()
            for block in self.splits[split].select_columns(["source", "target"]).iter(batch_size=10_000):
                digest.update(json.dumps(block).encode())
            self.keys[split] = digest.hexdigest()
        return self.keys[split]


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


def base_of(recipe: Any) -> Any:
    """Of a recipe that makes more of another's pairs, that other one."""
    while hasattr(recipe, "of"):
        recipe = recipe.of
    return recipe


def name_of(chosen: Any) -> str:
    """The NAME of recipe=NAME, or of another group whose choices are classes: the module that has the class."""
    return type(chosen).__module__.rpartition(".")[2]


@dataclass
class PairCleaner:
    """The door for pairs: one record is one line, blank sides take their partner with them, and so do damaged ones; all are counted.

    A side is damaged if it holds U+FFFD, which a reader puts in the place of bytes that are not UTF-8.
    """

    drop_damaged: bool = False
    blank: int = 0
    folded: int = 0
    damaged: int = 0

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


def tempered(sizes: Sequence[int], temperature: float) -> list[float]:
    """How often an epoch takes each pair of corpora of such sizes, if their shares are to be those of sizes ** (1 / temperature)."""
    return [(max(sizes) / max(size, 1)) ** (1 - 1 / temperature) for size in sizes]


def pairs_of(data: "Dataset") -> Iterator[Any]:
    """(source, target) of each row of a data set."""
    for block in data.iter(batch_size=10_000):
        yield from zip(block["source"], block["target"], strict=True)


def texts_of(data: "Dataset", column: str, about: int | None = None) -> Iterator[str]:
    """One side of a data set, in its order, and a block at a time: row by row the library takes forty times as long.

    Args:
        about: no more than twice so many, from all over it.
    """
    side = data.select_columns(column)
    if about and len(data) > about:
        side = side.select(range(0, len(data), len(data) // about))
    for block in side.iter(batch_size=10_000):
        yield from block[column]


MANY = 200_000
"""Pairs from which on a split lies in files of the cache, of which memory holds what is being read."""


def make_corpus(
    languages: tuple[str, str],
    splits: Mapping[str, Iterable[MaybePair]],
    origin: str,
    licence: str,
    files: Mapping[str, Sequence[FileRecord]] | None = None,
    weights: Iterable[float] | None = None,
    drop_damaged: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Corpus:
    """A corpus from pairs by split, cleaned, with notes on what that dropped. A large split is read once, and found in the cache the next time.

    Args:
        files: by split, what it is read from.
        weights: for each training pair in turn, how often an epoch takes it.
        drop_damaged: leave out pairs with U+FFFD.
        settings: by split, all that its pairs depend on beside files and languages.

    Raises:
        DataProblem: a split has not one pair.
    """
    import datasets

    files, settings = files or {}, settings or {}
    made: dict[str, Dataset] = {}
    keys: dict[str, str] = {}
    notes: list[str] = []
    dropped: dict[str, int] = {}
    for name, pairs in splits.items():
        weigh = name == "train" and weights is not None
        columns = ("source", "target", "weight") if weigh else ("source", "target")
        clean = PairCleaner(drop_damaged)
        rows = clean.weighted(pairs, weights if weigh and weights is not None else repeat(1.0))
        of_files = [record.sha256 for record in files.get(name, ())]
        if of_files or name in settings:
            keys[name] = digest_of(_VERSION, name, languages, columns, drop_damaged, settings.get(name), of_files)
        made[name], noted = _kept(keys.get(name), rows, columns, lambda: (clean.dropped, clean.notes(name)))  # noqa: B023
        if not len(made[name]):
            raise DataProblem(f"{name} holds no pair of sentences", "check the paths and languages of the recipe")
        dropped[name] = noted[0]
        notes += noted[1]
    records = tuple(dict.fromkeys(record for of_split in files.values() for record in of_split))
    return Corpus(datasets.DatasetDict(made), *languages, Provenance(origin, licence, records, tuple(notes), dropped), keys)


Noted = tuple[int, Sequence[str]]
"""Pairs dropped, and what to say of that and other changes."""
_BLOCK = 100_000
"""Rows that are written together. To open a file of few large blocks touches little of it."""
_VERSION = 1
"""To be raised when other pairs are made of the same files."""


def _kept(
    key: str | None, rows: Iterator[tuple[Any, ...]], columns: Sequence[str], note: Callable[[], Noted]
) -> "tuple[Dataset, Noted]":
    """A data set of the first columns of `rows`, and what is noted when all are read: a short one in memory; a long one from the cache if it
    is there, else into it."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    if key and (folder := cache_folder("corpora") / key).is_dir():
        return _of(folder)
    first = list(islice(rows, MANY))
    types = {column: datasets.Value("float32" if column == "weight" else "string") for column in columns}
    features = datasets.Features(types)

    def block(taken: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
        return {column: [row[i] for row in taken] for i, column in enumerate(columns)}

    if len(first) < MANY:
        return datasets.Dataset.from_dict(block(first), features=features), note()

    def write(folder: Path) -> None:
        with ArrowWriter(features=features, path=str(folder / _PAIRS)) as writer:
            rest = chain(first, rows)
            while taken := list(islice(rest, _BLOCK)):
                writer.write_batch(block(taken))
            writer.finalize()
        (folder / _NOTED).write_text(json.dumps(note()), encoding="utf-8")

    if key:
        return _of(remembered("corpora", key, write))
    cache_folder("corpora").mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache_folder("corpora")) as passing:
        write(Path(passing))
        return _of(Path(passing))  # what is mapped stays there without a name, and goes when this process does


_PAIRS, _NOTED = "pairs.arrow", "noted.json"


def _of(folder: Path) -> "tuple[Dataset, Noted]":
    import datasets

    dropped, notes = json.loads((folder / _NOTED).read_text(encoding="utf-8"))
    return datasets.Dataset.from_file(str(folder / _PAIRS)), (dropped, notes)
