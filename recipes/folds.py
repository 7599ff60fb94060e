"""Another recipe without one fold of its training pairs, for a model that is to translate what it has not learned from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from seq2seq.data.directions import loaded
from seq2seq.data.recipe import Corpus
from seq2seq.errors import DataProblem
from seq2seq.folders import digest_of
from seq2seq.schema import require


@dataclass(frozen=True)
class Folds:
    """The pairs of the recipe `of`, dealt out in turn to `count` folds, and those of one fold left out of training.

    A model knows many of its training pairs by heart, and what it makes of them is nearer to their references than what it makes of new text.
    `synthetic` takes one model a fold, `A|B|C`, so that each translates the fold that it has not seen (cross-fitting).
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
        keys = {name: whole.key(name) for name in splits}
        keys["train"] = digest_of(keys["train"], said)
        rows = np.arange(len(train))
        rest = train.select(rows[rows % self.count != self.left_out - 1])
        provenance = replace(whole.provenance, origin=f"{whole.provenance.origin}, {said}")
        return replace(whole, splits=type(whole.splits)({**whole.splits, "train": rest}), provenance=provenance, keys=keys)
