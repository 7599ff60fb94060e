"""The README's shell and Python blocks are run, with training cut short and small data in place of real.

Each shell line runs as it stands. In front on the PATH are stand-ins: `seq2seq-train` adds settings that make it quick, `make` and `pip` only
check what they are asked.
"""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import counting_pairs, write_corpus

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
QUICK = (
    "trainer.max_steps=2 trainer.validate_every=2 model.d_model=16 model.heads=2 model.d_feedforward=16 model.layers=1 model.decoder_layers=1 "
    "tokenizer.vocab_size=600 logger=csv"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a reader would have it: a corpus of their own, a file to translate, and data sets in small."""
    folder = tmp_path_factory.mktemp("reader")
    for name, count in (("train", 60), ("val", 6), ("test", 6)):
        write_corpus(folder / "corpus", name, counting_pairs(count, count))
    for name in ("train", "val", "test_2016_flickr"):
        write_corpus(folder / "data" / "multi30k", name, counting_pairs(20, len(name)))
        write_corpus(folder / "data" / "multi30k", name, counting_pairs(20, len(name)), ("en", "fr"))
    (folder / "in.txt").write_text("one two\n\nthree\n")
    (folder / "terms.tsv").write_text("one\teins\n")
    (folder / "never.txt").write_text("zehn\n")
    (folder / "begin.txt").write_text("vier\n\n\n")
    for name in ("test", "in", "more", "new"):
        write_corpus(folder, name, counting_pairs(3))
    (folder / "runs").mkdir()
    for name in ("a", "b"):  # two models of one corpus: here twice the same
        (folder / "runs" / name).symlink_to("m30k")
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    stand_ins = {
        "seq2seq-train": f'exec {BIN}/seq2seq-train "$@" $([ "$1" = --help ] || echo {QUICK} $(echo "$@" | grep -q recipe= || echo recipe.train_size=1500))',
        "make": f'grep -q "^$1:" {ROOT}/Makefile',
        "pip": 'test "$1" = install',
    }
    for name, line in stand_ins.items():
        script = bin_folder / name
        script.write_text(f"#!/bin/sh\n{line}\n")
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
    return folder


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PATH": f"{place / 'bin'}:{BIN}:{os.environ['PATH']}", "SEQ2SEQ_DATA": str(place / "data")}


@pytest.mark.slow
def test_the_blocks_run_from_top_to_bottom(place: Path) -> None:
    shell = blocks("sh")
    assert len(shell) >= 4
    for block in shell:
        for line in block.replace("\\\n", " ").strip().split("\n"):
            done = subprocess.run(
                line, shell=True, cwd=place, env=environment(place), capture_output=True, text=True, executable="/bin/bash"
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    for block in blocks("python"):
        done = subprocess.run([sys.executable, "-c", block], cwd=place, env=environment(place), capture_output=True, text=True)
        assert done.returncode == 0, f"{block}\n{done.stderr[-3000:]}"


def test_what_the_map_names_exists() -> None:
    """Paths that README and ARCHITECTURE name."""
    for page in ("README.md", "ARCHITECTURE.md", "recipes/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"[`(]((?:seq2seq|tests|conf|recipes|tools)/[\w/.]+)[`)]", text):
            if name.split("/")[-1].split(".")[0] in ("mine", "proverbs"):
                continue
            assert (ROOT / name).exists(), f"{page} names {name}, which does not exist"
