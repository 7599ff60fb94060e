"""The processes that train one model together: which one this is, and what they do in step.

An update is the same whatever the number of processes: each takes its share of the pairs of every batch, gradients are summed, and
every process takes the same step. The sum is made here, because an update may be several batches, and one may have to be halved where
memory is short; Lightning knows of no process but its own.

torchrun or SLURM's srun starts the processes, on one machine or several; else `trainer.devices` says how many this one starts.
Only the first of them writes to the run folder and speaks.
"""

import os
import re
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from seq2seq.errors import ConfigProblem, MachineProblem, Problem, is_out_of_memory, report
from seq2seq.stopping import Stopped, follow, requested

T = TypeVar("T")
LONG = timedelta(hours=12)
"""How long others wait while one reads data, validates or writes. That it dies is noticed at once, that it hangs is not."""


@dataclass(frozen=True)
class Processes:
    """This process is `rank` of `count`, and on its machine `local_rank` of `local_count`."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1
    training: Any = field(default=None, repr=False)
    """The group of torch in which nobody waits long for another."""

    @property
    def first(self) -> bool:
        return self.rank == 0

    @property
    def machines(self) -> int:
        return self.count // self.local_count

    def share(self, items: Any) -> Any:
        """What of a sequence or an array is for this process to work on."""
        return items[self.rank :: self.count]

    def sum(self, *numbers: float) -> list[float]:
        """Of each number over all processes.

        Raises:
            MachineProblem: another process died, or did not come in time.
        """
        if self.count == 1:
            return list(numbers)
        return self._summed(torch.tensor(numbers, dtype=torch.float64)).tolist()  # type: ignore[no-any-return]

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Gradients become their sums over all processes. Who had nothing to work on brings zeros.

        Raises:
            MachineProblem: as `sum`.
        """
        if self.count == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        summed = self._summed(torch.cat([gradient.flatten() for gradient in gradients]))
        for parameter, gradient in zip(parameters, torch.split(summed, [p.numel() for p in parameters]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def _summed(self, tensor: Tensor) -> Tensor:
        with self.others_there():
            dist.all_reduce(tensor, group=self.training)
        return tensor

    def gathered(self, share: Sequence[T]) -> list[T]:
        """What each process made of its share of items, in the order of the items."""
        shares = self._each(list(share))
        items: list[Any] = [None] * sum(map(len, shares))
        for rank, of_one in enumerate(shares):
            items[rank :: self.count] = of_one
        return items

    def agreed(self, make: Callable[[], T]) -> T:
        """What the first process makes. If it fails, the others end without a word."""
        with self._before_others(self.first):
            held = [make() if self.first else None]
        if self.count > 1:
            with self.others_there():
                dist.broadcast_object_list(held)
        return held[0]  # type: ignore[return-value]

    def one_a_machine_first(self) -> AbstractContextManager[None]:
        """What one process of each machine makes in here and leaves in the cache, the others find when they come in."""
        return self._before_others(self.local_rank == 0)

    @contextmanager
    def _before_others(self, mine: bool) -> Iterator[None]:
        """Some go first, and the others when those are done. If one of those fails, the others end without a word."""
        if not mine:
            self.wait()
        try:
            yield
        except BaseException as error:
            if mine:
                self._each(getattr(error, "exit_code", Problem.exit_code))
            raise
        if mine:
            self.wait()

    def wait(self) -> None:
        """For all others to come here, as long as it takes."""
        if failed := [code for code in self._each(0) if code]:
            raise SystemExit(failed[0])

    def _each(self, mine: T) -> list[T]:
        """What every process brings here."""
        held: list[Any] = [mine] * self.count
        if self.count > 1:
            with self.others_there():
                dist.all_gather_object(held, mine)
        return held

    @contextmanager
    def others_there(self, alone: bool = False) -> Iterator[None]:
        """Where processes work together: that another one is gone is told as what it is.

        Args:
            alone: each does work of its own there, too, which may fail in other ways.

        Raises:
            MachineProblem: another process died, or did not come in time.
        """
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error) or (alone and not _is_of_others(error)):
                raise
            if (number := requested()) is not None:
                raise Stopped(number, "stopped; the same command goes on from the last state") from None
            raise MachineProblem(
                f"process {self.rank} of {self.count} waits in vain: another one died or hangs ({str(error).split(chr(10))[0]})",
                "see what the others say; the same command goes on from the last state",
            ) from None


def _is_of_others(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or re.search(r"(?i)gloo|nccl|connection|timed? ?out", str(error)) is not None


ALONE = Processes()


@contextmanager
def joined(devices: int, on_cpu: bool, patience: float, another: Sequence[str], given: bytes = b"") -> Iterator[Processes]:
    """This process among those that train together; alone, if nothing says otherwise.

    Args:
        devices: how many processes to be, if neither torchrun nor srun has started them.
        patience: seconds for which one in training may let the others wait.
        another: the command that starts another one.
        given: its standard input.

    Raises:
        ConfigProblem: there are not so many devices.
    """
    place = _place(os.environ)
    if starting := place is None and devices > 1:
        place = Processes(0, devices, 0, devices)
    if place is None or place.count == 1:
        yield ALONE
        return
    if not on_cpu:
        if place.local_count > (there := torch.cuda.device_count()):
            raise ConfigProblem(
                f"{place.local_count} processes were started, or asked for, on a machine where this one sees {there} GPUs",
                f"trainer.devices={there}, trainer.accelerator=cpu, or let each process see all of its machine's GPUs",
            )
        torch.cuda.set_device(place.local_rank)
        os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")  # an error that can be told, and not the end of the process
    backend, threads = "gloo" if on_cpu else "cpu:gloo,cuda:nccl", torch.get_num_threads()
    with _started(another, given, devices) if starting else nullcontext():
        if parent := os.environ.get(_PARENT):
            follow(int(parent))
        if on_cpu and (starting or parent):
            torch.set_num_threads(max(1, threads // place.local_count))
        store, _, _ = next(rendezvous("env://", place.rank, place.count, timeout=JOINING))
        dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.count, timeout=LONG)
        training = dist.new_group(timeout=timedelta(seconds=patience), backend=backend)
        _all_there.set()
        try:
            yield replace(place, training=training)
            dist.destroy_process_group()
        except BaseException:
            if on_cpu:  # for the next job of a sweep; NCCL might wait for others, who may be gone
                with suppress(RuntimeError):
                    dist.destroy_process_group()
            raise
        finally:
            torch.set_num_threads(threads)


JOINING = timedelta(minutes=10)
"""How long the first waits for the others to begin."""
_all_there = threading.Event()


@contextmanager
def _started(another: Sequence[str], given: bytes, count: int) -> Iterator[None]:
    """The other processes of this machine, while this one works. If one ends before all have met, so does this one."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()))
    _all_there.clear()
    children = [_start(another, given, rank, count) for rank in range(1, count)]

    def watch() -> None:
        while not _all_there.wait(0.2):
            if any(child.poll() is not None for child in children):
                report(MachineProblem("another process of this run ended before it began", "see what it says above"))
                os._exit(MachineProblem.exit_code)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except BaseException:
        for child in children:
            child.kill()
        raise
    finally:
        _all_there.set()
        for child in children:
            child.wait()
        for name in ("MASTER_ADDR", "MASTER_PORT"):
            os.environ.pop(name, None)


def _place(environment: Mapping[str, str]) -> Processes | None:
    """What torchrun or srun says of this process, and of where the first one is; None if neither has started it."""

    def numbers(*names: str) -> list[int]:
        if missing := [name for name in names if not environment.get(name, "").isdigit()]:
            raise ConfigProblem(
                f"this process is one of several, but {', '.join(missing)} do not say which", "start it by torchrun or srun"
            )
        return [int(environment[name]) for name in names]

    if "RANK" in environment and "WORLD_SIZE" in environment:
        return Processes(*numbers("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"))
    if environment.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        os.environ.setdefault("MASTER_ADDR", SLURMEnvironment.resolve_root_node_address(environment["SLURM_STEP_NODELIST"]))
        os.environ.setdefault("MASTER_PORT", str(10_000 + int(environment["SLURM_JOB_ID"]) % 20_000))
        a_machine = re.match(r"\d+", environment["SLURM_STEP_TASKS_PER_NODE"])
        rank, count, local_rank = numbers("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")
        return Processes(rank, count, local_rank, int(a_machine[0]) if a_machine else 1)
    return None


_PARENT = "SEQ2SEQ_STARTED_BY"


def _start(command: Sequence[str], given: bytes, rank: int, count: int) -> "subprocess.Popen[bytes]":
    said = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count, _PARENT: os.getpid()}
    environment = {**os.environ, **{name: str(value) for name, value in said.items()}}
    child = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    assert child.stdin
    with suppress(BrokenPipeError):
        child.stdin.write(given)
        child.stdin.close()
    return child


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
