"""Which pairs make up batch number n: a pure function of (seed, n), so that training can stop and go on anywhere.

Batches hold pairs of nearly equal lengths and as many of them as a token budget allows (section 5.1 of the paper: "batched
together by approximate sequence length"). Pairs are sorted by bucketed lengths; within a bucket the order is drawn anew each epoch,
and so is the order of the batches. Because the budget is counted on bucket widths, which do not depend on the draw,
every epoch has the same number of batches, and batch n is found by a division.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from seq2seq.schema import require

Indices = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BatchConfig:
    """How much goes into a batch."""

    max_tokens: int | Literal["auto"] = 4096
    """Neither side of a batch has more tokens than this, padding counted. auto: an update of `per_update` tokens is made of as few
    batches as memory allows, whatever `accumulate` says."""
    accumulate: int = 1
    """Batches for one update of the weights."""
    per_update: int = 25_000
    """Of auto; section 5.1."""
    bucket_width: int = 2
    """Lengths that differ by less are taken as equal: wider mixes sentences better, narrower pads less."""

    def __post_init__(self) -> None:
        require(
            (self.max_tokens == "auto" or self.max_tokens >= 1, "max_tokens must be at least 1, or auto"),
            (self.per_update >= 1, "per_update must be at least 1"),
            (self.accumulate >= 1, "accumulate must be at least 1"),
            (self.bucket_width >= 1, "bucket_width must be at least 1"),
        )


class BatchPlan:
    """The batches of an endless run over a corpus, by number."""

    def __init__(
        self,
        source_lengths: Lengths,
        target_lengths: Lengths,
        config: BatchConfig,
        seed: int,
        weights: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Lengths are in tokens, EOS counted; there must be at least one pair, and `max_tokens` must be known.

        Args:
            weights: how often each pair comes in an epoch, 2.5 being twice or three times; unset: once.
        """
        assert config.max_tokens != "auto", "see seq2seq/training/memory.py"
        self._lengths = (source_lengths, target_lengths)
        self._seed = seed
        source, target = (_bucketed(lengths, config.bucket_width) for lengths in self._lengths)
        # Back and forth over the source lengths, so that where the target bucket changes the source length does not jump.
        turning = np.where(target // config.bucket_width % 2 == 0, source, -source)
        order = np.lexsort((turning, target))
        jumps = (np.diff(target[order]) != 0) | (np.diff(turning[order]) != 0)
        self._bucket = np.empty(len(order), dtype=np.int32)
        self._bucket[order] = np.concatenate(([0], np.cumsum(jumps, dtype=np.int32)))
        widths = np.maximum(source, target)
        self._weights = weights if weights is not None and (weights != 1).any() else None
        self._max_tokens, self._widths = config.max_tokens, widths if self._weights is not None else None
        self._starts = _cut(widths[order], config.max_tokens)
        self.batches_per_epoch = len(self._starts) - 1
        if self._weights is not None:
            self.batches_per_epoch = len(self._weighted_epoch(0)[1]) - 1

    def __getitem__(self, number: int) -> Indices:
        """The pairs of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        order, starts, batches = self._epoch(epoch)
        batch = batches[position]
        return order[starts[batch] : starts[batch + 1]]

    def padding_share(self) -> tuple[float, float]:
        """The share of source and of target positions that are padding, over the first epoch."""
        padded, real = np.zeros(2), np.zeros(2)
        for number in range(self.batches_per_epoch):
            rows = self[number]
            for side, lengths in enumerate(self._lengths):
                padded[side] += len(rows) * lengths[rows].max()
                real[side] += lengths[rows].sum()
        source, target = 1 - real / padded
        return float(source), float(target)

    @lru_cache(maxsize=2)  # noqa: B019 - one plan lives as long as its run
    def _epoch(self, epoch: int) -> tuple[Indices, Indices, Indices]:
        """Pairs in order, where batches start in them, and the order of the batches."""
        draw = np.random.default_rng((self._seed, epoch))
        if self._weights is None:
            order = np.lexsort((draw.random(len(self._bucket)), self._bucket))
            return order, self._starts, draw.permutation(self.batches_per_epoch)
        order, starts = self._weighted_epoch(epoch)
        # Which pairs come differs from epoch to epoch, so there may be a batch more or less than there should: one is left out, or
        # comes twice.
        return order, starts, np.resize(draw.permutation(len(starts) - 1), self.batches_per_epoch)

    def _weighted_epoch(self, epoch: int) -> tuple[Indices, Indices]:
        """Each pair as often as the whole part of its weight says, and as many more, drawn anew, as the rest of the weights comes to."""
        assert self._weights is not None
        assert self._widths is not None
        draw = np.random.default_rng((self._seed, epoch, 1))
        taken = []
        for weight in np.unique(self._weights):
            pairs = draw.permutation(np.flatnonzero(self._weights == weight))
            taken.append(np.resize(pairs, max(1, round(float(weight) * len(pairs)))))
        rows = np.concatenate(taken)
        order = rows[np.lexsort((draw.random(len(rows)), self._bucket[rows]))]
        return order, _cut(self._widths[order], self._max_tokens)


def _bucketed(lengths: Lengths, width: int) -> Lengths:
    return -(-lengths // width) * width


def _cut(widths: Lengths, max_tokens: int) -> Indices:
    """Where batches start in the sorted corpus, and its end. A pair longer than the budget is a batch of its own."""
    starts = [0]
    widest = 0
    for i, width in enumerate(widths.tolist()):
        widest = max(widest, width)
        if i > starts[-1] and (i + 1 - starts[-1]) * widest > max_tokens:
            starts.append(i)
            widest = width
    return np.array([*starts, len(widths)], dtype=np.int64)
