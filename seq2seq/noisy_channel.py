"""Floor 3: of several translations of a sentence, the one from which models of the other direction find the sentence again.

By Bayes' rule the most probable y of p(y | x) is that of p(x | y) p(y): the source is taken for what a noisy channel made of the translation. A
model p(x | y) reads whole translations only, so that another search proposes some; what it thought of them counts beside (Yee et al.,
2019; Ng et al., 2019).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seq2seq.bundle import Bundle, check_alike
from seq2seq.decoding import candidates as choosing
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.stepper import Hypotheses, Hypothesis, Lexicon, Wishes
from seq2seq.errors import ConfigProblem
from seq2seq.inference.forced import token_log_probabilities
from seq2seq.schema import require


@dataclass(frozen=True)
class NoisyChannel:
    """Finds candidates with another search and ranks them by how well the source is found again. A `Search` that also knows text."""

    backward: tuple[str, ...] = ()
    """Folders of bundles that translate back; several do it as one."""
    weight: float = 1.0
    """Of log p(source | translation) / source tokens, which is added to the score that the candidates have."""
    candidates: Any = field(default_factory=lambda: BeamSearch(20, n_best=20))
    """The search that makes them."""
    n_best: int = 1
    no_repeats: int = 0
    max_target_length: int | None = None
    lexicon: Lexicon | None = None

    def __post_init__(self) -> None:
        choosing.check(self, "a noisy channel")
        require(
            (
                math.isfinite(self.weight) and self.weight >= 0,
                f"weight is {self.weight}, it must be a number that is not negative",
            )
        )

    def begin(self, source: Tensor, wishes: Sequence[Wishes] = ()) -> Hypotheses:
        """See `Search`."""
        return choosing.begin(self, source, wishes)

    def chooser(self, source: str, target: str, device: torch.device) -> choosing.Choose:
        """See `Choosing`. The bundles must fit together."""
        if not self.backward:
            raise ConfigProblem(
                f"decoding=noisy_channel needs a model that translates back, {target} to {source}",
                "decoding.backward=[RUN/bundle], the folder that a training of that direction has written",
            )
        bundles = []
        for folder in self.backward:
            bundle = Bundle.load(folder)
            bundle.config.check_knows((target, source), folder)
            bundles.append(bundle.toward((target, source)))
            check_alike(bundles[0], bundles[-1], self.backward[0], folder)
            bundle.model.to(device)
        return _Channel(bundles, self.weight, self.n_best)


class _Channel:
    def __init__(self, bundles: Sequence[Bundle], weight: float, n_best: int) -> None:
        self._models = [bundle.model for bundle in bundles]
        self._tokenizer, self._most = bundles[0].tokenizer, bundles[0].config.model.max_length
        self._weight, self._n_best = weight, n_best

    def __call__(
        self, sources: Sequence[str], texts: Sequence[Sequence[str]], found: Sequence[list[Hypothesis]]
    ) -> list[list[Hypothesis]]:
        """See `Choose`. Candidates that say the same count as one; where the models have no room for one of them, none of that sentence is
        ranked anew."""
        wanted = self._tokenizer.encode_target(sources)
        asked: list[tuple[int, int]] = []
        read: list[list[int]] = []
        for i, of_one in enumerate(texts):
            first: dict[str, int] = {}
            for place, text in enumerate(of_one):
                first.setdefault(text, place)
            ids = self._tokenizer.encode_source(list(first))
            if max(map(len, [wanted[i], *ids])) <= self._most:
                asked += [(i, place) for place in first.values()]
                read += ids
        chosen = [hypotheses[: self._n_best] for hypotheses in found]
        ranked: dict[int, list[Hypothesis]] = {}
        for (i, place), score in zip(asked, self._found_again(read, [wanted[i] for i, _ in asked]), strict=True):
            hypothesis = found[i][place]
            ranked.setdefault(i, []).append(replace(hypothesis, score=hypothesis.score + self._weight * score))
        for i, hypotheses in ranked.items():
            chosen[i] = sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[: self._n_best]
        return chosen

    def _found_again(self, translations: Sequence[Sequence[int]], sources: Sequence[Sequence[int]]) -> list[float]:
        """Of each source, given a translation, the mean log-probability of its tokens; that of a token is the mean of the probabilities which the
        models give it."""
        by_model = [token_log_probabilities(model, translations, sources) for model in self._models]
        together = (np.logaddexp.reduce(of_one) - math.log(len(of_one)) for of_one in zip(*by_model, strict=True))
        return [float(tokens.mean()) for tokens in together]
