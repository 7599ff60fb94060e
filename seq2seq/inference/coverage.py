"""The coverage penalty: hypotheses that leave words of the source unattended are ranked lower."""

from collections.abc import Sequence
from dataclasses import replace

from seq2seq.decoding.stepper import Hypothesis
from seq2seq.inference.forced import force, mean_attention
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS


def ranked_by_coverage(
    models: Sequence[Transformer], sources: Sequence[Sequence[int]], found: Sequence[list[Hypothesis]], beta: float, n_best: int
) -> list[list[Hypothesis]]:
    """Add beta * sum over source tokens of log(min(attention it got, 1)) to each score (Wu et al., 2016, eq. 14) and keep the n
    best. The attention is that of forced decoding, the mean of all models; what EOS of the source gets does not count."""
    places = [(i, hypothesis) for i, hypotheses in enumerate(found) for hypothesis in hypotheses]
    if not places:
        return list(found)
    repeated, targets = [sources[i] for i, _ in places], [[*hypothesis.tokens, EOS] for _, hypothesis in places]
    by_model = [force(model, repeated, targets, attention=True) for model in models]
    ranked: list[list[Hypothesis]] = [[] for _ in found]
    for (i, hypothesis), *forced in zip(places, *by_model, strict=True):
        got = mean_attention(forced).sum(dim=0)
        penalty = got[:-1].clamp(min=1e-6, max=1.0).log().sum()
        ranked[i].append(replace(hypothesis, score=hypothesis.score + beta * float(penalty)))
    return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)[:n_best] for hypotheses in ranked]
