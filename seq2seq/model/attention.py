"""Attention (section 3.2): a function, and the layer that is used three times."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seq2seq.model.cache import LayerCache, Newest
from seq2seq.model.masks import causal_mask
from seq2seq.model.positions import Rotation
from seq2seq.model.segments import Within, apart, attention_within

Mask = Tensor | Within
"""Which keys a query may attend to: boolean, (B, H, T, S) or broadcastable to it, True = may; or those of its own sentence, where
sentences lie end to end."""


def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, causal: bool = False, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V, equation 1, written as it stands in the paper.

    Args:
        query: (B, H, T, D).
        key: (B, H, S, D).
        value: (B, H, S, D).
        mask: boolean, broadcastable to (B, H, T, S); True = may attend. A row of it must not be all False.
        causal: query t sees keys up to t; for T = S.
        dropout: rate on the attention weights.

    Returns:
        The attended values (B, H, T, D) and the attention weights (B, H, T, S).
    """
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if causal:
        scores = scores.masked_fill(~causal_mask(query.size(-2), query.device), float("-inf"))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    weights = scores.softmax(dim=-1)
    return F.dropout(weights, dropout) @ value, weights


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Mask | None = None, causal: bool = False, dropout: float = 0.0
) -> Tensor:
    """The same function by kernels that never hold all (T, S) weights at once."""
    if isinstance(mask, Within):
        return attention_within(query, key, value, mask, causal, dropout)
    if value.device.type == "cpu" and value.dtype == torch.bfloat16:  # its backward takes five times as long in bfloat16
        query, key, value = query.float(), key.float(), value.float()
    grouped = (
        {"enable_gqa": True} if query.size(1) != key.size(1) else {}
    )  # a branch, and no number that a compiler does not know yet
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal, **grouped)


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O (section 3.2.2).

    Self-attention, masked self-attention and cross-attention (section 3.2.3) are this one layer: what differs is
    where keys and values come from, and the mask.
    """

    def __init__(self, d_model: int, heads: int, key_value_heads: int, d_memory: int, dropout: float) -> None:
        """`d_memory` is the width of what keys and values are made from: d_model but for cross-attention between
        stacks of different width."""
        super().__init__()
        self.heads, self.key_value_heads, self.d_head = heads, key_value_heads, d_model // heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, heads * self.d_head)
        self.key = nn.Linear(d_memory, key_value_heads * self.d_head)
        self.value = nn.Linear(d_memory, key_value_heads * self.d_head)
        self.output: nn.Module = nn.Linear(heads * self.d_head, d_model)
        self._pack: Callable[..., nn.Module] | None = None
        self._side_by_side: dict[tuple[str, ...], nn.Module] = {}

    def forward(
        self, x: Tensor, memory: Tensor, mask: Mask | None = None, causal: bool = False, rotation: Rotation | None = None
    ) -> Tensor:
        """x (B, T, E) attends to memory (B, S, E) -> (B, T, E). Self-attention: x and memory are the same."""
        if x is memory:
            return self.attend(*self.queries_keys_values(x, rotation), mask, causal)
        return self.attend(self.queries(x, rotation), *self.keys_and_values(memory, rotation), mask, causal)

    def queries(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """(B, T, E) -> (B, H, T, D)."""
        (query,) = self.project(x, "query")
        queries = self._split(query, self.heads)
        return rotation(queries) if rotation is not None else queries

    def keys_and_values(self, memory: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor]:
        """(B, S, E) -> twice (B, H, S, D), the part of attention that a cache keeps."""
        keys, values = (self._split(x, self.key_value_heads) for x in self.project(memory, "key", "value"))
        return rotation(keys) if rotation is not None else keys, values

    def queries_keys_values(self, x: Tensor, rotation: Rotation | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """All three of self-attention: (B, T, E) -> (B, H, T, D) each."""
        query, key, value = self.project(x, "query", "key", "value")
        queries, keys = self._split(query, self.heads), self._split(key, self.key_value_heads)
        if rotation is not None:
            queries, keys = rotation(queries), rotation(keys)
        return queries, keys, self._split(value, self.key_value_heads)

    def project(self, x: Tensor, *names: str) -> tuple[Tensor, ...]:
        """Several projections of one input."""
        if self._pack is None:
            return tuple(getattr(self, name)(x) for name in names)
        widths = [getattr(self, name).out_features for name in names]
        return apart(self.together(*names)(x), widths)

    def together(self, *names: str) -> nn.Module:
        """One product for several projections of a layer that is prepared: their outputs side by side."""
        if names not in self._side_by_side:
            assert self._pack is not None
            self._side_by_side[names] = self._pack(*(getattr(self, name) for name in names))
        return self._side_by_side[names]

    def prepare(self, pack: Callable[..., nn.Module]) -> None:
        """Make the projections of one input with one product from their next use on; for a model that is not trained any more.

        Args:
            pack: one or several linear layers of the same input -> the module that gives their outputs side by side.
        """
        self._pack, self.output, self._side_by_side = pack, pack(self.output), {}

    def _split(self, x: Tensor, heads: int) -> Tensor:
        """Into heads: (B, L, H*D) -> (B, H, L, D)."""
        return x.unflatten(-1, (heads, self.d_head)).transpose(1, 2)  # type: ignore[no-any-return, no-untyped-call]

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Mask | None = None, causal: bool = False) -> Tensor:
        """Heads attend side by side and are joined again: (B, H, T, D) and (B, H, S, D) -> (B, T, E)."""
        heads = fused_attention(queries, keys, values, mask, causal, self.dropout if self.training else 0.0)
        return self.output(heads.transpose(1, 2).flatten(-2))  # type: ignore[no-any-return]

    def attend_to_past(self, x: Tensor, past: LayerCache, newest: Newest) -> Tensor:
        """A step of masked self-attention: x (B, K, E) -> (B, K, E). Each hypothesis attends to its own path of the sentence's tree."""
        queries, keys, values = self.queries_keys_values(x, newest.rotation)
        past.write(keys, values, newest.nodes)
        nodes = slice(0, newest.may_attend.size(2))
        return self.attend(queries, past.keys[:, :, nodes], past.values[:, :, nodes], newest.may_attend[:, None])

    def attend_to_source(self, x: Tensor, source: LayerCache, newest: Newest) -> Tensor:
        """A step of cross-attention: x (B, K, E) -> (B, K, E). All hypotheses of a sentence look at the same source."""
        return self.attend(self.queries(x), source.memory_keys, source.memory_values, newest.may_attend_to_source)
