"""Floor 0: being asked to stop, by Ctrl-C, SIGTERM or SIGHUP.

A request is answered at once by raising `Stopped`, but where work in hand must come to its end first (an update of
the weights and its saving): that calls `defer`, and asks `requested` when it is ready. A second request ends the process
where it stands; what is under a final name is complete all the same.
"""

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any

_WATCHED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Stopped(BaseException):
    """Somebody asked the process to stop. No error, so nothing that handles errors shall catch it."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message)
        self.number, self.message = number, message or "interrupted"

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM, and so after SIGHUP, which asks for the same."""
        return 128 + (signal.SIGINT if self.number == signal.SIGINT else signal.SIGTERM)


class _Requests:
    received: int | None = None
    deferring = following = False

    def receive(self, number: int, frame: Any) -> None:
        if self.received is not None:
            os._exit(Stopped(number).exit_code)
        self.received = number
        if self.deferring:
            name = signal.Signals(number).name
            with suppress(OSError):
                print(f"\n{name}: stopping after this step; once more to stop at once", file=sys.stderr, flush=True)
        else:
            raise Stopped(number)


_requests = _Requests()


def watch() -> None:
    """Answer requests from now on. Other libraries put their own handlers there: call it again after they have."""
    if threading.current_thread() is threading.main_thread():
        for number in _WATCHED:
            signal.signal(number, signal.SIG_IGN if _requests.following else _requests.receive)


def follow(parent: int) -> None:
    """From now on leave requests to the process that started this one, whom they reach too, and end when it ends."""
    _requests.following = True
    watch()
    die_with(parent)


def die_with(parent: int) -> None:
    """Ask Linux to end this process with its parent, however that ends, so that nothing it has locked stays locked."""
    set_parent_death_signal = 1
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def defer() -> None:
    """From here requests wait until `at_once`, or until somebody asks `requested`."""
    _requests.deferring = True


def at_once() -> None:
    """From here requests are answered at once, even one that waits."""
    _requests.deferring = False
    if _requests.received is not None:
        raise Stopped(_requests.received)


def requested() -> int | None:
    """The signal that asked, if one did."""
    return _requests.received
