"""Another recipe without one fold of its training pairs, for a model that is to translate what it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from seq2seq.data.directions import loaded
from seq2seq.data.recipe import Corpus
from seq2seq.errors import DataProblem
from seq2seq.folders import digest_of
from seq2seq.schema import require

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class Folds:
    """The pairs of the recipe `of`, dealt out in turn to `count` folds, and those of one fold left out of training.

    A model knows many of its training pairs by heart, and what it makes of them is nearer to their references than what it makes of new text.
    `synthetic` takes one model a fold, `A|B|C`, A being the one without fold 1, so that each translates what it has not seen (cross-fitting).
    A pair that stands in the corpus twice may be in two folds, and one of them is then seen; filters come after folds, and do not mend that.
    But filters.decontaminate comes before, so let it be the same for the models and for what they translate.
    """

    source: str
    target: str
    of: Any
    count: int = 4
    left_out: int = 1
    """1 to `count`."""

    def __post_init__(self) -> None:
        require(
            (self.count >= 2, f"count is {self.count}, it must be at least 2"),
            (1 <= self.left_out <= self.count, f"left_out is {self.left_out}, it must be 1 to {self.count}"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        whole = loaded(self.of, (self.source, self.target), splits)
        if "train" not in splits:
            return whole
        train, said = whole.splits["train"], f"without fold {self.left_out} of {self.count}"
        if len(train) < self.count:
            raise DataProblem(f"train has {len(train):,} pairs, too few for {self.count} folds", "fewer folds: recipe.count=2")
        rest = _all_but(train, self.count, self.left_out - 1)
        before, share = whole.provenance, len(rest) / len(train)
        dropped = {split: round(count * share) if split == "train" else count for split, count in before.dropped.items()}
        provenance = replace(before, origin=f"{before.origin}, {said}", dropped=dropped)
        keys = {**whole.keys, "train": digest_of(whole.key("train"), said)}
        return replace(whole, splits=type(whole.splits)({**whole.splits, "train": rest}), provenance=provenance, keys=keys)


def _all_but(data: "Dataset", count: int, left_out: int) -> "Dataset":
    import datasets

    folds = [data.shard(count, fold, contiguous=False) for fold in range(count) if fold != left_out]
    return datasets.concatenate_datasets(folds)
