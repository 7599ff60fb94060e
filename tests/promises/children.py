"""Work in a child process that can be killed, or to which the file system can be unkind, at a chosen moment."""

import errno
import faulthandler
import io
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from seq2seq import atomic, stopping

SOAK = os.environ.get("SEQ2SEQ_SOAK") == "1"
"""Set by `make soak`: the full sizes."""


def start(work: Callable[[], Any]) -> int:
    """Fork, and work there on one thread; the process ends with 0, an exit code, or a signal. Returns its number."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            faulthandler.enable(2)  # so that a crash says where it was in what the test has captured
            torch.set_num_threads(1)
            stopping._requests.received, stopping._requests.deferring = None, False
            work()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except stopping.Stopped as stop:
            code = stop.exit_code
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return child


def in_child(work: Callable[[], Any], kill_after: float | None = None) -> int:
    """`start`, and wait: returns how it ended, 0, an exit code, or minus the signal.

    Args:
        kill_after: seconds until SIGKILL.
    """
    child = start(work)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def warm_up(work: Callable[[], Any]) -> None:
    """Work once in this process, so that what is loaded on first use is there for every child."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    work()
    torch.set_num_threads(threads)


class Moments:
    """Counts moments at which a process could die or be refused; at number `at` (from 1) calls `act`.

    Before and after everything that changes what a file system holds, and whatever else is named by `watch`.
    """

    def __init__(self, at: int = 0, act: Callable[[str], None] = lambda name: None) -> None:
        self.count, self._at, self._act = 0, at, act

    def pass_one(self, name: str) -> None:
        self.count += 1
        if self.count == self._at:
            self._act(name)

    def watch(self, owner: Any, name: str, after: bool = True) -> None:
        """Make calls of `owner.name` moments."""
        call = getattr(owner, name)

        def watched(*values: Any, **named: Any) -> Any:
            self.pass_one(name)
            result = call(*values, **named)
            if after:
                self.pass_one(f"after {name}")
            return result

        setattr(owner, name, watched)

    def watch_files(self, after: bool = True) -> None:
        for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
            self.watch(os, name, after)
        self.watch(atomic, "_exchange", after)
        self._watch_writes()

    def _watch_writes(self) -> None:
        opened = io.open

        def watched(file: Any, mode: str = "r", *values: Any, **named: Any) -> Any:
            stream = opened(file, mode, *values, **named)
            changes = set(mode) & set("wa+") and isinstance(file, str | Path) and not str(file).startswith("/dev")
            return _Written(stream, self) if changes else stream

        io.open = watched  # type: ignore[assignment]


class _Written:
    """A file each of whose writes is two, with a moment before each."""

    def __init__(self, stream: Any, moments: Moments) -> None:
        self._stream, self._moments = stream, moments

    def write(self, data: Any) -> int:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            self._moments.pass_one("write")
            self._stream.write(half)
            self._stream.flush()
        return len(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_Written":
        return self

    def __exit__(self, *error: Any) -> None:
        self._stream.close()


def die(name: str) -> None:
    """As SIGKILL would: nothing is flushed, nothing is cleaned up."""
    os._exit(137)


def refuse(number: int) -> Callable[[str], None]:
    """The file system refuses, with this errno."""

    def act(name: str) -> None:
        raise OSError(number, f"{os.strerror(number)} (at {name})")

    return act


REFUSALS = (errno.ENOSPC, errno.EIO, errno.EACCES)
