"""The norms of training against torch's."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from seq2seq.kernels import training_kernels
from seq2seq.model.residual import Residual
from seq2seq.model.transformer import Transformer
from seq2seq.training.norms import quicken_norms
from tests.conftest import ids, small_config


def gradients(residual: Residual, x: Tensor, sublayer: torch.nn.Module, gradient: Tensor) -> tuple[Tensor, ...]:
    inputs = [x, *residual.norm.parameters(), *sublayer.parameters()]
    return torch.autograd.grad(residual(x, lambda x: sublayer(x.float())), inputs, gradient)


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(usual)


def pair(width: int, dtype: torch.dtype) -> tuple[Any, Any]:
    """A residual as it is and one with the norm of training, of the same weights."""
    slow: Any = Transformer(small_config(norm_order="pre", d_model=width, heads=2))
    for parameter in slow.encoder.layers[0].feedforward_residual.norm.parameters():
        torch.nn.init.normal_(parameter)
    fast = copy.deepcopy(slow)
    quicken_norms(fast, dtype)
    return slow.encoder.layers[0].feedforward_residual, fast.encoder.layers[0].feedforward_residual


needs_kernel = pytest.mark.skipif(training_kernels() is None, reason="there is no compiler")


@needs_kernel
@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("width", [16, 80])
def test_a_norm_is_torchs_and_so_are_its_gradients(dtype: torch.dtype, tolerance: float, width: int) -> None:
    """Also of rows that hardly vary, and where x does not lie in one piece. What goes past the norm has a gradient, too."""
    of_slow, of_fast = pair(width, dtype)
    sublayer = torch.nn.Linear(width, width)
    x = (3 * torch.randn(width, 11, 5) + 2).transpose(0, 2)
    x[:2] *= 1e-3
    x.requires_grad_()
    normal, past = of_fast.norm_beside(x)
    assert torch.equal(past, x)
    expected = of_slow.norm(x).to(dtype)
    assert normal.dtype == dtype
    torch.testing.assert_close(normal, expected, rtol=tolerance, atol=2e-5)
    if dtype == torch.bfloat16:
        assert (normal == expected).float().mean() > 0.99  # where it is not, the last bit of float32 has decided
    gradient = torch.randn(x.shape)
    for ours, theirs in zip(gradients(of_fast, x, sublayer, gradient), gradients(of_slow, x, sublayer, gradient), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm().item() <= 2 * tolerance * theirs.norm().item()


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_none(dtype: torch.dtype, wrong: float) -> None:
    """So that a run that diverges is noticed."""
    x = torch.randn(3, 16)
    x[1, 5] = wrong
    normal, _ = pair(16, dtype)[1].norm_beside(x)
    assert normal.isnan().tolist() == [[False] * 16, [True] * 16, [False] * 16]


@needs_kernel
@pytest.mark.parametrize(("activation", "dtype"), [("relu", torch.bfloat16), ("gelu", torch.bfloat16), ("swiglu", torch.float32)])
def test_two_products_of_one_norm_add_their_gradients_in_float32(activation: str, dtype: torch.dtype) -> None:
    model: Any = Transformer(small_config(norm_order="pre", activation=activation))
    quicken_norms(model, torch.bfloat16)
    normal, _ = model.encoder.layers[0].feedforward_residual.norm_beside(torch.randn(2, 16))
    assert normal.dtype == dtype


@pytest.mark.parametrize(
    "changes", [{"norm_order": "post"}, {"norm": "rms", "norm_order": "pre"}, {"norm_order": "pre", "d_model": 24}]
)
def test_other_norms_stay_as_they_are(changes: dict[str, object]) -> None:
    slow = Transformer(small_config(**changes))
    fast = copy.deepcopy(slow)
    quicken_norms(fast, torch.bfloat16)
    source, target = ids(3, 6), ids(3, 5)
    assert torch.equal(fast(source, target), slow(source, target))


def test_where_nothing_is_learned_norms_are_torchs() -> None:
    slow = Transformer(small_config(norm_order="pre"))
    fast = copy.deepcopy(slow)
    quicken_norms(fast, torch.bfloat16)
    source, target = ids(3, 6), ids(3, 5)
    with torch.no_grad():
        assert torch.equal(fast(source, target), slow(source, target))
