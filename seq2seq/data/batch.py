"""A batch of sentence pairs as padded token ids, and the pairs it is made from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seq2seq.symbols import BOS, PAD

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Batch:
    """Teacher forcing: at each position the decoder has read `target_input` and is to say `target_output`.

    Attributes:
        source: (B, S), each row ends with EOS and is padded behind it.
        target_input: (B, T), begins with BOS.
        target_output: (B, T), ends with EOS: the input, one position ahead.
        source_tokens: how many tokens of `source` are not padding.
        target_tokens: likewise of `target_output`.
        normalizer: what the summed loss is divided by. Under gradient accumulation it is the mean number of target
            tokens of the batches of one update, so that every token of the update weighs the same.
        number: its place in the plan it comes from.
    """

    source: Tensor
    target_input: Tensor
    target_output: Tensor
    source_tokens: int
    target_tokens: int
    normalizer: float
    number: int = 0

    def to(self, device: Any, **options: Any) -> "Batch":
        return replace(
            self,
            source=self.source.to(device, **options),
            target_input=self.target_input.to(device, **options),
            target_output=self.target_output.to(device, **options),
        )


class TokenRows:
    """Many rows of token ids in one flat array."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.lengths: Ids = np.fromiter((len(row) for row in rows), dtype=np.int32, count=len(rows))
        self._ends = np.cumsum(self.lengths, dtype=np.int64)
        self._flat: Ids = np.fromiter((i for row in rows for i in row), dtype=np.int32, count=int(self.lengths.sum()))

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> Ids:
        end = self._ends[row]
        return self._flat[end - self.lengths[row] : end]


@dataclass(frozen=True)
class TokenPairs:
    """A tokenised parallel corpus; each row ends with EOS."""

    source: TokenRows
    target: TokenRows

    def __len__(self) -> int:
        return len(self.source)

    def batch(self, rows: Sequence[int] | npt.NDArray[np.int64], normalizer: float | None = None, number: int = 0) -> Batch:
        """The given pairs as a batch; unless told otherwise the loss is a mean over its target tokens."""
        sources = [self.source[row] for row in rows]
        targets = [self.target[row] for row in rows]
        target_tokens = sum(map(len, targets))
        output = pad(targets)
        start = torch.full((len(targets), 1), BOS)
        # The input is the output moved on by one; where EOS would stand in the input there is padding.
        shifted = torch.cat((start, output[:, :-1]), dim=1)
        ends = torch.tensor([len(target) for target in targets])[:, None]
        target_input = shifted.masked_fill(torch.arange(output.size(1)) >= ends, PAD)
        return Batch(
            pad(sources), target_input, output, sum(map(len, sources)), target_tokens, normalizer or float(target_tokens), number
        )


def pad(rows: Sequence[Sequence[int] | Ids]) -> Tensor:
    """Rows of ids -> (B, L), padded at the end to the longest."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
