"""Sentences laid end to end in one row, so that no position is padding, and attention that keeps each within its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seq2seq.kernels import KERNEL_WIDTHS, rows_of, runs_training_kernels, training_kernels, training_scratch_size
from seq2seq.symbols import PAD, UNK

_LONG = 256
"""Positions of a sentence above which a library's products are faster than the kernel."""


@dataclass(frozen=True, eq=False)
class Segments:
    """Where B sentences lie in a row of N positions.

    Attributes:
        real: (B, L), True where the padded batch they come from holds a token.
    """

    real: Tensor

    @classmethod
    def of(cls, ids: Tensor) -> "Segments":
        """ids (B, L), padded."""
        return cls(ids != PAD)

    @cached_property
    def starts(self) -> Tensor:
        """(B + 1): the first position of each sentence, and N."""
        return F.pad(self.real.sum(dim=1).cumsum(dim=0), (1, 0))

    @cached_property
    def positions(self) -> Tensor:
        """(N): where each token stands in its sentence."""
        return torch.arange(self.real.size(1), device=self.real.device).expand_as(self.real)[self.real]

    def joined(self, padded: Tensor) -> Tensor:
        """(B, L, …) -> (1, N, …)."""
        return padded[self.real][None]

    def padded(self, joined: Tensor) -> Tensor:
        """(1, N, …) -> (B, L, …), with zeros where there is no token."""
        out = joined.new_zeros(*self.real.shape, *joined.shape[2:])
        out[self.real] = joined[0]
        return out


ROUND = 32
"""Rows. A library makes a program for every new shape of a product, which for small ones takes as long as the product itself; of round
numbers of rows there are few, so that it finds most of its programs made."""


def filled_up(ids: Tensor) -> Tensor:
    """ids (B, L), padded -> (B + 1, L or more): one more row that is there for nothing, with which the tokens are a round number."""
    missing = ROUND - int((ids != PAD).sum()) % ROUND
    wide = F.pad(ids, (0, max(0, missing - ids.size(1)), 0, 1), value=PAD)
    wide[-1, :missing] = UNK
    return wide


@dataclass(frozen=True, eq=False)
class Within:
    """As a mask: queries of a sentence may attend to the keys of the same sentence."""

    queries: Segments
    keys: Segments


def attention_within(query: Tensor, key: Tensor, value: Tensor, within: Within, causal: bool, dropout: float) -> Tensor:
    """query (1, H, N, D), key and value (1, G, M, D) -> (1, H, N, D) in the type of the values; G divides H. In between all is float32."""
    if dropout == 0.0 and _fits_kernel(query, key, value, within):
        return _Kernel.apply(query, key, value, within, causal)  # type: ignore[no-any-return, no-untyped-call]
    return as_padded(query.float(), key.float(), value.float(), within, causal, dropout).type_as(value)


def as_padded(query: Tensor, key: Tensor, value: Tensor, within: Within, causal: bool, dropout: float = 0.0) -> Tensor:
    """The slow twin: with the sentences one below the other, padded, as everybody does it."""

    def unjoined(x: Tensor, segments: Segments) -> Tensor:
        return segments.padded(x.transpose(1, 2)).transpose(1, 2)

    mask = None if causal else within.keys.real[:, None, None, :]
    attended = F.scaled_dot_product_attention(
        unjoined(query, within.queries),
        unjoined(key, within.keys),
        unjoined(value, within.keys),
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=causal,
        enable_gqa=query.size(1) != key.size(1),
    )
    return within.queries.joined(attended.transpose(1, 2)).transpose(1, 2)


def _fits_kernel(query: Tensor, key: Tensor, value: Tensor, within: Within) -> bool:
    return query.size(3) in KERNEL_WIDTHS and within.keys.real.size(1) <= _LONG and runs_training_kernels(query, key, value)


class _Kernel(torch.autograd.Function):
    """`attend_within` of `training.c`. Queries, keys and values may be parts of one projection."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, within: Within, causal: bool) -> Tensor:
        ctx.task = (within, causal, *query.shape[1:], query.size(1) // key.size(1))
        query, key, value = (in_rows(x) for x in (query, key, value))
        (out,) = of_heads(query, dtype=value.dtype)
        normalizers = query.new_empty(query.size(2), query.size(1), dtype=torch.float32)
        _call("attend_within", ctx.task, normalizers, query, key, value, out)
        ctx.save_for_backward(query, key, value, normalizers)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, normalizers = ctx.saved_tensors
        of_one_product = groupby((query, key, value), lambda x: (_storage(x), x.size(2)))
        found = [x for _, parts in of_one_product for x in of_heads(*parts)]
        _call("attend_within_backward", ctx.task, normalizers, query, key, value, in_rows(gradients[0]), *found)
        return *found, None, None


def _call(name: str, task: tuple[Any, ...], normalizers: Tensor, *rows: Tensor) -> None:
    within, causal, H, _, D, group = task
    starts = [segments.starts for segments in (within.queries, within.keys)]
    threads, part = torch.get_num_threads(), training_scratch_size(within.queries.real.size(1), within.keys.real.size(1), D)
    scratch = torch.empty(threads * part)
    sizes = (len(starts[0]) - 1, H, group, D, int(causal), threads)
    kernel = getattr(training_kernels(), name)
    kernel(*(start.data_ptr() for start in starts), *sizes, scratch.data_ptr(), part, rows_of(*rows), normalizers.data_ptr())


def in_rows(x: Tensor) -> Tensor:
    """Numbers of a head must lie side by side."""
    return x if x.stride(3) == 1 else x.contiguous()


def of_heads(*like: Tensor, dtype: torch.dtype | None = None) -> Sequence[Tensor]:
    """Room for tensors (1, H, N, D) of one N and D, all heads of a position side by side."""
    heads, (_, _, N, D) = [x.size(1) for x in like], like[0].shape
    return torch.split(like[0].new_empty(1, N, sum(heads), D, dtype=dtype).transpose(1, 2), heads, dim=1)


def _storage(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()


def apart(x: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
    """The parts of x (…, sum of widths). Their gradients are not copied to be joined if they lie side by side, as those of attention do."""
    return _Apart.apply(x, widths) if torch.is_grad_enabled() else torch.split(x, widths, dim=-1)  # type: ignore[no-any-return, no-untyped-call]


class _Apart(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, widths: list[int]) -> tuple[Tensor, ...]:
        return torch.split(x, widths, dim=-1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        widths = [part.size(-1) for part in gradients]
        places = {
            (_storage(part), part.stride(), part.storage_offset() - start)
            for part, start in zip(gradients, accumulate(widths, initial=0), strict=False)
        }
        first = gradients[0]
        if len(places) > 1 or first.stride(-1) != 1:
            return torch.cat(gradients, dim=-1), None
        return first.as_strided((*first.shape[:-1], sum(widths)), first.stride()), None
