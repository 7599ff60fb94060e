import pytest
import torch

from seq2seq.model.dropout import Dropout


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5, 0.9])
def test_drops_its_rate_and_keeps_the_mean(rate: float) -> None:
    dropped = Dropout(rate)(torch.ones(1_000_003))
    assert float((dropped == 0).float().mean()) == pytest.approx(rate, abs=0.002)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / (1 - rate)], rel=1e-3)


def test_elements_fall_independently() -> None:
    """Four elements share one random word: that must not show, between neighbours or columns."""
    zero = (Dropout(0.5)(torch.ones(4096, 128)) == 0).float() - 0.5
    for distance in (1, 2, 3, 4, 8, 128):
        flat = zero.flatten()
        assert abs(float((flat[:-distance] * flat[distance:]).mean()) * 4) < 0.01


def test_the_gradient_goes_where_the_value_went() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.3)(x)
    y.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, (y / x).detach())


def test_the_same_seed_drops_the_same() -> None:
    layer, x = Dropout(0.3), torch.ones(1001)
    drawn = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        drawn.append(layer(x))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_evaluation_and_rate_0_change_nothing() -> None:
    x = torch.randn(5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0)(x) is x
