"""Floor 0: what can go wrong, in plain words, and the one place that turns it into an exit code.

Every problem says what is wrong and how to mend it. `Problem` is raised anywhere; `guard` prints it at the door
of a command as two lines, `error: …` and `fix: …`, and ends with its exit code.
"""

import difflib
import errno
import faulthandler
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from seq2seq import stopping


class Problem(Exception):
    """Something the user can mend: `message` (what, where, seen, expected) and `fix` (what to type)."""

    exit_code = 1

    def __init__(self, message: str, fix: str = "") -> None:
        super().__init__(message)
        self.message, self.fix = message, fix

    def __str__(self) -> str:
        return f"{self.message} (fix: {self.fix})" if self.fix else self.message


class ConfigProblem(Problem, ValueError):
    """A setting or a command line that cannot be followed."""

    exit_code = 2


class DataProblem(Problem, ValueError):
    """Text that cannot be used as it is."""

    exit_code = 3


class BundleProblem(Problem, ValueError):
    """A trained model that is damaged, unknown or does not fit."""

    exit_code = 4


class MissingProblem(BundleProblem):
    """There is no trained model where one is named: in `folder`."""

    def __init__(self, message: str, fix: str = "", folder: str = "") -> None:
        super().__init__(message, fix)
        self.folder = folder


class NewerProblem(BundleProblem):
    """What a newer release has written."""


class MachineProblem(Problem, RuntimeError):
    """Disk, memory, network or a missing package."""

    exit_code = 5


class DivergedProblem(Problem, ArithmeticError):
    """Training ran into values that are not numbers."""

    exit_code = 6


class FlaggedProblem(Problem):
    """With strict=true: all is done and written, and something about it deserves a look."""

    exit_code = 7


def did_you_mean(name: str, known: Iterable[str], shown: Callable[[str], str] = str) -> str:
    """`", did you mean 'x'?"` for the nearest known name, as it is to be shown, or nothing."""
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean '{shown(nearest[0])}'?" if nearest else ""


def missing_extra(package: str, extra: str, purpose: str) -> MachineProblem:
    """The error for an optional package that is not installed."""
    return MachineProblem(f"{purpose} needs the package '{package}', which is not installed", f"pip install 'seq2seq[{extra}]'")


def report(problem: Problem) -> None:
    """Print a problem on the standard error stream, control characters shown and not obeyed."""
    lines = [f"error: {problem.message}"] + ([f"fix: {problem.fix}"] if problem.fix else [])
    for line in "\n".join(lines).split("\n"):
        print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), file=sys.stderr)


def _open_what_is_closed() -> None:
    """A standard stream that was closed leads nowhere; else the next file opened would get its number, and what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - it stays open


def check_open(name: Literal["stdin", "stdout"], otherwise: str) -> None:
    """For who needs a standard stream, in `guard`.

    Raises:
        ConfigProblem: it was closed when this program began.
    """
    if getattr(getattr(sys, name), "name", "") == os.devnull:
        raise ConfigProblem(f"standard {name.removeprefix('std')}put is closed", otherwise)


@contextmanager
def guard() -> Iterator[None]:
    """The door of every command: problems become two plain lines and an exit code, Ctrl-C becomes 130, SIGTERM 143.

    Set `SEQ2SEQ_TRACEBACK=1` to see where an error was raised. A crash in a library, which Python cannot catch, says where it was, too.
    """
    stopping.watch()
    _open_what_is_closed()
    if not faulthandler.is_enabled():
        with suppress(OSError, ValueError, AttributeError):  # standard error is no file
            faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):  # whatever the locale: text is UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        stopping.at_once()
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has closed it: leave quietly, as a Unix filter does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        problem = problem_of(error)
        if problem is None:
            raise
        report(problem)
        sys.exit(problem.exit_code)
    except stopping.Stopped as stop:
        print(stop.message, file=sys.stderr)
        sys.exit(stop.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def problem_of(error: Exception) -> Problem | None:
    """What the user can mend of an error; None if it is a bug of ours, or if SEQ2SEQ_TRACEBACK=1 asks where it was raised."""
    if os.environ.get("SEQ2SEQ_TRACEBACK") or isinstance(error, BrokenPipeError):
        return None
    if isinstance(error, Problem):
        return error
    if isinstance(error, OSError) or is_out_of_memory(error):
        return machine_problem(error)  # type: ignore[arg-type]
    return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether numpy, or torch on any device, asked for more memory than there is."""
    said = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and ("out of memory" in said or "can't allocate memory" in said or "not enough memory" in said)
    )


def machine_problem(error: OSError | MemoryError | RuntimeError) -> MachineProblem:
    """What the operating system refused, and what may help."""
    fixes = {
        errno.ENOSPC: "free some space and run the same command again",
        errno.EDQUOT: "free some of your quota and run the same command again",
        errno.EACCES: "correct the rights of that file or folder",
        errno.EPERM: "correct the rights of that file or folder",
        errno.EROFS: "that disk cannot be written to: choose another folder",
        errno.EISDIR: "that is a folder: name a file in it",
        errno.ENOTDIR: "a part of that path is a file: correct the path",
    }
    fix = fixes.get(getattr(error, "errno", None) or 0, "check the path, its rights, the disk and the memory")
    return MachineProblem(str(error) or "out of memory", f"{fix}; SEQ2SEQ_TRACEBACK=1 shows where")
