"""What happens beside training: files are kept. What a person sees is in `screen.py`."""

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning

from seq2seq.atomic import replacing_file
from seq2seq.training.module import Validation, check_finite


class BestBundle(lightning.Callback):
    """Writes the bundle whenever validation BLEU is better than ever, so a run has a usable model from early on."""

    def __init__(self, write: Callable[[Validation], None]) -> None:
        self._write = write
        self.best: tuple[float, int] | None = None
        """(BLEU, step)."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.offer(pl_module.validation)

    def offer(self, result: Validation) -> bool:
        """Keep the model as it stands if it is the best so far."""
        if self.best is not None and result.bleu <= self.best[0]:
            return False
        self.best = (result.bleu, result.step)
        self._write(result)
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        self.best = None if best is None else (float(best[0]), int(best[1]))


class ValidateAtTheEnd(lightning.Callback):
    """The last step is validated too, where `validate_every` does not divide `max_steps`."""

    def on_train_batch_start(self, trainer: lightning.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        last = trainer.max_steps * trainer.accumulate_grad_batches - 1
        if batch.number >= last:
            trainer.val_check_batch = 1


class SaveState(lightning.Callback):
    """After each validation, everything that is needed to go on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            with replacing_file(self._path) as temporary:
                trainer.save_checkpoint(temporary)


class Meter:
    """Counts what has happened since it was last read."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._since = time.monotonic()
        self.source_tokens = self.target_tokens = 0
        self._nll: Any = 0.0

    def add(self, source_tokens: int, target_tokens: int, nll: Any) -> None:
        self.source_tokens += source_tokens
        self.target_tokens += target_tokens
        self._nll = self._nll + nll

    @property
    def loss(self) -> float:
        """Mean negative log-likelihood in nats per target token."""
        return float(self._nll) / max(self.target_tokens, 1)

    @property
    def tokens_per_second(self) -> float:
        """Source and target tokens, without padding."""
        return (self.source_tokens + self.target_tokens) / max(time.monotonic() - self._since, 1e-9)


COLUMNS = ("step", "seconds", "train_loss", "learning_rate", "tokens_per_second", "validation_loss", "perplexity", "bleu", "chrf")


class MetricsFile(lightning.Callback):
    """metrics.csv: a row every `every` steps, and one for each validation. Going on after a stop drops rows that will be written again."""

    def __init__(self, path: Path, every: int) -> None:
        self._path, self._every = path, every
        self._meter = Meter()
        self._seconds_before = 0.0
        self._written = 0
        self._started = time.monotonic()

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        rows = self._rows_up_to(trainer.global_step)
        self._seconds_before = float(rows[-1]["seconds"]) if rows else 0.0
        with replacing_file(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)
        self._written = trainer.global_step - trainer.global_step % self._every
        self._started = time.monotonic()
        self._meter.reset()

    def _rows_up_to(self, step: int) -> list[dict[str, str]]:
        if not self._path.is_file():
            return []
        with self._path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if int(row["step"]) <= step]

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._meter.add(batch.source_tokens, batch.target_tokens, outputs["nll"].detach())
        if trainer.global_step >= self._written + self._every:
            self._written = trainer.global_step
            check_finite(self._meter.loss, trainer.global_step)
            values = {
                "train_loss": self._meter.loss,
                "learning_rate": learning_rate(trainer),
                "tokens_per_second": self._meter.tokens_per_second,
            }
            self._write(trainer.global_step, values)
            for logger in trainer.loggers:
                logger.log_metrics(values, step=trainer.global_step)
            self._meter.reset()

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        result = pl_module.validation
        self._write(
            result.step,
            {"validation_loss": result.loss, "perplexity": result.perplexity, "bleu": result.bleu, "chrf": result.chrf},
        )
        self._meter.reset()

    def _write(self, step: int, values: dict[str, float]) -> None:
        seconds = self._seconds_before + time.monotonic() - self._started
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(
                {"step": step, "seconds": round(seconds, 1), **{k: f"{v:.6g}" for k, v in values.items()}}
            )


def learning_rate(trainer: lightning.Trainer) -> float:
    """The rate in force."""
    return float(trainer.optimizers[0].param_groups[0]["lr"])
