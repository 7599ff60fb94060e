"""A run that is killed anywhere ends, when its command is given again, with the same bits as one that was left in peace."""

import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from seq2seq.atomic import sha256
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.training.module import TranslationModule
from seq2seq.training.options import Averaging, TrainerOptions
from seq2seq.training.state import States
from tests.promises.children import SOAK, Moments, die, in_child, warm_up
from tests.training.small_run import Run

OPTIONS = TrainerOptions(max_steps=12, validate_every=5, save_every=3, log_every=2, accelerator="cpu")
KINDS = {
    "ema": Averaging("ema", 0.9),
    "mean of the best": Averaging("best", count=2),
}


@dataclass
class Result:
    """All that must be the same to the last bit."""

    rows: list[dict[str, str]]
    state: dict[str, str]
    bundle: dict[str, str]
    outcome: str


def train(folder: Path, tokenizer: Tokenizer, kind: str) -> None:
    """Accumulation, drawn subwords, dropout and averages, all at once."""
    run = Run(folder, tokenizer, OPTIONS, KINDS[kind], accumulate=2, sampling=0.2)
    with run.folder.locked():
        run.folder.finish(run.go())


def result_of(folder: Path, tokenizer: Tokenizer, kind: str) -> Result:
    run = Run(folder, tokenizer, OPTIONS, KINDS[kind])
    newest = folder / "states" / f"step-{OPTIONS.max_steps:08d}"
    state = {"tensors": sha256(newest / "tensors.safetensors")}
    bundle = {path.name: sha256(path) for path in (folder / "bundle").rglob("*") if path.is_file()}
    return Result(run.rows(), state, bundle, (folder / "result.json").read_text())


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def in_peace(kind: str, tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> tuple[Result, int]:
    """The result of a run that nobody disturbs, and how many moments it has."""
    folder = tmp_path_factory.mktemp("peace")
    warm_up(lambda: train(tmp_path_factory.mktemp("warm"), tokenizer, kind))

    def work() -> None:
        moments = watched(Moments())
        train(folder, tokenizer, kind)
        (folder / "moments").write_text(str(moments.count))

    assert in_child(work) == 0
    return result_of(folder, tokenizer, kind), int((folder / "moments").read_text())


def watched(moments: Moments) -> Moments:
    moments.watch_files()
    for name in ("training_step", "validation_step", "on_validation_epoch_end", "_losses"):
        call = getattr(TranslationModule, name)
        setattr(TranslationModule, name, _with_moments(moments, name, call))
    return moments


def _with_moments(moments: Moments, name: str, call: Callable[..., object]) -> Callable[..., object]:
    if name == "_losses":

        def inner(self: object, batch: object) -> object:
            moments.pass_one(name)
            return call(self, batch)

        return inner
    if name == "on_validation_epoch_end":

        def end(self: object) -> object:
            moments.pass_one(name)
            return call(self)

        return end

    def step(self: object, batch: object, batch_idx: int) -> object:
        moments.pass_one(name)
        result = call(self, batch, batch_idx)
        moments.pass_one(f"after {name}")
        return result

    return step


def check_goes_on(folder: Path, tokenizer: Tokenizer, kind: str, expected: Result) -> None:
    """The newest state is whole, and the same command ends with the same bits."""
    states = States(folder / "states")
    newest = states.newest() if (folder / "states").is_dir() else None
    assert not states.damaged, states.damaged
    assert newest is not None or not states.steps()
    assert in_child(lambda: train(folder, tokenizer, kind)) == 0
    found = result_of(folder, tokenizer, kind)
    assert found == expected
    assert not [path for path in folder.rglob("*") if ".tmp-" in path.name]


def test_killed_at_any_moment(
    kind: str, in_peace: tuple[Result, int], tmp_path: Path, tokenizer: Tokenizer, record_property: Callable[..., None]
) -> None:
    expected, moments = in_peace
    wanted = 90 if SOAK else 5
    places = sorted({1 + i * (moments - 1) // (wanted - 1) for i in range(wanted)})
    for place in places:
        folder = tmp_path / str(place)

        def work(folder: Path = folder, place: int = place) -> None:
            watched(Moments(place, die))
            train(folder, tokenizer, kind)

        assert in_child(work) == 137, f"moment {place} of {moments}"
        check_goes_on(folder, tokenizer, kind, expected)
    print(f"\nkilled at {len(places)} of {moments} moments ({kind}): {len(places)} of {len(places)} bit-identical")


def test_sigkill_at_random_times(kind: str, in_peace: tuple[Result, int], tmp_path: Path, tokenizer: Tokenizer) -> None:
    import time

    expected, _ = in_peace
    started = time.monotonic()
    assert in_child(lambda: train(tmp_path / "timed", tokenizer, kind)) == 0
    whole = time.monotonic() - started
    draw = random.Random(1)
    wanted, killed = (30 if SOAK else 2), 0
    for i in range(10 * wanted):
        folder = tmp_path / str(i)
        code = in_child(lambda folder=folder: train(folder, tokenizer, kind), kill_after=draw.uniform(0.1, 1.0) * whole)  # type: ignore[misc]
        if code == 0:
            continue  # it was over before
        assert code == -9
        check_goes_on(folder, tokenizer, kind, expected)
        killed += 1
        if killed == wanted:
            break
    assert killed == wanted
    print(f"\nSIGKILL at random times ({kind}): {killed} of {killed} bit-identical")


def test_two_signals_save_and_say_so(tmp_path: Path, tokenizer: Tokenizer, in_peace: tuple[Result, int], kind: str) -> None:
    """SIGTERM and SIGINT between two savings: the step in hand is finished and saved."""
    import signal

    expected, _ = in_peace
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)):
        folder = tmp_path / str(code) / str(int(number))

        def work(folder: Path = folder, number: int = number) -> None:
            def ask(name: str) -> None:
                os.kill(os.getpid(), number)

            moments = Moments(14, ask)
            original = TranslationModule.training_step
            TranslationModule.training_step = _with_moments(moments, "training_step", original)  # type: ignore[assignment, method-assign]
            train(folder, tokenizer, kind)

        assert in_child(work) == code
        assert States(folder / "states").steps()[0] == 7
        check_goes_on(folder, tokenizer, kind, expected)


def test_a_damaged_newest_state_is_passed_over(
    kind: str, in_peace: tuple[Result, int], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    expected, _ = in_peace

    def half() -> None:
        moments = Moments(14, die)
        original = TranslationModule.training_step
        TranslationModule.training_step = _with_moments(moments, "training_step", original)  # type: ignore[assignment, method-assign]
        train(tmp_path, tokenizer, kind)

    assert in_child(half) == 137
    states = States(tmp_path / "states")
    assert states.steps() == [6, 5]
    tensors = tmp_path / "states" / "step-00000006" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1])
    assert states.newest()["module"]["step"] == 5
    assert "damaged" in states.damaged[0]
    assert in_child(lambda: train(tmp_path, tokenizer, kind)) == 0
    assert result_of(tmp_path, tokenizer, kind) == expected


def test_a_finished_run_stays_as_it_is(kind: str, in_peace: tuple[Result, int], tmp_path: Path, tokenizer: Tokenizer) -> None:
    expected, _ = in_peace
    for _ in range(2):
        assert in_child(lambda: train(tmp_path, tokenizer, kind)) == 0
        assert result_of(tmp_path, tokenizer, kind) == expected
    assert json.loads(expected.outcome)["steps_done"] == 12
