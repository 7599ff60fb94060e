import pytest
import torch
from torch import nn

from seq2seq.model.attention import MultiHeadAttention, fused_attention, scaled_dot_product_attention
from seq2seq.model.masks import causal_mask, padding_mask
from seq2seq.model.positions import RotaryPositions, sinusoids


def test_the_fused_kernel_is_equation_1() -> None:
    query, key, value = torch.randn(3, 4, 5, 8), torch.randn(3, 4, 7, 8), torch.randn(3, 4, 7, 8)
    mask = torch.rand(3, 1, 5, 7) > 0.3
    mask[..., 0] = True
    attended, weights = scaled_dot_product_attention(query, key, value, mask)
    torch.testing.assert_close(fused_attention(query, key, value, mask), attended, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 4, 5))
    assert (weights[~mask.expand_as(weights)] == 0).all()


def test_causal_is_the_causal_mask() -> None:
    query, key, value = (torch.randn(2, 2, 6, 4) for _ in range(3))
    by_flag, _ = scaled_dot_product_attention(query, key, value, causal=True)
    by_mask, _ = scaled_dot_product_attention(query, key, value, causal_mask(6))
    torch.testing.assert_close(by_flag, by_mask)
    torch.testing.assert_close(fused_attention(query, key, value, causal=True), by_mask, atol=1e-6, rtol=1e-5)


def test_multi_head_attention_is_torchs() -> None:
    ours = MultiHeadAttention(16, 4, 4, 16, 0.0)
    theirs = nn.MultiheadAttention(16, 4, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        for part in (ours.query, ours.key, ours.value, ours.output):
            nn.init.normal_(part.bias)
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    x, memory = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    ids = torch.tensor([[5] * 7, [5] * 4 + [0] * 3, [5] * 1 + [0] * 6])
    mask = padding_mask(ids)
    expected, _ = theirs(x, memory, memory, key_padding_mask=~mask[:, 0, 0])
    torch.testing.assert_close(ours(x, memory, mask), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("key_value_heads", [1, 2])
def test_grouped_heads_equal_repeated_ones(key_value_heads: int) -> None:
    """Query heads of one group share keys and values: the same as every head having a copy."""
    grouped = MultiHeadAttention(16, 4, key_value_heads, 16, 0.0)
    full = MultiHeadAttention(16, 4, 4, 16, 0.0)
    repeats = 4 // key_value_heads
    with torch.no_grad():
        full.query.weight.copy_(grouped.query.weight)
        full.output.weight.copy_(grouped.output.weight)
        for ours, theirs in ((grouped.key, full.key), (grouped.value, full.value)):
            theirs.weight.copy_(ours.weight.unflatten(0, (key_value_heads, 4)).repeat_interleave(repeats, 0).flatten(0, 1))
            theirs.bias.zero_()
            ours.bias.zero_()
        for layer in (grouped, full):
            layer.query.bias.zero_()
            layer.output.bias.zero_()
    x = torch.randn(2, 6, 16)
    torch.testing.assert_close(grouped(x, x), full(x, x), atol=1e-5, rtol=1e-5)


def test_sinusoids_are_section_3_5() -> None:
    table = sinusoids(50, 8)
    for position in (0, 1, 49):
        for i in range(4):
            angle = torch.tensor(position / 10000 ** (2 * i / 8), dtype=torch.float64)
            torch.testing.assert_close(table[position, 2 * i], angle.sin().float())
            torch.testing.assert_close(table[position, 2 * i + 1], angle.cos().float())


def test_rotary_scores_depend_on_distance_alone() -> None:
    rotary = RotaryPositions(64, 8)
    query, key = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)

    def score(query_at: int, key_at: int) -> float:
        turned = rotary(torch.tensor([query_at]))(query), rotary(torch.tensor([key_at]))(key)
        return float((turned[0] * turned[1]).sum())

    assert score(5, 2) == pytest.approx(score(33, 30), abs=1e-4)
    assert score(5, 2) != pytest.approx(score(5, 3), abs=1e-3)


def test_rotation_is_by_the_sines_and_cosines_of_the_paper() -> None:
    """Su et al. (2021), equation 34, feature by feature."""
    x, positions = torch.randn(2, 3, 5, 8), torch.arange(5)
    turned = RotaryPositions(64, 8)(positions)(x)
    for pair in range(4):
        angle = positions.double() * 10000.0 ** (-2 * pair / 8)
        first, second = x[..., 2 * pair].double(), x[..., 2 * pair + 1].double()
        torch.testing.assert_close(
            turned[..., 2 * pair].double(), first * angle.cos() - second * angle.sin(), atol=1e-6, rtol=1e-5
        )
        torch.testing.assert_close(
            turned[..., 2 * pair + 1].double(), second * angle.cos() + first * angle.sin(), atol=1e-6, rtol=1e-5
        )
