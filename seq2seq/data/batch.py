"""A batch of sentence pairs as padded token ids."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seq2seq.symbols import BOS, PAD

Row = Sequence[int] | npt.NDArray[Any]


@dataclass(frozen=True)
class Batch:
    """Teacher forcing: at each position the decoder has read `target_input` and is to say `target_output`.

    Attributes:
        source: (B, S), each row ends with EOS and is padded behind it.
        target_input: (B, T), begins with BOS.
        target_output: (B, T), ends with EOS: the input, one position ahead.
        source_tokens: how many tokens of `source` are not padding.
        target_tokens: likewise of `target_output`.
    """

    source: Tensor
    target_input: Tensor
    target_output: Tensor
    source_tokens: int
    target_tokens: int

    def __len__(self) -> int:
        return self.source.size(0)

    def halves(self) -> "list[Batch]":
        """Two batches of half the pairs each; one pair cannot be halved."""
        middle = (len(self) + 1) // 2
        return [self._part(rows) for rows in (slice(0, middle), slice(middle, None)) if len(self.source[rows])]

    def silent(self) -> "Batch":
        """The same sources with nothing to learn from them, so that a process without pairs keeps step with others."""
        nothing = torch.full_like(self.target_output, PAD)
        return replace(self, target_output=nothing, source_tokens=0, target_tokens=0)

    def _part(self, rows: slice) -> "Batch":
        source, target_input, output = self.source[rows], self.target_input[rows], self.target_output[rows]
        tokens = [int((side != PAD).sum()) for side in (source, output)]
        return Batch(source, target_input, output, tokens[0], tokens[1])

    def to(self, device: torch.device) -> "Batch":
        """On a device; to a GPU the copies go while the program goes on."""

        def moved(side: Tensor) -> Tensor:
            return side.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else side.to(device)

        return replace(
            self, source=moved(self.source), target_input=moved(self.target_input), target_output=moved(self.target_output)
        )


def make_batch(sources: Sequence[Row], targets: Sequence[Row]) -> Batch:
    """A batch of rows of ids that end with EOS. No row is empty, so that none is all padding."""
    assert all(map(len, sources)), "an empty source would be all padding"
    assert all(map(len, targets)), "an empty target would be all padding"
    output = pad(targets)
    start = torch.full((len(targets), 1), BOS)
    # The input is the output moved on by one; where EOS would stand in the input there is padding.
    shifted = torch.cat((start, output[:, :-1]), dim=1)
    ends = torch.tensor([len(target) for target in targets])[:, None]
    target_input = shifted.masked_fill(torch.arange(output.size(1)) >= ends, PAD)
    return Batch(pad(sources), target_input, output, sum(map(len, sources)), sum(map(len, targets)))


def pad(rows: Sequence[Row]) -> Tensor:
    """Rows of ids -> (B, L), padded at the end to the longest."""
    padded = np.full((len(rows), max(map(len, rows))), PAD, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
