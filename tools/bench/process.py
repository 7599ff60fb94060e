"""Systems side by side: each in a process of its own, asked in turn, a line of JSON each way."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Process:
    """A system in its own process."""

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path | None = None) -> None:
        """
        Args:
            log: where its standard error stream goes; unset: nowhere.
        """
        self.name, self._log = name, log
        errors: Any = log.open("w") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env={**os.environ, **environment}
        )
        self.first = self.answered()

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return self.answered()

    def answered(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            said = self._log.read_text()[-2000:] if self._log else ""
            raise SystemExit(f"{self.name} ended with {self.process.wait()}\n{said}")
        return json.loads(line)  # type: ignore[no-any-return]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def answer(data: dict[str, Any]) -> None:
    """From within such a process."""
    sys.__stdout__.write(json.dumps(data) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def peak_memory() -> float:
    """GiB at the most, of this process and its children."""
    pids = [os.getpid(), *map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(text.split("VmHWM:")[1].split()[0]) for text in status) / 2**20
