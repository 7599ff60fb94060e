"""Sentences end to end: attention within each, and the whole model, against the padded form."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.kernels import training_kernels
from seq2seq.model import positions
from seq2seq.model import segments as module
from seq2seq.model.attention import scaled_dot_product_attention
from seq2seq.model.positions import RotaryPositions
from seq2seq.model.segments import ROUND, Segments, Within, apart, as_padded, attention_within, filled_up
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import PAD
from tests.conftest import ids, small_config


def lengths(sentences: int, longest: int) -> torch.Tensor:
    return torch.randint(1, longest + 1, (sentences,))


def segments(of_lengths: torch.Tensor) -> Segments:
    return Segments(torch.arange(int(of_lengths.max())) < of_lengths[:, None])


def same_sentence(within: Within) -> torch.Tensor:
    """(N, M), True where query and key are of one sentence."""
    query, key = (
        torch.repeat_interleave(torch.arange(len(side.real)), side.real.sum(dim=1)) for side in (within.queries, within.keys)
    )
    return query[:, None] == key


@settings(max_examples=40)
@given(
    sentences=st.integers(1, 7),
    longest=st.sampled_from([1, 5, 16, 40, 90]),
    heads=st.sampled_from([(1, 1), (4, 4), (4, 2), (3, 1)]),
    width=st.sampled_from([8, 16, 32, 48, 64, 80, 128]),
    causal=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_attention_within_is_attention_under_a_mask(
    sentences: int, longest: int, heads: tuple[int, int], width: int, causal: bool, seed: int
) -> None:
    """Both the kernel and its padded twin, and their gradients, against the formula over one long row."""
    torch.manual_seed(seed)
    of_queries = lengths(sentences, longest)
    of_keys = of_queries if causal else lengths(sentences, longest)
    within = Within(segments(of_queries), segments(of_keys))
    (H, G), N, M = heads, int(of_queries.sum()), int(of_keys.sum())
    # Parts of wider rows, as they come from one product.
    query = torch.randn(1, N, H * width + 3)[..., : H * width].unflatten(-1, (H, width)).transpose(1, 2)
    key, value = (x.unflatten(-1, (G, width)).transpose(1, 2) for x in torch.randn(1, M, 2 * G * width).split(G * width, dim=-1))
    inputs = [x.detach().requires_grad_() for x in (query, key, value)]
    mask = same_sentence(within) & (torch.ones(N, M, dtype=torch.bool).tril() if causal else True)
    several = [x.repeat_interleave(H // G, dim=1) for x in inputs[1:]]
    expected, _ = scaled_dot_product_attention(inputs[0], *several, mask)
    gradient = torch.randn_like(expected)
    of_expected = torch.autograd.grad(expected, inputs, gradient)
    for way in (attention_within, as_padded):
        found = way(*inputs, within, causal, 0.0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        for ours, theirs in zip(torch.autograd.grad(found, inputs, gradient), of_expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("crossing", "groups"), [(False, 4), (False, 2), (True, 4), (True, 2)])
def test_gradients_of_parts_of_a_product_are_joined_as_they_lie(crossing: bool, groups: int) -> None:
    """Those of queries, keys and values of one product, or of keys and values, come from attention as parts of one tensor."""
    torch.manual_seed(1)
    sides = [segments(lengths(5, 12)) for _ in range(2)]
    within = Within(sides[0], sides[int(crossing)])
    N, M = (int(side.real.sum()) for side in (within.queries, within.keys))
    alone = [torch.randn(1, N, 4 * 16)] if crossing else []
    widths = [*([] if crossing else [4 * 16]), groups * 16, groups * 16]
    product = torch.randn(1, M, sum(widths))
    joined: list[torch.Tensor] = []

    def gradients(parts_of: Callable[[torch.Tensor, list[int]], Sequence[torch.Tensor]]) -> tuple[torch.Tensor, ...]:
        inputs = [x.clone().requires_grad_() for x in (*alone, product)]
        whole = inputs[-1] * 1.0
        whole.register_hook(joined.append)
        parts = (*inputs[:-1], *parts_of(whole, widths))
        query, key, value = (part.unflatten(-1, (-1, 16)).transpose(1, 2) for part in parts)
        return torch.autograd.grad(attention_within(query, key, value, within, False, 0.0).square().sum(), inputs)

    expected, found = gradients(lambda x, widths: x.split(widths, dim=-1)), gradients(apart)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))
    assert joined[0]._base is None
    assert joined[1]._base is not None or training_kernels() is None  # a view, where split has made a copy


_ROOM = torch.arange(40.0)


@pytest.mark.parametrize(
    "places",
    [
        ((5, 1), 0, (5, 1), 2),  # side by side
        ((5, 1), 0, (5, 1), 0),  # one and the same
        ((5, 1), 0, (5, 1), 5),
        ((5, 1), 0, (6, 1), 2),
        ((1, 0), 0, (1, 0), 2),  # expanded
        ((0, 1), 0, (0, 1), 2),
        ((0, 0), 0, (0, 0), 2),
        ((10, 2), 0, (10, 2), 2),
    ],
)
@pytest.mark.parametrize("another", [False, True])
def test_gradients_of_parts_are_joined_wherever_they_lie(places: tuple[Any, ...], another: bool) -> None:
    x = torch.randn(3, 4, requires_grad=True)
    room = _ROOM + 1 if another else _ROOM
    given = [_ROOM.as_strided((3, 2), *places[:2]), room.as_strided((3, 2), *places[2:])]
    (found,) = torch.autograd.grad(apart(x, [2, 2]), [x], given)
    assert torch.equal(found, torch.cat(given, dim=-1))


def test_a_part_may_be_used_with_another_or_not_at_all() -> None:
    x, weight = torch.randn(3, 6, requires_grad=True), torch.randn(3, 2)
    first, second, _ = apart(x, [2, 2, 2])
    (found,) = torch.autograd.grad(((first + second) * weight).sum(), [x])
    assert torch.equal(found, torch.cat((weight, weight, torch.zeros(3, 2)), dim=-1))


@pytest.mark.parametrize("narrow", [(True, True, True), (False, False, True), (True, False, False)])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_within_of_bfloat16_is_that_of_the_same_numbers_rounded(narrow: tuple[bool, ...], causal: bool) -> None:
    """Rotary queries and keys are float32 beside values in bfloat16; in between nothing is rounded."""
    torch.manual_seed(1)
    sentences = segments(lengths(5, 40))
    within = Within(sentences, sentences)
    inputs = [torch.randn(1, 4, int(sentences.real.sum()), 32).bfloat16().requires_grad_() for _ in narrow]
    mixed = [x if is_narrow else x.float() for x, is_narrow in zip(inputs, narrow, strict=True)]
    found = attention_within(*mixed, within, causal, 0.0)  # type: ignore[misc]
    expected = as_padded(*(x.float() for x in inputs), within, causal)  # type: ignore[misc]
    assert found.dtype == mixed[2].dtype
    torch.testing.assert_close(found, expected.type_as(found), rtol=0.01, atol=1e-4)
    gradient = torch.randn_like(found)
    by_found = torch.autograd.grad(found, inputs, gradient)
    for ours, theirs in zip(by_found, torch.autograd.grad(expected, inputs, gradient.float()), strict=True):
        assert ours.dtype == torch.bfloat16
        torch.testing.assert_close(ours, theirs, rtol=0.01, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 32, 48, 128])
def test_rotation_in_c_is_the_product_of_complex_numbers(dtype: torch.dtype, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    rows = torch.randn(1, 21, 2, 3, width).to(dtype).requires_grad_()
    rotation = RotaryPositions(40, width)(torch.randint(0, 40, (21,)))

    def turned() -> tuple[torch.Tensor, torch.Tensor]:
        found = rotation(rows[:, :, 1].transpose(1, 2))  # a part of wider rows, as it comes from one product
        return found, torch.autograd.grad(found, rows, torch.ones_like(found).cumsum(dim=-1))[0]

    found = turned()
    monkeypatch.setattr(positions, "runs_training_kernels", lambda *_: False)
    for ours, theirs in zip(found, turned(), strict=True):
        assert ours.dtype == theirs.dtype
        torch.testing.assert_close(ours, theirs)


def test_large_scores_do_not_overflow() -> None:
    within = Within(segments(torch.tensor([3, 2])), segments(torch.tensor([3, 2])))
    query = torch.full((1, 1, 5, 16), 200.0, requires_grad=True)
    found = attention_within(query, query, query, within, True, 0.0)
    found.sum().backward()
    assert found.isfinite().all()
    assert query.grad is not None
    assert query.grad.isfinite().all()


def test_positions_and_places() -> None:
    padded = torch.tensor([[5, 6, 7], [8, PAD, PAD], [9, 4, PAD]])
    of = Segments.of(padded)
    assert of.starts.tolist() == [0, 3, 4, 6]
    assert of.positions.tolist() == [0, 1, 2, 0, 0, 1]
    assert of.joined(padded).tolist() == [[5, 6, 7, 8, 9, 4]]
    assert torch.equal(of.padded(of.joined(padded)), padded)


@given(st.integers(1, 40), st.integers(1, 40))
def test_filled_up_has_a_round_number_of_tokens(sentences: int, longest: int) -> None:
    batch = segments(lengths(sentences, longest)).real.long() * 7
    filled = filled_up(batch)
    assert int((filled != PAD).sum()) % ROUND == 0
    assert torch.equal(filled[:-1, : batch.size(1)], batch)
    assert 0 < int((filled[-1] != PAD).sum()) <= ROUND


@pytest.mark.parametrize("with_kernels", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"positions": "rotary", "norm_order": "pre", "d_model": 32, "heads": 2},
        {"positions": "learned", "key_value_heads": 2, "activation": "swiglu"},
        {"decoder_d_model": 32, "decoder_heads": 2, "tied_embeddings": "two-way"},
    ],
)
def test_joined_features_are_those_of_the_padded_batch(
    changes: dict[str, object], with_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_kernels:
        monkeypatch.setattr(module, "runs_training_kernels", lambda *_: False)
    model = Transformer(small_config(**changes))
    source, target = ids(6, 9), ids(6, 7)
    for padded, of_sentences in ((source, lengths(6, 9)), (target, lengths(6, 7))):
        padded.masked_fill_(torch.arange(padded.size(1)) >= of_sentences[:, None], PAD)
    expected = model.features(source, target)[target != PAD]
    found = model.joined_features(source, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = list(model.parameters())[:-1]
    gradient = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, weights, gradient, allow_unused=True),
        torch.autograd.grad(expected, weights, gradient, allow_unused=True),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)
