"""Dropout (section 5.4; Srivastava et al., 2014) whose random numbers cost little on a processor."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seq2seq.kernels import runs_training_kernels, training_kernels

_LEVELS = 1 << 16


def drop_tokens(x: Tensor, rate: float) -> Tensor:
    """Sets each vector of x (B, L, E) to 0 with probability `rate` and divides the others by 1 - rate."""
    kept = torch.rand(x.shape[:-1], device=x.device) >= rate
    return x * (kept / (1 - rate)).unsqueeze(-1).to(x.dtype)


class Dropout(nn.Module):
    """Sets each element to 0 with probability `rate` and divides the others by 1 - rate; in evaluation does nothing.

    On a CPU drawing a float for each element takes longer than the products around it. Where there are kernels, what is dropped is a
    function of one drawn number and the place, made on the way and again for the gradient, so that no mask is kept. Elsewhere sixteen bits
    of a random word are enough to decide: one 64-bit draw serves four elements, and the rate is exact to 1 / 65,536.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        if not self.training or self.rate == 0.0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return nn.functional.dropout(x, self.rate)
        if _has_kernel(x):
            return _Dropped.apply(x, None, self.rate)  # type: ignore[no-any-return, no-untyped-call]
        return x * self._scaled_mask(x)

    def onto(self, base: Tensor, x: Tensor) -> Tensor:
        """base + dropout(x), of one shape."""
        dropping = self.training and self.rate > 0.0
        if dropping and base.dtype == torch.float32 and base.is_contiguous() and _has_kernel(x):
            return _Dropped.apply(x, base, self.rate)  # type: ignore[no-any-return, no-untyped-call]
        return base + self.forward(x)

    def _scaled_mask(self, x: Tensor) -> Tensor:
        """0 or 1 / (1 - rate) for each element."""
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        dropped = round(self.rate * _LEVELS)
        kept = bits >= dropped - _LEVELS // 2
        return kept.to(x.dtype).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


def _has_kernel(x: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False  # it makes its own
    return x.numel() < 1 << 32 and runs_training_kernels(x)


class _Dropped(torch.autograd.Function):
    """`dropout` of `training.c`: in float32, whatever x is in."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, base: Tensor | None, rate: float) -> Tensor:
        seed = int(torch.empty((), dtype=torch.int64).random_())
        ctx.drawn, ctx.dtype = (seed, round(rate * (1 << 32)), 1 / (1 - rate)), x.dtype
        out = torch.empty_like(x, dtype=torch.float32, memory_format=torch.contiguous_format)
        _drop("dropout" if x.dtype == torch.float32 else "dropout_of_bfloat16", base, x.contiguous(), out, ctx.drawn)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0].contiguous()
        by_x = torch.empty_like(gradient, dtype=ctx.dtype)
        _drop("dropout" if ctx.dtype == torch.float32 else "dropout_to_bfloat16", None, gradient, by_x, ctx.drawn)
        return by_x, gradients[0] if ctx.needs_input_grad[1] else None, None


def _drop(name: str, base: Tensor | None, x: Tensor, out: Tensor, drawn: tuple[int, int, float]) -> None:
    pointers = (None if base is None else base.data_ptr(), x.data_ptr(), out.data_ptr())
    getattr(training_kernels(), name)(*pointers, x.numel(), *drawn, torch.get_num_threads())


@contextmanager
def evaluating(models: Sequence[nn.Module]) -> Iterator[None]:
    """Nothing is dropped by any of them meanwhile, also where one is in training before and after."""
    before = [model.training for model in models]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for model, was_training in zip(models, before, strict=True):
            model.train(was_training)
