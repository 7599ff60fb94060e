"""Several directions of one recipe, for one model that knows them all (Johnson et al., 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from seq2seq.data.directions import loaded, parsed, swapped, together
from seq2seq.data.recipe import Corpus, tempered
from seq2seq.schema import require


@dataclass(frozen=True)
class Directions:
    """`of` is any recipe; it is asked once for each direction. `source` and `target` are what is taken where nothing is said."""

    source: str
    target: str
    of: Any
    directions: tuple[str, ...]
    temperature: float = 1.0
    """Above 1, directions with few pairs are taken more often, so that their shares are those of sizes ** (1 / temperature)."""

    def __post_init__(self) -> None:
        parts = [parsed(text) for text in self.directions]
        require(
            (len(set(parts)) == len(parts) > 1, "directions are to be two or more, each once"),
            ((self.source, self.target) in parts, f"{self.source} to {self.target} is none of {', '.join(self.directions)}"),
            (self.temperature >= 1, f"temperature is {self.temperature}, it must be at least 1"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        # The pairs of one direction, the other way round, are those of the other, even where a file does not say which side is which.
        main = loaded(self.of, (self.source, self.target), splits)
        known = {(self.source, self.target): main, (self.target, self.source): swapped(main)}
        corpora = [known.get(each) or loaded(self.of, each, splits) for each in map(parsed, self.directions)]
        sizes = [len(corpus.splits["train"]) if "train" in splits else 1 for corpus in corpora]
        return together(corpora, (self.source, self.target), tempered(sizes, self.temperature))
