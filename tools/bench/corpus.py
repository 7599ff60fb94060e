"""Whether training on ten million pairs starts as soon and runs as fast as on 29,000, and in how much memory.

    python tools/bench/corpus.py FOLDER [--sizes 29000 10000000] [--steps 100] [SETTING=VALUE …]

The corpora are made up and kept in FOLDER, and so are the caches. Each is trained on twice by `seq2seq-train`, first with nothing in
the cache, then with all that the first time has left there; then once more in turn, for a second measurement of the rate.
"""

import argparse
import csv
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_WORDS, _BLOCK, _HELD_OUT = 20_000, 100_000, 500
_FIRST = 10
"""Steps that are not counted in the rate."""


@dataclass(frozen=True)
class Measured:
    """Seconds from the command to the end of its first step; tokens a second after; GiB at most, files that are mapped counted, and without."""

    first_step: float
    rate: float
    memory: float
    own_memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sizes", type=int, nargs="+", default=[29_000, 10_000_000])
    parser.add_argument("--steps", type=int, default=100)
    options, settings = parser.parse_known_args()
    for size in options.sizes:
        make_up(options.folder / str(size), size)
    shutil.rmtree(options.folder / "cache", ignore_errors=True)
    for kept in ("nothing in the cache", "all in the cache", "once more"):
        for size in options.sizes:
            found = measure(options.folder, size, options.steps, settings)
            print(
                f"{size:>11,} pairs, {kept + ':':<21} first step after {found.first_step:6.1f} s, {found.rate:7,.0f} tokens/s, "
                f"at most {found.memory:.2f} GiB, {found.own_memory:.2f} without mapped files",
                flush=True,
            )


def make_up(folder: Path, size: int) -> None:
    """Sentences of 3 to 30 words, which are drawn as words are, few of them often; the other side says each in its own language."""
    if (folder / "train.xx").is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(size)
    names = ["".join(draw.choice(list("aeioubdfgklmnprst"), 2 + i % 7)) for i in range(2 * _WORDS)]
    for name, count in (("val", _HELD_OUT), ("train", size)):
        with (folder / f"{name}.en").open("w") as source, (folder / f"{name}.part").open("w") as target:
            for start in range(0, count, _BLOCK):
                for words in _sentences(draw, min(_BLOCK, count - start)):
                    source.write(" ".join([names[i] for i in words]) + "\n")
                    target.write(" ".join([names[_WORDS + i] for i in words]) + "\n")
        (folder / f"{name}.part").rename(folder / f"{name}.xx")


def _sentences(draw: np.random.Generator, count: int) -> Iterator[list[int]]:
    lengths = np.clip(draw.gamma(4, 3, count).astype(int), 3, 30)
    words = (draw.zipf(1.2, lengths.sum()) % _WORDS).tolist()
    start = 0
    for length in lengths.tolist():
        yield words[start : start + length]
        start += length


def measure(folder: Path, size: int, steps: int, settings: list[str]) -> Measured:
    run = folder / f"run-{size}"
    shutil.rmtree(run, ignore_errors=True)
    corpus = f"{folder / str(size)}/"
    command = [
        *(sys.executable, "-m", "seq2seq.cli.train", "recipe=files", "recipe.source=en", "recipe.target=xx"),
        *(f"recipe.train={corpus}train", f"recipe.validation={corpus}val", f"run_dir={run}", "logger=csv"),
        *(f"trainer.max_steps={steps}", f"trainer.validate_every={steps}", "trainer.log_every=1"),
        *("trainer.validation_sentences=1", "tokenizer.vocab_size=8000", *settings),
    ]
    environment = {**os.environ, "SEQ2SEQ_CACHE": str(folder.absolute() / "cache")}
    started, first, most, own = time.monotonic(), 0.0, 0, 0
    with (folder / "output.txt").open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        while process.poll() is None:
            time.sleep(0.05)
            with suppress(OSError, LookupError):
                first = first or (time.monotonic() - started if (run / "metrics.csv").read_text().count("\n") > 1 else 0.0)
                held = [_memory(int(pid)) for pid in (process.pid, *_children(process.pid))]
                most, own = max(most, sum(one[0] for one in held)), max(own, sum(one[1] for one in held))
    if process.returncode:
        raise SystemExit((folder / "output.txt").read_text())
    with (run / "metrics.csv").open() as file:
        rates = [float(row["tokens_per_second"]) for row in csv.DictReader(file) if row["tokens_per_second"]]
    return Measured(first, statistics.median(rates[_FIRST:]), most / 2**20, own / 2**20)


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _memory(pid: int) -> tuple[int, int]:
    """KiB that a process holds now, and what of that is no file's."""
    held = dict(
        line.split(":", 1)
        for line in Path(f"/proc/{pid}/status").read_text().split("\n")
        if line.startswith(("VmRSS", "RssAnon"))
    )
    return int(held["VmRSS"].split()[0]), int(held["RssAnon"].split()[0])


if __name__ == "__main__":
    main()
