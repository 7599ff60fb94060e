"""One training run: model, data and options -> a bundle in the run folder."""

import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment

from seq2seq.bundle import Bundle, Card
from seq2seq.errors import DivergedProblem, MachineProblem
from seq2seq.kernels import training_kernels
from seq2seq.model.config import TransformerConfig
from seq2seq.model.residual import balance
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import SPECIAL
from seq2seq.training.averaging import LISTS, MovingAverage, Snapshots
from seq2seq.training.callbacks import BestBundle, MetricsFile, SaveState, ValidateWhenDue
from seq2seq.training.data import TranslationData
from seq2seq.training.folder import MACHINE, Outcome, RunFolder
from seq2seq.training.module import Diverging, TranslationModule, Validation
from seq2seq.training.options import Averaging, TrainerOptions
from seq2seq.training.processes import ALONE, Processes
from seq2seq.training.screen import Screen
from seq2seq.training.sharding import put_together
from seq2seq.training.state import KEPT, States


def new_model(config: TransformerConfig, seed: int) -> Transformer:
    """An untrained model; the same seed gives the same weights."""
    torch.manual_seed(seed)
    model = Transformer(config)
    if config.norm_order == "admin":
        shape = (8, min(32, config.max_length))
        ids = [torch.randint(len(SPECIAL), size, shape) for size in (config.source_vocab_size, config.target_vocab_size)]
        balance((model.encoder, model.decoder), lambda: model.eval().features(*ids))
    return model.train()


def machine(processes: int = 1) -> dict[str, str]:
    """What the same run gives the same numbers on."""
    return {
        f"{MACHINE}torch": torch.__version__,
        f"{MACHINE}kernels": "there" if training_kernels() else "none",
        f"{MACHINE}processes": str(processes),
        f"{MACHINE}threads": str(torch.get_num_threads()),
        f"{MACHINE}processor": torch.backends.cpu.get_cpu_capability(),
        f"{MACHINE}GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def disk_forecast(config: TransformerConfig, averaging: Averaging) -> int:
    """The most bytes a run leaves in its folder: states, of which a new one is written before an old one goes, bundles likewise,
    and weights that are kept to be averaged."""
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in Transformer(config).parameters())
    state = 3 + (averaging.kind == "ema")
    kept = averaging.count + LISTS if averaging.kind in ("last", "best") else 0
    return 4 * parameters * (state * (KEPT + 1) + 2 + kept) + 2**20


def check_disk(folder: Path, forecast: int) -> None:
    """Raises MachineProblem if a run would fill the disk."""
    free = shutil.disk_usage(folder).free
    needed = max(0, forecast - sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()))
    if free < 1.2 * needed:
        raise MachineProblem(
            f"the run needs {1.2 * needed / 2**20:,.0f} MiB in {folder}, where {free / 2**20:,.0f} MiB are free",
            "free some space, or choose a run_dir on another disk",
        )


GOING_BACK = 2
"""How often a run that diverges may go back to a good state, each time with half the learning rate."""


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
    processes: Processes = ALONE,
) -> Outcome:
    """Train, from the run folder's newest state if there is one, and leave the best model in the run folder's bundle.

    Args:
        bundle: the model that `module` trains, with what belongs to it; written at each best validation.
        card: what the bundle's card says after a validation.

    Raises:
        DivergedProblem: going back with a smaller learning rate did not help.
        Stopped: the process was asked to stop; the state is saved.
    """
    module.prepare(options)

    def write_bundle(result: Validation) -> None:
        processes.agreed(lambda: bundle.save(folder.bundle, card(result)))

    run = _Run(module, data, write_bundle, folder, options, averaging, screen, loggers, processes)
    run.take_up()
    if 0 < module.step < options.max_steps:
        screen.say(f"goes on from step {module.step:,}")
    while True:
        try:
            return run.go_on()
        except Diverging as diverging:
            run.go_back(diverging)


class _Run:
    """A run between its states."""

    def __init__(
        self,
        module: TranslationModule,
        data: TranslationData,
        write_bundle: Callable[[Validation], None],
        folder: RunFolder,
        options: TrainerOptions,
        averaging: Averaging,
        screen: Screen,
        loggers: list[Any],
        processes: Processes,
    ) -> None:
        self.processes = processes
        self.module, self.data, self.folder, self.options = module, data, folder, options
        self.screen, self.loggers = screen, loggers
        self.states = States(folder.states)
        self.write_bundle, self.averaging = write_bundle, averaging

    def take_up(self) -> None:
        """Put everything where the newest state has it. A run without one begins by saving where it begins."""
        averaging = self.averaging
        self.best = BestBundle(self.write_bundle, self.options.patience)
        self.metrics = MetricsFile(self.folder.metrics, self.options.log_every, self.screen.say)
        self.snapshots = Snapshots(averaging, self.folder.states) if averaging.kind in ("last", "best") else None
        average = MovingAverage(averaging.decay) if averaging.kind == "ema" else None
        of_the_first = (self.screen, self.metrics, self.snapshots) if self.processes.first else ()
        # The order matters at the end of a validation: show and keep what was validated, only then put the raw weights back.
        self.keepers = [c for c in (*of_the_first, self.best, average) if c is not None]
        state = self.processes.agreed(self._newest)
        if state is None:
            self._save()  # where the run begins
        else:
            self.module.restore(state["module"])
            for keeper in self.keepers:
                if (kept := state["callbacks"].get(type(keeper).__name__)) is not None:
                    keeper.load_state_dict(kept)
        if self.processes.first:
            self.metrics.begin()
        self.module.train()  # a validation that found a divergence has left it otherwise

    def _newest(self) -> Any:
        state = self.states.newest()
        for damaged in self.states.damaged:
            self.screen.say(f"going on from an earlier state: {damaged}")
        return state

    def go_on(self) -> Outcome:
        module, data, options = self.module, self.data, self.options
        data.start = module.step
        needed = disk_forecast(module.model.config, self.averaging)
        save = SaveState(self._state, self._keep, options, self.screen.say, needed, self.processes)
        trainer = _trainer(options, [ValidateWhenDue(options), *self.keepers, save], self.loggers, self.processes)
        if options.validates(module.step) and module.validated < module.step:
            trainer.validate(module, data, verbose=False)  # what the process that made the state did not come to
        if self.best.exhausted:
            self.screen.say(f"step {module.step:,}: trainer.patience={options.patience} has ended, nothing more is trained")
        else:
            trainer.fit(module, data)
        if module.validated == module.step:
            self._save()  # should the run be asked for more steps later
        if self.snapshots:
            self._validate_mean(trainer, self.snapshots)
        self.processes.agreed(self.metrics.flush)
        assert self.best.best is not None, "a run ends with a validation"
        return Outcome(*self.best.best, module.step)

    def _validate_mean(self, trainer: lightning.Trainer, snapshots: Snapshots) -> None:
        """Of the weights that were kept, if they are several; it may be the best. The run's own come back, and what is known of the mean is saved
        with them."""
        module = self.module
        count = self.processes.agreed(lambda: 0 if snapshots.validated == module.step else len(snapshots.kept))
        if count < 2:
            return
        self.screen.say(f"the mean of the weights of {count} validations:")
        trained = {name: weight.detach().clone() for name, weight in module.model.named_parameters()}
        module.take(self.processes.agreed(snapshots.mean))
        trainer.validate(module, self.data, verbose=False)
        module.take(trained)
        snapshots.validated = module.step
        self._save()

    def go_back(self, diverging: Diverging) -> None:
        """To the last good state, with half the learning rate.

        Raises:
            DivergedProblem: that has been done often enough.
        """
        scale = self.module.rate_scale
        if scale <= 0.5**GOING_BACK:
            raise DivergedProblem(
                f"training has diverged at step {self.module.step:,}, and going back {GOING_BACK} times with half the learning rate "
                f"did not help: {diverging}",
                "lower schedule.learning_rate, warm up longer or set optimizer.clip_norm, and begin anew with resume=restart",
            )
        step = self.module.step
        self.processes.agreed(lambda: self.states.forget_after(diverging.last_good))
        self.take_up()
        self.module.rate_scale = scale / 2
        self.screen.say(
            f"step {step:,}: {diverging}; going back to step {self.module.step:,} with {self.module.rate_scale:g} of the learning rate"
        )

    def _save(self) -> None:
        state = self._state()
        self.processes.agreed(lambda: self._keep(state))

    def _keep(self, state: Any) -> None:
        self.states.save(self.module.step, state)

    def _state(self) -> Any:
        """Of the run; to be asked for by all processes, and whole in the first one."""
        state = {
            "module": self.module.state(),
            "callbacks": {type(keeper).__name__: keeper.state_dict() for keeper in self.keepers},
        }
        with self.processes.others_there():
            return put_together(state, self.processes.first)


def _trainer(
    options: TrainerOptions, callbacks: list[lightning.Callback], loggers: list[Any], processes: Processes
) -> lightning.Trainer:
    """Lightning's loop and nothing of its screen, checkpoints or samplers. One of its epochs is what is left of the run."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings(
        "ignore", message=".*(num_workers|[dD]ata[lL]oader|log_every_n_steps|isinstance.treespec|complex operators).*"
    )
    return lightning.Trainer(
        max_epochs=1,
        val_check_interval=options.validate_every,
        check_val_every_n_epoch=None,
        precision="bf16-mixed" if options.precision == "bfloat16" and not options.by_kernels else "32-true",
        accelerator="cpu" if options.on_cpu else "gpu",
        devices=1 if options.on_cpu else [processes.local_rank],
        plugins=LightningEnvironment(),  # whoever started this process
        callbacks=callbacks,
        logger=loggers,
        log_every_n_steps=options.log_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        inference_mode=False,  # tensors that validation moves are trained on later
    )
