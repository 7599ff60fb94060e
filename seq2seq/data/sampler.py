"""Which pairs make up batch number n: a pure function of (seed, n), so that training can stop and go on anywhere.

Batches hold pairs of nearly equal lengths and as many of them as a token budget allows (section 5.1 of the paper: "batched
together by approximate sequence length"). Pairs are sorted by bucketed lengths; within a bucket the order is drawn anew each epoch,
and so is the order of the batches. Because the budget is counted on bucket widths, which do not depend on the draw,
every epoch has the same number of batches, and batch n is found by a division.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
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
    """Neither side of a batch has more tokens than this, padding counted, as its texts are cut without drawing: subwords drawn anew are more,
    1.1 to 1.7 times as many. auto: an update of `per_update` tokens is made of as few batches as memory allows, whatever `accumulate`
    says."""
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


CHUNK, BLOCK = 1 << 20, 1 << 12
"""Pairs. A larger corpus is planned a chunk at a time, each made of blocks from all over it, so that a plan takes little time and memory
and what is read of the corpus at a time lies together."""


class BatchPlan:
    """The batches of an endless run over a corpus, by number. An epoch has the chunks in a new order.

    Attributes:
        pairs: how many it is made of, those left out not counted.
        pairs_per_epoch: how many of them an epoch takes, by their weights.
    """

    def __init__(
        self,
        source_lengths: Lengths,
        target_lengths: Lengths,
        config: BatchConfig,
        seed: int,
        weights: npt.NDArray[np.float32] | None = None,
        max_length: int | None = None,
    ) -> None:
        """Lengths are in tokens, EOS counted; `max_tokens` must be known.

        Args:
            weights: how often each pair comes in an epoch, 2.5 being twice or three times; unset: once.
            max_length: pairs with a longer side are left out. If none is left there are no batches to ask for.
        """
        assert config.max_tokens != "auto", "see seq2seq/training/memory.py"
        self._lengths, self._seed, self._max_length = (source_lengths, target_lengths), seed, max_length
        self._max_tokens, self._bucket_width = config.max_tokens, config.bucket_width
        self._weights = weights
        chunks = (self._chunk(number) for number in range(-(-len(source_lengths) // CHUNK)))
        counts = np.array([(chunk.batches, chunk.pairs, chunk.weight) for chunk in chunks], dtype=np.float64).reshape(-1, 3)
        self._batches = counts[:, 0].astype(np.int64)
        self.batches_per_epoch, self.pairs, self.pairs_per_epoch = (int(count) for count in counts.sum(0).round())

    def __getitem__(self, number: int) -> Indices:
        """The pairs of batch `number`, counted from 0 over all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        chunks = np.random.default_rng((self._seed, epoch)).permutation(len(self._batches))
        ends = np.cumsum(self._batches[chunks])
        place = int(np.searchsorted(ends, position, side="right"))
        chunk = int(chunks[place])
        order, starts, batches = self._epoch(chunk, epoch)
        batch = batches[position - int(ends[place]) + self._batches[chunk]]
        return order[starts[batch] : starts[batch + 1]]

    def padding_share(self) -> tuple[float, float]:
        """The share of source and of target positions that are padding, over one chunk of the first epoch."""
        padded, real = np.zeros(2), np.zeros(2)
        order, starts, _ = self._epoch(int(self._batches.argmax()), 0)
        for start, stop in pairwise(starts.tolist()):
            for side, lengths in enumerate(self._lengths):
                of_batch = lengths[order[start:stop]]
                padded[side] += len(of_batch) * of_batch.max()
                real[side] += of_batch.sum()
        source, target = 1 - real / padded
        return float(source), float(target)

    @lru_cache(maxsize=2)  # noqa: B019 - one plan lives as long as its run
    def _chunk(self, chunk: int) -> "_Chunk":
        pairs = len(self._lengths[0])
        chunks = -(-pairs // CHUNK)
        rows = np.arange(pairs) if chunks == 1 else _blocks(pairs, chunk, chunks, self._seed)
        if self._max_length is not None:
            rows = rows[np.maximum(*(side[rows] for side in self._lengths)) <= self._max_length]
        source, target = (side[rows] for side in self._lengths)
        weights = None if self._weights is None else self._weights[rows]
        return _Chunk(rows, source, target, self._max_tokens, self._bucket_width, weights, (self._seed, chunk))

    @lru_cache(maxsize=2)  # noqa: B019
    def _epoch(self, chunk: int, epoch: int) -> tuple[Indices, Indices, Indices]:
        return self._chunk(chunk).epoch(epoch)


def _blocks(pairs: int, chunk: int, chunks: int, seed: int) -> Indices:
    """The pairs of one of several chunks."""
    blocks = np.random.default_rng((seed, chunks)).permutation(-(-pairs // BLOCK))[chunk::chunks]
    rows = (np.sort(blocks)[:, None] * BLOCK + np.arange(BLOCK)).ravel()
    return rows[rows < pairs]


class _Chunk:
    """The part of a plan that is for some of the pairs, `rows`.

    Attributes:
        pairs: how many it is made of.
        weight: how many of them an epoch takes.
        batches: how many an epoch has of it.
    """

    def __init__(
        self,
        rows: Indices,
        source_lengths: Lengths,
        target_lengths: Lengths,
        max_tokens: int,
        bucket_width: int,
        weights: npt.NDArray[np.float32] | None,
        seed: tuple[int, int],
    ) -> None:
        self._rows, self._max_tokens, self._seed = rows, max_tokens, seed
        self._weights = weights if weights is not None and (weights != 1).any() else None
        source, target = (_bucketed(lengths, bucket_width) for lengths in (source_lengths, target_lengths))
        # Back and forth over the source lengths, so that where the target bucket changes the source length does not jump.
        turning = np.where(target // bucket_width % 2 == 0, source, -source)
        order = np.lexsort((turning, target))
        jumps = (np.diff(target[order]) != 0) | (np.diff(turning[order]) != 0)
        self._bucket = np.empty(len(order), dtype=np.int32)
        self._bucket[order] = np.concatenate(([0], np.cumsum(jumps, dtype=np.int32)))
        self._widths, self.pairs = np.maximum(source, target), len(rows)
        self.weight = float(len(rows) if weights is None else weights.sum(dtype=np.float64))
        self._starts = _cut(self._widths[order], max_tokens)
        self.batches = len(self._starts if self._weights is None else self._weighted_epoch(0)[1]) - 1

    def epoch(self, epoch: int) -> tuple[Indices, Indices, Indices]:
        """Pairs in order, where batches start in them, and the order of the batches."""
        draw = self._draw(epoch)
        if self._weights is None:
            order = np.lexsort((draw.random(len(self._bucket)), self._bucket))
            return self._rows[order], self._starts, draw.permutation(self.batches)
        order, starts = self._weighted_epoch(epoch)
        # Which pairs come differs from epoch to epoch, so there may be a batch more or less than there should: one is left out, or
        # comes twice.
        return self._rows[order], starts, np.resize(draw.permutation(len(starts) - 1), self.batches)

    def _weighted_epoch(self, epoch: int) -> tuple[Indices, Indices]:
        """Each pair as often as the whole part of its weight says, and as many more, drawn anew, as the rest of the weights comes to."""
        assert self._weights is not None
        draw = self._draw(epoch, 1)
        # Pairs of one weight side by side, in any order; of their rests, end to end, those that a whole number falls into.
        drawn = draw.permutation(len(self._weights))
        drawn = drawn[np.argsort(self._weights[drawn], kind="stable")]
        weights = self._weights[drawn].astype(np.float64)
        rests = np.floor(np.concatenate(([0.0], np.cumsum(weights % 1))) + draw.random())
        rows = np.repeat(drawn, np.floor(weights).astype(np.int64) + np.diff(rests).astype(np.int64))
        rows = rows if len(rows) else drawn[-1:]
        order = rows[np.lexsort((draw.random(len(rows)), self._bucket[rows]))]
        return order, _cut(self._widths[order], self._max_tokens)

    def _draw(self, epoch: int, of_what: int = 0) -> np.random.Generator:
        seed, chunk = self._seed
        return np.random.default_rng((seed, epoch, chunk, of_what))


def _bucketed(lengths: Lengths, width: int) -> Lengths:
    return -(-lengths // width) * width


def _cut(widths: Lengths, max_tokens: int) -> Indices:
    """Where batches start in the sorted corpus, and its end, which without pairs is all there is. A pair longer than the budget
    is a batch of its own."""
    starts = [0] if len(widths) else []
    widest = 0
    for i, width in enumerate(widths.tolist()):
        widest = max(widest, width)
        if i > starts[-1] and (i + 1 - starts[-1]) * widest > max_tokens:
            starts.append(i)
            widest = width
    return np.array([*starts, len(widths)], dtype=np.int64)
