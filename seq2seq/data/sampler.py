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
        self, source_lengths: npt.NDArray[np.int32], target_lengths: npt.NDArray[np.int32], config: BatchConfig, seed: int
    ) -> None:
        """Lengths are in tokens, EOS counted; there must be at least one pair."""
        self._lengths = (source_lengths.astype(np.int64), target_lengths.astype(np.int64))
        self._seed, self._accumulate = seed, config.accumulate
        source, target = (_bucketed(lengths, config.bucket_width) for lengths in self._lengths)
        # Back and forth over the source lengths, so that where the target bucket changes the source length does not jump.
        self._keys = (np.where(target // config.bucket_width % 2 == 0, source, -source), target)
        order = np.lexsort(self._keys)
        self._starts = _cut(source[order], target[order], config.max_tokens)
        self.batches_per_epoch = len(self._starts) - 1

    def __getitem__(self, number: int) -> Indices:
        """The pairs of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        order, batches = self._epoch(epoch)
        batch = batches[position]
        return order[self._starts[batch] : self._starts[batch + 1]]

    def normalizer(self, number: int) -> float:
        """Mean target tokens of the batches that share an update with batch `number`."""
        first = number - number % self._accumulate
        return sum(float(self._lengths[1][self[n]].sum()) for n in range(first, first + self._accumulate)) / self._accumulate

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
        order = np.lexsort((draw.random(len(self._keys[0])), *self._keys))
        return order, draw.permutation(self.batches_per_epoch)


def _bucketed(lengths: Indices, width: int) -> Indices:
    return -(-lengths // width) * width


def _cut(source: Indices, target: Indices, max_tokens: int) -> Indices:
    """Where batches start in the sorted corpus, and its end. A pair longer than the budget is a batch of its own."""
    starts = [0]
    widest = 0
    for i, width in enumerate(np.maximum(source, target).tolist()):
        widest = max(widest, width)
        if i > starts[-1] and (i + 1 - starts[-1]) * widest > max_tokens:
            starts.append(i)
            widest = width
    return np.array([*starts, len(source)], dtype=np.int64)
