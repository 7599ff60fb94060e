"""Floor 2: which target tokens a sentence may need, learned from the training pairs, so that not all need to be looked at.

What any sentence may need is the most frequent tokens; what this sentence may need besides is the most probable translations of its
tokens by IBM model 1 (Brown et al., 1993). See Jean et al., 2015, section 3.3.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.symbols import EOS, PAD, UNK

Array = npt.NDArray[Any]
FREQUENT, LIKELY = 100, 20
"""Target tokens that every sentence may use, and translations of each of its tokens."""
_ROUNDS = 4
_LINKS = 20_000_000
"""Memory of learning: so many pairs of a source and a target position are looked at, 40 bytes each."""


@dataclass(frozen=True, eq=False)
class Shortlist:
    """
    Attributes:
        frequent: (N), the target tokens that any sentence may use; EOS is one.
        likely: (V of the source, M), the probable translations of each source token, PAD where there are fewer.
    """

    frequent: Tensor
    likely: Tensor

    def allowed(self, source: Tensor, vocabulary: int) -> Tensor:
        """source (B, S) -> (B, V), True for what a sentence may say."""
        allowed = torch.zeros(source.size(0), vocabulary, dtype=torch.bool, device=source.device)
        allowed[:, self.frequent.long()] = True
        likely = self.likely[source].masked_fill_((source == PAD)[:, :, None], PAD)  # padding allows nothing
        allowed.scatter_(1, likely.flatten(1).long(), True)
        allowed[:, PAD] = False
        return allowed

    def to(self, device: torch.device | str) -> "Shortlist":
        return Shortlist(self.frequent.to(device), self.likely.to(device))

    def fits(self, source_vocabulary: int, target_vocabulary: int) -> bool:
        """Whether these are lists for such vocabularies, whatever a file says."""
        tables = (self.frequent, self.likely)
        return (
            [table.dim() for table in tables] == [1, 2]
            and all(table.dtype == torch.int32 for table in tables)
            and all(int(table.min()) >= 0 and int(table.max()) < target_vocabulary for table in tables if table.numel())
            and self.likely.size(0) == source_vocabulary
            and EOS in self.frequent
            and bool((self.frequent > UNK).any())  # something can be said at all
        )


def learn_shortlist(
    pairs: TokenPairs, source_vocabulary: int, joint: bool, frequent: int = FREQUENT, likely: int = LIKELY
) -> Shortlist:
    """From tokenised pairs; of many, from some all over the corpus.

    Args:
        joint: both sides have one vocabulary, so that a token may also be taken over as it is: names and numbers are.
    """
    parts = _parts(pairs.target.ids)
    size = 1 + max(EOS, *(int(part.max()) for part in parts))
    counts = np.sum([np.bincount(part, minlength=size) for part in parts], axis=0)
    counts[EOS] = counts.sum()  # whatever else: it is to be able to end
    often = np.argsort(-counts, kind="stable")[:frequent]
    sources, targets, probabilities = _model_1(pairs)
    order = np.lexsort((-probabilities, sources))
    sources, targets = sources[order], targets[order]
    first = np.concatenate(([True], sources[1:] != sources[:-1]))
    rank = np.arange(len(sources)) - np.maximum.accumulate(np.where(first, np.arange(len(sources)), 0))
    table = np.full((source_vocabulary, likely), PAD, dtype=np.int32)
    kept = rank < likely
    table[sources[kept], rank[kept]] = targets[kept]
    if joint:
        table = np.column_stack((table, np.arange(source_vocabulary, dtype=np.int32)))
    return Shortlist(torch.from_numpy(often[counts[often] > 0].astype(np.int32)), torch.from_numpy(table))


def _parts(ids: Array) -> list[Array]:
    """Counting takes eight bytes a token, so not all are counted at once."""
    return [ids[start : start + _LINKS] for start in range(0, len(ids), _LINKS)]


def _model_1(pairs: TokenPairs) -> tuple[Array, Array, Array]:
    """Source tokens, target tokens and how probable the one is as a translation of the other, for all that met in a sentence.

    EOS of the source is there for target tokens that translate none, the "null word".
    """
    links = pairs.source.lengths.astype(np.int64) * pairs.target.lengths
    rows = np.flatnonzero(links)[:: max(1, -(-int(links.sum()) // _LINKS))]
    source, target, word = _positions_that_meet(pairs, rows)
    width = np.int64(target.max()) + 1
    met, which = np.unique(source.astype(np.int64) * width + target, return_inverse=True)
    sources, targets = met // width, met % width
    table: Array = np.ones(len(met))
    for _ in range(_ROUNDS):
        share = table[which]
        share = share / np.bincount(word, share)[word]  # each target position is translated from the source positions together
        table = np.bincount(which, share)
        table = table / np.bincount(sources, table)[sources]
    return sources, targets, table


def _positions_that_meet(pairs: TokenPairs, rows: Array) -> tuple[Array, ...]:
    """For each source position and each target position of each pair: both tokens, and the number of the target position."""
    source_lengths, target_lengths = (side.lengths[rows].astype(np.int64) for side in (pairs.source, pairs.target))
    source, target = _flat(pairs.source, rows), _flat(pairs.target, rows)
    words = np.arange(len(target))
    repeats = np.repeat(source_lengths, target_lengths)  # of each target position: the source positions it meets
    word = np.repeat(words, repeats)
    first_source = np.repeat(np.cumsum(source_lengths) - source_lengths, target_lengths)
    within = np.arange(len(word)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
    return source[np.repeat(first_source, repeats) + within], target[word], word


def _flat(side: TokenRows, rows: Array) -> Array:
    return np.concatenate([side[row] for row in rows])
