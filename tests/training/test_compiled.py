"""Layers compiled by torch are the same layers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from seq2seq.data.tokenizer import Tokenizer
from seq2seq.training.options import COMPILED_FROM, TrainerOptions
from tests.training.small_run import OPTIONS, Run


def losses_and_gradients(run: Run, options: TrainerOptions) -> tuple[list[float], torch.Tensor]:
    """Of three batches of different shapes, and one of a single pair."""
    run.module.prepare(options)
    losses, plan = [], run.data.plan
    for rows in (plan[0], plan[1], plan[2], plan[0][:1]):
        loss, nll = run.module.train()._losses(run.data._train.batch(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        losses += [loss.item(), nll.item()]
    return losses, torch.cat([p.grad.flatten() for p in run.model.parameters() if p.grad is not None])


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_compiled_layers_equal_plain_ones(tmp_path: Path, tokenizer: Tokenizer, positions: str) -> None:
    plain, compiled = (
        losses_and_gradients(Run(tmp_path, tokenizer, dropout=0.0, positions=positions), options)
        for options in (OPTIONS, replace(OPTIONS, compile=True))
    )
    assert compiled[0] == pytest.approx(plain[0], rel=1e-5)
    torch.testing.assert_close(compiled[1], plain[1], atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_compiled_run_is_compiled_once_for_all_shapes(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """The layers of a stack share one program, for training and for the loss and the translations of validation; nothing breaks them in two."""
    torch._dynamo.reset()
    counters.clear()
    run = Run(tmp_path, tokenizer, replace(OPTIONS, compile=True, precision="bfloat16"))
    assert run.go().steps_done == OPTIONS.max_steps
    assert counters["stats"]["unique_graphs"] == 5
    assert not counters["graph_break"]


def test_what_is_compiled_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not TrainerOptions(max_steps=10**6, accelerator="cpu").compiles
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr("torch.utils._triton.has_triton", lambda: True)
    assert TrainerOptions(max_steps=COMPILED_FROM).compiles
    assert not TrainerOptions(max_steps=COMPILED_FROM - 1).compiles
    assert not TrainerOptions(max_steps=10**6, compile=False).compiles
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not TrainerOptions(max_steps=COMPILED_FROM).compiles
