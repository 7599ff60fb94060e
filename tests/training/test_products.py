"""The products of training against `nn.Linear`."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from seq2seq.inference.products import prepared
from seq2seq.model.transformer import Transformer
from seq2seq.training import products
from seq2seq.training.norms import quicken_norms
from seq2seq.training.products import Product, by_onednn, choose_library, choose_precision, linear, quicken
from tests.conftest import BFLOAT16, ids, small_config


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    ("dtype", "tolerance", "by_onednn"),
    [
        (torch.float32, 1e-5, True),
        (torch.float32, 1e-5, False),
        (torch.bfloat16, 3e-2, False),
        *([(torch.bfloat16, 3e-2, True)] if BFLOAT16 else []),
    ],
)
def test_layers_side_by_side_are_layers_one_by_one(
    dtype: torch.dtype, tolerance: float, by_onednn: bool, relu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_CHOSEN", {dtype: by_onednn})
    layers = [nn.Linear(12, width) for width in (6, 5)]
    x = torch.randn(3, 4, 12, requires_grad=True)
    expected = torch.cat([layer(x) for layer in layers], dim=-1)
    expected = expected.relu() if relu else expected
    found = Product(layers, dtype, relu)(x)
    assert found.dtype == dtype
    inputs = [x, *(p for layer in layers for p in layer.parameters())]
    gradient = torch.randn_like(expected)
    of_found = torch.autograd.grad(found, inputs, gradient.to(dtype))
    for ours, theirs in zip(
        (found.float(), *of_found), (expected, *torch.autograd.grad(expected, inputs, gradient)), strict=True
    ):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm().item() <= tolerance * theirs.norm().item()
    with torch.no_grad():
        torch.testing.assert_close(Product(layers, dtype, relu)(x), expected)


def test_gradients_in_bfloat16_are_rounded_once() -> None:
    """However many rows they are sums of: added up in bfloat16, sums of ones stay at 256."""
    layer, rows = nn.Linear(4, 8), torch.ones(4096, 4)
    gradient = torch.rand(4096, 8).bfloat16()
    by_weight, by_bias = torch.autograd.grad(Product([layer], torch.bfloat16, False)(rows), list(layer.parameters()), gradient)
    expected = gradient.double().sum(dim=0)
    for found in (by_bias, *by_weight.T):
        torch.testing.assert_close(found.double(), expected, rtol=2**-8, atol=0)


@pytest.mark.parametrize(
    "changes", [{}, {"activation": "swiglu", "key_value_heads": 2}, {"activation": "gelu", "norm_order": "pre"}]
)
def test_a_quickened_model_is_the_same_model(changes: dict[str, object]) -> None:
    slow = Transformer(small_config(**changes))
    fast = copy.deepcopy(slow)
    names = [name for name, _ in slow.named_parameters()]
    quicken(fast, torch.float32)
    quicken_norms(fast, torch.float32)
    assert [name for name, _ in fast.named_parameters()] == names
    source, target = ids(3, 6), ids(3, 5)
    expected, found = slow(source, target), fast(source, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    expected.square().sum().backward()
    found.square().sum().backward()
    for (name, ours), theirs in zip(fast.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-3, msg=name)
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(source, target), slow.eval()(source, target), rtol=1e-4, atol=1e-5)


def test_finding_the_fastest_library_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn in training depends on seed and step alone."""
    monkeypatch.setattr(products, "_CHOSEN", {})
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    linear(torch.ones(4, 4), torch.ones(4, 4))
    assert torch.equal(torch.rand(1), expected)


def test_a_run_that_goes_on_keeps_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Which is the faster may be a matter of luck, and the two differ in the last bit. So does one that begins anew here."""
    monkeypatch.setattr(products, "_CHOSEN", {})
    for pays in (True, False):
        monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / str(pays)))
        monkeypatch.setattr(products, "onednn_pays", lambda dtype, pays=pays: pays)
        first = choose_library(torch.float32)
        monkeypatch.setattr(products, "onednn_pays", lambda dtype, pays=pays: not pays)
        assert choose_library(torch.float32) == first
        monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "another machine"))
        assert choose_library(torch.float32, first) == first
        assert by_onednn(torch.float32) == pays


@pytest.mark.parametrize("times", [1.0, 1.5])
def test_auto_is_bfloat16_where_it_is_clearly_faster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, times: float) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    monkeypatch.setattr(products, "_by_onednn", lambda dtype: 1.0 if dtype == torch.bfloat16 else times)
    monkeypatch.setattr(products, "_by_torch", lambda dtype: 2.0)
    found = "float32" if times == 1.0 else "bfloat16"
    assert choose_precision(on_cpu=True) == found
    monkeypatch.setattr(products, "_bfloat16_pays", lambda: times == 1.0)
    assert choose_precision(on_cpu=True) == found  # remembered for this machine
    assert choose_precision(on_cpu=True, before="float32") == "float32"  # a run that goes on


@pytest.mark.parametrize("norm_order", ["post", "pre"])
def test_a_quickened_model_can_be_prepared(norm_order: str) -> None:
    model = Transformer(small_config(norm_order=norm_order))
    source, target = ids(3, 6), ids(3, 5)
    expected = model.eval()(source, target)
    quicken(model, torch.float32)
    quicken_norms(model, torch.float32)
    with torch.inference_mode():
        found = prepared(model)(source, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    quicken(model, torch.float32)
    quicken_norms(model, torch.float32)
    torch.testing.assert_close(model(source, target), expected, rtol=1e-4, atol=1e-5)
