"""Floor 3: of several translations of a sentence, the one from which models of the other direction find the sentence again.

By Bayes' rule the most probable y of p(y | x) is that of p(x | y) p(y): the source is taken for what a noisy channel made of the translation. A
model p(x | y) reads whole translations only, so that a search with p(y | x) proposes some, and its score counts beside, as in Yee et al. (2019)
and Ng et al. (2019), who ask a language model, p(y), too; here there is none.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from seq2seq.bundle import Bundle, config_of, load_alike
from seq2seq.choosing import Choose, check_candidates
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.stepper import Hypothesis
from seq2seq.errors import ConfigProblem
from seq2seq.inference.forced import token_log_probabilities
from seq2seq.schema import require


@dataclass(frozen=True)
class NoisyChannel:
    """Ranks what a search finds by how well the source is found again. See `Choosing`."""

    backward: str | tuple[str, ...] = ()
    """Folders of bundles that translate back; several do it as one."""
    weight: float = 0.25
    """Of log p(source | translation) against the log p(translation | source) of the search. To the score of the search, which is that over a length
    penalty, it is added over the penalty that the search's best candidate has: the source is as long whatever its translation."""
    candidates: Any = field(default_factory=lambda: BeamSearch(20, n_best=20))
    n_best: int = 1

    def __post_init__(self) -> None:
        check_candidates(self, "a noisy channel")
        positive = math.isfinite(self.weight) and self.weight >= 0
        require((positive, f"weight is {self.weight}, it must be a number that is not negative"))

    @property
    def bundles(self) -> tuple[str, ...]:
        """See `Choosing`."""
        return (self.backward,) if isinstance(self.backward, str) else self.backward

    def check_knows(self, source: str, target: str) -> None:
        """See `Choosing`."""
        for folder in self._named(source, target):
            config_of(Path(folder)).check_knows((target, source), folder)

    def chooser(self, source: str, target: str) -> Choose:
        """See `Choosing`."""
        return _Channel(load_alike(self._named(source, target), (target, source)), self.weight, self.n_best)

    def _named(self, source: str, target: str) -> tuple[str, ...]:
        """The bundles, of which there must be one."""
        if not self.bundles:
            raise ConfigProblem(
                f"decoding=noisy_channel needs a model that translates back, {target} to {source}",
                "decoding.backward=RUN/bundle, the folder that a training of that direction has written",
            )
        return self.bundles


class _Channel:
    def __init__(self, back: Sequence[Bundle], weight: float, n_best: int) -> None:
        self._models = [bundle.model for bundle in back]
        self._tokenizer, self._most = back[0].tokenizer, back[0].config.model.max_length
        self._weight, self._n_best = weight, n_best

    def __call__(
        self, sources: Sequence[str], texts: Sequence[Sequence[str]], found: Sequence[list[Hypothesis]], device: torch.device
    ) -> list[list[Hypothesis]]:
        """See `Choose`. Candidates that say the same count as one. Those that the models have no room for, or all where it is the source, come as they
        are, after the others."""
        wanted = self._tokenizer.encode_target(sources)
        asked: list[tuple[int, Hypothesis]] = []
        read: list[list[int]] = []
        as_they_are: list[list[Hypothesis]] = [[] for _ in sources]
        for i, (of_one, hypotheses) in enumerate(zip(texts, found, strict=True)):
            first: dict[str, Hypothesis] = {}
            for text, hypothesis in zip(of_one, hypotheses, strict=True):
                first.setdefault(text, hypothesis)
            for ids, hypothesis in zip(self._tokenizer.encode_source(list(first)), first.values(), strict=True):
                if max(len(ids), len(wanted[i])) > self._most:
                    as_they_are[i].append(hypothesis)
                else:
                    asked.append((i, hypothesis))
                    read.append(ids)
        ranked: list[list[Hypothesis]] = [[] for _ in sources]
        found_again = self._found_again(read, [wanted[i] for i, _ in asked], device)
        for (i, hypothesis), log_probability in zip(asked, found_again, strict=True):
            score = hypothesis.score + self._weight * log_probability / _penalty(found[i][0])
            ranked[i].append(replace(hypothesis, score=score))
        return [
            [*sorted(by_channel, key=lambda hypothesis: -hypothesis.score), *others][: self._n_best]
            for by_channel, others in zip(ranked, as_they_are, strict=True)
        ]

    def _found_again(
        self, translations: Sequence[Sequence[int]], sources: Sequence[Sequence[int]], device: torch.device
    ) -> list[float]:
        """Of each source, given a translation, the log-probability."""
        return [
            sum(of_one) for of_one in token_log_probabilities([model.to(device) for model in self._models], translations, sources)
        ]


def _penalty(hypothesis: Hypothesis) -> float:
    return hypothesis.log_probability / hypothesis.score if hypothesis.score else 1.0
