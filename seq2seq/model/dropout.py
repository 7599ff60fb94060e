"""Dropout (section 5.4; Srivastava et al., 2014) whose random numbers cost little on a processor."""

import torch
from torch import Tensor, nn

_LEVELS = 1 << 16


class Dropout(nn.Module):
    """Sets each element to 0 with probability `rate` and divides the others by 1 - rate; in evaluation does nothing.

    On a CPU drawing a float for each element takes longer than the products around it. Sixteen bits of a random word are
    enough to decide: one 64-bit draw serves four elements, and the rate is exact to 1 / 65,536.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu":
            return nn.functional.dropout(x, self.rate)
        return x * self._scaled_mask(x)

    def _scaled_mask(self, x: Tensor) -> Tensor:
        """0 or 1 / (1 - rate) for each element."""
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = round(self.rate * _LEVELS)
        kept = bits >= dropped - _LEVELS // 2
        return kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
