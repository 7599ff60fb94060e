"""The ablation's trainings can be run, and its table says what came of them."""

import json
import shlex
from pathlib import Path

import pytest

from tests.test_configs import composed
from tools import ablation


@pytest.mark.parametrize("option", ablation.OPTIONS)
def test_every_option_composes_and_builds_and_differs_from_none(option: str) -> None:
    with_option, without = (composed("train", *ablation.settings(each)) for each in (option, ablation.NOTHING))
    assert (with_option == without) == (option == ablation.NOTHING)


def test_commands_of_runs_that_are_not_there_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ablation.main(tmp_path, tmp_path / "README.md")
    commands = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert len(commands) == len(ablation.OPTIONS) * len(ablation.SEEDS)
    assert len({command[1] for command in commands}) == len(commands)  # run folders
    assert {command[0] for command in commands} == {"seq2seq-train"}


def test_what_is_in_the_table_is_not_asked_for_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"{ablation.BEGIN}\n{ablation.END}", encoding="utf-8")
    row = {"option": "optimizer=muon", "seed": 2, "parameters": 2_090_000, "minutes": 8, "loss": 1.5, "validation": 40.0}
    (tmp_path / "ablation.json").write_text(json.dumps([row]), encoding="utf-8")
    ablation.main(tmp_path, page)
    folders = [line.split()[1] for line in capsys.readouterr().out.splitlines()]
    assert [folder[-1] for folder in folders if "/optimizer-muon/" in folder] == ["1"]
    assert "`optimizer=muon`" in page.read_text(encoding="utf-8")


def test_the_table_has_means_and_what_is_gained() -> None:
    def row(option: str, seed: int, bleu: float) -> dict[str, object]:
        return {"option": option, "seed": seed, "parameters": 2_090_000, "minutes": 8, "loss": 1.5, "validation": bleu}

    rows = [row("", 1, 40.0), row("", 2, 41.0), row("optimizer=muon", 1, 42.0), row(ablation.OPTIONS[-1], 1, 30.0)]
    lines = ablation.table(rows).splitlines()
    assert [line.split(" | ")[-2:] for line in lines[2:]] == [
        ["42.00", "+2.00 |"],
        ["40.50 ± 0.50", "+0.00 |"],
        ["30.00", "-10.00 |"],
    ]
    assert lines[2].startswith("| `optimizer=muon` | 2.09 M | 8 | 1 |")


def test_the_table_has_its_place(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(ablation.PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    ablation.put("| a table |", page, ablation.BEGIN, ablation.END)
    assert f"{ablation.BEGIN}\n\n| a table |\n\n{ablation.END}" in page.read_text(encoding="utf-8")
