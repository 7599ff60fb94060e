"""Packed products, and models made of them, against plain ones."""

from pathlib import Path

import pytest
import torch

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.errors import ConfigProblem
from seq2seq.inference.engine import TorchEngine
from seq2seq.inference.products import _MAKERS, Maker, fastest, prepared
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import BFLOAT16, PRECISIONS, ids, small_config
from tests.model.test_transformer import VARIANTS

TOLERANCE = {"float32": 1e-5, "bfloat16": 1e-2, "int8": 2e-2}
"""Of the difference, as a share of the output."""
WAYS = [(precision, maker) for precision, makers in _MAKERS.items() if precision in PRECISIONS for maker in makers]


@pytest.mark.parametrize(("precision", "maker"), WAYS, ids=[maker.__name__ for _, maker in WAYS])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_products_equal_plain_ones(precision: str, maker: Maker, relu: bool, with_bias: bool) -> None:
    x, weight = torch.randn(3, 5, 64) * 2 + 0.5, torch.randn(48, 64) * torch.rand(48, 1)
    bias = torch.randn(48) if with_bias else None
    expected = torch.nn.functional.linear(x, weight, bias)
    expected = expected.relu() if relu else expected
    with torch.inference_mode():
        found = maker(weight, bias, relu)(x)
    assert found.dtype == torch.float32
    assert (found - expected).norm() < TOLERANCE[precision] * expected.norm()


@pytest.mark.parametrize("maker", _MAKERS["int8"])
def test_sums_of_bytes_are_not_cut_off(maker: Maker) -> None:
    """Where a processor adds two products of bytes in 16 bits, these are the greatest there can be."""
    with torch.inference_mode():
        found = maker(torch.ones(48, 64), None, False)(torch.ones(4, 64))
    torch.testing.assert_close(found, torch.full((4, 48), 64.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_prepared_model_equals_the_plain_one(variant: dict, precision: str) -> None:
    """Step by step, with several hypotheses."""
    model = Transformer(small_config(**variant)).eval()
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    fast = prepared(model, precision)  # type: ignore[arg-type]
    source, tokens = ids(6, 7, 30), ids(6, 3, 30)
    rows = torch.arange(6)[:, None].expand(-1, 3)
    with torch.inference_mode():
        states = [each.start(source).select(rows) for each in (model, fast)]
        for _ in range(4):
            (expected, states[0]), (found, states[1]) = (
                each.step(tokens, s) for each, s in zip((model, fast), states, strict=True)
            )
    assert (found - expected).norm() < 5 * TOLERANCE[precision] * expected.norm()
    assert all(torch.equal(before[name], parameter) for name, parameter in model.named_parameters())


def test_the_same_text_in_float32() -> None:
    model = Transformer(small_config(norm_order="pre")).eval()
    sources = [[*ids(1, 3 + i % 9)[0].tolist(), EOS] for i in range(40)]
    search = BeamSearch(4, lengths=LengthLimits(1.0, 5))
    plain, fast = (TorchEngine([each], 16).search(search, sources) for each in (model, prepared(model)))
    assert [found[0].tokens for found in plain] == [found[0].tokens for found in fast]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="Linux tells what its processor can do")
def test_there_is_bfloat16_where_there_is_avx512() -> None:
    """So that it is tested there."""
    flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    if {"avx512bw", "avx512vl", "avx512dq"} <= flags:
        assert BFLOAT16
    if BFLOAT16:
        assert fastest("bfloat16", 11, 13, 16)
    else:
        with pytest.raises(ConfigProblem, match="no products in bfloat16"):
            fastest("bfloat16", 11, 13, 16)


def test_a_precision_that_this_machine_lacks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(weight: object, bias: object, relu: bool) -> object:
        raise RuntimeError("bf16 path needs the cpu support")

    monkeypatch.setitem(_MAKERS, "bfloat16", (lacking,))  # type: ignore[arg-type]
    with pytest.raises(ConfigProblem, match="no products in bfloat16"):
        fastest("bfloat16", 11, 13, 17)
