"""A translation that is killed and gone on with gives the same bytes as one that was left in peace."""

import json
import random
import sys
import time
from pathlib import Path

import pytest

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.cli import translate as command
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import ConfigProblem, FlaggedProblem, MachineProblem, Problem
from seq2seq.journal import Journal
from seq2seq.model.transformer import Transformer
from tests.conftest import counting_pairs
from tests.promises.children import REFUSALS, SOAK, Moments, die, in_child, refuse, warm_up

ODD = ["", " ", "one two \x00 three", "one " * 90, "seven \u2028 eight", "\ufeffone", "<s> </s>"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, random_model: Transformer) -> Path:
    folder = tmp_path_factory.mktemp("translation")
    Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer).save(folder / "bundle")
    lines = [s for s, _ in counting_pairs(25)]
    for i, odd in enumerate(ODD):
        lines.insert(4 * i, odd)
    (folder / "in.txt").write_bytes("\n".join(lines).encode() + b"\nbad \xff byte")
    beginnings = ["" if i % 3 else ("eins", "zwei", "drei")[i % 9 // 3] for i in range(len(lines) + 1)]
    (folder / "begin.txt").write_text("\n".join(beginnings) + "\n")
    warm_up(lambda: translate(folder, folder / "warm.txt"))
    return folder


def translate(work: Path, output: Path, **settings: object) -> None:
    """seq2seq-translate in this process, in chunks of 5 lines."""
    from seq2seq.decoding.beam import BeamSearch
    from seq2seq.decoding.penalties import LengthLimits
    from seq2seq.inference.native import Native

    search = BeamSearch(2, lengths=LengthLimits(0, 4))
    values: dict[str, object] = dict(
        decoding=search,
        engine=Native(),
        bundle=str(work / "bundle"),
        input=str(work / "in.txt"),
        output=str(output),
        report=None,
        format="text",
        explain=False,
        glossary=None,
        banned=None,
        prefix=str(work / "begin.txt"),
    )
    values |= dict(direction=None, batch_size=4, device="cpu", overwrite=False, resume=False, strict=False) | settings
    command.CHUNK = 5
    command.run(command.TranslateJob(**values), {"decoding": {"beam_size": 2}, "engine": {}})  # type: ignore[arg-type]


def answers(output: Path) -> tuple[bytes, bytes]:
    return output.read_bytes(), output.with_name(f"{output.name}.report.jsonl").read_bytes()


@pytest.fixture(scope="module", params=["out.txt", "out.txt.gz"])
def in_peace(request: pytest.FixtureRequest, work: Path) -> tuple[str, tuple[bytes, bytes], int]:
    """(name, bytes, moments) of a translation nobody disturbs."""
    folder = work / "peace"
    folder.mkdir(exist_ok=True)
    output = folder / request.param

    def task() -> None:
        moments = Moments()
        moments.watch_files()
        translate(work, output, overwrite=True)
        (folder / "moments").write_text(str(moments.count))

    assert in_child(task) == 0
    return request.param, answers(output), int((folder / "moments").read_text())


def check_goes_on(work: Path, output: Path, expected: tuple[bytes, bytes]) -> None:
    if not output.exists() or output.with_name(f"{output.name}.journal").exists():
        assert in_child(lambda: translate(work, output, resume=True)) == 0
    assert answers(output) == expected
    assert sorted(path.name for path in output.parent.iterdir()) == sorted([output.name, f"{output.name}.report.jsonl"])


def test_killed_at_any_moment(work: Path, in_peace: tuple[str, tuple[bytes, bytes], int], tmp_path: Path) -> None:
    name, expected, moments = in_peace
    wanted = 40 if SOAK else 8
    for i in range(wanted):
        place = 1 + i * (moments - 1) // (wanted - 1)
        output = tmp_path / str(place) / name
        output.parent.mkdir(exist_ok=True)

        def task(place: int = place, output: Path = output) -> None:
            Moments(place, die).watch_files()
            translate(work, output)

        assert in_child(task) == 137
        check_goes_on(work, output, expected)
    print(f"\ntranslation killed at {wanted} of {moments} moments ({name}): {wanted} of {wanted} byte-equal")


def test_sigkill_at_random_times(work: Path, in_peace: tuple[str, tuple[bytes, bytes], int], tmp_path: Path) -> None:
    name, expected, _ = in_peace
    started = time.monotonic()
    (tmp_path / "timed").mkdir()
    assert in_child(lambda: translate(work, tmp_path / "timed" / name)) == 0
    whole = time.monotonic() - started
    draw = random.Random(2)
    wanted = 25 if SOAK else 2
    killed = 0
    for i in range(20 * wanted):
        output = tmp_path / str(i) / name
        output.parent.mkdir()
        if in_child(lambda output=output: translate(work, output), kill_after=draw.uniform(0.05, 0.95) * whole) == 0:  # type: ignore[misc]
            continue
        check_goes_on(work, output, expected)
        killed += 1
        if killed == wanted:
            break
    assert killed == wanted
    print(f"\ntranslation under SIGKILL at random times ({name}): {killed} of {killed} byte-equal")


@pytest.mark.parametrize("number", REFUSALS)
def test_a_refusing_file_system_loses_nothing(
    work: Path, in_peace: tuple[str, tuple[bytes, bytes], int], tmp_path: Path, number: int
) -> None:
    name, expected, moments = in_peace
    step = 1 if SOAK else 17
    tried = 0
    for place in range(1 + number % step, moments + 1, step):  # other places for each errno
        output = tmp_path / str(place) / name
        output.parent.mkdir()

        def task(place: int = place, output: Path = output) -> None:
            Moments(place, refuse(number)).watch_files(after=False)
            try:
                translate(work, output)
            except Problem as problem:
                sys.exit(problem.exit_code)

        assert in_child(task) in (0, 5)
        if output.exists() and not output.with_name(f"{output.name}.journal").exists():
            assert answers(output) == expected
        check_goes_on(work, output, expected)
        tried += 1
    print(f"\ntranslation refused at {tried} places ({name}, errno {number}): corrupted finals 0")


def test_other_input_or_settings_are_not_gone_on_with(work: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"

    def task() -> None:
        Moments(30, die).watch_files()
        translate(work, output)

    assert in_child(task) == 137
    lines = sum("lines" in json.loads(line) for line in (tmp_path / "out.txt.journal").read_text().split("\n")[:-1])
    assert lines >= 1
    with pytest.raises(Problem, match="go on with resume=true"):
        translate(work, output)
    with pytest.raises(Problem, match="format was text, is jsonl"):
        translate(work, output, resume=True, format="jsonl")
    other = tmp_path / "other.txt"
    other.write_bytes(b"changed" + (work / "in.txt").read_bytes())
    with pytest.raises(Problem, match="are not those that were translated before"):
        translate(work, output, resume=True, input=str(other))
    partial = tmp_path / "out.txt.partial"
    partial.write_bytes(b"X" + partial.read_bytes()[1:])
    with pytest.raises(Problem, match="not as it was written"):
        translate(work, output, resume=True)
    translate(work, output, overwrite=True)
    expected = output.read_bytes()
    assert expected == (work / "warm.txt").read_bytes()
    translate(work, output, resume=True)  # there is nothing left to do
    assert output.read_bytes() == expected


def test_two_commands_do_not_write_one_file(work: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.txt"
    with Journal([output], {"a": 1}, resume=False, overwrite=False) as journal:
        journal.append(["line"], [b"line\n"])
        for how in ({"overwrite": True}, {"resume": True}, {}):
            with pytest.raises(MachineProblem, match="another command is writing"):
                translate(work, output, **how)
        journal.finish()
    assert output.read_bytes() == b"line\n"
    with pytest.raises(Problem, match="exists"):
        Journal([output], {"a": 1}, resume=False, overwrite=False)
    assert [path.name for path in tmp_path.iterdir()] == ["out.txt"]


def test_killed_when_all_is_said_and_nothing_renamed(work: Path, tmp_path: Path) -> None:
    given, peace, output = (tmp_path / name for name in ("in.txt", "peace.txt", "out.txt"))
    text = "one\0two\nthree\n"
    given.write_text(text)
    asked: dict[str, object] = dict(input=str(given), prefix=None)
    translate(work, peace, **asked)

    def task() -> None:
        Journal.finish = lambda self: die("before the first rename")  # type: ignore[method-assign]
        translate(work, output, **asked)

    assert in_child(task) == 137
    given.write_text(f"{text}four\n")
    with pytest.raises(Problem, match="the input has more than the 2 lines"):
        translate(work, output, resume=True, **asked)
    given.write_text(text)
    translate(work, output, resume=True, **asked)
    assert answers(output) == answers(peace)


def test_resume_takes_no_other_file_for_finished_work(work: Path, tmp_path: Path) -> None:
    output, given = tmp_path / "out.txt", tmp_path / "in.txt"
    given.write_text("one\0two\nthree\n")
    asked: dict[str, object] = dict(input=str(given), prefix=None)
    for _ in range(3):
        with pytest.raises(FlaggedProblem):  # whether the work is done or was done before
            translate(work, output, resume=True, strict=True, **asked)
    finished = output.read_text()
    (tmp_path / "banned.txt").write_text("nie\n")
    others: list[dict[str, object]] = [
        asked | {"format": "jsonl"},
        asked | {"direction": "en-de"},
        asked | {"banned": str(tmp_path / "banned.txt")},
        asked | {"input": str(work / "begin.txt")},
    ]
    for other in others:
        with pytest.raises(ConfigProblem, match="does not say that it is of this input, model and settings"):
            translate(work, output, resume=True, **other)
    assert output.read_text() == finished
    output.write_text("of somebody\n")
    with pytest.raises(ConfigProblem, match="is complete, and"):
        translate(work, output, resume=True, **asked)
    assert output.read_text() == "of somebody\n"


def test_a_command_that_translated_nothing_binds_no_other(work: Path, tmp_path: Path) -> None:
    output, terms = tmp_path / "out.txt", tmp_path / "terms.tsv"
    terms.write_text("one eins\n")
    with pytest.raises(Problem, match="not a pair of terms"):
        translate(work, output, glossary=str(terms), resume=True)
    terms.write_text("one\teins\n")
    translate(work, output, glossary=str(terms), resume=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.txt", "out.txt.report.jsonl", "terms.tsv"]


def test_resume_overwrites_no_report_of_somebody(work: Path, tmp_path: Path) -> None:
    output, notes = tmp_path / "out.txt", tmp_path / "notes.txt"
    notes.write_text("of somebody\n")
    with pytest.raises(ConfigProblem, match="notes.txt exists"):
        translate(work, output, report=str(notes), resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "terms.tsv").write_text("one eins\n")
    with pytest.raises(Problem, match="not a pair of terms"):
        translate(work, output, glossary=str(tmp_path / "terms.tsv"))  # which leaves a journal
    with pytest.raises(ConfigProblem, match="notes.txt exists"):
        translate(work, output, report=str(notes), resume=True)
    assert notes.read_text() == "of somebody\n"
