"""Where metrics go beside metrics.csv. Each needs a package of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from seq2seq.errors import missing_extra


class LoggerChoice(Protocol):
    """A frozen dataclass of settings."""

    def make(self, run_dir: Path) -> list[Any]:
        """Lightning loggers that write for a run. Raises MachineProblem if a package is missing."""
        ...


@dataclass(frozen=True)
class Default:
    """metrics.csv, which every run writes, and TensorBoard files when it is installed and `tensorboard` is not false."""

    tensorboard: bool = True

    def make(self, run_dir: Path) -> list[Any]:
        return TensorBoard().make(run_dir) if self.tensorboard and find_spec("tensorboard") else []


@dataclass(frozen=True)
class TensorBoard:
    """To look: tensorboard --logdir RUN."""

    def make(self, run_dir: Path) -> list[Any]:
        return [
            _make(
                "tensorboard", "tensorboard", lambda loggers: loggers.TensorBoardLogger(run_dir, name="", version="tensorboard")
            )
        ]


@dataclass(frozen=True)
class WandB:
    """Weights & Biases; each command, and each job of a sweep, is a run there."""

    project: str = "seq2seq"
    name: str | None = None
    offline: bool = False

    def make(self, run_dir: Path) -> list[Any]:
        return [
            _make(
                "wandb",
                "wandb",
                lambda loggers: self._begun(loggers, run_dir),
            )
        ]

    def _begun(self, loggers: Any, run_dir: Path) -> Any:
        import wandb

        wandb.finish()  # the run of an earlier job, which would be taken for this one's
        name = self.name or run_dir.name
        return loggers.WandbLogger(name=name, project=self.project, offline=self.offline, save_dir=run_dir)


@dataclass(frozen=True)
class MlFlow:
    """MLflow."""

    experiment: str = "seq2seq"
    tracking_uri: str | None = None

    def make(self, run_dir: Path) -> list[Any]:
        uri = self.tracking_uri or f"file:{run_dir.absolute() / 'mlruns'}"
        return [
            _make(
                "mlflow",
                "mlflow",
                lambda loggers: loggers.MLFlowLogger(experiment_name=self.experiment, run_name=run_dir.name, tracking_uri=uri),
            )
        ]


def _make(package: str, extra: str, maker: Callable[[Any], Any]) -> Any:
    if find_spec(package) is None:
        raise missing_extra(package, extra, f"logging to {package}")
    from lightning.pytorch import loggers

    return maker(loggers)
