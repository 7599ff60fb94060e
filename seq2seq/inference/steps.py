"""Steps of the decoder without what a step of a few tokens spends most of its time on: calls of modules within modules, and products
of attention, which a library takes longer to begin than to make.

What is put together here takes the place of `DecoderLayer.step` of a prepared model, which is its slow twin.
"""

from collections.abc import Callable
from ctypes import CDLL

import torch
from torch import Tensor, nn

from seq2seq.kernels import KERNEL_WIDTHS, kernels, scratch_size
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.cache import LayerCache, Newest
from seq2seq.model.decoder import DecoderLayer
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.residual import Residual

Step = Callable[[Tensor, LayerCache, Newest], Tensor]
"""(B, K, E), what the layer has kept, what is newest -> (B, K, E)."""


def shorten(layer: DecoderLayer) -> None:
    """Of a layer that is prepared, on a CPU, in float32."""
    attend_to_past = _residual(layer.self_attention_residual, _attend_to_past(layer.self_attention))
    attend_to_source = _residual(layer.cross_attention_residual, _attend_to_source(layer.cross_attention))
    feed_forward = _residual(layer.feedforward_residual, _feed_forward(layer.feedforward))

    def step(x: Tensor, kept: LayerCache, newest: Newest) -> Tensor:
        for sublayer in (attend_to_past, attend_to_source, feed_forward):
            x = sublayer(x, kept, newest)
        return x

    layer.step = step  # type: ignore[method-assign]


def _residual(residual: Residual, sublayer: Step) -> Step:
    """See `Residual`."""
    norm = _norm(residual.norm)
    if residual.norm_first:
        return lambda x, kept, newest: sublayer(norm(x), kept, newest).add_(x)
    return lambda x, kept, newest: norm(sublayer(x, kept, newest).add_(residual.kept(x)))


def _norm(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    if not isinstance(norm, nn.LayerNorm):
        return norm.forward
    arguments = (list(norm.normalized_shape), norm.weight, norm.bias, norm.eps)
    return lambda x: torch.layer_norm(x, *arguments)


def _feed_forward(feedforward: FeedForward) -> Step:
    """See `FeedForward`."""
    if isinstance(feedforward.activation, nn.Identity):  # the inner product has taken it over
        inner, outer = feedforward.inner.forward, feedforward.outer.forward
        return lambda x, kept, newest: outer(inner(x))
    return lambda x, kept, newest: feedforward.forward(x)


def _library(attention: MultiHeadAttention) -> CDLL | None:
    return kernels() if attention.d_head in KERNEL_WIDTHS else None


def _attend_to_past(attention: MultiHeadAttention) -> Step:
    """See `MultiHeadAttention.attend_to_past`."""
    if (library := _library(attention)) is None:
        return attention.attend_to_past
    H, D, group = attention.heads, attention.d_head, attention.heads // attention.key_value_heads
    project, output = attention.together("query", "key", "value").forward, attention.output.forward

    def step(x: Tensor, past: LayerCache, newest: Newest) -> Tensor:
        projected = project(x)
        turns = None if newest.rotation is None else newest.rotation.turns
        may, keys = newest.may_attend, past.keys
        B, K, N = may.shape
        out, scratch = x.new_empty(B, K, H * D), x.new_empty(scratch_size(N))
        library.attend_to_past(
            *(projected.data_ptr(), turns if turns is None else turns.data_ptr()),
            *(keys.data_ptr(), past.values.data_ptr(), *keys.stride()[:3], newest.nodes.data_ptr()),
            *(may.data_ptr(), may.stride(0), may.stride(1), scratch.data_ptr()),
            *(out.data_ptr(), B, K, H, group, N, D),
        )
        return output(out)  # type: ignore[no-any-return]

    return step


def _attend_to_source(attention: MultiHeadAttention) -> Step:
    """See `MultiHeadAttention.attend_to_source`."""
    if (library := _library(attention)) is None:
        return attention.attend_to_source
    H, D, group = attention.heads, attention.d_head, attention.heads // attention.key_value_heads
    project, output = attention.together("query").forward, attention.output.forward

    def step(x: Tensor, source: LayerCache, newest: Newest) -> Tensor:
        queries = project(x)
        may, keys = newest.may_attend_to_source, source.memory_keys
        B, K, S = x.size(0), x.size(1), may.size(3)
        out, scratch = x.new_empty(B, K, H * D), x.new_empty(scratch_size(S))
        library.attend_to_source(
            *(queries.data_ptr(), keys.data_ptr(), source.memory_values.data_ptr(), *keys.stride()[:3]),
            *(may.data_ptr(), may.stride(0), scratch.data_ptr(), out.data_ptr(), B, K, H, group, S, D),
        )
        return output(out)  # type: ignore[no-any-return]

    return step
