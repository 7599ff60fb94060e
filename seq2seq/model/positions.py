"""Where a token stands (section 3.5): sinusoidal and learned encodings are added to embeddings, rotary ones turn
queries and keys."""

import torch
from torch import Tensor, nn


def sinusoids(length: int, width: int) -> Tensor:
    """PE(pos, 2i) = sin(pos / 10000^(2i/width)), PE(pos, 2i+1) = cos(the same) (section 3.5): (length, width)."""
    angles = _angles(length, width)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1).float()


def _angles(length: int, width: int) -> Tensor:
    """(length, width / 2): pos / 10000^(2i/width), in float64 so that far positions stay exact."""
    frequencies = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    return torch.arange(length, dtype=torch.float64)[:, None] * frequencies


class AddedPositions(nn.Module):
    """Adds a vector for its position to each embedding."""

    table: Tensor

    def __init__(self, kind: str, max_length: int, width: int) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(torch.randn(max_length, width) * width**-0.5)
        else:
            self.register_buffer("table", sinusoids(max_length, width), persistent=False)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, L, E); positions (L) or (B, L), whole numbers from 0."""
        return x + self.table[positions].type_as(x)


class Rotation:
    """Turns each pair of features of (B, H, L, D) by an angle that grows with its position (Su et al., 2021, eq. 34)."""

    def __init__(self, turns: Tensor) -> None:
        """turns (L, D / 2) or (R, 1, L, D / 2): complex numbers of length 1."""
        self.turns = turns

    def __call__(self, x: Tensor) -> Tensor:
        # A pair of features is a complex number, and turning it a product: one pass over memory where sines and cosines take six.
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turned = torch.view_as_real(pairs * self.turns).flatten(-2)
        return turned if x.device.type == "cpu" else turned.type_as(x)  # on a CPU attention is made in float32


class RotaryPositions(nn.Module):
    """Makes the `Rotation` of given positions."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, max_length: int, d_head: int) -> None:
        super().__init__()
        angles = _angles(max_length, d_head)
        self.register_buffer("cosine", angles.cos().float(), persistent=False)
        self.register_buffer("sine", angles.sin().float(), persistent=False)

    def forward(self, positions: Tensor) -> Rotation:
        """positions (L) or (R, L) -> rotation of (·, H, L, D)."""
        turns = torch.complex(self.cosine[positions], self.sine[positions])
        return Rotation(turns if positions.dim() == 1 else turns[:, None])
