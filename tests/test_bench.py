"""The bench of training runs, and its systems learn alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "tools" / "bench" / "train.py"
SYSTEMS = ["ours float32", "ours bfloat16", "plain PyTorch float32", "plain PyTorch bfloat16"]


def run_bench(folder: Path, *arguments: str) -> str:
    """Sentences of one to nine words, so that a batch has several lengths."""
    for name, word in (("source", "dog "), ("target", "hund ")):
        (folder / name).write_text("".join(word * (1 + i % 9) + "\n" for i in range(180)))
    command = [sys.executable, BENCH, "source", "target", "--vocabulary=280", "--max-tokens=100", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


@pytest.mark.slow
def test_each_system_is_measured(tmp_path: Path) -> None:
    table = run_bench(tmp_path, "--rounds=1", "--updates=30", "--json=found.json", "--systems", *SYSTEMS)
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert [row["name"] for row in rows] == SYSTEMS
    assert table.count("\n") == 2 + len(SYSTEMS)
    for row in rows:
        assert 0 < row["share_of_peak"] < 1
        assert (row["padding"] > 0) == row["name"].startswith("plain")  # ours puts sentences end to end


@pytest.mark.slow
def test_losses_are_compared_after_as_many_tokens(tmp_path: Path) -> None:
    out = run_bench(tmp_path, "--held-out", "source", "target", "--tokens=8000", "--rate=0.003", "--systems", *SYSTEMS)
    for name, line in zip(SYSTEMS, out.splitlines(), strict=True):
        assert line.startswith(f"{name}:")
        assert float(line.removeprefix(f"{name}:").split()[0]) < 2
