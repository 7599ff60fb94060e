"""The folder of a run: what it leaves behind, and whether a command may go on from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from seq2seq.atomic import write_text
from seq2seq.errors import ConfigProblem

HARMLESS = {"run_dir", "resume", "logger", "trainer.max_steps", "trainer.validate_every", "trainer.patience", "trainer.log_every"}
"""Settings that may change when a run goes on."""


@dataclass(frozen=True)
class Outcome:
    """The best validation of a run, whose weights are in the bundle."""

    bleu: float
    step: int
    steps_done: int


@dataclass(frozen=True)
class RunFolder:
    """Names of everything in it."""

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
        return self.checkpoints / "last.ckpt"

    def finished(self, config: Mapping[str, Any], resume: Literal["auto", "never", "restart"]) -> Outcome | None:
        """The outcome of the run that is here, if it is this one and complete; None if there is something to do.

        Raises:
            ConfigProblem: a run is here that must not be gone on with: other settings, or `resume` says never.
        """
        if resume == "restart" or not self.config.is_file() or not (self.checkpoint.is_file() or self.result.is_file()):
            return None
        if resume == "never":
            raise ConfigProblem(f"{self.path} holds a run already", "choose another run_dir, or go on with resume=auto")
        before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        if differing := _differences(before, dict(config)):
            raise ConfigProblem(
                f"{self.path} holds a run with other settings: {'; '.join(differing)}",
                "choose another run_dir, or begin this one anew with resume=restart",
            )
        if not self.result.is_file():
            return None
        outcome = Outcome(**json.loads(self.result.read_text(encoding="utf-8")))
        # A run that stopped early is complete until it is asked for more steps than before.
        return outcome if config["trainer"]["max_steps"] <= max(outcome.steps_done, before["trainer"]["max_steps"]) else None

    def begin(self, config: Mapping[str, Any], anew: bool) -> None:
        """Write the composed config; first, if the run is to begin `anew`, remove what an earlier one left."""
        if anew:
            for path in (self.metrics, self.result, *self.checkpoints.glob("*")):
                path.unlink(missing_ok=True)
        write_text(self.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))

    def finish(self, outcome: Outcome) -> None:
        """Write the result."""
        write_text(self.result, json.dumps(asdict(outcome), indent=2) + "\n")


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configs, but for what may."""
    if name in HARMLESS:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)]
    return [] if before == now else [f"{name} was {before}, is {now}"]
