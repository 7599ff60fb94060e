"""A disk that is full or broken, at every write, sync and rename of a run in turn: what is there stays good, and the run ends as ever."""

import sys
from pathlib import Path

import pytest

from seq2seq.atomic import check_manifest
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import MachineProblem, machine_problem
from seq2seq.training.state import States
from tests.promises.children import REFUSALS, SOAK, Moments, in_child, refuse, warm_up
from tests.promises.test_training_kills import Result, result_of, train

KIND = "ema"


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> tuple[Result, int]:
    folder = tmp_path_factory.mktemp("peace")
    warm_up(lambda: train(tmp_path_factory.mktemp("warm"), tokenizer, KIND))

    def work() -> None:
        moments = Moments()
        moments.watch_files(after=False)
        train(folder, tokenizer, KIND)
        (folder / "moments").write_text(str(moments.count))

    assert in_child(work) == 0
    return result_of(folder, tokenizer, KIND), int((folder / "moments").read_text())


@pytest.mark.parametrize("number", REFUSALS)
def test_old_states_load_and_the_run_ends_as_ever(
    in_peace: tuple[Result, int], tmp_path: Path, tokenizer: Tokenizer, number: int
) -> None:
    expected, moments = in_peace
    places = range(1, moments + 1, 1 if SOAK else 40)
    for place in places:
        folder = tmp_path / str(place)

        def work(folder: Path = folder, place: int = place) -> None:
            Moments(place, refuse(number)).watch_files(after=False)
            try:
                train(folder, tokenizer, KIND)
            except (OSError, MachineProblem) as error:
                sys.exit(error.exit_code if isinstance(error, MachineProblem) else machine_problem(error).exit_code)

        assert in_child(work) in (0, 5), place
        for final in (folder / "states").glob("step-*"):
            check_manifest(final, "seq2seq training state", 1)
        if (folder / "bundle").exists():
            check_manifest(folder / "bundle", "seq2seq bundle", 1)
        states = States(folder / "states")
        states.newest()
        assert not states.damaged
        assert in_child(lambda folder=folder: train(folder, tokenizer, KIND)) == 0  # type: ignore[misc]
        assert result_of(folder, tokenizer, KIND) == expected
    print(
        f"\nrefused with errno {number} at {len(places)} of {moments} places: corrupted finals 0, old state loaded {len(places)} times"
    )
