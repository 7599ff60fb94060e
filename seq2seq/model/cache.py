"""What the decoder keeps between steps: keys and values, owned by the caller and passed to every step.

A sentence may have several hypotheses (K of them). Each has a row of its own for self-attention; cross-attention keys
and values exist once per sentence, because all its hypotheses look at the same source. Each row knows its own length,
so rows at different positions may share a batch.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 16
"""Room is made for this many positions at a time."""


@dataclass
class LayerCache:
    """Keys and values of one decoder layer: own (R, H, C, D), and of the memory (B, H, S, D)."""

    keys: Tensor
    values: Tensor
    memory_keys: Tensor
    memory_values: Tensor

    def append(self, keys: Tensor, values: Tensor, lengths: Tensor) -> None:
        """Put the newest (R, H, 1, D) of each row behind its `lengths` (R) earlier ones."""
        rows = torch.arange(keys.size(0), device=keys.device)
        self.keys[rows, :, lengths] = keys.squeeze(2)
        self.values[rows, :, lengths] = values.squeeze(2)


@dataclass
class Cache:
    """The decoder's state in the middle of R = B*K sentences.

    Attributes:
        layers: one `LayerCache` a decoder layer.
        memory_mask: (B, 1, 1, S), True at source tokens.
        lengths: (R), how many tokens each row has seen.
        filled: the largest of `lengths`, known without asking the device.
    """

    layers: list[LayerCache]
    memory_mask: Tensor
    lengths: Tensor
    filled: int

    @property
    def shape(self) -> tuple[int, int]:
        """(B, K): sentences, and hypotheses of each."""
        sentences = self.memory_mask.size(0)
        return sentences, self.lengths.size(0) // max(sentences, 1)

    def make_room(self) -> None:
        """See that one more position fits."""
        if self.filled == self.layers[0].keys.size(2):
            for layer in self.layers:
                layer.keys = F.pad(layer.keys, (0, 0, 0, BLOCK))
                layer.values = F.pad(layer.values, (0, 0, 0, BLOCK))

    def may_attend(self) -> Tensor:
        """(R, 1, 1, filled + 1): each row may see its own past and the token it is about to append."""
        return (torch.arange(self.filled + 1, device=self.lengths.device) <= self.lengths[:, None])[:, None, None, :]

    def select(self, rows: Tensor) -> "Cache":
        """The cache of the hypotheses `rows` (B', K'): row n lists old row numbers, all of one sentence.

        Sentences may be left out but keep their order. The old cache stays as it was.
        """
        sentences, hypotheses = self.shape
        flat = rows.flatten()
        layers = [
            LayerCache(
                layer.keys.index_select(0, flat), layer.values.index_select(0, flat), layer.memory_keys, layer.memory_values
            )
            for layer in self.layers
        ]
        memory_mask = self.memory_mask
        if rows.size(0) != sentences:
            kept = rows[:, 0] // hypotheses
            memory_mask = memory_mask.index_select(0, kept)
            for layer in layers:
                layer.memory_keys = layer.memory_keys.index_select(0, kept)
                layer.memory_values = layer.memory_values.index_select(0, kept)
        return Cache(layers, memory_mask, self.lengths.index_select(0, flat), self.filled)
