"""Floor 3: lines in, lines out. Line i of the answer is the translation of line i, whatever happens in between."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from seq2seq.bundle import Bundle
from seq2seq.data.batch import pad
from seq2seq.data.lines import is_blank, one_line
from seq2seq.data.splitting import split_to_fit
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.stepper import Hypothesis
from seq2seq.errors import ConfigProblem, MachineProblem


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


@dataclass(frozen=True)
class Translation:
    """All that is known of one line: its candidates, best first, and what happened to it on the way.

    Codes: BLANK (nothing to translate), LONG_SPLIT (translated in parts and joined), LENGTH_CAP (ended at the greatest length).
    """

    candidates: tuple[Candidate, ...]
    codes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.candidates[0].text


_BLANK = Translation((Candidate("", 0.0),), ("BLANK",))


class Translator:
    """Translates text with one model and one search. Make one with `Translator.load("runs/demo/bundle")`."""

    def __init__(self, bundle: Bundle, search: Any = None, batch_size: int = 64, batch_tokens: int = 4096) -> None:
        """
        Args:
            search: a `Search`; unset: beam search with its defaults.
            batch_size: at most this many sentences at a time.
            batch_tokens: and at most this many source tokens, padding counted.
        """
        self.bundle, self.model, self.tokenizer = bundle, bundle.model, bundle.tokenizer
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.search = replace(search or BeamSearch(), max_target_length=self.model.config.max_length - 1)
        self._between_parts = "" if bundle.config.target.split("_")[0] in _NO_SPACES else " "

    @classmethod
    def load(cls, bundle: str | Path, search: Any = None, device: str = "auto", batch_size: int = 64) -> "Translator":
        """A translator from a bundle.

        Args:
            device: a torch device, or `auto`: a GPU where there is one.

        Raises:
            BundleProblem: the bundle is missing or damaged.
        """
        loaded = Bundle.load(bundle)
        loaded.model.to(find_device(device))
        return cls(loaded, search, batch_size)

    def translate(self, lines: Sequence[str]) -> list[str]:
        """The best translation of each line."""
        return [translation.text for translation in self.stream(lines, chunk=max(len(lines), 1))]

    def stream(self, lines: Iterable[str], chunk: int = 8192) -> Iterator[Translation]:
        """Translate any number of lines with `chunk` of them in memory. Longer chunks sort better by length."""
        lines = iter(lines)
        while block := list(islice(lines, chunk)):
            yield from self._translate_block(block)

    def _translate_block(self, lines: list[str]) -> list[Translation]:
        parts: list[list[int]] = []
        spans: list[range] = []
        for line, ids in zip(lines, self.tokenizer.encode_source(lines), strict=True):
            start = len(parts)
            if not is_blank(line) and len(ids) > 1:
                parts += [ids] if self._fits(ids) else self._split(line)
            spans.append(range(start, len(parts)))
        found = self._search(parts)
        return [self._join([found[i] for i in span]) for span in spans]

    def _fits(self, ids: Sequence[int]) -> bool:
        return len(ids) <= self.model.config.max_length

    def _split(self, line: str) -> list[list[int]]:
        texts = split_to_fit(
            line,
            lambda text: len(text) <= 16 * self.model.config.max_length and self._fits(self.tokenizer.encode_source([text])[0]),
        )
        return [ids for ids in self.tokenizer.encode_source(texts) if len(ids) > 1]

    def _search(self, parts: Sequence[list[int]]) -> list[list[Hypothesis]]:
        """Hypotheses of each part, found in batches of parts of nearly one length."""
        device = next(self.model.parameters()).device
        was_training = self.model.training
        self.model.eval()
        found: list[list[Hypothesis]] = [[] for _ in parts]
        for batch in self._batches([len(ids) for ids in parts]):
            hypotheses = self.search(self.model, pad([parts[i] for i in batch]).to(device))
            for i, row in zip(batch, hypotheses, strict=True):
                found[i] = row
        self.model.train(was_training)
        return found

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for i in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            if batch and (len(batch) == self.batch_size or (len(batch) + 1) * lengths[batch[0]] > self.batch_tokens):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _join(self, parts: Sequence[list[Hypothesis]]) -> Translation:
        """The parts of one line -> its translation. A line in several parts has as many candidates as its poorest part."""
        if not parts:
            return _BLANK
        codes = (("LONG_SPLIT",) if len(parts) > 1 else ()) + (("LENGTH_CAP",) if any(row[0].capped for row in parts) else ())
        candidates = []
        for rank in range(min(map(len, parts))):
            texts = self.tokenizer.decode_target([row[rank].tokens for row in parts])
            candidates.append(Candidate(one_line(self._between_parts.join(texts)), sum(row[rank].score for row in parts)))
        return Translation(tuple(candidates), codes)
