"""Several processes of one thread instead of one process of many: small operations lose less time waiting for each other's threads."""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import torch

from seq2seq.decoding.stepper import Hypothesis, Search, Wishes
from seq2seq.errors import MachineProblem
from seq2seq.inference.engine import Engine
from seq2seq.stopping import die_with

_WORTH_IT = 32
"""A worker gets no fewer sentences than this; too few for two of them are searched here: that starts at once."""


def best_workers(device: torch.device) -> int:
    """How many processes suit this machine: on a CPU one for each thread torch would use, where they can be forked."""
    return torch.get_num_threads() if device.type == "cpu" and sys.platform == "linux" else 1


class Workers:
    """An engine whose sentences are dealt out to copies of it in other processes, which share its weights in memory."""

    def __init__(self, engine: Engine, workers: int) -> None:
        """
        Args:
            workers: processes of one thread. They start when they are first worth it.
        """
        self.engine, self.workers = engine, workers
        self._connections: list[Connection] = []

    def search(self, search: Search, sources: Sequence[Sequence[int]], wishes: Sequence[Wishes] = ()) -> list[list[Hypothesis]]:
        """See `Engine`.

        Raises:
            MachineProblem: a worker was killed.
        """
        busy = min(self.workers, len(sources) // _WORTH_IT)
        if busy < 2:
            return self.engine.search(search, sources, wishes)
        self._start()
        by_length = sorted(range(len(sources)), key=lambda i: -len(sources[i]))
        shares = [by_length[first::busy] for first in range(busy)]
        connections = self._connections[:busy]
        found: list[list[Hypothesis]] = [[] for _ in sources]
        try:
            for connection, share in zip(connections, shares, strict=True):
                connection.send((search, [sources[i] for i in share], [wishes[i] for i in share] if wishes else ()))
            for connection, share in zip(connections, shares, strict=True):
                answer = connection.recv()
                if isinstance(answer, BaseException):
                    raise answer
                for i, hypotheses in zip(share, answer, strict=True):
                    found[i] = hypotheses
        except BaseException as error:
            self._dismiss()  # an answer that is still to come must not be taken for that of the next search
            if isinstance(error, EOFError | ConnectionError):
                raise MachineProblem(
                    "a process that translates was killed, most often because memory ran out",
                    "engine.workers=1, or a smaller batch_size",
                ) from None
            raise
        return found

    def _dismiss(self) -> None:
        """End the workers; the next search starts others."""
        for connection in self._connections:
            connection.close()
        self._connections = []

    def _start(self) -> None:
        if self._connections:
            return
        context = multiprocessing.get_context("fork")
        for _ in range(self.workers):
            here, there = context.Pipe()
            parts = (self.engine, there, [*self._connections, here], os.getpid())
            context.Process(target=_work, args=parts, daemon=True).start()
            there.close()
            self._connections.append(here)


def _work(engine: Engine, connection: Connection, of_parent: list[Connection], parent: int) -> None:
    """Answer searches until the parent is gone."""
    for other in of_parent:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent too, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)
    keep_memory()
    torch.set_num_threads(1)  # the parent's threads are not there after a fork, and OpenMP would wait for them for ever
    with suppress(EOFError, ConnectionError):  # the parent is gone, or wants no more
        while True:
            asked = connection.recv()
            answer: Any
            try:
                answer = engine.search(*asked)
            except Exception as error:  # raised again by the parent
                answer = error
            connection.send(answer)


def keep_memory() -> None:
    """Ask the C library to keep memory that was freed: giving it back and taking it again costs a page fault for each 4 KiB, at
    every step, for tensors of some megabytes. Where it is another library than glibc, nothing happens."""
    trim_threshold, top_pad, mmap_max = -1, -2, -4
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, -1)
        mallopt(top_pad, 64 << 20)
