"""A tiny trained model in the shape of a large one that computes the same function: real translations at the cost of the large.

Every feature is repeated, and what reads features takes the mean of the copies; so norms see the same means and spreads. Layers
that are added do nothing, at full cost. For pre-norm models with LayerNorm, ReLU and rotary positions.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.config import TransformerConfig
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.transformer import Transformer


def widened(model: Transformer, layers: int = 6, d_model: int = 512, heads: int = 8, d_feedforward: int = 2048) -> Transformer:
    """Sizes must be multiples of the model's own, and heads not narrower."""
    old = model.config
    assert (old.norm_order, old.norm, old.activation, old.positions) == ("pre", "layer", "relu", "rotary")
    config: TransformerConfig = replace(old, layers=layers, d_model=d_model, heads=heads, d_feedforward=d_feedforward)
    wide = Transformer(config).eval()
    copies = d_model // old.d_model
    with torch.no_grad():
        embedding = model.target_embedding.tokens.weight.repeat(1, copies) / math.sqrt(copies)
        wide.target_embedding.tokens.weight.copy_(embedding)
        for new_stack, stack in ((wide.encoder, model.encoder), (wide.decoder, model.decoder)):
            for i, layer in enumerate(new_stack.layers):
                _layer(layer, stack.layers[i] if i < len(stack.layers) else None, copies)
            _norm(new_stack.norm, stack.norm, copies)
        # The output is the embedding, whose copies add up where features only repeat.
        for parameter in (wide.decoder.norm.weight, wide.decoder.norm.bias):
            parameter.div_(math.sqrt(copies))
    return wide


def _layer(wide: nn.Module, layer: nn.Module | None, copies: int) -> None:
    for name, module in wide.named_children():
        if layer is None:
            if isinstance(module, MultiHeadAttention):
                nn.init.zeros_(module.output.weight)
            elif isinstance(module, FeedForward):
                nn.init.zeros_(module.outer.weight)
        elif isinstance(module, MultiHeadAttention):
            _attention(module, getattr(layer, name), copies)
        elif isinstance(module, FeedForward):
            old = getattr(layer, name)
            inner = module.inner.out_features // old.inner.out_features
            _linear(module.inner, _inputs(old.inner.weight, copies).repeat(inner, 1), old.inner.bias.repeat(inner))
            _linear(module.outer, _inputs(old.outer.weight, inner).repeat(copies, 1), old.outer.bias.repeat(copies))
        else:
            _norm(module.norm, getattr(layer, name).norm, copies)


def _attention(wide: MultiHeadAttention, old: MultiHeadAttention, copies: int) -> None:
    of_head = torch.arange(wide.heads) % old.heads  # which old head each new one repeats
    step = wide.d_head // old.d_head
    pairs = torch.arange(0, wide.d_head, 2)[: old.d_head // 2 * step : step]  # where angles grow as in the old head
    turned = torch.stack((pairs, pairs + 1), dim=1).flatten()
    for name, places, scale in (
        ("query", turned, math.sqrt(wide.d_head / old.d_head)),
        ("key", turned, 1.0),
        ("value", torch.arange(old.d_head), 1.0),
    ):
        linear = getattr(old, name)
        weight = _inputs(linear.weight, copies).unflatten(0, (old.heads, -1))[of_head] * scale
        bias = linear.bias.unflatten(0, (old.heads, -1))[of_head] * scale
        new_weight, new_bias = torch.zeros(wide.heads, wide.d_head, weight.size(2)), torch.zeros(wide.heads, wide.d_head)
        new_weight[:, places], new_bias[:, places] = weight, bias
        _linear(getattr(wide, name), new_weight.flatten(0, 1), new_bias.flatten())
    output = torch.zeros(old.output.out_features, wide.heads, wide.d_head)
    output[:, :, : old.d_head] = old.output.weight.unflatten(1, (old.heads, -1))[:, of_head] * (old.heads / wide.heads)
    _linear(wide.output, output.flatten(1).repeat(copies, 1), old.output.bias.repeat(copies))


def _inputs(weight: Tensor, copies: int) -> Tensor:
    return weight.repeat(1, copies) / copies


def _linear(linear: nn.Module, weight: Tensor, bias: Tensor) -> None:
    linear.weight.copy_(weight)  # type: ignore[operator, union-attr]
    linear.bias.copy_(bias)  # type: ignore[operator, union-attr]


def _norm(wide: nn.Module, old: nn.Module, copies: int) -> None:
    wide.weight.copy_(old.weight.repeat(copies))  # type: ignore[operator, union-attr]
    wide.bias.copy_(old.bias.repeat(copies))  # type: ignore[operator, union-attr]
