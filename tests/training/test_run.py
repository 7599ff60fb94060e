"""Whole runs of a very small model, in this process."""

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seq2seq.atomic import write_manifest
from seq2seq.bundle import Bundle
from seq2seq.data.batch import Batch
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.errors import BundleProblem, DataProblem, DivergedProblem, MachineProblem, NewerProblem
from seq2seq.model.transformer import Transformer
from seq2seq.training.data import TranslationData, Updates
from seq2seq.training.memory import measured
from seq2seq.training.module import TranslationModule
from seq2seq.training.options import Averaging, Optimizer, Precision, TrainerOptions
from seq2seq.training.processes import ALONE
from seq2seq.training.schedule import Constant
from seq2seq.training.state import States
from tests.conftest import small_config
from tests.training.small_run import OPTIONS, Run


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path, tokenizer: Tokenizer, precision: Precision) -> None:
    """12 steps at once, against 4, then 8, then 12: the same weights, average and metrics to the last bit."""
    options = replace(OPTIONS, precision=precision)
    every: dict[str, Any] = (
        {} if precision == "float32" else {"accumulate": 3, "sampling": 0.2, "optimizer": Optimizer("muon", r_drop=2.0)}
    )
    whole = Run(tmp_path / "whole", tokenizer, options, **every)
    outcome = whole.go()
    for steps in (4, 8, 12):
        # Only max_steps differs; every part makes its model, data and trainer anew.
        part = Run(tmp_path / "parts", tokenizer, replace(options, max_steps=steps), **every)
        part_outcome = part.go()
    assert all(torch.equal(a, b) for a, b in zip(whole.weights(), part.weights(), strict=True))
    assert whole.rows() == part.rows()
    assert outcome == part_outcome
    ours, theirs = (Bundle.load(run.folder.bundle).model.state_dict() for run in (whole, part))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_learns_and_leaves_what_it_promises(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, TrainerOptions(max_steps=250, validate_every=125, log_every=25, accelerator="cpu"))
    outcome = run.go()
    rows = run.rows()
    losses = [float(row["train_loss"]) for row in rows if row["train_loss"]]
    assert losses[-1] < losses[0] / 2
    assert outcome.bleu > 30
    assert outcome.steps_done == 250
    assert [row["step"] for row in rows if row["bleu"]] == ["125", "250"]
    assert Bundle.load(run.folder.bundle).config.target == "de"
    said = run.console.export_text()
    assert "BLEU" in said
    assert "perplexity" in said
    assert "best so far" in said


def test_the_last_step_is_validated_and_a_finished_run_stays_finished(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """7 steps with validations every 4: at 4 and at 7. Asked again, as after a kill before its result was written, nothing changes."""
    options = replace(OPTIONS, max_steps=7)
    first = Run(tmp_path, tokenizer, options, Averaging("last", count=5))
    outcome = first.go()
    assert [row["step"] for row in first.rows() if row["bleu"]][:2] == ["4", "7"]
    assert sorted(path.name for path in first.folder.states.iterdir()) == [
        "step-00000004",
        "step-00000007",
        "weights-4.safetensors",
        "weights-7.safetensors",
    ]
    again = Run(tmp_path, tokenizer, options, Averaging("last", count=5))
    assert again.go() == outcome
    assert all(torch.equal(a, b) for a, b in zip(first.weights(), again.weights(), strict=True))


def test_divergence_goes_back_twice_and_then_is_named(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=50))
    run.module._schedule, run.module._optimizer = Constant(1e30), Optimizer()
    with pytest.raises(DivergedProblem, match="going back 2 times with half the learning rate"):
        run.go()
    said = run.console.export_text()
    assert "with 0.5 of the learning rate" in said
    assert "with 0.25 of the learning rate" in said
    assert "the weights stay as they are" in said


def test_a_step_that_gives_no_number_is_skipped(tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights stay, the run goes on, and nothing of that step is in the curve."""
    run = Run(tmp_path, tokenizer, replace(OPTIONS, log_every=1))
    losses = run.module._losses

    def sometimes(batch: Any) -> Any:
        loss, nll = losses(batch)
        return (loss * float("nan"), nll) if run.module.step == 2 and run.module.training else (loss, nll)

    monkeypatch.setattr(run.module, "_losses", sometimes)
    weights = {}
    step = run.module.training_step

    def watched(update: Any, batch_idx: int) -> Any:
        weights[run.module.step] = run.weights()
        return step(update, batch_idx)

    monkeypatch.setattr(run.module, "training_step", watched)
    run.go()
    assert run.module.skipped == [3]
    assert all(torch.equal(a, b) for a, b in zip(weights[2], weights[3], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(weights[3], weights[4], strict=True))
    assert all(float(row["train_loss"]) < 20 for row in run.rows() if row["train_loss"])


def test_after_a_divergence_the_run_goes_on_with_half_the_rate(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=16, log_every=1))
    losses = run.module._losses

    def until_halved(batch: Any) -> Any:
        loss, nll = losses(batch)
        bad = run.module.training and run.module.step >= 6 and run.module.rate_scale == 1.0
        return (loss * float("inf"), nll) if bad else (loss, nll)

    monkeypatch.setattr(run.module, "_losses", until_halved)
    run.go()
    assert run.module.rate_scale == 0.5
    assert "going back to step 4 with 0.5 of the learning rate" in run.console.export_text()
    assert [int(row["step"]) for row in run.rows() if row["train_loss"]] == list(range(1, 17))


def test_accumulation_is_a_larger_batch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Every token of an update weighs the same, however the update is cut into batches."""
    run = Run(tmp_path, tokenizer, accumulate=2)
    module, pairs, plan = run.module.eval(), run.data._train, run.data.plan
    assert gradients(module, [pairs.batch(plan[0]), pairs.batch(plan[1])]) == pytest.approx(
        gradients(module, [pairs.batch([*plan[0].tolist(), *plan[1].tolist()])]), abs=1e-6, rel=1e-4
    )


def gradients(module: TranslationModule, update: list[Batch]) -> list[float]:
    module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign]
    module.zero_grad()
    module._gradients(update, sum(batch.target_tokens for batch in update))
    return torch.cat([p.grad.flatten() for p in module.model.parameters() if p.grad is not None]).tolist()


@pytest.mark.parametrize("enough_for", [1, 3])
def test_where_memory_is_short_the_gradient_is_the_same(
    tmp_path: Path, tokenizer: Tokenizer, enough_for: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, tokenizer)
    module, losses = run.module.eval(), run.module._losses
    update = [run.data._train.batch(run.data.plan[0])]
    whole = gradients(module, update)

    def short_of_memory(batch: Batch) -> Any:
        if len(batch) > enough_for:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return losses(batch)

    monkeypatch.setattr(module, "_losses", short_of_memory)
    assert gradients(module, update) == pytest.approx(whole, abs=1e-6, rel=1e-4)
    enough_for = 0
    with pytest.raises(MachineProblem, match="one pair of sentences"):
        gradients(module, update)


def test_the_moving_average_is_what_its_formula_says(tmp_path: Path, tokenizer: Tokenizer) -> None:
    from seq2seq.training.averaging import MovingAverage

    run = Run(tmp_path, tokenizer)
    callback, expected = MovingAverage(0.9), [p.detach().clone() for p in run.model.parameters()]

    trainer: Any = None
    callback.on_fit_start(trainer, run.module)
    for step in range(1, 30):
        run.module.step = step
        with torch.no_grad():
            for p in run.model.parameters():
                p.add_(torch.randn_like(p))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, run.model.parameters(), strict=True)]
        callback.on_train_batch_end(trainer, run.module, None, None, 0)
    raw = run.weights()
    callback.on_validation_start(trainer, run.module)
    for ours, theirs in zip(run.weights(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    callback.on_validation_end(trainer, run.module)
    assert all(torch.equal(a, b) for a, b in zip(raw, run.weights(), strict=True))


@pytest.mark.parametrize("kind", ["last", "best"])
def test_the_mean_of_validations_is_a_mean(tmp_path: Path, tokenizer: Tokenizer, kind: Any) -> None:
    import safetensors.torch

    averaging, validated = Averaging(kind, count=2), []

    class Listening(TranslationModule):
        def on_validation_epoch_end(self) -> None:
            validated.append({name: parameter.detach().clone() for name, parameter in self.model.named_parameters()})
            super().on_validation_epoch_end()

    run = Run(tmp_path, tokenizer, averaging=averaging)
    run.module.__class__ = Listening
    outcome = run.go()
    # Of equal BLEU the later are better, so both kinds keep these.
    kept = [run.folder.states / f"weights-{step}.safetensors" for step in (8, 12)]
    held = [safetensors.torch.load_file(path) for path in kept]
    assert len(validated) == 4
    for name, parameter in validated[-1].items():
        torch.testing.assert_close(parameter, (held[0][name] + held[1][name]) / 2)

    # The state has the run's own weights, and knows what came of the mean; who goes on from it does not validate it once more.
    state = States(run.folder.states).newest()
    assert all(torch.equal(state["module"]["weights"][name], parameter) for name, parameter in validated[-2].items())
    assert state["callbacks"]["BestBundle"]["best"] == [outcome.bleu, outcome.step]
    rows = run.rows()
    again = Run(tmp_path, tokenizer, averaging=averaging)
    assert again.go() == outcome
    assert again.rows() == rows


def test_one_validation_has_no_mean(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=4, validate_every=4), Averaging("best", count=2))
    run.go()
    assert [row["step"] for row in run.rows() if row["bleu"]] == ["4"]


def test_the_mean_is_no_validation_that_patience_counts(tmp_path: Path, tokenizer: Tokenizer) -> None:
    options, averaging = replace(OPTIONS, patience=50), Averaging("last", count=2)
    run = Run(tmp_path, tokenizer, options, averaging)
    run.go()
    rows = [row for row in run.rows() if row["bleu"]]
    kept = States(tmp_path / "states").newest()["callbacks"]["BestBundle"]
    best = max(float(row["bleu"]) for row in rows[:3])
    assert kept["since_best"] == 2 - [float(row["bleu"]) for row in rows[:3]].index(best)


def test_early_stopping_counts_validations_without_a_better_bleu(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, TrainerOptions(max_steps=4000, validate_every=1, patience=2, accelerator="cpu"))
    outcome = run.go()
    bleus = [float(row["bleu"]) for row in run.rows() if row["bleu"]]
    assert outcome.steps_done < 4000
    assert max(bleus[:-2]) >= max(bleus[-2:])
    again = Run(tmp_path, tokenizer, TrainerOptions(max_steps=5000, validate_every=1, patience=2, accelerator="cpu"))
    assert again.go() == outcome
    assert "trainer.patience=2 has ended" in again.console.export_text()


def test_bfloat16_trains(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=60, validate_every=60, precision="bfloat16"))
    run.go()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in run.model.parameters())
    losses = [float(row["train_loss"]) for row in run.rows() if row["train_loss"]]
    assert losses[-1] < losses[0] * 0.8


def test_pairs_too_long_for_the_model_are_left_out(tokenizer: Tokenizer) -> None:
    pairs = TokenPairs(TokenRows([[5, 2], [5, 6, 7, 2], [8, 2]]), TokenRows([[5, 2], [5, 2], [5, 6, 7, 8, 2]]))

    def data(max_length: int) -> TranslationData:
        return TranslationData(pairs, pairs, BatchConfig(), 1, 1, max_length)

    one = data(3)
    assert (len(one), one.left_out) == (1, {"train": 2, "validation": 2})
    for loader in (one.train_dataloader(), one.val_dataloader()):
        assert [[batch.source.tolist() for batch in update] for update in loader] == [[[[5, 2]]]]
    whole = data(5)
    assert (len(whole), whole.left_out) == (3, {"train": 0, "validation": 0})
    assert sorted(row for n in range(whole.plan.batches_per_epoch) for row in whole.plan[n].tolist()) == [0, 1, 2]
    with pytest.raises(DataProblem, match="every pair is longer"):
        data(1)
    with pytest.raises(DataProblem, match="every pair is longer"):
        measured(BatchConfig("auto"), Transformer(small_config(max_length=1)), pairs)


def test_subwords_are_drawn_anew_each_epoch_by_seed_and_number(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, sampling=0.3)
    plan, make = run.data.plan, run.data._make
    number, later = 2, 2 + run.data.plan.batches_per_epoch
    assert torch.equal(make(plan[number], number).source, make(plan[number], number).source)
    rows = plan[number]
    assert any(make(rows, number).source_tokens != make(rows, later * n).source_tokens for n in (1, 2, 3))
    drawn = make(rows, later)
    texts = ["".join(tokenizer.decode_target([row])) for row in drawn.target_output.tolist()]
    assert texts == [tokenizer.decode_target([run.data._train.target[row].tolist()])[0] for row in rows]


def test_updates_are_made_ahead_and_come_in_order() -> None:
    """What goes wrong with one is said when its turn comes; whoever stops early leaves no thread behind."""

    def make(rows: Any, number: int) -> Any:
        if number == 3:
            raise DataProblem("damaged")
        return number

    plan: Any = [np.arange(2)] * 6
    updates = iter(Updates(make, plan, 1, 1, 6, ALONE))
    assert [next(updates), next(updates)] == [[1], [2]]
    with pytest.raises(DataProblem, match="damaged"):
        next(updates)
    before = threading.active_count()
    updates = iter(Updates(make, plan, 2, 2, 3, ALONE))
    assert next(updates) == [4, 5]
    updates.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert list(Updates(make, plan, 1, 2, 2, ALONE)) == []


def test_a_run_whose_states_are_all_damaged_does_not_begin_again_over_its_bundle(tmp_path: Path, tokenizer: Tokenizer) -> None:
    Run(tmp_path, tokenizer).go()
    before = (tmp_path / "bundle" / "weights.safetensors").read_bytes()
    for tensors in (tmp_path / "states").glob("step-*/tensors.safetensors"):
        tensors.write_bytes(tensors.read_bytes()[:-1])
    with pytest.raises(BundleProblem, match="no state to go on from.*is damaged"):
        Run(tmp_path, tokenizer).go()
    assert (tmp_path / "bundle" / "weights.safetensors").read_bytes() == before


def test_a_state_of_a_newer_release_is_not_taken_for_damage(tmp_path: Path, tokenizer: Tokenizer) -> None:
    Run(tmp_path, tokenizer).go()
    newest = max((tmp_path / "states").glob("step-*"))
    (newest / "manifest.json").unlink()
    write_manifest(newest, "seq2seq training state", 99, "seq2seq 99")
    with pytest.raises(NewerProblem, match="has format 99"):
        Run(tmp_path, tokenizer).go()
    assert newest.is_dir()


def test_a_seed_may_be_a_time(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=1, validate_every=1))
    run.module._seed = 2**63 - 1
    assert run.go().steps_done == 1
