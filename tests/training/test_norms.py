"""The norms of training against torch's."""

import copy

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


@pytest.mark.skipif(training_kernels() is None, reason="there is no compiler")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("width", [16, 80])
def test_a_norm_is_torchs_and_so_are_its_gradients(dtype: torch.dtype, tolerance: float, width: int) -> None:
    """What goes past the norm has a gradient, too, and x need not lie in one piece."""
    slow = Transformer(small_config(norm_order="pre", d_model=width, heads=2))
    fast = copy.deepcopy(slow)
    quicken_norms(fast, dtype)
    sublayer = torch.nn.Linear(width, width)
    x = (3 * torch.randn(width, 11, 5) + 2).transpose(0, 2).requires_grad_()
    of_slow, of_fast = (model.encoder.layers[0].feedforward_residual for model in (slow, fast))
    torch.nn.init.normal_(of_slow.norm.weight)
    of_fast.norm.weight.data.copy_(of_slow.norm.weight)
    normal, past = of_fast.norm_beside(x)
    assert normal.dtype == dtype
    assert torch.equal(past, x)
    torch.testing.assert_close(normal.float(), of_slow.norm(x), rtol=tolerance, atol=2 * tolerance)
    gradient = torch.randn(x.shape)
    for ours, theirs in zip(gradients(of_fast, x, sublayer, gradient), gradients(of_slow, x, sublayer, gradient), strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm().item() <= 2 * tolerance * theirs.norm().item()


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
