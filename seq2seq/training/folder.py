"""The folder of a run: what it leaves behind, and whether a command may go on from there."""

import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from seq2seq.atomic import lock, remove_leftovers, write_text
from seq2seq.errors import ConfigProblem, MachineProblem, machine_problem

_FREE = ("max_steps", "validate_every", "save_every", "patience", "log_every", "devices", "sharded", "compile", "hang_after")
HARMLESS = {"run_dir", "runs", "before", "resume", "logger", "strict", "offline", *(f"trainer.{name}" for name in _FREE)}
"""Settings that may change when a run goes on."""
_HARMLESS_ENDINGS = ("engine.workers", "engine.threads")
"""And of a recipe whose pairs are translations, how they are shared out."""
_OFF: tuple[Any, ...] = (None, False, 0, "auto", [])
"""What a setting that an earlier release did not have yet was there, in effect."""
MACHINE = "the machine: "
"""Begins the names in an identity that may change, though then the run is not exactly the same any more."""


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
    def states(self) -> Path:
        return self.path / "states"

    @property
    def identity(self) -> Path:
        return self.path / "identity.json"

    @property
    def _has_states(self) -> bool:
        return any(self.states.glob("step-*"))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else works in this folder meanwhile. The system lifts the lock of a process that dies.

        Raises:
            MachineProblem: somebody does, or the folder cannot be written to.
        """
        name = self.path / ".lock"
        made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            holding = name.open("a+")
        except OSError as error:
            problem = machine_problem(error)
            raise MachineProblem(
                f"cannot write to the run folder {self.path}: {problem.message}", "choose another run_dir"
            ) from None
        with holding:
            if not lock(holding):
                holding.seek(0)
                holder = holding.read().strip() or "another process"
                raise MachineProblem(f"{self.path} is in use by {holder}", "wait for it, or choose another run_dir")
            holding.truncate(0)
            holding.write(f"process {os.getpid()} on {platform.node()}\n")
            holding.flush()
            remove_leftovers(self.path)
            try:
                yield
            finally:
                if made and [entry.name for entry in self.path.iterdir()] == [name.name]:  # nothing came of it
                    with suppress(OSError):  # another run may have come into a folder that this one made
                        name.unlink()
                        for folder in made:
                            folder.rmdir()

    def finished(self, config: Mapping[str, Any], resume: Literal["auto", "never", "restart"]) -> Outcome | None:
        """The outcome of the run that is here, if it is this one and complete; None if there is something to do.

        Raises:
            ConfigProblem: a run is here that must not be gone on with: other settings, or `resume` says never.
        """
        self._check_it_is_ours()
        if resume == "restart" or not self.config.is_file() or not (self._has_states or self.result.is_file()):
            return None
        if resume == "never":
            raise ConfigProblem(f"{self.path} holds a run already", "choose another run_dir, or go on with resume=auto")
        before = yaml.safe_load(self.config.read_text(encoding="utf-8"))
        if differing := _differences(_own(before), _own(config)):
            raise ConfigProblem(
                f"{self.path} holds a run with other settings: {'; '.join(differing)}",
                "choose another run_dir, or begin this one anew with resume=restart",
            )
        if not self.result.is_file():
            return None
        outcome = Outcome(**json.loads(self.result.read_text(encoding="utf-8")))
        # A run whose patience has ended is complete until it is asked for another patience: more steps would be none.
        now, then = config["trainer"], before["trainer"]
        stopped_early = outcome.steps_done < then["max_steps"]
        asked_again = now["patience"] != then["patience"] or not stopped_early
        return None if asked_again and now["max_steps"] > outcome.steps_done else outcome

    def _check_it_is_ours(self) -> None:
        """Nothing is written over what somebody else put here."""
        ours = (self.bundle, self.states, self.metrics, self.result, self.config)
        if not self.identity.is_file() and (there := [path.name for path in ours if path.exists()]):
            raise ConfigProblem(
                f"{self.path} is no run folder, and holds {', '.join(there)} already", "choose another run_dir, or move that away"
            )

    def chosen(self, name: str, anew: bool) -> str | None:
        """What the run that is here says of itself under a name in its identity; None if it begins `anew` or never said so."""
        if anew or not self.identity.is_file() or not self._has_states:
            return None
        said: str | None = json.loads(self.identity.read_text(encoding="utf-8"))["run"].get(name)
        return said

    def steps_asked(self, anew: bool) -> int | None:
        """How long the run that is here was to be; None if it begins `anew` or has done nothing yet."""
        if anew or not self.config.is_file() or not self._has_states:
            return None
        return int(yaml.safe_load(self.config.read_text(encoding="utf-8"))["trainer"]["max_steps"])

    def begin(
        self,
        config: Mapping[str, Any],
        identity: Mapping[str, str],
        files: Sequence[Mapping[str, Any]],
        anew: bool,
        command: str = "",
    ) -> list[str]:
        """Write the composed config, below the command that asks for it, what the run works on and the files it came from; first, if the run is to begin `anew`, remove what an earlier
        one left. Returns what has changed about the machine since.

        Raises:
            ConfigProblem: the states here come from other data or another tokenizer.
        """
        changed = []
        if anew:
            for state in self.states.glob("step-*"):
                shutil.rmtree(state)
            for weights in self.states.glob("weights-*.safetensors"):
                weights.unlink()
            self.metrics.unlink(missing_ok=True)
        elif self.identity.is_file() and self._has_states:
            before = json.loads(self.identity.read_text(encoding="utf-8"))["run"]
            changed = [f"{name} was {before[name]}, is {now}" for name, now in identity.items() if before.get(name, now) != now]
            if grave := [text for text in changed if not text.startswith(MACHINE)]:
                raise ConfigProblem(
                    f"{self.path} holds a run on something else: {'; '.join(grave)}",
                    "choose another run_dir, or begin this one anew with resume=restart",
                )
        self.result.unlink(missing_ok=True)  # from here on the run is not complete
        write_text(self.identity, json.dumps({"run": dict(identity), "files": files}, indent=2) + "\n")
        said = "".join(f"# {line}\n" for line in command.splitlines())
        write_text(self.config, said + yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        return [text.removeprefix(MACHINE) for text in changed]

    def finish(self, outcome: Outcome) -> None:
        """Write the result."""
        write_text(self.result, json.dumps(asdict(outcome), indent=2) + "\n")


OWN_WHEN_BEGUN = ("dropout", "_vocab_size", "sampling")
"""Endings of the settings of model and tokenizer that a run has of its own, whatever bundle it begins from."""


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config without what the bundle decides that the run begins from, which is known by what it is."""
    if not config.get("begin_from"):
        return dict(config)
    groups = ("model", "tokenizer") if config.get("begin_vocabulary") != "anew" else ("model",)
    own = {group: {name: value for name, value in config[group].items() if name.endswith(OWN_WHEN_BEGUN)} for group in groups}
    return {**config, **own}


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configs, but for what may."""
    if name in HARMLESS or name.endswith(_HARMLESS_ENDINGS):
        return []
    if isinstance(before, dict | None) and isinstance(now, dict):
        before = before or {}
        keys = [key for key in dict.fromkeys((*before, *now)) if key in before or now[key] not in _OFF]
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)]
    return [] if before == now else [f"{name} was {before}, is {now}"]
