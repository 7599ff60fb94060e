"""Several directions of one recipe, for one model that knows them all (Johnson et al., 2017)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from seq2seq.data.directions import Direction, check_languages_are_told, inheriting, loaded, parsed, swapped, together, weights_in
from seq2seq.data.recipe import Corpus, make_corpus, pairs_of, tempered
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
    copies: float = 0.0
    """How often an epoch takes each target text of one direction into each language as a translation of itself, which wants noise that is for
    copies only. Without these, a language that is always translated into the same other one is so whatever is asked for (Wang et al., 2021)."""

    def __post_init__(self) -> None:
        parts = [parsed(text) for text in self.directions]
        require(
            (len(set(parts)) == len(parts) > 1, "directions are to be two or more, each once"),
            (
                all(source != target for source, target in parts),
                "a direction leads to another language; copies are recipe.copies",
            ),
            ((self.source, self.target) in parts, f"{self.source} to {self.target} is none of {', '.join(self.directions)}"),
            (self.temperature >= 1, f"temperature is {self.temperature}, it must be at least 1"),
            (self.copies >= 0, f"copies is {self.copies}, it must not be negative"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        # The pairs of one direction, the other way round, are those of the other, even where a file does not say which side is which.
        main = loaded(self.of, (self.source, self.target), splits)
        known = {(self.source, self.target): main, (self.target, self.source): swapped(main)}
        corpora = [known.get(each) or self._others(each, splits) for each in map(parsed, self.directions)]
        sizes = [len(corpus.splits["train"]) if "train" in splits else 1 for corpus in corpora]
        weights = tempered(sizes, self.temperature)
        if self.copies and "train" in splits:
            spoken = {corpus.target: corpus for corpus in corpora}
            corpora += [_copied(corpus) for corpus in spoken.values()]
            weights += [self.copies] * len(spoken)
        several = together(corpora, (self.source, self.target), weights)
        return replace(several, directions=tuple(each for each in several.directions if each[0] != each[1]))

    def _others(self, direction: Direction, splits: Sequence[str]) -> Corpus:
        corpus = loaded(self.of, direction, splits)
        check_languages_are_told(corpus, next(code for code in direction if code not in (self.source, self.target)))
        return corpus


def _copied(corpus: Corpus) -> Corpus:
    """The training targets, each as a translation of itself."""
    pairs = ((target, target) for _, target in pairs_of(corpus.splits["train"]))
    settings, record = {"train": f"targets of {corpus.key('train')}"}, corpus.provenance
    languages, weights = (corpus.target, corpus.target), weights_in(corpus)
    made = make_corpus(languages, {"train": pairs}, record.origin, record.licence, weights=weights, settings=settings)
    return inheriting(made, corpus)
