"""The norms before sub-layers in training on a CPU: one pass that also rounds to what the next product is made in, and for the gradient one
that also adds what went past the norm. Its twin is `Residual.norm_beside`.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seq2seq.kernels import LANES, training_kernels
from seq2seq.model.residual import Residual
from seq2seq.model.transformer import Transformer


def quicken_norms(model: Transformer, dtype: torch.dtype) -> None:
    """Let the norms before sub-layers come out in `dtype` from now on, where there is a kernel for them; they are made in float32."""
    if model.config.activation == "swiglu":
        dtype = torch.float32  # two products have one norm, whose gradients are to be added in float32
    for module in model.modules():
        if isinstance(module, Residual) and isinstance(module.norm, nn.LayerNorm):
            module.norm_beside = _Norm(module.norm, dtype).beside  # type: ignore[method-assign]


class _Norm:
    def __init__(self, norm: nn.LayerNorm, dtype: torch.dtype) -> None:
        self._norm, self._dtype = norm, dtype

    def beside(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where nothing is learned, in float32."""
        if not torch.is_grad_enabled() or x.dtype != torch.float32 or x.size(-1) % LANES or training_kernels() is None:
            return self._norm(x), x
        return _Normalize.apply(x, self._norm.weight, self._norm.bias, self._norm.eps, self._dtype)  # type: ignore[no-any-return, no-untyped-call]


class _Normalize(torch.autograd.Function):
    """`normalize` of `training.c`: x (…, E) -> its norm in `dtype`, and x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        whole = x.contiguous()
        out, moments = torch.empty_like(whole, dtype=dtype), x.new_empty(x.numel() // x.size(-1), 2)
        given = (whole.data_ptr(), *_size(x), weight.data_ptr(), bias.data_ptr(), epsilon)
        _kernel("normalize")(*given, out.data_ptr(), int(dtype != torch.float32), moments.data_ptr(), torch.get_num_threads())
        ctx.save_for_backward(whole, weight, moments)
        return out, x

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, moments = ctx.saved_tensors
        by_out, past = (gradient.contiguous() for gradient in gradients)
        threads, by_x = torch.get_num_threads(), torch.empty_like(x)
        by_vectors = x.new_zeros(threads, 2, x.size(-1))
        kept = (x.data_ptr(), moments.data_ptr(), *_size(x), weight.data_ptr(), past.data_ptr())
        found = (by_x.data_ptr(), by_vectors.data_ptr())
        _kernel("normalize_backward")(by_out.data_ptr(), int(by_out.dtype != torch.float32), *kept, *found, threads)
        return by_x, *by_vectors.sum(dim=0), None, None


def _size(x: Tensor) -> tuple[int, int]:
    return x.numel() // x.size(-1), x.size(-1)


def _kernel(name: str) -> Any:
    return getattr(training_kernels(), name)
