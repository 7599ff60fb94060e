"""Floor 3: lines in, lines out. Line i of the answer is the translation of line i, whatever happens in between."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from seq2seq.bundle import Bundle
from seq2seq.data.splitting import split_to_fit
from seq2seq.data.text import is_blank, one_line, without_halves
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.stepper import Hypothesis
from seq2seq.errors import BundleProblem, ConfigProblem, MachineProblem
from seq2seq.inference.engine import Engine, Native, TorchEngine
from seq2seq.mbr import MinimumBayesRisk


def find_device(name: str) -> torch.device:
    """A torch device; `auto` is a GPU where there is one.

    Raises:
        ConfigProblem: torch knows no such device.
        MachineProblem: this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigProblem(f"device is '{name}', which torch does not know", "device=auto, device=cpu or device=cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise MachineProblem(f"device is {name}, but there is no GPU that torch can use", "device=auto")
    return device


_NO_SPACES = {"zh", "ja", "th", "lo", "km", "my"}
"""Languages written without spaces: parts of a split line are joined directly."""


@dataclass(frozen=True)
class Candidate:
    """One translation of a line, and the score it is ranked by."""

    text: str
    score: float


CODES = {
    "BLANK": "nothing to translate, answered with nothing",
    "BAD_UTF8": "bytes that are not UTF-8 were taken as U+FFFD",
    "CONTROL": "NUL characters were taken as spaces",
    "LONG_SPLIT": "longer than the model holds: translated in parts and joined",
    "LENGTH_CAP": "the translation was ended at the greatest length, decoding.lengths",
    "LOOP": "the translation repeated itself without end and was made again without repeats",
    "EMPTY_OUT": "the model had nothing to say",
    "MEMORY": "memory did not suffice even for this line alone: answered with nothing",
}
"""What may happen to a line on the way, beside being translated."""


@dataclass(frozen=True)
class Translation:
    """All that is known of one line: its candidates, best first, and what happened to it on the way, by `CODES`."""

    candidates: tuple[Candidate, ...]
    codes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.candidates[0].text


_NOTHING = (Candidate("", 0.0),)
_NO_REPEATS = 3
"""A translation that repeats itself without end is made again with no sequence of so many tokens twice."""


class Translator:
    """Translates text with one model and one search. Make one with `Translator.load("runs/demo/bundle")`."""

    def __init__(
        self,
        bundle: Bundle,
        search: Any = None,
        batch_size: int = 64,
        batch_tokens: int = 4096,
        engine: Engine | None = None,
    ) -> None:
        """
        Args:
            search: a `Search`; unset: beam search with its defaults.
            batch_size: at most this many sentences at a time.
            batch_tokens: and at most this many source tokens, padding counted.
            engine: what searches; unset: the bundle's model as it is, which may be in training.
        """
        self.bundle, self.model, self.tokenizer = bundle, bundle.model, bundle.tokenizer
        self.engine = engine or TorchEngine(bundle.model, batch_size, batch_tokens, next(bundle.model.parameters()).device)
        self.search = replace(search or BeamSearch(), max_target_length=self.model.config.max_length - 1)
        self._between_parts = "" if bundle.config.target.split("_")[0] in _NO_SPACES else " "

    @classmethod
    def load(
        cls,
        bundle: str | Path | Sequence[str | Path],
        search: Any = None,
        device: str = "auto",
        batch_size: int = 64,
        engine: Any = None,
    ) -> "Translator":
        """A translator from a bundle, or from several that translate as one.

        Args:
            bundle: its folder; several must have one tokenizer and translate between the same languages.
            device: a torch device, or `auto`: a GPU where there is one.
            engine: settings that make an engine, `Native` if unset.

        Raises:
            BundleProblem: the bundle is missing or damaged.
        """
        folders = [bundle] if isinstance(bundle, str | Path) else bundle
        bundles = [Bundle.load(folder) for folder in folders]
        for folder, other in zip(folders[1:], bundles[1:], strict=True):
            _check_alike(bundles[0], other, str(folders[0]), str(folder))
        return cls(bundles[0], search, batch_size, engine=(engine or Native()).make(bundles, find_device(device), batch_size))

    def translate(self, lines: Sequence[str]) -> list[str]:
        """The best translation of each line."""
        return [translation.text for translation in self.stream(lines, chunk=max(len(lines), 1))]

    def stream(self, lines: Iterable[str], chunk: int = 8192) -> Iterator[Translation]:
        """Translate any number of lines with `chunk` of them in memory. Longer chunks sort better by length."""
        lines = iter(lines)
        while block := list(islice(lines, chunk)):
            yield from self.translate_block(block)

    def translate_block(self, lines: Sequence[str]) -> list[Translation]:
        """Translate some lines together."""
        parts: list[list[int]] = []
        spans: list[range] = []
        for line, ids in zip(lines, self._encode(lines), strict=True):
            start = len(parts)
            if not is_blank(line):
                parts += [ids] if self._fits(ids) else self._split(line)
            spans.append(range(start, len(parts)))
        found = self._search(parts)
        return [self._join(line, [found[i] for i in span]) for line, span in zip(lines, spans, strict=True)]

    def _encode(self, lines: Sequence[str]) -> list[list[int]]:
        # A line so long that it will be split is not encoded whole first.
        return self.tokenizer.encode_source([line if self._may_fit(line) else "" for line in lines])

    def _may_fit(self, text: str) -> bool:
        return len(text) <= _MOST_CHARACTERS_A_TOKEN * self.model.config.max_length

    def _fits(self, ids: Sequence[int]) -> bool:
        return 1 < len(ids) <= self.model.config.max_length

    def _split(self, line: str) -> list[list[int]]:
        texts = split_to_fit(
            line,
            lambda text: self._may_fit(text) and len(self.tokenizer.encode_source([text])[0]) <= self.model.config.max_length,
        )
        return [ids for ids in self.tokenizer.encode_source(texts) if len(ids) > 1]

    def _search(self, parts: Sequence[list[int]]) -> "list[_Found]":
        """What search finds for each part."""
        was_training = self.model.training
        self.model.eval()
        found = [_Found(self._ranked(hypotheses)) for hypotheses in self.engine.search(self.search, parts)]
        looping = [i for i, part in enumerate(found) if part.hypotheses and loops(part.hypotheses[0].tokens, parts[i])]
        careful = replace(self.search, no_repeats=_NO_REPEATS)
        for i, hypotheses in zip(looping, self.engine.search(careful, [parts[i] for i in looping]), strict=True):
            found[i] = _Found(self._ranked(hypotheses), looped=True)
        self.model.train(was_training)
        return found

    def _ranked(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """As they are, but where the search wants to compare them as text."""
        if not isinstance(self.search, MinimumBayesRisk) or not hypotheses:
            return hypotheses
        texts = self.tokenizer.decode_target([hypothesis.tokens for hypothesis in hypotheses])
        return [replace(hypotheses[place], score=utility) for place, utility in self.search.rank(texts)]

    def _join(self, line: str, parts: "Sequence[_Found]") -> Translation:
        """The parts of one line -> its translation. A line in several parts has as many candidates as its poorest part."""
        before = (("BAD_UTF8",) if _has_bad_bytes(line) else ()) + (("CONTROL",) if "\0" in line else ())
        if not parts:
            return Translation(_NOTHING, (*before, "BLANK"))
        candidates = []
        for rank in range(min((len(part.hypotheses) for part in parts if part.hypotheses), default=0)):
            chosen = [part.hypotheses[rank] for part in parts if part.hypotheses]
            texts = self.tokenizer.decode_target([hypothesis.tokens for hypothesis in chosen])
            candidates.append(
                Candidate(one_line(self._between_parts.join(texts)), sum(hypothesis.score for hypothesis in chosen))
            )
        happened = {
            "LONG_SPLIT": len(parts) > 1,
            "LENGTH_CAP": any(part.hypotheses and part.hypotheses[0].capped for part in parts),
            "LOOP": any(part.looped for part in parts),
            "MEMORY": any(not part.hypotheses for part in parts),
            "EMPTY_OUT": bool(candidates) and is_blank(candidates[0].text),
        }
        return Translation(tuple(candidates) or _NOTHING, (*before, *(code for code, did in happened.items() if did)))


def _check_alike(first: Bundle, other: Bundle, name: str, other_name: str) -> None:
    """Raises BundleProblem if the two cannot translate as one."""
    languages, others = ((bundle.config.source, bundle.config.target) for bundle in (first, other))
    if languages != others:
        raise BundleProblem(
            f"{name} translates {' to '.join(languages)}, {other_name} {' to '.join(others)}", "choose bundles of one direction"
        )
    if first.tokenizer.fingerprint() != other.tokenizer.fingerprint():
        raise BundleProblem(
            f"{name} and {other_name} have different tokenizers",
            "train them on the same corpus with the same tokenizer settings, and another seed",
        )


@dataclass(frozen=True)
class _Found:
    """Hypotheses of one part of a line, best first; none if memory did not suffice."""

    hypotheses: list[Hypothesis]
    looped: bool = False


_MOST_CHARACTERS_A_TOKEN = 16
"""A text of more characters a token than this is taken to be too long without counting its tokens."""
_LONGEST_CYCLE, _TIMES = 4, 8


def loops(target: Sequence[int], source: Sequence[int]) -> bool:
    """Whether a translation repeats itself without end: up to 4 tokens 8 times over, more than the source does, or more than
    four times as long as the source."""
    if len(target) > max(4 * len(source), 5 * _TIMES):
        return True
    most = _most_repeats(target)
    return most >= _TIMES and most > 1.5 * _most_repeats(source)


def _most_repeats(tokens: Sequence[int]) -> int:
    """How often in a row the most repeated sequence of up to 4 tokens stands there."""
    most = 1
    for width in range(1, _LONGEST_CYCLE + 1):
        run = 0
        for i in range(width, len(tokens)):
            run = run + 1 if tokens[i] == tokens[i - width] else 0
            most = max(most, run // width + 1)
    return most


def _has_bad_bytes(line: str) -> bool:
    """U+FFFD, which the reader puts in the place of such bytes, or half of a surrogate pair, which is no character."""
    return "\ufffd" in without_halves(line)
