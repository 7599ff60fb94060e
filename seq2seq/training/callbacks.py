"""What happens beside training: states, bundles and metrics are kept. What a person sees is in `screen.py`.

A callback with `state_dict` and `load_state_dict` is part of the run's state.
"""

import csv
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning

from seq2seq import stopping
from seq2seq.atomic import replacing_file
from seq2seq.errors import MachineProblem, Problem, machine_problem
from seq2seq.stopping import Stopped
from seq2seq.training.module import Validation
from seq2seq.training.options import TrainerOptions
from seq2seq.training.processes import ALONE, Processes


class BestBundle(lightning.Callback):
    """Writes the bundle whenever validation BLEU is better than ever, so a run has a usable model from early on.

    After `patience` validations without a better one, training ends.
    """

    def __init__(self, write: Callable[[Validation], None], patience: int | None) -> None:
        self._write, self._patience = write, patience
        self._since_best = self._counted = 0
        self.best: tuple[float, int] | None = None
        """(BLEU, step)."""

    @property
    def exhausted(self) -> bool:
        return self._patience is not None and self._since_best >= self._patience

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        result = pl_module.validation
        better = self.best is None or result.bleu > self.best[0]
        if result.step != self._counted:  # else it is a mean, which comes after the last validation and changes no patience
            self._since_best = 0 if better else self._since_best + 1
            self._counted = result.step
        if better:
            self._write(result)
            self.best = (result.bleu, result.step)
        trainer.should_stop = self.exhausted

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "since_best": self._since_best, "counted": self._counted}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        self.best = None if best is None else (float(best[0]), int(best[1]))
        self._since_best, self._counted = int(state_dict["since_best"]), int(state_dict.get("counted", 0))


class ValidateWhenDue(lightning.Callback):
    """Tells Lightning after which steps of the run to validate; by itself it counts from where it was started."""

    def __init__(self, options: TrainerOptions) -> None:
        self._options = options

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        trainer.val_check_batch = 1 if self._options.validates(pl_module.step + 1) else float("inf")


ATTEMPTS = 3
"""Savings in a row that may fail before training ends."""


class SaveState(lightning.Callback):
    """Saves the state of the run when it is time, before each validation, and when the process is asked to stop.

    It stands last among the callbacks, so that all others have seen the step. A saving that fails is tried again at the next
    step; the states before are untouched.
    """

    def __init__(
        self,
        state: Callable[[], Any],
        save: Callable[[Any], None],
        options: TrainerOptions,
        say: Callable[[str], None],
        needed: int,
        processes: Processes = ALONE,
    ) -> None:
        """
        Args:
            state: what to save, to be asked for in all processes.
            save: to be called in the first.
        """
        self._state, self._save = state, save
        self._options, self._say, self._needed = options, say, needed
        self._processes = processes
        self._failures = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        stopping.watch()  # Lightning has put its own handlers there
        stopping.defer()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = pl_module.step
        asked, failed = self._processes.sum(stopping.requested() is not None, self._failures > 0)
        due = self._options.saves(step) or asked or failed
        state = self._state() if due else None
        if self._processes.first and due:
            saved = self._try_to_save(step, state)
        if due or step % self._options.log_every == 0:  # the first may have written, and a logger taken its time
            self._processes.wait()
        if asked:
            if not self._processes.first:
                raise SystemExit(Problem.exit_code)
            done = f"saved at step {pl_module.step:,}" if saved else "not saved"
            raise Stopped(stopping.requested() or signal.SIGTERM, f"stopped, {done}; the same command goes on")

    def _try_to_save(self, step: int, state: Any) -> bool:
        try:
            self._save(state)
        except OSError as error:
            self._failures += 1
            problem = machine_problem(error)
            if self._failures == ATTEMPTS:
                raise MachineProblem(
                    f"the state of the run could not be saved {ATTEMPTS} times, the last time after step {step}: {problem.message}",
                    f"free {self._needed / 2**20:,.0f} MiB there and run the same command again; it goes on from the last state",
                ) from None
            self._say(f"step {step:,}: the state could not be saved, trying again after the next step: {problem.message}")
            return False
        self._failures = 0
        return True

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        stopping.watch()
        stopping.at_once()  # all that has been done is saved

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._processes.wait()
        stopping.defer()


class Meter:
    """Counts what has happened since it was last read."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._since = time.monotonic()
        self.source_tokens = self.target_tokens = 0
        self._nll = 0.0

    def add(self, outputs: dict[str, Any]) -> None:
        """What a training step returns."""
        self.source_tokens += outputs["source_tokens"]
        self.target_tokens += outputs["target_tokens"]
        self._nll += outputs["nll"]

    def leave_out(self, seconds: float) -> None:
        """Time in which nothing was counted."""
        self._since += seconds

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats per target token."""
        return self._nll / max(self.target_tokens, 1)

    @property
    def tokens_per_second(self) -> float:
        """Source and target tokens, without padding."""
        return (self.source_tokens + self.target_tokens) / max(time.monotonic() - self._since, 1e-9)

    def state_dict(self) -> dict[str, Any]:
        counts = {"source_tokens": self.source_tokens, "target_tokens": self.target_tokens, "nll": self._nll}
        return {**counts, "seconds": time.monotonic() - self._since}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.source_tokens, self.target_tokens = int(state_dict["source_tokens"]), int(state_dict["target_tokens"])
        self._nll = float(state_dict["nll"])
        self._since = time.monotonic() - float(state_dict.get("seconds", 0.0))  # earlier releases did not say


COLUMNS = (
    *("step", "seconds", "train_loss", "learning_rate", "tokens_per_second"),
    *("validation_loss", "perplexity", "bleu", "chrf", "bleu_of_each"),
)
"""The last is JSON, direction -> BLEU, where there are several directions."""


class MetricsFile(lightning.Callback):
    """metrics.csv: a row every `every` steps, and one for each validation.

    A run that goes on drops the rows written after the state it goes on from; they will be written again. That the file cannot be
    written is said and does not stop training.
    """

    def __init__(self, path: Path, every: int, say: Callable[[str], None]) -> None:
        self._path, self._every, self._say = path, every, say
        self._meter = Meter()
        self._rows = 0
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._failed: set[str] = set()
        self._waiting: list[dict[str, Any]] = []

    @property
    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def begin(self) -> None:
        """Leave in the file the rows that belong to the state gone on from, or none but the heading."""
        rows: list[dict[str, str]] = []
        if self._rows and self._path.is_file():
            with self._path.open(newline="", encoding="utf-8") as file:
                # An earlier release may have had fewer columns, which came first.
                rows = [row for row in csv.DictReader(file) if tuple(row) == COLUMNS[: len(row)]][: self._rows]
        with replacing_file(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._meter.add(outputs)
        if pl_module.step % self._every == 0:
            values = {
                "train_loss": self._meter.loss,
                "learning_rate": learning_rate(trainer),
                "tokens_per_second": self._meter.tokens_per_second,
            }
            self._write(trainer, pl_module.step, values, {})
            self._meter.reset()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._meter.leave_out(time.monotonic() - self._validation_started)
        result = pl_module.validation
        values = {"validation_loss": result.loss, "perplexity": result.perplexity, "bleu": result.bleu, "chrf": result.chrf}
        self._write(trainer, result.step, values, result.bleu_of_each if len(result.bleu_of_each) > 1 else {})

    def _write(self, trainer: lightning.Trainer, step: int, values: Mapping[str, float], of_each: Mapping[str, float]) -> None:
        row = {"step": step, "seconds": round(self._seconds, 1), **{name: f"{value:.6g}" for name, value in values.items()}}
        if of_each:
            row["bleu_of_each"] = json.dumps({direction: round(value, 4) for direction, value in of_each.items()})
        self._waiting.append(row)
        self.flush()
        logged = {**values, **{f"bleu {direction}": value for direction, value in of_each.items()}}
        try:
            for logger in trainer.loggers:
                logger.log_metrics(logged, step=step)
        except Exception as error:  # whatever a logger's service may come up with, it is not worth a run
            self._fail("a logger fails", error)

    def flush(self) -> None:
        """Write the rows that wait; if that fails, they wait on."""
        size = self._path.stat().st_size if self._path.is_file() else 0
        try:
            with self._path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, COLUMNS).writerows(self._waiting)
            self._rows += len(self._waiting)
            self._waiting = []
        except OSError as error:
            self._fail(f"{self._path} cannot be written", error)
            with suppress(OSError):
                os.truncate(self._path, size)

    def _fail(self, what: str, error: Exception) -> None:
        if what not in self._failed:
            self._say(f"{what}, going on without: {error}")
        self._failed.add(what)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows, "waiting": self._waiting, "seconds": self._seconds, "meter": self._meter.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows, self._seconds_before = int(state_dict["rows"]), float(state_dict["seconds"])
        self._waiting = list(state_dict["waiting"])
        self._meter.load_state_dict(state_dict["meter"])


def learning_rate(trainer: lightning.Trainer) -> float:
    """The rate in force."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])
