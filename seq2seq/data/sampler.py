"""Which pairs make up batch number n: a pure function of (seed, n), so that training can stop and go on anywhere.

Batches hold pairs of nearly equal lengths and as many of them as a token budget allows (section 5.1 of the paper: "batched
together by approximate sequence length"). Pairs are sorted by bucketed lengths; within a bucket the order is drawn anew each epoch,
and so is the order of the batches. Because the budget is counted on bucket widths, which do not depend on the draw,
every epoch has the same number of batches, and batch n is found by a division.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from seq2seq.schema import require

Indices = npt.NDArray[np.int64]
Lengths = npt.NDArray[np.int32]


@dataclass(frozen=True)
class BatchConfig:
    """How much goes into a batch."""

    max_tokens: int = 4096
    """Neither side of a batch has more tokens than this, padding counted. The paper's is about 25,000 (section 5.1)."""
    accumulate: int = 1
    """Batches for one update of the weights."""
    bucket_width: int = 2
    """Lengths that differ by less are taken as equal: wider mixes sentences better, narrower pads less."""

    def __post_init__(self) -> None:
        require(
            (self.max_tokens >= 1, "max_tokens must be at least 1"),
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
        """Lengths are in tokens, EOS counted; there must be at least one pair.

        Args:
            weights: how often each pair comes in an epoch, 2.5 being twice or three times; unset: once.
        """
        self._lengths = (source_lengths, target_lengths)
        self._seed = seed
        source, target = (_bucketed(lengths, config.bucket_width) for lengths in self._lengths)
        # Back and forth over the source lengths, so that where the target bucket changes the source length does not jump.
        turning = np.where(target // config.bucket_width % 2 == 0, source, -source)
        order = np.lexsort((turning, target))
        jumps = (np.diff(target[order]) != 0) | (np.diff(turning[order]) != 0)
        self._bucket = np.empty(len(order), dtype=np.int32)
        self._bucket[order] = np.concatenate(([0], np.cumsum(jumps, dtype=np.int32)))
        self._cell, self._picks = self._bucket, None
        if weights is not None and (weights != 1).any():
            self._cell, self._picks = _quotas(self._bucket, weights)
            order = np.lexsort((self._cell,))[self._picks]
        self._starts = _cut(source[order], target[order], config.max_tokens)
        self.batches_per_epoch = len(self._starts) - 1

    def __getitem__(self, number: int) -> Indices:
        """The pairs of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        order, batches = self._epoch(epoch)
        batch = batches[position]
        return order[self._starts[batch] : self._starts[batch + 1]]

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
    def _epoch(self, epoch: int) -> tuple[Indices, Indices]:
        draw = np.random.default_rng((self._seed, epoch))
        order = np.lexsort((draw.random(len(self._cell)), self._cell))
        if self._picks is not None:
            order = order[self._picks]
            order = order[np.lexsort((draw.random(len(order)), self._bucket[order]))]
        return order, draw.permutation(self.batches_per_epoch)


def _bucketed(lengths: Lengths, width: int) -> Lengths:
    return -(-lengths // width) * width


def _quotas(bucket: Lengths, weights: npt.NDArray[np.float32]) -> tuple[Lengths, Indices]:
    """Pairs of one bucket and one weight are a cell: an epoch takes a fixed number of them, chosen anew each time.

    Returns the cell of each pair, numbered along the buckets, and which places of the pairs in order of their cells an epoch takes.
    """
    values, kind = np.unique(weights, return_inverse=True)
    _, cell, counts = np.unique(bucket.astype(np.int64) * len(values) + kind, return_inverse=True, return_counts=True)
    order = np.lexsort((cell,))
    starts = np.concatenate(([0], np.cumsum(counts)))[:-1]
    kind_of_cell = kind[order[starts]]
    quota = np.zeros(len(counts), dtype=np.int64)
    for k, weight in enumerate(values):
        # Rounded on the running sum, so that small cells together get what is due to them.
        mine = kind_of_cell == k
        quota[mine] = np.diff(np.round(np.cumsum(counts[mine]) * float(weight)), prepend=0.0).astype(np.int64)
    place = np.arange(quota.sum()) - np.repeat(np.cumsum(quota) - quota, quota)
    return cell.astype(np.int32), np.repeat(starts, quota) + place % np.repeat(counts, quota)


def _cut(source: Lengths, target: Lengths, max_tokens: int) -> Indices:
    """Where batches start in the sorted corpus, and its end. A pair longer than the budget is a batch of its own."""
    starts = [0]
    widest = 0
    for i, width in enumerate(np.maximum(source, target).tolist()):
        widest = max(widest, width)
        if i > starts[-1] and (i + 1 - starts[-1]) * widest > max_tokens:
            starts.append(i)
            widest = width
    return np.array([*starts, len(source)], dtype=np.int64)
