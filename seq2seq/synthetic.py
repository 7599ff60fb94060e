"""Floor 4: a recipe that has bundles make more pairs out of another's: back-translation and sequence-level distillation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from seq2seq.data.directions import Direction, together
from seq2seq.data.lines import read_lines, writing_lines
from seq2seq.data.parallel import record_file
from seq2seq.data.recipe import Corpus, make_corpus, pairs_of
from seq2seq.errors import ConfigProblem
from seq2seq.folders import digest_of, remembered
from seq2seq.schema import plain, require


@dataclass(frozen=True)
class Synthetic:
    """The pairs of the recipe `of`, and for each bundle as many that it has translated. They are made once and kept in the cache.

    With bundles of different seeds on both sides and the real pairs beside them it is data diversification (Nguyen et al., 2020).
    """

    source: str
    target: str
    of: Any
    decoding: Any
    """How the bundles search: beam search for distillation; for back-translation sampling, too (Edunov et al., 2018)."""
    forward: tuple[str, ...] = ()
    """Bundles that translate the training sources: pairs of a source and its translation (distillation; Kim and Rush, 2016). `A+B` is an ensemble."""
    backward: tuple[str, ...] = ()
    """Bundles that translate target text: pairs of a translation and its original (back-translation; Sennrich et al., 2016)."""
    monolingual: str | None = None
    """A file of target text for `backward`, a sentence a line; unset: the training targets."""
    keep: bool = True
    """Whether the real pairs stay."""
    weight: float = 1.0
    """How often an epoch takes each pair that a bundle made."""
    mark: str | None = None
    """A word: bt puts the tag <bt> before every source that a bundle made (Caswell et al., 2019)."""

    def __post_init__(self) -> None:
        require(
            (
                self.monolingual is None or bool(self.backward),
                "monolingual text needs a bundle that translates it: backward=[BUNDLE]",
            ),
            (self.weight > 0, f"weight is {self.weight}, it must be above 0"),
            (self.mark is None or self.mark.isalnum(), f"mark is {self.mark!r}, it must be letters and digits"),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        real: Corpus = replace(self.of, source=self.source, target=self.target).load(splits)
        if "train" not in splits:
            return real
        if real.directions:
            raise ConfigProblem("recipe.of is of several directions", "name a recipe of one")
        bundles = [(bundle, False) for bundle in self.forward] + [(bundle, True) for bundle in self.backward]
        if not bundles:
            raise ConfigProblem("no bundle makes pairs", "recipe.forward=[BUNDLE] or recipe.backward=[BUNDLE]")
        made = [self._made(bundle, backward, real) for bundle, backward in bundles]
        weights = [1.0] + [self.weight] * len(made)
        marks = ["", *(f"<{self.mark}>" if backward and self.mark else "" for _, backward in bundles)]
        if not self.keep:
            real = replace(real, splits=type(real.splits)({name: real.splits[name] for name in splits if name != "train"}))
        return together([real, *made], (self.source, self.target), weights, marks)

    def _made(self, bundle: str, backward: bool, real: Corpus) -> Corpus:
        """The pairs that a bundle makes."""
        text = self._text(backward, real)
        key = record_file(Path(self.monolingual)).sha256 if backward and self.monolingual else real.key("train")
        direction = (self.target, self.source) if backward else (self.source, self.target)
        file = self._translated(bundle, direction, text(), key)
        pairs = zip(read_lines(file), text(), strict=True) if backward else zip(text(), read_lines(file), strict=True)
        record, origin = record_file(file), f"translations by {bundle}"
        languages, settings = (self.source, self.target), {"train": f"{origin}, {direction}, {key}"}
        return make_corpus(
            languages, {"train": pairs}, origin, "as its text and its model", {"train": [record]}, settings=settings
        )

    def _text(self, backward: bool, real: Corpus) -> Callable[[], Iterator[str]]:
        """What is translated, from its beginning each time."""
        if backward and self.monolingual:
            return lambda: read_lines(Path(str(self.monolingual)))
        return lambda: (pair[backward] for pair in pairs_of(real.splits["train"]))

    def _translated(self, bundle: str, direction: Direction, lines: Iterable[str], key: str) -> Path:
        """A file with a translation of each line."""
        from seq2seq.bundle import manifest_of
        from seq2seq.translator import Translator

        folders = bundle.split("+")
        manifests = [record_file(manifest_of(Path(folder))).sha256 for folder in folders]
        key = digest_of(_VERSION, key, direction, manifests, type(self.decoding).__name__, plain(self.decoding))

        def write(folder: Path) -> None:
            translator = Translator.load(folders, self.decoding, direction=direction)
            with writing_lines(folder / _LINES) as writer:
                for translation in translator.stream(lines):
                    writer.write(translation.text)

        return remembered("synthetic", key, write) / _LINES


_LINES = "translations.txt"
_VERSION = 1
"""To be raised when the same bundle translates otherwise."""
