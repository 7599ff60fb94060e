"""The bench of training: its systems do the same work, each of them on what it counts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "tools" / "bench" / "train.py"
SYSTEMS = ["ours float32", "ours bfloat16", "plain PyTorch float32", "plain PyTorch bfloat16"]


def run_bench(folder: Path, *arguments: str) -> str:
    texts = (
        ("a man sits on a bench", "two dogs run", "the child in the red coat eats"),
        ("ein mann sitzt", "hunde", "das kind isst"),
    )
    for name, lines in zip(("source", "target"), texts, strict=True):
        (folder / name).write_text("".join(f"{line}\n" for line in lines) * 40)
    command = [sys.executable, BENCH, "source", "target", "--vocabulary=280", "--max-tokens=100", *arguments]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.mark.slow
def test_systems_are_measured_on_the_same_tokens(tmp_path: Path) -> None:
    table = run_bench(tmp_path, "--rounds=1", "--updates=30", "--json=found.json", "--systems", *SYSTEMS)
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"] for row in rows] == SYSTEMS
    assert table.count("\n") == 2 + len(SYSTEMS)
    for row in rows:
        assert 0 < row["share_of_peak"] < 1
        assert row["padding"] == 0 or row["name"].startswith("plain")  # ours puts sentences end to end


@pytest.mark.slow
def test_losses_are_compared_after_as_many_tokens(tmp_path: Path) -> None:
    """As a Transformer learns these three sentences, whoever wrote it."""
    out = run_bench(tmp_path, "--held-out", "source", "target", "--tokens=8000", "--rate=0.003", "--systems", *SYSTEMS)
    for name, line in zip(SYSTEMS, out.splitlines(), strict=True):
        assert line.startswith(f"{name}:")
        assert float(line.removeprefix(f"{name}:").split()[0]) < 2
