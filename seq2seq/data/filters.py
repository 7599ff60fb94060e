"""Which pairs are left out of training. Every filter is off until it is asked for, and counts what it takes."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import name, normalize

import numpy as np
import numpy.typing as npt

from seq2seq.data.alignment import said_of_shift
from seq2seq.data.directions import ONE_DIRECTION, Direction, loaded, rows_by_direction
from seq2seq.data.recipe import MANY, Corpus, pairs_of, texts_of
from seq2seq.errors import DataProblem
from seq2seq.folders import digest_of, remembered
from seq2seq.schema import plain, require

if TYPE_CHECKING:
    from datasets import Dataset

Judge = Callable[[str, str], bool]
"""(source, target) -> whether the pair is to go."""


@dataclass(frozen=True)
class Filters:
    """Settings; lengths are in characters."""

    max_length: int | None = None
    """Neither side is longer."""
    max_ratio: float | None = None
    """Neither side is so many times longer than the other; ten characters are added to both, for the sake of short ones."""
    identical: bool = False
    """Leave out pairs that say the same on both sides, but for those that a recipe of several directions has made so."""
    duplicates: bool = False
    """Leave out a pair that was there before."""
    wrong_script: bool = False
    """Leave out texts in a script that is rare on their side."""
    decontaminate: bool = False
    """Leave out pairs of which a side is in validation or test, and that before a recipe makes more of another's."""
    max_drop: float = 0.01
    """The share of pairs with a blank side, or a damaged one, that a corpus may lose without anybody being asked."""

    def __post_init__(self) -> None:
        require(
            (self.max_length is None or self.max_length >= 1, "max_length must be at least 1, or null"),
            (self.max_ratio is None or self.max_ratio > 1, "max_ratio must be above 1, or null"),
            (0 <= self.max_drop <= 1, f"max_drop is {self.max_drop}, it must be from 0 to 1"),
        )

    def judges(self, data: "Dataset", held_out: frozenset[str], copies: bool = False) -> dict[str, Judge]:
        """The filters that are on, by what they say of the pairs they take. `copies` are meant to be the same on both sides."""
        chosen: dict[str, Judge] = {}
        if (limit := self.max_length) is not None:
            chosen[f"longer than {limit} characters"] = lambda source, target: too_long(source, target, limit)
        if (ratio := self.max_ratio) is not None:
            chosen[f"one side {ratio:g} times as long as the other"] = lambda source, target: unbalanced(source, target, ratio)
        if self.identical and not copies:
            chosen["the same on both sides"] = same_on_both_sides
        if self.wrong_script:
            usual = usual_of(data)
            chosen["in an unusual script"] = lambda source, target: not (fits(source, usual[0]) and fits(target, usual[1]))
        if self.duplicates:
            chosen["there before"] = _Before()
        if self.decontaminate:
            chosen["a side is in validation or test"] = lambda source, target: is_known(source, target, held_out)
        return chosen


def too_long(source: str, target: str, limit: int) -> bool:
    return max(len(source), len(target)) > limit


def unbalanced(source: str, target: str, ratio: float) -> bool:
    short, long = sorted((len(source) + 10, len(target) + 10))
    return long > ratio * short


def same_on_both_sides(source: str, target: str) -> bool:
    return key(source) == key(target)


def key(text: str) -> str:
    """What two texts share that differ in case, white space and Unicode form only."""
    return " ".join(normalize("NFKC", text).casefold().split())


_OF_JAPANESE = {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HALFWIDTH", "FULLWIDTH", "IDEOGRAPHIC"}
"""What stands beside CJK in one text."""


@lru_cache(maxsize=1 << 16)
def _script_of(character: str) -> str:
    word = name(character, "").partition(" ")[0]
    return "CJK" if word in _OF_JAPANESE else word


def script(text: str) -> str:
    """The first word of the Unicode names of most of its letters, such as LATIN, CYRILLIC or CJK; nothing without letters."""
    return next((found for found, _ in Counter(_script_of(c) for c in text if c.isalpha()).most_common(1)), "")


def usual_scripts(texts: Iterable[str]) -> frozenset[str]:
    """The scripts of at least one text in twenty."""
    found = Counter(script(text) for text in texts)
    return frozenset(kind for kind, count in found.items() if 20 * count >= found.total())


def usual_of(data: "Dataset") -> list[frozenset[str]]:
    """Of the two sides, by a sample from all over the data."""
    return [usual_scripts(texts_of(data, column, 10_000)) for column in ("source", "target")]


def fits(text: str, usual: frozenset[str]) -> bool:
    found = script(text)
    return not found or found in usual


class _Before:
    """Whether a pair has been seen, by 8 bytes of its hash."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def __call__(self, source: str, target: str) -> bool:
        digest = int.from_bytes(blake2b(f"{key(source)}\t{key(target)}".encode("utf-8", "replace"), digest_size=8).digest())
        seen = digest in self._seen
        self._seen.add(digest)
        return seen


def held_out_text(splits: Iterable["Dataset"]) -> frozenset[str]:
    """Both sides of validation and test, as `key` makes them."""
    return frozenset(key(text) for data in splits for column in ("source", "target") for text in texts_of(data, column))


def is_known(source: str, target: str, held_out: frozenset[str]) -> bool:
    """Whether a side of the pair is held out, too."""
    return key(source) in held_out or key(target) in held_out


_APART = 2
"""To be raised when `Apart` judges otherwise."""


@dataclass(frozen=True)
class Apart:
    """A recipe without the training pairs of another that have a side in validation or test, for a recipe that makes more of it: what
    is joined, noised, copied or translated cannot be told from others afterwards."""

    source: str
    target: str
    of: Any
    judged_by: Direction
    """The languages whose validation and test are held out of training pairs that are asked for alone: those of a third language."""

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        """As the recipe, which is asked for all it holds out."""
        import datasets

        corpus = loaded(self.of, (self.source, self.target), splits)
        if "train" not in corpus.splits:
            return corpus
        apart = corpus if len(corpus.splits) > 1 else loaded(self.of, self.judged_by, ("validation", "test"))
        held_out = held_out_text(data for name, data in apart.splits.items() if name != "train")
        train = corpus.splits["train"]
        keep = [not is_known(source, target, held_out) for source, target in pairs_of(train)]
        if not any(keep):
            raise DataProblem("every training pair has a side in validation or test", "filters.decontaminate=false")
        if all(keep):
            return corpus
        note = f"train: {len(keep) - sum(keep):,} pairs left out: a side is in validation or test"
        provenance = replace(corpus.provenance, notes=(*corpus.provenance.notes, note))
        datasets.disable_progress_bars()
        # Made whole here: who adds a column would do it on the disk, beside what is kept there for others.
        rest = train.select(np.flatnonzero(keep), keep_in_memory=True).flatten_indices(keep_in_memory=True)
        keys = {**corpus.keys, "train": digest_of(_APART, corpus.key("train"), "apart", sorted(held_out))}
        return replace(corpus, splits=type(corpus.splits)({**corpus.splits, "train": rest}), provenance=provenance, keys=keys)


def with_base_apart(recipe: Any) -> Any:
    """A recipe that makes more of another one (`of`), which then is `Apart`; any other as it is."""
    of = getattr(recipe, "of", None)
    if not is_dataclass(of) or isinstance(of, type):
        return recipe
    languages = (recipe.source, recipe.target)
    return replace(recipe, of=Apart(*languages, with_base_apart(of), languages))


def loaded_filtered(recipe: Any, filters: Filters, splits: Sequence[str]) -> tuple[Corpus, list[str]]:
    """What a recipe gives, with a filtered training split, and what to say of it."""
    corpus: Corpus = (with_base_apart(recipe) if filters.decontaminate else recipe).load(splits)
    held_out = held_out_text(data for split, data in corpus.splits.items() if split != "train")
    return filtered(corpus, filters, held_out)


def filtered(corpus: Corpus, filters: Filters, held_out: frozenset[str]) -> tuple[Corpus, list[str]]:
    """The corpus with a filtered training split, and what to say of it.

    Raises:
        DataProblem: more was blank or damaged than `max_drop` allows, or nothing is left.
    """
    for split, dropped in corpus.provenance.dropped.items():
        share = dropped / (dropped + len(corpus.splits[split]))
        if share > filters.max_drop:
            raise DataProblem(
                f"{split}: {dropped:,} pairs, {share:.1%}, have a blank or damaged side; more than filters.max_drop={filters.max_drop:g}",
                f"look whether the files belong together, or allow it: filters.max_drop={min(1, round(share + 0.01, 2)):g}",
            )
    data = corpus.splits["train"]
    known = digest_of(_VERSION, corpus.key("train"), plain(filters), sorted(held_out))

    def write(folder: Path) -> None:
        keep, remarks = _judged(data, filters, held_out)
        np.save(folder / _KEEP, keep)
        (folder / _REMARKS).write_text(json.dumps(remarks), encoding="utf-8")

    if len(data) < MANY:
        keep, remarks = _judged(data, filters, held_out)
    else:
        folder = remembered("filters", known, write)
        keep, remarks = np.load(folder / _KEEP), json.loads((folder / _REMARKS).read_text(encoding="utf-8"))
    if not keep.any():
        raise DataProblem("the filters leave no pair to train on", f"loosen them: {'; '.join(remarks)}")
    if not keep.all():
        corpus.splits["train"] = data.select(np.flatnonzero(keep), keep_in_memory=True)
        corpus.keys["train"] = known
    return corpus, remarks


_KEEP, _REMARKS = "keep.npy", "remarks.json"
_VERSION = 5
"""To be raised when a filter judges otherwise."""


def _judged(data: "Dataset", filters: Filters, held_out: frozenset[str]) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Which pairs stay, each direction by itself, and what to say of the others."""
    taken: Counter[str] = Counter()
    shifts = []
    leaks = 0
    keep = np.ones(len(data), dtype=bool)
    for (spoken, wanted), rows in rows_by_direction(data, ONE_DIRECTION):
        part = data if len(rows) == len(data) else data.select(rows)
        judges = filters.judges(part, held_out, copies=spoken == wanted)
        shifts.append(said_of_shift(texts_of(part, "source"), texts_of(part, "target")))
        for row, (source, target) in zip(rows.tolist(), pairs_of(part), strict=True):
            reason = next((said for said, judge in judges.items() if judge(source, target)), None)
            if reason is not None:
                keep[row] = False
                taken[reason] += 1
            elif is_known(source, target, held_out):
                leaks += 1
    remarks = [f"train: {count:,} pairs left out: {reason}" for reason, count in taken.items()]
    remarks += [f"train: {said}" for said in shifts if said]
    if leaks:
        remarks.append(
            f"train: {leaks:,} pairs have a side that is held out, too, so scores may flatter; filters.decontaminate=true leaves out what is in validation or test"
        )
    return keep, remarks
