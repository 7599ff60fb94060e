"""The kernels in C against their slow twins in torch."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq import kernels as module
from seq2seq.decoding.best import best_by_groups, best_continuations, log_normalizers
from seq2seq.kernels import kernels
from seq2seq.model.attention import attention_of_few, scaled_dot_product_attention
from seq2seq.model.cache import LayerCache


def test_there_is_a_compiler_here() -> None:
    """Otherwise the tests of this file would compare torch with itself."""
    assert kernels() is not None


@settings(max_examples=40, deadline=None)
@given(
    sentences=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2)]),
    queries=st.integers(1, 5),
    nodes=st.integers(1, 40),
    width=st.sampled_from([16, 32, 48, 64, 128, 8]),
    same_for_all=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_attention_of_few_is_the_formula(
    sentences: int, heads: tuple[int, int], queries: int, nodes: int, width: int, same_for_all: bool, seed: int
) -> None:
    torch.manual_seed(seed)
    query = torch.randn(sentences, queries, heads[0], width).transpose(1, 2)  # as projections leave it
    room = 2, sentences, heads[1], nodes + 7, width
    key, value = (torch.randn(room) * 3)[:, :, :, :nodes]
    may_attend = torch.rand(sentences, 1 if same_for_all else queries, nodes + 3)[:, :, :nodes] < 0.5
    may_attend[:, :, 0] = True
    repeated = (x.repeat_interleave(heads[0] // heads[1], dim=1) for x in (key, value))
    expected, _ = scaled_dot_product_attention(query, *repeated, may_attend[:, None])
    found = attention_of_few(query, key, value, may_attend)
    torch.testing.assert_close(found, expected.transpose(1, 2).flatten(-2), atol=1e-5, rtol=1e-4)


def test_what_is_kept_lies_at_its_node() -> None:
    room = torch.zeros(2, 3, 4, 10, 8)
    newest = torch.randn(2, 3, 5, 4, 8).transpose(2, 3)
    layer = LayerCache(*room, *room)
    nodes = torch.stack([torch.randperm(10)[:5] for _ in range(3)])
    layer.write(*newest, nodes)
    for kept, rows in zip((layer.keys, layer.values), newest, strict=True):
        expected = torch.zeros(3, 4, 10, 8).scatter_(2, nodes[:, None, :, None].expand(3, 4, 5, 8), rows)
        assert torch.equal(kept, expected)


def test_normalizers_are_log_sum_exp() -> None:
    logits = torch.randn(3, 4, 1003) * 20
    logits[0, 0, 5:] = float("-inf")
    torch.testing.assert_close(log_normalizers(logits), logits.logsumexp(dim=-1), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize("find", [best_continuations, best_by_groups])
@settings(max_examples=60, deadline=None)
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


@pytest.mark.parametrize("without", [{"SEQ2SEQ_KERNELS": "0"}, {"CC": "no-such-compiler"}, {"CC": "false"}])
def test_without_kernels_torch_does_it(without: dict[str, str], tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    for name, value in without.items():
        monkeypatch.setenv(name, value)
    assert module.kernels.__wrapped__() is None
    assert not list(tmp_path.rglob("*.so"))


def test_it_is_compiled_once(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))
    assert module.kernels.__wrapped__() is not None
    (library,) = tmp_path.rglob("*.so")
    written = library.stat().st_mtime_ns
    code = "from seq2seq.kernels import kernels; assert kernels() is not None; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert library.stat().st_mtime_ns == written
