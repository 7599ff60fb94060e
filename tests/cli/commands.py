"""Commands as people type them, each in a process of its own.

Most of what a command takes on a test's few lines is to import torch and Lightning. So the processes are forks of one that has imported them
and done nothing else; `from_nothing` is for what depends on how a process begins: its locale, what it imports and when.
"""

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import cast

BIN = Path(sys.executable).parent
IMPORTED = ["torch", "lightning.pytorch", "datasets", "hydra", "rich.progress", "sacrebleu", "safetensors.torch"]
SMALL = [
    "model.layers=1",
    "model.d_model=16",
    "model.heads=2",
    "model.d_feedforward=16",
    "tokenizer.vocab_size=330",
    "batch.max_tokens=200",
    "trainer.max_steps=6",
    "trainer.validate_every=3",
    "decoding.beam_size=2",
    "trainer.log_every=1",
    "logger=csv",
]
"""A small training."""


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(IMPORTED)


def command(
    name: str,
    *arguments: str,
    folder: Path,
    given: bytes = b"",
    from_nothing: bool = False,
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """A command that has ended, with its exit code and both outputs."""
    typed = [str(BIN / f"seq2seq-{name}"), *map(str, arguments)]
    variables = {**os.environ, **(environment or {})}
    if from_nothing:
        return subprocess.run(typed, cwd=folder, input=given, capture_output=True, env=variables, check=False)
    reader, writer = FORKS.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as place:
        outputs = [str(Path(place) / name) for name in ("out", "error")]
        process = FORKS.Process(target=_follow, args=(typed, str(folder), variables, reader, outputs))
        process.start()
        reader.close()
        feeding = Thread(target=_write, args=(writer, given))
        feeding.start()
        process.join()
        feeding.join()
        return subprocess.CompletedProcess(typed, cast(int, process.exitcode), *(Path(output).read_bytes() for output in outputs))


def _write(writer: Connection, given: bytes) -> None:
    """All of it, as far as somebody reads it."""
    with suppress(BrokenPipeError), open(os.dup(writer.fileno()), "wb") as pipe:
        writer.close()
        pipe.write(given)


def _follow(typed: list[str], folder: str, variables: dict[str, str], given: Connection, outputs: list[str]) -> None:
    """In the fork: what the beginning of a process would have made otherwise, then the command."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    os.dup2(given.fileno(), 0)
    given.close()
    for number, output in enumerate(outputs, start=1):
        opened = os.open(output, os.O_WRONLY | os.O_CREAT)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (open(number, mode, encoding="utf-8") for number, mode in enumerate("rww"))  # noqa: SIM115
    sys.argv = typed
    name = Path(typed[0]).name.removeprefix("seq2seq-")
    try:
        import_module(f"seq2seq.cli.{name}").main()
    finally:
        atexit._run_exitfuncs()  # which a process of multiprocessing leaves out
