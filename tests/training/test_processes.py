"""Two processes train as one: on this machine, joined by gloo."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from seq2seq.atomic import sha256
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import ConfigProblem, DataProblem, guard
from seq2seq.training import processes as module
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions
from seq2seq.training.processes import ALONE, Processes, _free_port, _place, joined
from tests.promises.children import in_child, start
from tests.training.small_run import EMA, Run

OPTIONS = TrainerOptions(max_steps=20, validate_every=7, save_every=3, log_every=2, accelerator="cpu")
PATIENCE = 3.0


def two(
    work: Callable[[Processes], None], at: Callable[[Sequence[int]], None] = lambda children: None
) -> tuple[list[int], float]:
    """Work in two processes started as torchrun would; returns how they ended and in how many seconds after `at`."""
    port = _free_port()

    def child(rank: int) -> Callable[[], None]:
        def run() -> None:
            place = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
            with guard(), joined(1, True, PATIENCE, ()) as processes:
                work(processes)

        return run

    children = [start(child(rank)) for rank in (0, 1)]
    at(children)
    begun = time.monotonic()
    late = threading.Timer(90, lambda: [os.kill(pid, signal.SIGKILL) for pid in children])
    late.start()
    ends = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    late.cancel()
    return ends, time.monotonic() - begun


def state(folder: Path, step: int = OPTIONS.max_steps) -> dict[str, torch.Tensor]:
    import safetensors.torch

    return safetensors.torch.load_file(folder / "states" / f"step-{step:08d}" / "tensors.safetensors")


@pytest.mark.parametrize(
    ("averaging", "sharded"),
    [
        (EMA, False),
        (EMA, True),
        pytest.param(Averaging("best", count=2), False, marks=pytest.mark.slow),
        pytest.param(Averaging("best", count=2), True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_are_one(tmp_path: Path, tokenizer: Tokenizer, sharded: bool, averaging: Averaging) -> None:
    """The same updates, averages, losses and translations, whatever is on, each with the model or a piece of it; only dropout draws otherwise,
    so it is off."""
    settings = {"accumulate": 2, "sampling": 0.2, "optimizer": Optimizer("muon", r_drop=1.0), "dropout": 0.0}
    one = Run(tmp_path / "one", tokenizer, OPTIONS, averaging, **settings)  # type: ignore[arg-type]
    one.go()
    options = replace(OPTIONS, sharded=sharded)

    def train(processes: Processes) -> None:
        Run(tmp_path / "two", tokenizer, options, averaging, processes=processes, **settings).go()  # type: ignore[arg-type]

    assert two(train)[0] == [0, 0]
    alone, together = state(tmp_path / "one"), state(tmp_path / "two")
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        # A key's bias moves all scores of a query alike, so its gradient is rounding and nothing else, which Adam makes large.
        if name.startswith("module/") and not name.endswith("key.bias"):
            torch.testing.assert_close(together[name], tensor, atol=1e-5, rtol=0)
    rows = Run(tmp_path / "two", tokenizer, OPTIONS, averaging).rows()
    for ours, theirs in zip(rows, one.rows(), strict=True):
        assert ours.keys() == theirs.keys()
        numbers = [[float(value or 0) for value in row.values()] for row in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("averaging", "sharded"),
    [
        (Averaging("last", count=2), False),
        pytest.param(EMA, False, marks=pytest.mark.slow),
        pytest.param(EMA, True, marks=pytest.mark.slow),
    ],
)
def test_two_processes_killed_go_on_bit_for_bit(
    tmp_path: Path, tokenizer: Tokenizer, averaging: Averaging, sharded: bool
) -> None:
    """One of them is killed; the other ends by itself, and the same command does the rest."""
    options, optimizer = replace(OPTIONS, precision="bfloat16", sharded=sharded), Optimizer("muon", r_drop=1.0)

    def train(name: str, die_at: int = 0) -> Callable[[Processes], None]:
        def work(processes: Processes) -> None:
            run = Run(tmp_path / name, tokenizer, options, averaging, 2, 0.2, optimizer=optimizer, processes=processes)
            step = run.module.training_step

            def mortal(update: object, batch_idx: int) -> object:
                if run.module.step == die_at and processes.rank == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(update, batch_idx)  # type: ignore[arg-type]

            if die_at:
                run.module.training_step = mortal  # type: ignore[method-assign, assignment]
            run.go()

        return work

    assert two(train("whole"))[0] == [0, 0]
    for die_at in (4, 16):
        ends, seconds = two(train("parts", die_at))
        assert ends == [5, -signal.SIGKILL]
        assert seconds < 30
    assert two(train("parts"))[0] == [0, 0]
    assert sha256(tmp_path / "whole/states/step-00000020/tensors.safetensors") == sha256(
        tmp_path / "parts/states/step-00000020/tensors.safetensors"
    )
    whole, parts = (Run(tmp_path / name, tokenizer, options, averaging).rows() for name in ("whole", "parts"))
    assert whole == parts


@pytest.mark.parametrize("hanging", [0, 1])
def test_who_hangs_ends_all(tmp_path: Path, tokenizer: Tokenizer, hanging: int, capfd: pytest.CaptureFixture[str]) -> None:
    """The others wait as long as they were told, then end and say why; whoever started them ends the one that hangs."""

    def train(processes: Processes) -> None:
        run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=100_000, validate_every=50_000), processes=processes)
        step = run.module.training_step

        def hang(update: object, batch_idx: int) -> object:
            if run.module.step == 5 and processes.rank == hanging:
                (tmp_path / "hangs").touch()
                time.sleep(1000)
            return step(update, batch_idx)  # type: ignore[arg-type]

        run.module.training_step = hang  # type: ignore[method-assign, assignment]
        run.go()

    def end_it(children: Sequence[int]) -> None:
        while not (tmp_path / "hangs").exists():
            time.sleep(0.05)
        begun = time.monotonic()
        os.waitid(os.P_PID, children[1 - hanging], os.WEXITED | os.WNOWAIT)
        assert PATIENCE - 1 < time.monotonic() - begun < 4 * PATIENCE
        os.kill(children[hanging], signal.SIGKILL)

    ends, _ = two(train, end_it)
    assert ends[1 - hanging] == 5
    assert "another one died or hangs" in capfd.readouterr().err


def test_one_is_asked_to_stop_and_all_do(tmp_path: Path, tokenizer: Tokenizer) -> None:
    def train(processes: Processes) -> None:
        run = Run(tmp_path, tokenizer, replace(OPTIONS, max_steps=100_000, validate_every=50_000), processes=processes)
        step = run.module.training_step

        def asked(update: object, batch_idx: int) -> object:
            if run.module.step == 4 and processes.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return step(update, batch_idx)  # type: ignore[arg-type]

        run.module.training_step = asked  # type: ignore[method-assign, assignment]
        run.go()

    ends, _ = two(train)
    assert ends == [143, 1]
    assert (tmp_path / "states" / "step-00000005").is_dir()


def test_where_the_first_fails_the_others_end_without_a_word(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise DataProblem("no good")

    def work(processes: Processes) -> None:
        assert processes.agreed(lambda: processes.rank) == 0
        assert processes.gathered(processes.share(list("abcde"))) == list("abcde")
        with processes.one_a_machine_first():
            pass
        assert processes.sum(1.0, processes.rank) == [2.0, 1.0]
        processes.agreed(fail)

    assert two(work)[0] == [3, 3]
    assert capfd.readouterr().err.count("no good") == 1


def test_alone_nothing_is_shared() -> None:
    assert ALONE.sum(1, 2) == [1, 2]
    assert ALONE.gathered("ab") == ["a", "b"]
    assert ALONE.share([1, 2]) == [1, 2]
    with joined(1, True, 1, ()) as processes:
        assert processes is ALONE


def test_what_torchrun_and_srun_say(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert _place({}) is None
    torchrun = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert _place(torchrun) == Processes(3, 4, 1, 2)
    assert _place(torchrun).machines == 2  # type: ignore[union-attr]
    batch_script = {"SLURM_JOB_ID": "77", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
    assert _place(batch_script) is None
    with pytest.raises(ConfigProblem, match="LOCAL_RANK, LOCAL_WORLD_SIZE"):
        _place({"RANK": "0", "WORLD_SIZE": "2"})
    srun = batch_script | {
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_PROCID": "2",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
        "SLURM_STEP_NODELIST": "node[07-08]",
    }
    assert _place(srun) == Processes(2, 4, 0, 2)
    assert os.environ.pop("MASTER_ADDR") == "node07"
    assert os.environ.pop("MASTER_PORT") == "10077"


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(module, "_start", lambda *_: pytest.fail("started too soon"))
    with pytest.raises(ConfigProblem, match="2 processes .* 1 GPUs"), joined(2, False, 1, ()):
        pass


def test_one_that_ends_before_it_begins_ends_all(capfd: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with joined(2, True, 1, (sys.executable, "-c", "raise SystemExit(3)")):
            pass

    assert in_child(work) == 5
    assert "ended before it began" in capfd.readouterr().err
