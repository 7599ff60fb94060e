"""Floor 0: being asked to stop, by Ctrl-C, SIGTERM or SIGHUP.

A request is answered at once by raising `Stopped`, but where work in hand must come to its end first (an update of
the weights and its saving): that calls `defer`, and asks `requested` when it is ready. A second request ends the process
where it stands; what is under a final name is complete all the same.
"""

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
    deferring = False

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
            signal.signal(number, _requests.receive)


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
