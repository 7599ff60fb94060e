import pytest
import torch
import torch.nn.functional as F

from seq2seq.training import loss as module
from seq2seq.training.loss import (
    CHUNK,
    agreement_of_rows,
    divergence,
    exponentials_of_rows,
    projected_cross_entropy,
    smoothed_cross_entropy,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rows", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_the_fast_path_the_formula_and_torch_agree(smoothing: float, rows: int) -> None:
    features = torch.randn(rows, 12, requires_grad=True)
    weight = torch.randn(50, 12, requires_grad=True)
    targets = torch.randint(0, 50, (rows,))
    reference = F.cross_entropy(features @ weight.T, targets, label_smoothing=smoothing, reduction="sum")
    formula = smoothed_cross_entropy(features @ weight.T, targets, smoothing)
    fast, nll = projected_cross_entropy(features, weight, targets, smoothing)
    torch.testing.assert_close(formula, reference, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(fast, reference, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(nll, F.cross_entropy(features @ weight.T, targets, reduction="sum"), rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(
        torch.autograd.grad(fast, (features, weight)), torch.autograd.grad(reference, (features, weight)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_large_logits_do_not_overflow() -> None:
    features, weight = torch.full((2, 1), 1000.0, requires_grad=True), torch.tensor([[1.0], [-1.0]], requires_grad=True)
    loss, _ = projected_cross_entropy(features, weight, torch.tensor([0, 1]), 0.1)
    loss.backward()
    assert loss.isfinite()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_bfloat16_is_near() -> None:
    features, weight = torch.randn(300, 32, requires_grad=True), torch.randn(80, 32, requires_grad=True)
    targets = torch.randint(0, 80, (300,))
    exact, _ = projected_cross_entropy(features, weight, targets, 0.1)
    near, _ = projected_cross_entropy(features, weight, targets, 0.1, dtype=torch.bfloat16)
    torch.testing.assert_close(near, exact, rtol=2e-3, atol=0)
    for ours, theirs in zip(
        torch.autograd.grad(near, (features, weight)), torch.autograd.grad(exact, (features, weight)), strict=True
    ):
        assert float((ours - theirs).norm() / theirs.norm()) < 0.02


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 16, 1003])
def test_exponentials_in_c_are_those_of_torch(dtype: torch.dtype, vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = (30 * torch.randn(7, vocabulary)).to(dtype)
    found = exponentials_of_rows(logits.clone())
    monkeypatch.setattr(module, "runs_training_kernels", lambda *_: False)
    expected = exponentials_of_rows(logits.clone())
    for ours, theirs, tolerance in zip(found, expected, (2e-6 if dtype == torch.float32 else 4e-3, 0, 1e-5), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=1e-30 if tolerance else 0)


@pytest.mark.parametrize("rows", [1, CHUNK // 2, CHUNK + 3])
def test_r_drop_is_its_formula(rows: int) -> None:
    features = torch.randn(2 * rows, 12, requires_grad=True)
    weight = torch.randn(50, 12, requires_grad=True)
    targets = torch.randint(0, 50, (rows,))
    both = [part @ weight.T for part in features.chunk(2)]
    apart = divergence(*both)
    log_p, log_q = (logits.log_softmax(-1) for logits in both)
    kl = F.kl_div(log_q, log_p, reduction="sum", log_target=True) + F.kl_div(log_p, log_q, reduction="sum", log_target=True)
    torch.testing.assert_close(apart, kl, rtol=1e-5, atol=1e-5)
    formula = sum(smoothed_cross_entropy(logits, targets, 0.1) for logits in both) / 2 + 5 / 4 * apart
    fast, nll = projected_cross_entropy(features, weight, targets, 0.1, r_drop=5)
    torch.testing.assert_close(fast, formula, rtol=1e-5, atol=1e-4)
    likelihood = sum(F.cross_entropy(logits, targets, reduction="sum") for logits in both) / 2
    torch.testing.assert_close(nll, likelihood, rtol=1e-5, atol=1e-4)
    ours, theirs = (torch.autograd.grad(loss, (features, weight)) for loss in (fast, formula))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("vocabulary", [1, 16, 1003])
def test_agreement_in_c_is_that_of_torch(dtype: torch.dtype, vocabulary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    logits = (5 * torch.randn(14, vocabulary)).to(dtype)
    found = agreement_of_rows(logits.clone(), 2.5)
    monkeypatch.setattr(module, "runs_training_kernels", lambda *_: False)
    expected = agreement_of_rows(logits.clone(), 2.5)
    for ours, theirs, tolerance in zip(found, expected, (2e-5 if dtype == torch.float32 else 8e-3, 1e-5, 1e-4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance / 10)


def test_without_gradients_none_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """In validation they would be half of the work."""
    made = []
    monkeypatch.setattr(torch, "zeros_like", lambda like, **_: made.append(like.shape) or torch.zeros(like.shape))
    features, weight, targets = torch.randn(9, 12), torch.randn(50, 12, requires_grad=True), torch.arange(9)
    with_gradients = projected_cross_entropy(features, weight, targets, 0.1)
    with torch.no_grad():
        without = projected_cross_entropy(features, weight, targets, 0.1)
    assert made == [(50, 12), (0, 12)]
    for ours, theirs in zip(without, with_gradients, strict=True):
        torch.testing.assert_close(ours, theirs)
