"""Where metrics go beside metrics.csv. Each needs a package of its own."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from seq2seq.errors import missing_extra


class LoggerChoice(Protocol):
    """A frozen dataclass of settings."""

    def check(self) -> None:
        """Raises MachineProblem if a package is missing."""
        ...

    def make(self, run_dir: Path) -> list[Any]:
        """Lightning loggers that write for a run; to be asked only if all is there."""
        ...


@dataclass(frozen=True)
class Default:
    """metrics.csv, which every run writes, and TensorBoard files when it is installed and `tensorboard` is not false."""

    tensorboard: bool = True

    def check(self) -> None:
        """See `LoggerChoice`."""

    def make(self, run_dir: Path) -> list[Any]:
        return TensorBoard().make(run_dir) if self.tensorboard and find_spec("tensorboard") else []


@dataclass(frozen=True)
class TensorBoard:
    """To look: tensorboard --logdir RUN."""

    def check(self) -> None:
        """See `LoggerChoice`."""
        _check("tensorboard")

    def make(self, run_dir: Path) -> list[Any]:
        from lightning.pytorch.loggers import TensorBoardLogger

        return [TensorBoardLogger(run_dir, name="", version="tensorboard")]


@dataclass(frozen=True)
class WandB:
    """Weights & Biases; each command, and each job of a sweep, is a run there."""

    project: str = "seq2seq"
    name: str | None = None
    offline: bool = False

    def check(self) -> None:
        """See `LoggerChoice`."""
        _check("wandb")

    def make(self, run_dir: Path) -> list[Any]:
        import wandb
        from lightning.pytorch.loggers import WandbLogger

        wandb.finish()  # the run of an earlier job, which would be taken for this one's
        return [WandbLogger(name=self.name or run_dir.name, project=self.project, offline=self.offline, save_dir=run_dir)]


@dataclass(frozen=True)
class MlFlow:
    """MLflow."""

    experiment: str = "seq2seq"
    tracking_uri: str | None = None

    def check(self) -> None:
        """See `LoggerChoice`."""
        _check("mlflow")

    def make(self, run_dir: Path) -> list[Any]:
        from lightning.pytorch.loggers import MLFlowLogger

        uri = self.tracking_uri or f"file:{run_dir.absolute() / 'mlruns'}"
        return [MLFlowLogger(experiment_name=self.experiment, run_name=run_dir.name, tracking_uri=uri)]


def _check(package: str) -> None:
    """By its name, which is that of the extra, too."""
    if find_spec(package) is None:
        raise missing_extra(package, package, f"logging to {package}")
