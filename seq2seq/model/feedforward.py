"""The position-wise feed-forward network (section 3.3)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from seq2seq.model.dropout import Dropout


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2, equation 2.

    `gelu` puts another non-linearity in place of the max; `swiglu` multiplies the inner activations with a gate:
    (silu(x W_gate) * x W1) W2 (Shazeer, 2020).
    """

    def __init__(self, d_model: int, d_feedforward: int, activation: str, dropout: float) -> None:
        super().__init__()
        self.inner: nn.Module = nn.Linear(d_model, d_feedforward)
        self.gate: nn.Module | None = nn.Linear(d_model, d_feedforward) if activation == "swiglu" else None
        self._rectifies = activation == "relu"
        self.activation: Callable[[Tensor], Tensor] = F.gelu if activation == "gelu" else F.relu
        self.dropout = Dropout(dropout)
        self.outer: nn.Module = nn.Linear(d_feedforward, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, E) -> (B, L, E), each position by itself."""
        inner = self.inner(x)
        inner = F.silu(self.gate(x)) * inner if self.gate is not None else self.activation(inner)
        return self.outer(self.dropout(inner))  # type: ignore[no-any-return]

    def prepare(self, pack: Callable[..., nn.Module]) -> None:
        """Put other products in the place of the linear layers; for a model that is not trained any more.

        Args:
            pack: a linear layer -> the module that does its work, followed by `relu` if that is asked for.
        """
        self.inner, self.outer = pack(self.inner, relu=self._rectifies), pack(self.outer)
        self.gate = pack(self.gate) if self.gate is not None else None
        if self._rectifies:
            self.activation = nn.Identity()
