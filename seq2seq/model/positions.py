"""Where a token stands (section 3.5): sinusoidal and learned encodings are added to embeddings, rotary ones turn
queries and keys."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seq2seq.kernels import KERNEL_WIDTHS, rows_of, runs_training_kernels, training_kernels
from seq2seq.model.segments import in_rows, of_heads


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
        if self._fits_kernel(x):
            return _Turned.apply(x, self.turns)  # type: ignore[no-any-return, no-untyped-call]
        # A pair of features is a complex number, and turning it a product: one pass over memory where sines and cosines take six.
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        turned = torch.view_as_real(pairs * self.turns).flatten(-2)
        return turned if x.device.type == "cpu" else turned.type_as(x)  # on a CPU attention is made in float32

    def _fits_kernel(self, x: Tensor) -> bool:
        """Of sentences end to end, or one, in training."""
        if torch.compiler.is_compiling():
            return False
        one_row = x.requires_grad and len(x) == 1 and self.turns.dim() == 2
        return one_row and x.stride(3) == 1 and x.size(3) in KERNEL_WIDTHS and runs_training_kernels(x)


class _Turned(torch.autograd.Function):
    """`turn` of `training.c`: (1, H, L, D), whatever it is in, to float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, turns: Tensor) -> Tensor:
        ctx.turns, ctx.dtype = turns, x.dtype
        return _turned(x, turns, torch.float32)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _turned(in_rows(gradients[0]), ctx.turns, ctx.dtype, back=True), None


def _turned(x: Tensor, turns: Tensor, dtype: torch.dtype, back: bool = False) -> Tensor:
    _, H, L, D = x.shape
    (out,), turns = of_heads(x, dtype=dtype), turns.contiguous()
    training_kernels().turn(rows_of(x, out), L, H, D, turns.data_ptr(), int(back), torch.get_num_threads())  # type: ignore[union-attr]
    return out


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
