"""The residual connection and the norm around every sub-layer (section 3.1)."""

from collections.abc import Callable
from typing import NamedTuple

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
    """post-norm (the paper): LayerNorm(x + Dropout(Sublayer(x))); pre-norm: x + Dropout(Sublayer(LayerNorm(x))); deep: as post-norm, with x
    scaled."""

    def __init__(self, config: TransformerConfig, d_model: int, scale: float) -> None:
        super().__init__()
        self.norm = make_norm(config, d_model)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_order == "pre"
        self.scale = scale

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x (B, L, E) -> (B, L, E)."""
        if self.norm_first:
            return self.dropout.onto(x, sublayer(self.norm(x)))  # type: ignore[no-any-return]
        kept = x if self.scale == 1 else x * self.scale
        return self.norm(self.dropout.onto(kept, sublayer(x)))  # type: ignore[no-any-return]
