"""Whole runs of a very small model, in this process."""

import csv
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from seq2seq.bundle import Bundle, BundleConfig, Card
from seq2seq.data.batch import TokenPairs, TokenRows
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.errors import DivergedProblem
from seq2seq.training.data import TranslationData, within
from seq2seq.training.folder import Outcome, RunFolder
from seq2seq.training.module import TranslationModule, ValidationText
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions
from seq2seq.training.run import fit, new_model
from seq2seq.training.schedule import Constant, InverseSquareRoot
from seq2seq.training.screen import Example, Screen
from seq2seq.translator import Translator
from tests.conftest import counting_pairs, small_config

EMA = Averaging("ema", 0.9)
OPTIONS = TrainerOptions(max_steps=12, validate_every=4, log_every=2, accelerator="cpu")


class Run:
    """A run in `folder` with the given changes to its settings; `module` keeps what it was at the end."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        options: TrainerOptions = OPTIONS,
        averaging: Averaging = EMA,
        accumulate: int = 1,
    ) -> None:
        pairs = counting_pairs(300)
        tokens = TokenPairs(
            TokenRows(tokenizer.encode_source([s for s, _ in pairs])), TokenRows(tokenizer.encode_target([t for _, t in pairs]))
        )
        held = counting_pairs(20, seed=9)
        held_tokens = TokenPairs(
            TokenRows(tokenizer.encode_source([s for s, _ in held])), TokenRows(tokenizer.encode_target([t for _, t in held]))
        )
        config = small_config(
            source_vocab_size=tokenizer.source_vocab_size,
            target_vocab_size=tokenizer.target_vocab_size,
            dropout=0.1,
            norm_order="pre",
            d_model=32,
            d_feedforward=64,
        )
        self.model = new_model(config, 3)
        self.folder = RunFolder(folder)
        bundle = Bundle(BundleConfig("en", "de", config), self.model, tokenizer)
        text = ValidationText([s for s, _ in held], [t for _, t in held], "13a")
        self.module = TranslationModule(
            self.model,
            Optimizer(clip_norm=1.0),
            InverseSquareRoot(0.01, 20),
            Translator(bundle, BeamSearch(2)),
            text,
            5,
        )
        self.console = Console(record=True, width=120, file=StringIO())
        self.screen = Screen(self.console, options.max_steps, ("en", "de"), [Example(text.sources[0], 0)])
        self.data = TranslationData(tokens, held_tokens, BatchConfig(200, accumulate), 5, options.max_steps)
        self._go: Callable[[], Outcome] = lambda: fit(
            self.module, self.data, bundle, lambda v: Card("made up", v.step), self.folder, options, averaging, self.screen, []
        )

    def go(self) -> Outcome:
        return self._go()

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def rows(self) -> list[dict[str, str]]:
        with self.folder.metrics.open() as file:
            return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in csv.DictReader(file)]


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_that_stopped_goes_on_bit_for_bit(tmp_path: Path, tokenizer: Tokenizer, accumulate: int) -> None:
    """12 steps at once, against 4, then 8, then 12: the same weights, average and metrics to the last bit."""
    whole = Run(tmp_path / "whole", tokenizer, accumulate=accumulate)
    outcome = whole.go()
    for steps in (4, 8, 12):
        # Only max_steps differs; every part makes its model, data and trainer anew.
        part = Run(tmp_path / "parts", tokenizer, replace(OPTIONS, max_steps=steps), accumulate=accumulate)
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
    assert sorted(path.name for path in first.folder.checkpoints.iterdir()) == [
        "last.ckpt",
        "weights-4.safetensors",
        "weights-7.safetensors",
    ]
    again = Run(tmp_path, tokenizer, options, Averaging("last", count=5))
    assert again.go() == outcome
    assert all(torch.equal(a, b) for a, b in zip(first.weights(), again.weights(), strict=True))


@pytest.mark.parametrize("log_every", [2, 1000])
def test_divergence_is_noticed_and_named(tmp_path: Path, tokenizer: Tokenizer, log_every: int) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, log_every=log_every))
    run.module._schedule, run.module._optimizer = Constant(1e30), Optimizer()
    with pytest.raises(DivergedProblem, match="the loss is .* at step"):
        run.go()


def test_accumulation_is_a_larger_batch(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """Every token of an update weighs the same, however the update is cut into batches."""
    run = Run(tmp_path, tokenizer, accumulate=2)
    module, pairs, plan = run.module.eval(), run.data._train, run.data.plan
    for number in (0, 1):
        (module.training_step(pairs.batch(plan[number], plan.normalizer(number)), 0)["loss"] / 2).backward()
    halves = [p.grad.clone() for p in module.model.parameters() if p.grad is not None]
    module.zero_grad()
    together = pairs.batch([*plan[0].tolist(), *plan[1].tolist()])
    module.training_step(together, 0)["loss"].backward()
    for ours, theirs in zip(halves, [p.grad for p in module.model.parameters()], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-4)


def test_the_moving_average_is_what_its_formula_says(tmp_path: Path, tokenizer: Tokenizer) -> None:
    from seq2seq.training.averaging import MovingAverage

    run = Run(tmp_path, tokenizer)
    callback, expected = MovingAverage(0.9), [p.detach().clone() for p in run.model.parameters()]

    class FakeTrainer:
        global_step = 0

    trainer: Any = FakeTrainer()
    callback.on_fit_start(trainer, run.module)
    for step in range(1, 30):
        trainer.global_step = step
        with torch.no_grad():
            for p in run.model.parameters():
                p.add_(torch.randn_like(p))
        decay = min(0.9, (1 + step) / (10 + step))
        expected = [decay * e + (1 - decay) * p.detach() for e, p in zip(expected, run.model.parameters(), strict=True)]
        callback.on_train_batch_end(trainer, run.module, None, None, 0)
        callback.on_train_batch_end(trainer, run.module, None, None, 0)  # a second batch of the same update
    raw = run.weights()
    callback.on_validation_start(trainer, run.module)
    for ours, theirs in zip(run.weights(), expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    callback.on_validation_end(trainer, run.module)
    assert all(torch.equal(a, b) for a, b in zip(raw, run.weights(), strict=True))


@pytest.mark.parametrize("kind", ["last", "best"])
def test_the_mean_of_validations_is_a_mean(tmp_path: Path, tokenizer: Tokenizer, kind: Any) -> None:
    import safetensors.torch

    run = Run(tmp_path, tokenizer, averaging=Averaging(kind, count=2))
    run.go()
    kept = sorted(run.folder.checkpoints.glob("weights-*.safetensors"))
    assert len(kept) == 2
    if kind == "last":
        assert [path.name for path in kept] == ["weights-12.safetensors", "weights-8.safetensors"]
    held = [safetensors.torch.load_file(path) for path in kept]
    for name, parameter in run.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), (held[0][name] + held[1][name]) / 2)


def test_early_stopping_counts_validations_without_a_better_bleu(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, TrainerOptions(max_steps=4000, validate_every=1, patience=2, accelerator="cpu"))
    outcome = run.go()
    bleus = [float(row["bleu"]) for row in run.rows() if row["bleu"]]
    assert outcome.steps_done < 4000
    assert max(bleus[:-2]) >= max(bleus[-2:])


def test_bfloat16_trains(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=60, validate_every=60, precision="bfloat16"))
    run.go()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in run.model.parameters())
    losses = [float(row["train_loss"]) for row in run.rows() if row["train_loss"]]
    assert losses[-1] < losses[0] * 0.8


def test_pairs_too_long_for_the_model_are_left_out(tokenizer: Tokenizer) -> None:
    pairs = TokenPairs(TokenRows([[5, 2], [5, 6, 7, 2], [8, 2]]), TokenRows([[5, 2], [5, 2], [5, 6, 7, 8, 2]]))
    kept = within(pairs, 3)
    assert [row.tolist() for row in (kept.source[0], kept.target[0])] == [[5, 2], [5, 2]]
    assert len(kept) == 1
    assert within(pairs, 5) is pairs
