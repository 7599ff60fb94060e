"""One training run: model, data and options -> a bundle in the run folder."""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping

from seq2seq.bundle import Bundle, Card
from seq2seq.errors import ConfigProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.training.averaging import MovingAverage, Snapshots
from seq2seq.training.callbacks import CHECKPOINT, BestBundle, MetricsFile, SaveState
from seq2seq.training.data import TranslationData
from seq2seq.training.module import TranslationModule, Validation
from seq2seq.training.options import Averaging, TrainerOptions
from seq2seq.training.screen import Screen


@dataclass(frozen=True)
class RunFolder:
    """What a run leaves behind."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def checkpoint(self) -> Path:
        return self.checkpoints / CHECKPOINT


@dataclass(frozen=True)
class Outcome:
    """The best validation of a run, whose weights are in the bundle."""

    bleu: float
    step: int
    steps_done: int


def new_model(config: TransformerConfig, seed: int) -> Transformer:
    """An untrained model; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return Transformer(config)


def fit(
    module: TranslationModule,
    data: TranslationData,
    options: TrainerOptions,
    averaging: Averaging,
    accumulate: int,
    folder: RunFolder,
    bundle: Bundle,
    card: Callable[[Validation], Card],
    screen: Screen,
    loggers: list[Any],
) -> Outcome:
    """Train, from the run folder's checkpoint if there is one, and leave the best model in the run folder's bundle."""
    _hush()
    best = BestBundle(lambda result: bundle.save(folder.bundle, card(result)))
    # In this order at the end of a validation: show and keep what was validated, put the raw weights back, save the state.
    callbacks: list[lightning.Callback] = [screen, MetricsFile(folder.metrics, options.log_every), best]
    snapshots = Snapshots(averaging, folder.checkpoints) if averaging.kind in ("last", "best") else None
    if snapshots:
        callbacks.append(snapshots)
    if options.patience:
        callbacks.append(EarlyStopping("bleu", mode="max", patience=options.patience))
    if averaging.kind == "ema":
        callbacks.append(MovingAverage(averaging.decay))
    callbacks.append(SaveState(folder.checkpoints))
    trainer = lightning.Trainer(
        max_steps=options.max_steps,
        max_epochs=-1,
        val_check_interval=options.validate_every * accumulate,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate,
        precision="bf16-mixed" if options.precision == "bfloat16" else "32-true",
        accelerator=options.accelerator,
        devices=options.devices,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=options.log_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    resumed = folder.checkpoint if folder.checkpoint.is_file() else None
    trainer.fit(module, data, ckpt_path=str(resumed) if resumed else None, weights_only=True)
    if trainer.interrupted:
        raise KeyboardInterrupt
    if module.validation is None or module.validation.step != trainer.global_step:
        _validate_last(trainer, module, data)
    if snapshots and len(snapshots.kept) > 1:
        snapshots.mean_into(module)
        _validate_last(trainer, module, data)
    if best.best is None:
        raise ConfigProblem("training ended before its first validation", "raise trainer.max_steps")
    return Outcome(*best.best, trainer.global_step)


def _validate_last(trainer: lightning.Trainer, module: TranslationModule, data: TranslationData) -> None:
    trainer.validate(module, data, verbose=False)


def _hush() -> None:
    """Lightning's own remarks; what matters of them stands on our screen."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*(num_workers|DataLoader|dataloader|log_every_n_steps|lr_scheduler.step|isinstance.treespec).*")
