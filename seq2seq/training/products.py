"""The matrix products of training on a CPU: several projections of one input as one, by the library that is the fastest here, in float32
or bfloat16.

What is put in here takes the place of `nn.Linear.forward`, which is its slow twin; parameters and their names stay.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seq2seq.folders import digest_of, remembered
from seq2seq.inference.products import least_seconds
from seq2seq.kernels import processor
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.transformer import Transformer
from seq2seq.training.options import Precision


def quicken(model: Transformer, dtype: torch.dtype) -> None:
    """Let a model on a CPU make its products this way from now on; to be called once.

    In bfloat16 what is multiplied is rounded to it, and so are the products and the gradients that come of them; weights, norms, attention,
    sums of residuals and the loss stay float32.
    """

    def pack(*layers: nn.Linear, relu: bool = False) -> nn.Module:
        product = Product(layers, dtype, relu)
        if len(layers) > 1:
            return product
        layers[0].forward = product.forward  # type: ignore[method-assign, assignment]
        return layers[0]

    for module in model.modules():
        if isinstance(module, MultiHeadAttention | FeedForward):
            module.prepare(pack)


class Product(nn.Module):
    """Linear layers of one input, their outputs side by side, followed by ReLU if that is asked for.

    It has no parameters of its own: they stay those of the layers.
    """

    def __init__(self, layers: Sequence[nn.Linear], dtype: torch.dtype, relu: bool) -> None:
        super().__init__()
        self._of_layers = (*(layer.weight for layer in layers), *(layer.bias for layer in layers))
        self._dtype, self._relu = dtype, relu

    def forward(self, x: Tensor) -> Tensor:
        """(…, E) -> (…, F). Where nothing is learned, in float32."""
        if torch.is_grad_enabled():
            return _Multiply.apply(x, self._dtype, self._relu, *self._of_layers)  # type: ignore[no-any-return, no-untyped-call]
        product = F.linear(x, *_side_by_side(self._of_layers, x.dtype))
        return product.relu_() if self._relu else product


def _side_by_side(of_layers: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights, then biases, of several layers -> those of one."""
    half = len(of_layers) // 2
    weight, bias = (torch.cat(tuple(part)) if half > 1 else part[0] for part in (of_layers[:half], of_layers[half:]))
    return weight.to(dtype), bias.to(dtype)


class _Multiply(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: torch.dtype, relu: bool, *of_layers: Tensor) -> Tensor:
        rows = x.to(dtype).reshape(-1, x.size(-1))
        weight, bias = _side_by_side(of_layers, dtype)
        product = linear(rows, weight, bias, relu)
        ctx.save_for_backward(rows, product if relu else None, weight)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        ctx.widths = [layer.size(0) for layer in of_layers[: len(of_layers) // 2]]
        return product.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, product, weight = ctx.saved_tensors
        gradient = gradients[0].reshape(len(rows), -1)
        if product is not None:
            gradient = torch.ops.aten.threshold_backward(gradient, product, 0)
        by_input = linear(gradient, weight.T).view(ctx.shape).to(ctx.dtype) if ctx.needs_input_grad[0] else None
        # Both are summed in float32 and rounded once; a sum asked for in float32 would copy the gradient first.
        by_weight, by_bias = (gradient.T @ rows).float(), gradient.sum(dim=0).float()
        return by_input, None, None, *torch.split(by_weight, ctx.widths), *torch.split(by_bias, ctx.widths)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x (N, E), weight (F, E), bias (F) -> (N, F), by the library that is the fastest here."""
    if x.device.type == "cpu" and by_onednn(x.dtype):
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")  # type: ignore[no-any-return]
    product = F.linear(x, weight, bias)
    return product.relu_() if relu else product


def dtype_of(precision: Precision) -> torch.dtype:
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


_CHOSEN: dict[torch.dtype, bool] = {}


def choose_library(dtype: torch.dtype, before: str | None = None) -> str:
    """The library that products of this process are made by, "oneDNN" or "torch's": the faster one, or that of `before`, because the two
    differ in the last bit and a run that goes on must not."""
    chosen = before or _found_once(str(dtype), lambda: "oneDNN" if onednn_pays(dtype) else "torch's")
    _CHOSEN[dtype] = chosen == "oneDNN"
    return chosen


def choose_precision(on_cpu: bool, before: str | None = None) -> Precision:
    """What `trainer.precision=auto` is: that of `before`, else bfloat16 where its products are clearly faster, else float32."""
    if before is not None:
        return "bfloat16" if before == "bfloat16" else "float32"
    if on_cpu:
        pays = _found_once("bfloat16 pays", _bfloat16_pays) == "True"
    else:
        pays = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if pays else "float32"


def _found_once(what: str, find: Callable[[], object]) -> str:
    """What was found, remembered for this machine: where two ways are as fast, the same command would give other bits each time."""
    known = digest_of(processor(), torch.__version__, torch.get_num_threads(), what)
    with suppress(OSError):
        folder = remembered("products", known, lambda folder: (folder / _FOUND).write_text(str(find()), encoding="utf-8"))
        return (folder / _FOUND).read_text(encoding="utf-8")
    return str(find())


_FOUND = "found.txt"


def by_onednn(dtype: torch.dtype) -> bool:
    if dtype not in _CHOSEN:
        choose_library(dtype)
    return _CHOSEN[dtype]


def onednn_pays(dtype: torch.dtype) -> bool:
    """Whether oneDNN is faster here than torch's default library, found by trying for some milliseconds."""
    return _by_onednn(dtype) < _by_torch(dtype)


_CLEARLY = 1.2
"""Times as fast. Products are not all there is to do, and float32 is exact to more digits."""


def _bfloat16_pays() -> bool:
    narrow, wide = (min(_by_onednn(dtype), _by_torch(dtype)) for dtype in (torch.bfloat16, torch.float32))
    return _CLEARLY * narrow < wide


def _by_onednn(dtype: torch.dtype) -> float:
    """Seconds for a layer of usual size; without end where the library is not there."""
    x, weight, bias = _usual(dtype)
    try:
        return least_seconds(lambda: torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], ""), 9)
    except (RuntimeError, AttributeError):
        return math.inf


def _by_torch(dtype: torch.dtype) -> float:
    x, weight, bias = _usual(dtype)
    return least_seconds(lambda: F.linear(x, weight, bias), 9)


def _usual(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    return torch.ones(1024, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype), torch.ones(512, dtype=dtype)
