"""Sources made worse on purpose, so that a model learns to make them good (Lample et al., 2018; Lewis et al., 2020) or to bear them."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from seq2seq.schema import require

T = TypeVar("T")


@dataclass(frozen=True)
class Noise:
    """What happens to the words of a source, anew each time it is seen in training."""

    drop: float = 0.0
    """The share of words that are left out (0.1 in Lample et al., 2018)."""
    blank: float = 0.0
    """The share of words that an unknown one stands in for (0.1 to 0.35)."""
    shuffle: int = 0
    """No word comes more than so many places from where it was (3)."""
    copies_only: bool = False
    """Only where source and target are the same text, as in denoising, and not where something is translated."""

    def __post_init__(self) -> None:
        require(
            (0 <= self.drop < 1, f"drop is {self.drop}, it must be at least 0 and below 1"),
            (0 <= self.blank < 1, f"blank is {self.blank}, it must be at least 0 and below 1"),
            (self.shuffle >= 0, "shuffle must not be negative"),
            (
                self.is_on or not self.copies_only,
                "copies_only says where there is noise, and there is none: set drop, blank or shuffle",
            ),
        )

    @property
    def is_on(self) -> bool:
        return bool(self.drop or self.blank or self.shuffle)

    def __call__(self, words: Sequence[T], blank: T, random: Random) -> list[T]:
        """The words that are left, in their new order; one at least."""
        places = sorted(range(len(words)), key=[i + random.uniform(0, self.shuffle + 1) for i in range(len(words))].__getitem__)
        kept = [place for place in places if random.random() >= self.drop] or places[:1]
        return [blank if random.random() < self.blank else words[place] for place in kept]
