"""Floor 2: minimum Bayes risk: of many translations of a sentence, the one most like all the others.

Each candidate is judged against all, itself among them, as if these were the references; the mean is its expected utility under the
model, of what a beam finds (Kumar and Byrne, 2004) or of samples (Eikema and Aziz, 2022). N-grams are counted once a candidate and compared for all
pairs in one go.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from seq2seq.choosing import Choose, check_candidates
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Hypothesis

Matrix = Any
"""(N, N) numbers of NumPy: row i, column j compares candidate i with candidate j as its reference."""


@dataclass(frozen=True)
class MinimumBayesRisk:
    """Ranks what a search finds by expected utility. See `Choosing`."""

    candidates: Any = field(default_factory=lambda: Sampling(n_best=32, top_p=0.9))
    """The search: sampling, or a beam with a large n_best."""
    utility: Literal["chrf", "bleu"] = "chrf"
    n_best: int = 1

    def __post_init__(self) -> None:
        check_candidates(self, "minimum Bayes risk")

    @property
    def bundles(self) -> tuple[str, ...]:
        """See `Choosing`."""
        return ()

    def check_knows(self, source: str, target: str) -> None:
        """See `Choosing`: it asks nobody."""

    def chooser(self, source: str, target: str) -> Choose:
        """See `Choosing`."""
        return self._choose

    def _choose(
        self, sources: Sequence[str], texts: Sequence[Sequence[str]], found: Sequence[list[Hypothesis]], device: torch.device
    ) -> list[list[Hypothesis]]:
        def of_one(texts: Sequence[str], hypotheses: list[Hypothesis]) -> list[Hypothesis]:
            ranked = self.rank(texts, [hypothesis.log_probability for hypothesis in hypotheses])
            return [replace(hypotheses[place], score=utility) for place, utility in ranked]

        return [of_one(*one) if one[1] else [] for one in zip(texts, found, strict=True)]

    def rank(self, texts: Sequence[str], log_probabilities: Sequence[float]) -> list[tuple[int, float]]:
        """The `n_best` different texts: their places in `texts` and expected utilities (0 to 100), best first.

        A text counts as often as it was drawn; where a search has found each once, as much as it is probable.
        """
        drawn = isinstance(self.candidates, Sampling)
        likeliest = max(log_probabilities)
        counted: dict[str, float] = {}
        for text, log_probability in zip(texts, log_probabilities, strict=True):
            counted[text] = counted.get(text, 0.0) + (1.0 if drawn else math.exp(log_probability - likeliest))
        kept, weights = list(counted), np.array(list(counted.values()))
        compared = chrf(kept) if self.utility == "chrf" else bleu(kept)
        expected = (compared @ weights) / weights.sum()
        best = np.argsort(-expected, kind="stable")[: self.n_best]
        return [(texts.index(kept[i]), float(expected[i])) for i in best]


def chrf(texts: Sequence[str], order: int = 6, beta: float = 2.0) -> Matrix:
    """chrF (Popović, 2015) of every text with every other as its reference, 0 to 100, as sacreBLEU computes it for a sentence."""
    characters = ["".join(text.split()) for text in texts]
    precision, recall, orders = (np.zeros((len(texts), len(texts))) for _ in range(3))
    for n in range(1, order + 1):
        matches, totals = _matches([[text[i : i + n] for i in range(len(text) - n + 1)] for text in characters])
        both = (totals[:, None] > 0) & (totals[None, :] > 0)
        precision += np.divide(matches, totals[:, None], out=np.zeros_like(matches), where=both)
        recall += np.divide(matches, totals[None, :], out=np.zeros_like(matches), where=both)
        orders += both
    precision, recall = (np.divide(x, orders, out=np.zeros_like(x), where=orders > 0) for x in (precision, recall))
    weighted = beta**2 * precision + recall
    return 100 * np.divide((1 + beta**2) * precision * recall, weighted, out=np.zeros_like(weighted), where=weighted > 0)


def bleu(texts: Sequence[str], order: int = 4) -> Matrix:
    """BLEU (Papineni et al., 2002) of every text with every other as its reference, 0 to 100; words are what white space parts, and
    one is added to matches and totals above single words (Lin and Och, 2004), so that short texts do not all score 0."""
    words = [text.split() for text in texts]
    lengths = np.array([len(row) for row in words], dtype=np.float64)
    logarithm = np.zeros((len(texts), len(texts)))
    for n in range(1, order + 1):
        matches, totals = _matches([[tuple(row[i : i + n]) for i in range(len(row) - n + 1)] for row in words])
        added = float(n > 1)
        with np.errstate(divide="ignore"):
            logarithm += np.log((matches + added) / np.maximum(totals[:, None] + added, 1)) / order
    brevity = np.minimum(0.0, 1 - lengths[None, :] / np.maximum(lengths[:, None], 1e-9))
    return 100 * np.exp(logarithm + brevity)


def _matches(ngrams: Sequence[Sequence[Any]]) -> tuple[Matrix, Matrix]:
    """How many n-grams each text shares with each other, (N, N), and how many it has, (N)."""
    numbers: dict[Any, int] = {}
    rows = [[numbers.setdefault(ngram, len(numbers)) for ngram in of_text] for of_text in ngrams]
    counts = np.zeros((len(rows), max(len(numbers), 1)), dtype=np.float32)
    for count, row in zip(counts, rows, strict=True):
        np.add.at(count, row, 1)
    matches = np.stack([np.minimum(count, counts).sum(axis=1) for count in counts]).astype(np.float64)
    return matches, counts.sum(axis=1).astype(np.float64)
