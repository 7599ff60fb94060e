"""One training run: model, data and options -> a bundle in the run folder."""

import logging
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import SIGTERMException

from seq2seq.bundle import Bundle, Card
from seq2seq.errors import MachineProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.training.averaging import MovingAverage, Snapshots
from seq2seq.training.callbacks import BestBundle, MetricsFile, SaveState, ValidateAtTheEnd
from seq2seq.training.data import TranslationData
from seq2seq.training.folder import Outcome, RunFolder
from seq2seq.training.module import TranslationModule, Validation
from seq2seq.training.options import Averaging, TrainerOptions
from seq2seq.training.screen import Screen


def new_model(config: TransformerConfig, seed: int) -> Transformer:
    """An untrained model; the same seed gives the same weights."""
    torch.manual_seed(seed)
    return Transformer(config)


def check_accelerator(name: str) -> None:
    """Raises MachineProblem if a GPU is asked for where there is none."""
    if name == "gpu" and not torch.cuda.is_available():
        raise MachineProblem("trainer.accelerator is gpu, but there is none that torch can use", "trainer.accelerator=auto")


def fit(
    module: TranslationModule,
    data: TranslationData,
    bundle: Bundle,
    card: Callable[[Validation], Card],
    folder: RunFolder,
    options: TrainerOptions,
    averaging: Averaging,
    screen: Screen,
    loggers: list[Any],
) -> Outcome:
    """Train, from the run folder's checkpoint if there is one, and leave the best model in the run folder's bundle.

    Args:
        bundle: the model that `module` trains, with what belongs to it; written at each best validation.
        card: what the bundle's card says after a validation.
    """
    best = BestBundle(lambda result: bundle.save(folder.bundle, card(result)))
    snapshots = [Snapshots(averaging, folder.checkpoints)] if averaging.kind in ("last", "best") else []
    # The order matters at the end of a validation: show and keep what was validated, only then put the raw weights back,
    # and save the state last.
    callbacks: list[lightning.Callback] = [
        ValidateAtTheEnd(),
        screen,
        MetricsFile(folder.metrics, options.log_every),
        best,
        *snapshots,
        *([EarlyStopping("bleu", mode="max", patience=options.patience)] if options.patience else []),
        *([MovingAverage(averaging.decay)] if averaging.kind == "ema" else []),
        SaveState(folder.checkpoint),
    ]
    trainer = _trainer(options, data.accumulate, callbacks, loggers)
    resumed = str(folder.checkpoint) if folder.checkpoint.is_file() else None
    try:
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    except SIGTERMException:
        raise SystemExit(143) from None
    except SystemExit:  # what Lightning makes of Ctrl-C
        raise KeyboardInterrupt from None
    for kept in snapshots:
        kept.mean_into(module)
        trainer.validate(module, data, verbose=False)
    assert best.best is not None, "a run ends with a validation"
    return Outcome(*best.best, trainer.global_step)


def _trainer(
    options: TrainerOptions, accumulate: int, callbacks: list[lightning.Callback], loggers: list[Any]
) -> lightning.Trainer:
    """Lightning's loop and nothing of its screen, checkpoints or samplers. One of its epochs is a whole run."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings(
        "ignore", message=".*(num_workers|[dD]ata[lL]oader|log_every_n_steps|lr_scheduler.step|isinstance.treespec).*"
    )
    return lightning.Trainer(
        max_steps=options.max_steps,
        max_epochs=-1,
        val_check_interval=options.validate_every * accumulate,
        check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate,
        precision="bf16-mixed" if options.precision == "bfloat16" else "32-true",
        accelerator=options.accelerator,
        devices=1,
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=options.log_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
