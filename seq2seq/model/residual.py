"""The residual connection and the norm around every sub-layer (section 3.1)."""

from collections.abc import Callable

from torch import Tensor, nn

from seq2seq.model.config import TransformerConfig
from seq2seq.model.dropout import Dropout


def make_norm(config: TransformerConfig, d_model: int) -> nn.Module:
    return nn.LayerNorm(d_model) if config.norm == "layer" else nn.RMSNorm(d_model, eps=1e-6)


class Residual(nn.Module):
    """post-norm (the paper): LayerNorm(x + Dropout(Sublayer(x))); pre-norm: x + Dropout(Sublayer(LayerNorm(x)))."""

    def __init__(self, config: TransformerConfig, d_model: int) -> None:
        super().__init__()
        self.norm = make_norm(config, d_model)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_order == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x (B, L, E) -> (B, L, E)."""
        if self.norm_first:
            return self.dropout.onto(x, sublayer(self.norm(x)))  # type: ignore[no-any-return]
        return self.norm(self.dropout.onto(x, sublayer(x)))  # type: ignore[no-any-return]
