"""The residual connection and the norm around every sub-layer (section 3.1)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from seq2seq.model.config import TransformerConfig
from seq2seq.model.dropout import Dropout


def make_norm(config: TransformerConfig, d_model: int) -> nn.Module:
    return nn.LayerNorm(d_model) if config.norm == "layer" else nn.RMSNorm(d_model, eps=1e-6)


class Depth(NamedTuple):
    """What a stack's height asks for: the residual is multiplied with `scale`, and what a sub-layer adds begins `gain` times as large."""

    scale: float = 1.0
    gain: float = 1.0


def depths(config: TransformerConfig) -> tuple[Depth, Depth]:
    """Of encoder and decoder; table 3 of Wang et al., 2022 (DeepNet), where it is asked for."""
    if config.norm_order != "deep":
        return Depth(), Depth()
    high, low = config.encoder.layers, config.decoder.layers
    both = (high**4 * low) ** (1 / 16)
    return Depth(0.81 * both, 0.87 / both), Depth((3 * low) ** (1 / 4), (12 * low) ** (-1 / 4))


class Residual(nn.Module):
    """post-norm (the paper): LayerNorm(x + Dropout(Sublayer(x))); pre-norm: x + Dropout(Sublayer(LayerNorm(x))); deep and admin: as post-norm, with x
    scaled, by one number or by one that is learned for each feature."""

    def __init__(self, config: TransformerConfig, d_model: int, scale: float) -> None:
        super().__init__()
        self.norm = make_norm(config, d_model)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_order == "pre"
        self.scale: float | Tensor = nn.Parameter(torch.ones(d_model)) if config.norm_order == "admin" else scale

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x (B, L, E) -> (B, L, E)."""
        if self.norm_first:
            normal, x = self.norm_beside(x)
            return self.dropout.onto(x, sublayer(normal))  # type: ignore[no-any-return]
        return self.norm(self.dropout.onto(self.kept(x), sublayer(x)))  # type: ignore[no-any-return]

    def norm_beside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The norm of x, and x, which goes past it."""
        return self.norm(x), x

    def kept(self, x: Tensor) -> Tensor:
        """x as it is added to, where the norm comes last."""
        return x if isinstance(self.scale, float) and self.scale == 1.0 else x * self.scale


@torch.no_grad()
def balance(stacks: Any, look: Callable[[], object]) -> None:
    """Admin's beginning (Liu et al., 2020, section 4): the square of each scale is 1 and the variances of all that was added in its stack before, so
    that a high sub-layer does not outweigh those below it.

    Args:
        stacks: encoder and decoder, of norm_order admin.
        look: puts usual input through both, once, without dropout.
    """
    hooks = []
    for stack in stacks:
        variance = [1.0]

        def measure(residual: Any, given: tuple[Tensor, Callable[[Tensor], Tensor]], variance: list[float] = variance) -> None:
            residual.scale.fill_(math.sqrt(sum(variance)))
            variance.append(float(given[1](given[0]).var()))

        residuals = [module for module in stack.modules() if isinstance(module, Residual)]
        hooks += [residual.register_forward_pre_hook(measure) for residual in residuals]
    try:
        look()
    finally:
        for hook in hooks:
            hook.remove()
