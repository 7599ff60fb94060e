"""Floor 2: several systems on one test set: whether one is better than another, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from sacrebleu.significance import PairedTest

from seq2seq.evaluation import NAMES, Metric, metric_of

Test = Literal["bootstrap", "randomisation"]


@dataclass(frozen=True)
class System:
    """Something that translates, and what it made of the test set."""

    name: str
    translations: Sequence[str]


@dataclass(frozen=True)
class Judged:
    """A score with its 95 % bootstrap interval; beside the first system, how likely so large a difference is by chance."""

    value: float
    low: float
    high: float
    p_value: float | None


@dataclass(frozen=True)
class Verdict:
    """One metric of all systems, in their order."""

    metric: str
    signature: str
    systems: tuple[Judged, ...]


def judged(
    systems: Sequence[System],
    references: Sequence[str],
    metrics: Sequence[Metric],
    tokenize: str,
    lowercase: bool = False,
    test: Test = "bootstrap",
    samples: int = 1000,
) -> list[Verdict]:
    """sacreBLEU's paired tests of every system against the first (Koehn, 2004; Riezler and Maxwell, 2005).

    Args:
        test: paired bootstrap, or paired approximate randomisation.
        samples: resamples of the test set, or trials.
    """
    paired = PairedTest(
        # Under numbers: two systems may have one name.
        [(str(number), list(system.translations)) for number, system in enumerate(systems)],
        {name: metric_of(name, tokenize, lowercase) for name in metrics},
        [list(references)],
        test_type="bs" if test == "bootstrap" else "ar",
        n_samples=samples,
        n_ar_confidence=samples if test == "bootstrap" else 1000,  # which also is what the signature says
    )
    signatures: Any
    scores: Any
    signatures, scores = paired()
    verdicts, leasts = [], [_least_p(systems[0], system, lowercase) for system in systems]
    for name, theirs in zip(metrics, (name for name in scores if name != "System"), strict=True):
        # Where there is no difference at all sacreBLEU counts no resample as larger, and calls that significant.
        first = scores[theirs][0].score
        results = [
            Judged(
                float(r.score),
                float(r.mean - r.ci),
                float(r.mean + r.ci),
                r.p_value and max(r.p_value, 1.0 if r.score == first else least),
            )
            for r, least in zip(scores[theirs], leasts, strict=True)
        ]
        verdicts.append(Verdict(NAMES[name], str(signatures[theirs]), tuple(results)))
    return verdicts


def _least_p(first: System, other: System, lowercase: bool) -> float:
    """Of any paired test of two sides: so likely do all sentences that differ differ in one direction by chance. sacreBLEU counts only what is
    larger than the difference found, which nothing is where few sentences differ."""

    def seen(text: str) -> list[str]:
        return (text.lower() if lowercase else text).split()

    differing = sum(seen(ours) != seen(theirs) for ours, theirs in zip(first.translations, other.translations, strict=True))
    return float(min(1.0, 2.0 ** (1 - differing)))


def sentence_scores(system: System, references: Sequence[str], lowercase: bool = False) -> list[float]:
    """chrF++ of each sentence by itself."""
    metric = metric_of("chrf++", "13a", lowercase)
    return [
        float(metric.sentence_score(translation, [reference]).score)
        for translation, reference in zip(system.translations, references, strict=True)
    ]


def wins(ours: Sequence[float], theirs: Sequence[float]) -> tuple[int, int, int]:
    """How many sentences have a higher score, the same to a hundredth, a lower one."""
    signs = np.sign(np.round(np.subtract(ours, theirs), 2))
    return int((signs > 0).sum()), int((signs == 0).sum()), int((signs < 0).sum())


@dataclass(frozen=True)
class Bucket:
    """Sentences of similar length, in words or characters at least and at most, and a score for each system."""

    shortest: int
    longest: int
    sentences: int
    scores: tuple[float, ...]


BUCKETS = 5


def by_length(
    systems: Sequence[System], references: Sequence[str], score: Callable[[list[str], list[str]], float], spaces: bool = True
) -> list[Bucket]:
    """The sentences in a few groups by the words of their references, and the score of each group.

    Args:
        score: of translations and references.
        spaces: whether there are spaces between words; otherwise characters are counted.
    """
    lengths = np.array([len(reference.split() if spaces else reference) for reference in references])
    bounds = np.unique(np.quantile(lengths, np.linspace(0, 1, BUCKETS + 1)).round().astype(int))
    if len(bounds) == 1:
        bounds = np.array([bounds[0], bounds[0] + 1])
    buckets = []
    for low, high in pairwise([*bounds[:-1], bounds[-1] + 1]):
        rows = np.flatnonzero((lengths >= low) & (lengths < high)).tolist()
        if rows:
            chosen = [references[row] for row in rows]
            scores = tuple(score([system.translations[row] for row in rows], chosen) for system in systems)
            buckets.append(Bucket(int(lengths[rows].min()), int(lengths[rows].max()), len(rows), scores))
    return buckets
