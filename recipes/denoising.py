"""Each side of another recipe by itself, to be made whole again after noise: pretraining that needs no translations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from random import Random
from typing import Any

from seq2seq.data.directions import inheriting, loaded, together, weights_in
from seq2seq.data.lines import read_lines
from seq2seq.data.noise import Noise
from seq2seq.data.parallel import record_file
from seq2seq.data.recipe import Corpus, Pair, make_corpus, texts_of
from seq2seq.data.text import has_spaces
from seq2seq.schema import require


@dataclass(frozen=True)
class Denoising:
    """Pairs of a text and itself. Noise comes with training, `noise=` of seq2seq-train (Lample et al., 2018; Lewis et al., 2020); in
    validation, where it must be the same each time, a few words are missing and some have moved."""

    source: str
    target: str
    of: Any
    text: dict[str, str] | None = None
    """Language -> a file of more text, a sentence a line, for training."""

    def __post_init__(self) -> None:
        known = {self.source, self.target}
        require(
            (
                self.text is None or set(self.text) <= known,
                f"text is of {', '.join(self.text or ())}, expected {' or '.join(known)}",
            )
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        real = loaded(self.of, (self.source, self.target), splits)
        sides = ((self.source, "source"), (self.target, "target"))
        corpora = [self._copies(real, language, column) for language, column in sides]
        return together(corpora, (self.source, self.source))

    def _copies(self, real: Corpus, language: str, column: str) -> Corpus:
        more = [record_file(Path(self.text[language]))] if self.text and language in self.text else []
        files = {split: [*real.provenance.files, *(more if split == "train" else [])] for split in real.splits}
        settings = {split: f"{column} of {real.key(split)}" for split in real.splits}
        pairs = {split: self._pairs(real, language, column, split) for split in real.splits}
        own = weights_in(real) if "train" in real.splits else None
        weights = chain(own, repeat(1.0)) if own else None
        origin, licence = real.provenance.origin, real.provenance.licence
        made = make_corpus((language, language), pairs, origin, licence, files, weights, settings=settings)
        return inheriting(made, real)

    def _pairs(self, real: Corpus, language: str, column: str, split: str) -> Iterator[Pair]:
        for text in texts_of(real.splits[split], column):
            yield text if split == "train" else _worse(text, language), text
        if split == "train" and self.text and language in self.text:
            for text in read_lines(Path(self.text[language])):
                yield text, text


_NOISE = Noise(drop=0.1, shuffle=3)


def _worse(text: str, language: str) -> str:
    between = " " if has_spaces(language) else ""
    return between.join(_NOISE(text.split(" ") if between else list(text), "", Random(text)))
