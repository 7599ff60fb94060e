"""The kernels in C against their slow twins in torch."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq import kernels as module
from seq2seq.decoding.best import best_by_groups, best_continuations, log_normalizers
from seq2seq.inference.products import Packed
from seq2seq.inference.steps import _attend_to_past, _attend_to_source
from seq2seq.kernels import kernels, training_kernels
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.cache import LayerCache, Newest
from seq2seq.model.dropout import Dropout
from seq2seq.model.positions import RotaryPositions
from seq2seq.model.segments import Segments, Within, attention_within
from seq2seq.training.loss import projected_cross_entropy


def test_there_is_a_compiler_here() -> None:
    """Otherwise the tests of this file would compare torch with itself."""
    assert kernels() is not None
    assert training_kernels() is not None


@settings(max_examples=40)
@given(
    sentences=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2)]),
    hypotheses=st.integers(1, 20),
    nodes=st.sampled_from([20, 33, 60, 100_000]),
    width=st.sampled_from([16, 32, 48, 64, 128, 8]),
    turned=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_a_step_of_attention_is_that_of_torch(
    sentences: int, heads: tuple[int, int], hypotheses: int, nodes: int, width: int, turned: bool, seed: int
) -> None:
    """Of the past and of the source: what comes out, and what is kept."""
    torch.manual_seed(seed)
    H, G = heads
    slow = MultiHeadAttention(H * width, H, G, H * width, 0.0).eval()
    slow.prepare(lambda *layers, relu=False: Packed(side_by_side(layers)))
    fast = {"attend_to_past": _attend_to_past(slow), "attend_to_source": _attend_to_source(slow)}
    room = torch.randn(2, sentences, G, nodes + 7, width)
    source = torch.randn(2, sentences, G, 9, width)[:, :, :, :6]
    may = torch.rand(sentences, hypotheses, nodes + 7) < 0.4
    chosen = torch.stack([torch.randperm(nodes)[:hypotheses] for _ in range(sentences)])
    may = may.scatter(2, chosen[:, :, None], True)[:, :, :nodes]
    of_source = torch.arange(6) <= torch.randint(0, 6, (sentences, 1))
    rotation = RotaryPositions(50, width)(torch.randint(0, 50, (sentences, hypotheses))) if turned else None
    newest = Newest(chosen, rotation, may, of_source[:, None, None])
    x = torch.randn(sentences, hypotheses, H * width)
    kept = [LayerCache(*room.clone(), *source) for _ in range(2)]
    with torch.inference_mode():
        for name, step in fast.items():
            expected, found = getattr(slow, name)(x, kept[0], newest), step(x, kept[1], newest)
            torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(kept[1].keys, kept[0].keys, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(kept[1].values, kept[0].values)


def side_by_side(layers: tuple[torch.nn.Linear, ...]) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: torch.cat([layer(x) for layer in layers], dim=-1)


def test_normalizers_are_log_sum_exp() -> None:
    logits = torch.randn(3, 4, 1003) * 20
    logits[0, 0, 5:] = float("-inf")
    torch.testing.assert_close(log_normalizers(logits), logits.logsumexp(dim=-1), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize("find", [best_continuations, best_by_groups])
@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    sentences=st.integers(1, 3),
    slots=st.integers(1, 4),
    vocabulary=st.integers(4, 700),
    count=st.integers(1, 8),
)
def test_the_best_are_those_of_sorting(find, seed: int, sentences: int, slots: int, vocabulary: int, count: int) -> None:
    torch.manual_seed(seed)
    count = min(count, slots * vocabulary)
    log_probs, scores = torch.randn(sentences, slots, vocabulary), torch.randn(sentences, slots)
    log_probs[torch.rand(log_probs.shape) < 0.2] = float("-inf")
    expected = (scores[:, :, None] + log_probs).flatten(1).sort(dim=1, descending=True).values[:, :count]
    best, tokens, of_slots = find(log_probs, scores, count)
    torch.testing.assert_close(best, expected)
    rows = torch.arange(sentences)[:, None]
    real = best > float("-inf")
    torch.testing.assert_close((scores[rows, of_slots] + log_probs[rows, of_slots, tokens])[real], best[real])
    for sentence in (of_slots * vocabulary + tokens).masked_fill(best == float("-inf"), -1).tolist():
        places = [place for place in sentence if place >= 0]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    "without", [{"SEQ2SEQ_KERNELS": "0"}, {"CC": "no-such-compiler"}, {"CC": "false"}, {"CC": " "}, {"CC": "'"}]
)
def test_without_kernels_torch_does_it(without: dict[str, str], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    for name, value in without.items():
        monkeypatch.setenv(name, value)
    assert module.kernels.__wrapped__() is module.training_kernels.__wrapped__() is None
    assert not list(tmp_path.rglob("*.so"))


def test_it_is_compiled_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    assert module.kernels.__wrapped__() is not None
    (library,) = tmp_path.rglob("*.so")
    written = library.stat().st_mtime_ns
    code = "from seq2seq.kernels import kernels; assert kernels() is not None; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert library.stat().st_mtime_ns == written


def _attended(x: torch.Tensor) -> torch.Tensor:
    rows = Segments(torch.ones(1, 5, dtype=torch.bool))
    heads = x.view(1, 1, 5, 16)
    return attention_within(heads, heads, heads, Within(rows, rows), False, 0.0)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda x: Dropout(0.2)(x), id="dropout"),
        pytest.param(lambda x: RotaryPositions(9, 16)(torch.arange(5))(x.view(1, 1, 5, 16)), id="rotation"),
        pytest.param(_attended, id="attention"),
        pytest.param(lambda x: projected_cross_entropy(x, torch.ones(7, 16), torch.arange(5), 0.1)[0], id="loss"),
    ],
)
def test_what_kernels_differentiate_once_is_not_differentiated_twice_wrongly(
    made: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    x = torch.randn(5, 16, requires_grad=True)
    (gradient,) = torch.autograd.grad((made(x) ** 2).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
