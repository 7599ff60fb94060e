import pytest
import torch

from seq2seq.model import dropout as module
from seq2seq.model.dropout import Dropout, drop_tokens


@pytest.fixture(autouse=True, params=["kernel", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test by the kernel and by torch."""
    if request.param == "torch":
        monkeypatch.setattr(module, "runs_training_kernels", lambda *_: False)


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_onto_a_base_is_a_sum(dtype: torch.dtype) -> None:
    """The same draw with and without a base, and the gradients of both."""
    layer = Dropout(0.3)
    base, x = torch.randn(3, 50, 7, requires_grad=True), torch.randn(3, 50, 7).to(dtype).requires_grad_()
    torch.manual_seed(5)
    expected = base + layer(x)
    torch.manual_seed(5)
    found = layer.onto(base, x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    gradient = torch.randn_like(found)
    for ours, theirs in zip(
        torch.autograd.grad(found, (base, x), gradient), torch.autograd.grad(expected, (base, x), gradient), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_parts_of_wider_rows() -> None:
    """What comes from one product for several projections does not lie side by side."""
    wide = torch.randn(40, 30, requires_grad=True)
    dropped = Dropout(0.5)(wide[:, 3:20])
    assert torch.equal(dropped[dropped != 0], 2 * wide[:, 3:20][dropped != 0])
    dropped.sum().backward()
    assert wide.grad is not None
    assert torch.equal(wide.grad[:, 3:20] != 0, dropped != 0)


def test_seeds_and_places_make_no_pattern() -> None:
    """Draws one after the other, as in the layers of a model, know nothing of each other."""
    torch.manual_seed(1)
    draws = [(Dropout(0.5)(torch.ones(200_000)) == 0).float() - 0.5 for _ in range(6)]
    for i, one in enumerate(draws):
        for other in draws[:i]:
            for shift in (0, 1, 16):
                assert abs(float((one[: len(one) - shift] * other[shift:]).mean()) * 4) < 0.012


def test_tokens_are_dropped_whole_and_the_mean_stays() -> None:
    x = torch.randn(50, 40, 8)
    dropped = drop_tokens(x, 0.3)
    gone = (dropped == 0).all(dim=-1)
    assert abs(gone.float().mean().item() - 0.3) < 0.03
    torch.testing.assert_close(dropped[~gone], x[~gone] / 0.7)
