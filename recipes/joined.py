"""Pairs of another recipe end to end with others of it, so that a model learns more lengths, places and contexts than the text has."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Any

from seq2seq.data.directions import inheriting, loaded, together, weights_in
from seq2seq.data.recipe import Corpus, make_corpus, pairs_of
from seq2seq.data.text import has_spaces
from seq2seq.schema import require


@dataclass(frozen=True)
class Joined:
    """The pairs of the recipe `of`, and for training as many more, each of two, whichever they are (Nguyen et al., 2021, who find partners by
    chance as good as neighbours)."""

    source: str
    target: str
    of: Any
    times: int = 1
    """How many partners each pair gets, one after the other."""
    weight: float = 1.0
    """How often an epoch takes each joined pair."""
    seed: int = 1
    """Of the partners."""

    def __post_init__(self) -> None:
        require(
            (self.times >= 1, f"times is {self.times}, it must be at least 1"),
            (self.weight > 0, f"weight is {self.weight}, it must be above 0"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        real = loaded(self.of, (self.source, self.target), splits)
        if "train" not in splits:
            return real
        count = len(real.splits["train"])
        distances = [1 + Random(f"{self.seed} {i}").randrange(max(1, count - 1)) for i in range(self.times)]
        made = [self._made(real, distance) for distance in distances]
        return together([real, *made], (self.source, self.target), [1.0] + [self.weight] * self.times)

    def _made(self, real: Corpus, distance: int) -> Corpus:
        """Each pair with the one so many places after it; the text is read in order, as a large one must be."""
        train, languages = real.splits["train"], (self.source, self.target)
        in_source, in_target = (" " if has_spaces(language) else "" for language in languages)
        partners = chain(pairs_of(train.skip(distance)) if distance < len(train) else (), pairs_of(train))
        pairs = (
            (source + in_source + next_source, target + in_target + next_target)
            for (source, target), (next_source, next_target) in zip(pairs_of(train), partners, strict=False)
        )
        origin = f"{real.provenance.origin}, joined two by two"
        settings = {"train": f"{real.key('train')} joined at {distance}"}
        weights = None
        if own := weights_in(real):  # what comes seldom does not come more often for having a partner
            weights = [min(both) for both in zip(own, own[distance:] + own[:distance], strict=True)]
        made = make_corpus(languages, {"train": pairs}, origin, real.provenance.licence, weights=weights, settings=settings)
        return inheriting(made, real)
