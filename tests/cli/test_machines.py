"""Training by several processes as people start them: by a setting, by torchrun on two machines, by SLURM."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from seq2seq.training.processes import _free_port
from tests.cli.commands import BIN, SMALL
from tests.conftest import counting_pairs, write_corpus

ROOT = Path(__file__).parent.parent.parent
MINE = ["recipe=files", "recipe.source=en", "recipe.target=de", "run_dir=runs/mine", *SMALL]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("corpus")
    for name, count in (("train", 80), ("val", 8)):
        write_corpus(folder, name, counting_pairs(count, seed=count))
    return [f"recipe.train={folder}/train", f"recipe.validation={folder}/val"]


def result(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((folder / "runs/mine/result.json").read_text())
    return found


@pytest.mark.parametrize("sharded", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_devices_are_processes_of_this_machine(tmp_path: Path, corpus: list[str], sharded: str) -> None:
    command = [BIN / "seq2seq-train", *MINE, *corpus, "trainer.devices=2", f"trainer.sharded={sharded}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("To go on:") == 1
    assert done.stderr == ""
    assert result(tmp_path)["steps_done"] == 6
    assert '"the machine: processes": "2"' in (tmp_path / "runs/mine/identity.json").read_text()


@pytest.mark.slow
def test_two_machines_by_torchrun(tmp_path: Path, corpus: list[str]) -> None:
    """Two agents at two addresses, each with a cache and a folder of its own; only the first leaves a run."""
    port, agents = _free_port(), []
    for number in (0, 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [BIN / "torchrun", "--nnodes=2", f"--node-rank={number}", "--nproc-per-node=1", f"--local-addr=127.0.0.{number + 1}",
                   "--master-addr=127.0.0.1", f"--master-port={port}", "--no-python", BIN / "seq2seq-train", *MINE, *corpus]  # fmt: skip
        environment = {**os.environ, "SEQ2SEQ_CACHE": str(folder / "cache")}
        agents.append(subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True))
    said = [agent.communicate(timeout=200)[1] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert result(tmp_path / "0")["steps_done"] == 6
    assert not (tmp_path / "1" / "runs").exists()


SRUN = f"""#!{sys.executable}
import os, signal, subprocess, sys
command = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
said = {{"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "1(x2)", "SLURM_STEP_NODELIST": "localhost"}}
tasks = [
    subprocess.Popen(command, env={{**os.environ, **said, "SLURM_PROCID": str(rank), "SLURM_LOCALID": "0"}}) for rank in (0, 1)
]
signal.signal(signal.SIGTERM, lambda *_: [task.terminate() for task in tasks])
open("srun.pid", "w").write(str(os.getpid()))
sys.exit(max(task.wait() for task in tasks))
"""


@pytest.mark.slow
def test_the_example_for_slurm(tmp_path: Path, corpus: list[str]) -> None:
    """By an srun of our own, which sets what SLURM's sets. That of the first machine is asked to stop, and asks to be queued again."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", f"#!/bin/sh\necho $* > {tmp_path}/queued\n")):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    path = f"{tools}:{BIN}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": str(_free_port() - 10_000), "SLURM_CPUS_PER_TASK": "1"}
    job = ["bash", str(ROOT / "tools/slurm/train.sbatch"), *MINE, *corpus]
    long = subprocess.Popen([*job, "trainer.max_steps=1000000", "trainer.validate_every=500000"], cwd=tmp_path, env=environment)
    metrics = tmp_path / "runs/mine/metrics.csv"
    while not (metrics.is_file() and metrics.read_text().count("\n") > 2):
        assert long.poll() is None
    os.kill(int((tmp_path / "srun.pid").read_text()), signal.SIGTERM)
    assert long.wait(60) == 143
    assert (tmp_path / "queued").read_text().startswith("requeue")
    steps = int((metrics.read_text().strip().split("\n")[-1]).split(",")[0])
    done = subprocess.run(
        [*job, f"trainer.max_steps={steps + 3}", "trainer.validate_every=500000"], cwd=tmp_path, env=environment
    )
    assert done.returncode == 0
    assert result(tmp_path)["steps_done"] == steps + 3


@pytest.mark.slow
def test_a_sweep_by_the_launcher_of_the_extra(tmp_path: Path, corpus: list[str]) -> None:
    """submitit's launcher for this machine, which works as that for SLURM does."""
    sweep = ["-m", "hydra/launcher=submitit_local", "seed=1,2", "run_dir=runs/${seed}"]
    settings = [setting for setting in (*MINE, *corpus) if not setting.startswith("run_dir")]
    done = subprocess.run([BIN / "seq2seq-train", *sweep, *settings], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("runs/*/result.json")) == ["1", "2"]
