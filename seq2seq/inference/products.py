"""Matrix products with weights that do not change any more: packed once, and in the precision that is asked for.

Everything but the products stays as it is. What is packed here does not train.
"""

import copy
import math
import time
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seq2seq.errors import ConfigProblem
from seq2seq.inference.steps import shorten
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS

Precision = Literal["float32", "bfloat16", "int8"]
Product = Callable[[Tensor], Tensor]
"""(…, E) -> (…, F): x W^T + b, with the negative ones set to 0 where it was made with `relu`."""
Maker = Callable[[Tensor, Tensor | None, bool], Product]
"""Weight (F, E), bias (F) or None, relu."""


def as_torch(weight: Tensor, bias: Tensor | None, relu: bool) -> Product:
    """float32 by torch's default library."""
    return (lambda x: F.linear(x, weight, bias).relu_()) if relu else (lambda x: F.linear(x, weight, bias))


def onednn(weight: Tensor, bias: Tensor | None, relu: bool) -> Product:
    """With the weight laid out for oneDNN, which on some processors uses all of what the default library leaves half unused."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, _TYPICAL_ROWS)
    after = "relu" if relu else "none"
    return lambda x: torch.ops.mkldnn._linear_pointwise(x, packed, bias, after, [], "")


def onednn_bfloat16(weight: Tensor, bias: Tensor | None, relu: bool) -> Product:
    """Both factors rounded to bfloat16, sums in float32."""
    product = onednn(weight.bfloat16(), bias.bfloat16() if bias is not None else None, relu)
    return lambda x: product(x.bfloat16()).float()


def onednn_int8(weight: Tensor, bias: Tensor | None, relu: bool) -> Product:
    """Weights rounded to 8 bits once, with a scale for each output; inputs each time, with a scale for all of a batch."""
    scales = _scales(weight)
    packed = torch.ops.onednn.qlinear_prepack((weight / scales[:, None]).round().to(torch.int8), None)
    zeros = torch.zeros(len(scales), dtype=torch.int32)
    after: tuple[Any, ...] = (bias, 1.0, 0, torch.float32, "relu" if relu else "none", [], "")
    steps = 255 if adds_bytes_exactly() else 127

    def product(x: Tensor) -> Tensor:
        least, most = (float(value) for value in x.aminmax())
        scale = max(max(most, 0.0) - min(least, 0.0), 1e-8) / steps
        zero = round(-min(least, 0.0) / scale)
        # Whole numbers are cut off: a half more rounds. The greatest input may then be one above the last step.
        rounded = x.mul(1 / scale).add_(zero + 0.5).clamp_(max=steps).to(torch.uint8)
        return torch.ops.onednn.qlinear_pointwise(rounded, scale, zero, packed, scales, zeros, *after)  # type: ignore[no-any-return]

    return product


def fbgemm_int8(weight: Tensor, bias: Tensor | None, relu: bool) -> Product:
    """The same by FBGEMM, which rounds inputs on the way. torch will drop it: the probe then finds it gone."""
    scales = _scales(weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rounded = torch.quantize_per_channel(weight, scales.double(), torch.zeros(len(scales), dtype=torch.long), 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, bias)
    multiply = (torch.ops.quantized.linear_relu_dynamic if relu else torch.ops.quantized.linear_dynamic).default
    seven_bits = not adds_bytes_exactly()
    return lambda x: multiply(x, packed, seven_bits)


def adds_bytes_exactly() -> bool:
    """Whether this processor has VNNI with AVX-512, the one torch tells of. Without, products of bytes are added in pairs to 16 bits, which is enough
    for weights of 8 bits and inputs of 7: greater sums would be cut off."""
    return torch.cpu._is_vnni_supported()


def _scales(weight: Tensor) -> Tensor:
    return weight.abs().amax(dim=1).clamp(min=1e-8) / 127


_TYPICAL_ROWS, _TYPICAL_LIST = 160, 2000
_MAKERS: dict[str, tuple[Maker, ...]] = {
    "float32": (as_torch, onednn),
    "bfloat16": (onednn_bfloat16,),
    "int8": (fbgemm_int8, onednn_int8),
}


@cache
def fastest(precision: Precision, outputs: int, inputs: int, rows: int) -> Maker:
    """Which way of making products of a shape is the fastest on this machine, found by trying for some milliseconds.

    Raises:
        ConfigProblem: it has none.
    """
    weight, x = torch.randn(outputs, inputs), torch.randn(rows, inputs)
    seconds = {maker: _seconds(maker, weight, x) for maker in _MAKERS[precision]}
    best = min(seconds, key=lambda maker: seconds[maker])
    if seconds[best] == math.inf:
        raise ConfigProblem(f"this machine has no products in {precision}", "engine.precision=float32, or auto")
    return best


def _seconds(maker: Maker, weight: Tensor, x: Tensor) -> float:
    """The least of a few tries; infinite where this processor or this torch cannot."""
    try:
        product = maker(weight, None, False)
        product(x)
    except (RuntimeError, AttributeError, NotImplementedError):
        return math.inf
    return least_seconds(lambda: product(x), 5)


def least_seconds(product: Callable[[], Tensor], tries: int) -> float:
    """Of several tries."""
    taken = []
    for _ in range(tries):
        start = time.perf_counter()
        product()
        taken.append(time.perf_counter() - start)
    return min(taken)


class Packed(nn.Module):
    """A `Product` in the place of one or several linear layers of the same input."""

    def __init__(self, product: Product) -> None:
        super().__init__()
        self.forward = product  # type: ignore[method-assign]


def rows_packed(model: Transformer, precision: Precision, rows: int = _TYPICAL_ROWS) -> Callable[[Tensor], Product]:
    """How to make the product with some rows (U) of a model's output, to be made anew whenever other rows are wanted."""
    weight = model.output.weight.detach()
    if weight.device.type != "cpu":
        dtype = torch.bfloat16 if precision == "bfloat16" else weight.dtype
        return lambda chosen: as_torch(weight.index_select(0, chosen).to(dtype), None, False)
    maker = fastest(precision, _TYPICAL_LIST, weight.size(1), rows)
    return lambda chosen: maker(weight.index_select(0, chosen), None, False)


def to_bfloat16(model: nn.Module) -> None:
    """Weights to bfloat16, and not tables of positions, whose angles would be off by a degree."""
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16()


def prepared(model: Transformer, precision: Precision = "float32", rows: int = _TYPICAL_ROWS) -> Transformer:
    """A copy of a model that decodes fast and cannot be trained. Weights that it does not need to change it shares.

    Args:
        rows: hypotheses that share a product most of the time.
    """
    shared = {id(parameter): parameter for parameter in model.parameters()}
    on_cpu = next(model.parameters()).device.type == "cpu"
    model = copy.deepcopy(model, shared if on_cpu else {}).eval()

    def pack(*layers: nn.Linear, relu: bool = False) -> Packed:
        weight = torch.cat([layer.weight.detach() for layer in layers]) if len(layers) > 1 else layers[0].weight.detach()
        bias = torch.cat([layer.bias.detach() for layer in layers]) if layers[0].bias is not None else None
        maker = fastest(precision, *weight.shape, rows) if on_cpu else as_torch
        return Packed(maker(weight, bias, relu))

    if not on_cpu and precision == "bfloat16":
        to_bfloat16(model)
    with torch.inference_mode():
        for module in model.modules():
            if isinstance(module, MultiHeadAttention | FeedForward):
                module.prepare(pack)
        for layer in model.decoder.layers if on_cpu else ():
            shorten(layer)  # type: ignore[arg-type]
        model.output = pack(model.output)  # type: ignore[assignment]
        a_sentence = torch.full((1, 1), EOS, device=model.source_embedding.tokens.weight.device)
        model.step(a_sentence, model.start(a_sentence))  # what is used is packed here, not in every process
    return model
