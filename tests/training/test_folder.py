"""Whose folder it is, and whether a command may go on there."""

import errno
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from seq2seq.errors import ConfigProblem, DataProblem, MachineProblem
from seq2seq.training.folder import Outcome, RunFolder
from tests.cli.commands import BIN, SMALL, command

TRAINER = {"max_steps": 10, "validate_every": 5, "patience": None}
CONFIG: dict[str, Any] = {"seed": 1, "model": {"layers": 2}, "trainer": TRAINER, "run_dir": "x"}
IDENTITY = {"training data": "aa", "tokenizer": "bb", "the machine: torch": "2.13"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """As a run leaves it that was killed after five steps."""
    folder = RunFolder(tmp_path / "run")
    folder.begin(CONFIG, IDENTITY, [], anew=False)
    (folder.states / "step-00000005").mkdir(parents=True)
    return folder


def test_the_same_goes_on_and_harmless_changes_too(folder: RunFolder) -> None:
    assert folder.finished(CONFIG, "auto") is None
    harmless = {"run_dir": "elsewhere", "offline": True, "recipe": {"engine": {"workers": 4}}}
    changed = {**CONFIG, **harmless, "trainer": {**TRAINER, "max_steps": 20, "validate_every": 2}}
    assert folder.finished(changed, "auto") is None
    with pytest.raises(ConfigProblem, match=r"model.layers was 2, is 3; trainer.precision was None, is bfloat16"):
        folder.finished({**CONFIG, "model": {"layers": 3}, "trainer": {**TRAINER, "precision": "bfloat16"}}, "auto")
    with pytest.raises(ConfigProblem, match="holds a run already"):
        folder.finished(CONFIG, "never")


def test_a_run_of_an_earlier_release_goes_on(folder: RunFolder) -> None:
    """What it did not know was off."""
    later = {
        **CONFIG,
        "noise": {"copies_only": False},
        "recipe": {"pivot": []},
        "before": {"a": "b"},
        "trainer": {**TRAINER, "sharded": False, "compile": "auto"},
    }
    assert folder.finished(later, "auto") is None
    with pytest.raises(ConfigProblem, match="noise.drop was None, is 0.1"):
        folder.finished({**later, "noise": {"drop": 0.1}}, "auto")


def test_other_data_or_another_tokenizer_is_refused_another_machine_is_said(folder: RunFolder) -> None:
    with pytest.raises(ConfigProblem, match="training data was aa, is cc"):
        folder.begin(CONFIG, {**IDENTITY, "training data": "cc"}, [], anew=False)
    with pytest.raises(ConfigProblem, match="tokenizer was bb, is cc"):
        folder.begin(CONFIG, {**IDENTITY, "tokenizer": "cc"}, [], anew=False)
    assert folder.begin(CONFIG, {**IDENTITY, "the machine: torch": "3.0"}, [], anew=False) == ["torch was 2.13, is 3.0"]
    assert folder.begin(CONFIG, {**IDENTITY, "training data": "cc"}, [], anew=True) == []
    assert not any(folder.states.glob("step-*"))


def test_a_finished_run_is_finished_until_more_is_asked(folder: RunFolder) -> None:
    outcome = Outcome(30.0, 5, 10)
    folder.finish(outcome)
    assert folder.finished(CONFIG, "auto") == outcome
    more = {**CONFIG, "trainer": {**TRAINER, "max_steps": 20}}
    assert folder.finished(more, "auto") is None
    folder.begin(more, IDENTITY, [], anew=False)  # and killed: from here on it is not complete any more
    assert folder.finished(more, "auto") is None
    folder.finish(Outcome(30.0, 5, 12))  # stopped early
    assert folder.finished(more, "auto") == Outcome(30.0, 5, 12)
    assert folder.finished({**more, "trainer": {**TRAINER, "max_steps": 30}}, "auto") == Outcome(30.0, 5, 12)
    assert folder.finished({**more, "trainer": {**more["trainer"], "patience": 9}}, "auto") is None


def test_what_others_put_there_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "app.js").write_text("precious")
    for resume in ("auto", "restart"):
        with pytest.raises(ConfigProblem, match="is no run folder, and holds bundle already"):
            RunFolder(tmp_path).finished(CONFIG, resume)  # type: ignore[arg-type]


def test_beginning_anew_removes_what_is_ours_alone(folder: RunFolder) -> None:
    (folder.states / "weights-5.safetensors").touch()
    (folder.states / "notes.txt").touch()
    folder.begin(CONFIG, IDENTITY, [], anew=True)
    assert [path.name for path in folder.states.iterdir()] == ["notes.txt"]


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "run")
    with folder.locked():
        with pytest.raises(MachineProblem, match=f"in use by process {os.getpid()} on "), RunFolder(folder.path).locked():
            pass
        assert folder.path.exists()
    assert not (tmp_path / "a").exists(), "nothing came of it"
    with folder.locked():
        folder.metrics.touch()
    assert folder.metrics.exists()


def test_a_file_system_without_locks_keeps_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(file: object, how: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", no_locks)
    folder = RunFolder(tmp_path / "run")
    with folder.locked(), folder.locked():
        folder.metrics.touch()
    assert folder.metrics.exists()


def start(folder: Path) -> "subprocess.Popen[bytes]":
    """A training that would take long, when its first steps are done."""
    settings = [
        *SMALL,
        "trainer.max_steps=100000",
        "trainer.save_every=100000",
        "trainer.validate_every=100000",
        "tokenizer.vocab_size=800",
    ]
    arguments = [BIN / "seq2seq-train", "recipe.train_size=2000", "run_dir=run", *settings]
    training = subprocess.Popen(arguments, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    metrics = folder / "run" / "metrics.csv"
    for _ in range(600):
        if metrics.exists() and metrics.read_text().count("\n") > 3:
            return training
        time.sleep(0.1)
    training.kill()
    raise AssertionError(training.communicate())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_a_second_command_is_refused_meanwhile(tmp_path: Path, number: int, code: int) -> None:
    training = start(tmp_path)
    refused = command("train", "recipe.train_size=2000", "run_dir=run", folder=tmp_path)
    assert refused.returncode == 5
    assert f"in use by process {training.pid}" in refused.stderr.decode()
    assert training.poll() is None
    training.send_signal(number)
    began = time.monotonic()
    _, said = training.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert training.returncode == code, said.decode()
    assert b"saved at step" in said
    assert b"the same command goes on" in said
    assert b"Traceback" not in said
    (state,) = [path for path in (tmp_path / "run" / "states").iterdir() if path.name != "step-00000000"]
    assert (state / "manifest.json").exists()


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    from tests.promises.children import in_child

    def work() -> None:
        from seq2seq import stopping

        stopping.watch()
        stopping.defer()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        (tmp_path / "once").touch()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        (tmp_path / "twice").touch()

    assert in_child(work) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["once"]


def test_a_failure_is_told_even_where_another_run_has_come_into_a_folder_made_for_this_one(tmp_path: Path) -> None:
    def fails() -> None:
        with RunFolder(tmp_path / "runs" / "a").locked():
            (tmp_path / "runs" / "b").mkdir()
            raise DataProblem("what is wrong", "the fix")

    with pytest.raises(DataProblem, match="what is wrong"):
        fails()
