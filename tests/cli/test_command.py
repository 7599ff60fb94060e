"""What is typed wrong is answered with what is right, before anything slow is imported; asked of the commands in this process."""

import gzip
import math
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import RunMode
from omegaconf import OmegaConf
from seq2seq.recipes.files import Files

from seq2seq.cli.command import Command, choices
from seq2seq.cli.score import COMMAND as SCORE
from seq2seq.cli.sweep import SweepTable, markdown
from seq2seq.cli.test_sets import test_set_of as judged_by
from seq2seq.cli.train import COMMAND as TRAIN
from seq2seq.data.lines import _converting
from seq2seq.data.packing import nearby
from seq2seq.errors import ConfigProblem, MachineProblem
from seq2seq.training.loggers import Default, MlFlow, TensorBoard, WandB
from tests.conftest import counting_pairs, write_corpus

CONF = Path(__file__).parents[2] / "conf"
NESTED = ["recipe=directions", "recipe@recipe.of=files"]


def check(command: Command, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", [command.script, *arguments])
    command._check_overrides()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "seed=1,2", "trainer.max_step=5"], "no setting 'trainer.max_step', did you mean 'trainer.max_steps'"),
        (["seed=1,2", "trainer.max_steps=5", "-m", "model.d_modle=3"], "did you mean 'model.d_model'"),
        (["-m", "recipe=cldr,nope"], "there is no recipe 'nope'"),
        (["-m", "seed=range(1,9)", "recipe=cldr", "schedule=nope,linear"], "there is no schedule 'nope'"),
        (["model=tiny,small"], "model=tiny,small is several values .* -m …\\)$"),
        (["recipe=files", "recipe.train=a", "model=tiyn"], "there is no model 'tiyn'"),
        ([*NESTED, "recipe.of.train=a", "model=tiyn"], "there is no model 'tiyn'"),
        (["-m", "recipe=glob(fil*)", "recipe.trian=x"], "did you mean 'recipe.train'"),
        (["seed=1,2"], "seed=1,2 is several values .* -m .*'seed=\\[1,2\\]'"),
        ([*NESTED, "recipe.of.trian=x"], "did you mean 'recipe.of.train'"),
        ([*NESTED, "model.d_modle=3"], "did you mean 'model.d_model'"),
        (
            [*NESTED, "recipe.validation=x"],
            "recipe.validation is a setting of recipe=.*files.* another recipe .*: recipe.of.validation=x",
        ),
        ([*NESTED, "recipe.directions=en-de,de-en"], "several values"),
        (["-m", "seed=1,2"], r"differ in seed would share .*run_dir=runs/cldr-en-de \(fix: run_dir='runs/sweep/\$\{seed\}'\)"),
        (
            ["-m", "seed=1,2", "model=tiny,small", "run_dir='runs/${seed}'"],
            r"differ in model would .*runs/1 .*/\$\{seed\}-\$\{hydra:runtime.choices.model\}'",
        ),
        (
            ["-m", "experiment=multi30k_en_de,tatoeba_de_en,tatoeba_de_en_small"],
            "differ in experiment would share .*run_dir=runs/tatoeba-de-en",
        ),
        (["-m", "seed=1,2", "run_dir=r/a,r/b"], r"differ in seed .*run_dir=r/a \(fix: run_dir='runs/sweep/\$\{seed\}'\)"),
        (["-m", *NESTED, "recipe.of.train=a,b"], r"fix: run_dir='runs/sweep/\$\{recipe.of.train\}'"),
        (["-m", "recipe=directions", "recipe@recipe.of=files,hub"], r"differ in recipe@recipe.of .*\$\{hydra:job.num\}"),
        (["decoding=noisy_channel", "decoding.beam_size=8"], "fix: decoding.candidates.beam_size=8"),
        (["decoding.temperature=0.5"], "is a setting of decoding=sampling"),
        (["recipe=cldr", "decoding=nope", "decoding.beam_size=3"], "there is no decoding 'nope'"),
    ],
)
def test_what_is_wrong_is_named(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigProblem) as caught:
        check(TRAIN, monkeypatch, *arguments)
    assert re.search(said, str(caught.value)), caught.value


@pytest.mark.parametrize(
    "arguments",
    [
        [
            *("-m", "seed=1,2", "model=glob(*)", "schedule=linear,cosine", "trainer.max_steps=choice(5,6)"),
            "run_dir='r/${seed}-${hydra:runtime.choices.model}-${hydra:runtime.choices.schedule}-${trainer.max_steps}'",
        ],
        ["-m", "optimizer.label_smoothing=interval(0,0.2)"],
        ["-m", "seed=1,2", "run_dir='r/${hydra:job.num}'"],
        ["-m", "seed=1,2", "run_dir='${hydra:sweep.dir}/${hydra:sweep.subdir}'"],
        ["-m", "seed=1,2", "run_dir='r/${hydra:job.override_dirname}'"],
        ["-m", *NESTED, "recipe.of.train=a", "seed=1,2", "run_dir='r/${seed}'"],
        ["-m", "recipe=glob(fil*)", "recipe.train=x"],
        ["-m", "decoding=glob(noisy*)", "decoding.candidates.beam_size=8"],
        [*NESTED, "recipe.of.train=a", "recipe.of.validation=b", "recipe.directions=[en-de,de-en]"],
        ["--cfg", "job", "nonsense=1"],
    ],
)
def test_what_is_right_passes(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    check(TRAIN, monkeypatch, *arguments)


@pytest.mark.parametrize("group", TRAIN.groups)
def test_help_of_a_group_shows_every_setting_of_every_choice(group: str) -> None:
    sections = TRAIN.help([group]).split("\n\n")[1:]
    assert [section.split("\n")[0] for section in sections] == [f"{group}={choice}" for choice in choices(group)]
    for choice, section in zip(choices(group), sections, strict=True):
        written = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text())
        shown = yaml.safe_load(section.split("\n", 1)[1]) or {}
        assert shown == {name: value for name, value in written.items() if name in shown}
        assert set(written) - set(shown) <= {"_target_", "defaults"}


def test_help_says_what_a_choice_is_built_on() -> None:
    assert "model=big\n  # The paper's big model (table 3).\n  # As model=base, but for:\n  d_model: 1024\n" in TRAIN.help(
        ["model.heads"]
    )


@pytest.mark.parametrize("typed", [["run_dir=x", "--help"], ["-m", "seed=1,2", "--help"], ["--help", "recipe=files"]])
def test_help_is_shown_whatever_else_is_typed(
    typed: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["seq2seq-train", *typed])
    TRAIN.main(dict, print)
    assert capsys.readouterr().out == TRAIN.help() + "\n"


def test_help_of_what_is_no_group_names_the_groups() -> None:
    with pytest.raises(ConfigProblem, match="no group 'modle', did you mean 'model'"):
        TRAIN.help(["modle"])


def test_no_command_names_a_setting_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigProblem, match="there is no setting 'experimnt' "):
        check(SCORE, monkeypatch, "experimnt=x")


def test_a_cell_of_a_table_may_hold_a_bar() -> None:
    assert markdown([["a", "b"], ["A|B", "1"]]).splitlines()[-1] == r"| A\|B | 1 |"


def swept(folder: Path, outcomes: dict[str, float | None], metrics: list[str], **fixed: str) -> list[list[str]]:
    """The rows of the tables of jobs that were asked for such settings and came to these scores; metrics are those of an evaluation's jobs in turn."""
    sweep = {"dir": str(folder), "subdir": "0"}
    for number, (asked, outcome) in enumerate(outcomes.items()):
        job = JobReturn(status=JobStatus.COMPLETED)
        job.return_value = outcome
        hydra = {"mode": RunMode.MULTIRUN, "sweep": {**sweep, "subdir": str(number)}, "overrides": {"task": asked.split()}}
        judged = {"metrics": [metrics[number % len(metrics)]]} if metrics else {}
        SweepTable().on_job_end(OmegaConf.create({"hydra": hydra, **judged, **fixed}), job)
    SweepTable().on_multirun_end(OmegaConf.create({"hydra": {"sweep": sweep}}))
    table = folder / "sweep.md"
    return [line.strip("| ").split(" | ") for line in table.read_text().splitlines()] if table.is_file() else []


def test_a_sweep_ends_with_means_and_a_table_the_best_first(tmp_path: Path) -> None:
    scores: dict[str, float | None] = {"seed=1 x=a": 30.0, "seed=2 x=a": 32.0, "seed=1 x=b": 33.0, "seed=2 x=b": math.nan}
    lines = swept(tmp_path, scores, [], run_dir="runs/one")
    assert lines[:4] == [["x", "seeds", "bleu"], ["---"] * 3, ["b", "1", "33.00"], ["a", "2", "31.00 ± 1.00"]]
    assert lines[5] == ["seed", "x", "bleu"]
    assert [line[-1] for line in lines[7:]] == ["33.00", "32.00", "30.00", "failed"]


def test_the_fewest_errors_are_the_best(tmp_path: Path) -> None:
    lines = swept(tmp_path, {"seed=1 x=a": 20.0, "seed=1 x=b": 10.0, "seed=2 x=b": 30.0, "seed=2 x=a": 19.0}, ["ter"])
    assert lines[2:4] == [["a", "2", "19.50 ± 0.50"], ["b", "2", "20.00 ± 10.00"]]
    assert [line[-1] for line in lines[7:]] == ["10.00", "19.00", "20.00", "30.00"]


def test_two_metrics_are_told_apart(tmp_path: Path) -> None:
    assert swept(tmp_path, {"metrics=[bleu]": 20.0, "metrics=[ter]": 10.0}, ["bleu", "ter"])[0] == ["metrics", "bleu or ter"]


def test_where_nothing_can_be_compared_there_is_no_table(tmp_path: Path) -> None:
    assert swept(tmp_path, {"seed=1": None}, []) == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["recipe.source=de", "recipe.target=en"], "translates en to de, and the recipe is asked for de to en"),
        (["recipe.target='fr'"], "asked for en to fr"),
        (["recipe.source=en", "recipe.target=de"], ""),
        ([], ""),
    ],
)
def test_a_model_is_not_judged_by_another_direction_than_was_asked_for(
    typed: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["seq2seq-evaluate", *typed])
    test = write_corpus(tmp_path, "test", counting_pairs(3))
    job: Any = SimpleNamespace(
        recipe=Files("de", "en", test=str(test)), split="test", source=None, reference=None, direction=None
    )
    if said:
        with pytest.raises(ConfigProblem, match=said):
            judged_by(job, ("en", "de"))
    else:
        assert judged_by(job, ("en", "de")).name == "files test, en to de"


def test_a_package_that_is_missing_is_said_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seq2seq.training.loggers.find_spec", lambda package: None)
    for logger, extra in ((WandB(), "wandb"), (MlFlow(), "mlflow"), (TensorBoard(), "tensorboard")):
        with pytest.raises(MachineProblem, match=rf"seq2seq\[{extra}\]"):
            logger.check()
    Default().check()


@pytest.mark.parametrize("name", ["a.txt", "a b.txt", "a.txt.gz", "packed.txt"])
def test_the_command_that_is_named_converts_a_file(name: str, tmp_path: Path) -> None:
    file, text = tmp_path / name, "café\n".encode("latin-1")
    file.write_bytes(gzip.compress(text) if "gz" in name or "packed" in name else text)
    subprocess.run(_converting("LATIN1", str(file)), shell=True, check=True)
    assert (tmp_path / f"{name.removesuffix('.gz')}.utf8").read_text(encoding="utf-8") == "café\n"


def test_a_stream_is_converted_on_its_way() -> None:
    assert _converting("LATIN1", "standard input") == "… | iconv -f LATIN1 -t UTF-8 | …"


def test_what_is_nearby_is_named_as_it_must_be_typed(tmp_path: Path) -> None:
    (tmp_path / "mono.de").touch()
    assert nearby(tmp_path / "mono") == f"did you mean '{tmp_path / 'mono.de'}'?"
