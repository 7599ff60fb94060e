"""The state of a run on disk: all that is needed to go on as if nothing had happened.

A state is a folder `step-00001234` with `tensors.safetensors`, `numbers.json` and a manifest, complete or not there. Which
one to go on from is found by looking: the newest that is as it was written. The one before goes only when a newer one has been
read back.
"""

import errno
import json
import re
import shutil
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from seq2seq import __version__
from seq2seq.atomic import check_manifest, remove_leftovers, replacing_folder, write_manifest
from seq2seq.bundle import write_tensors
from seq2seq.errors import BundleProblem, NewerProblem

FORMAT_VERSION = 1
KEPT = 2
"""States on disk, so that there is one to fall back to."""
_KIND, _TENSORS, _NUMBERS = "seq2seq training state", "tensors.safetensors", "numbers.json"


class States:
    """The states of one run, in `folder`. Only one process at a time may use it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[str] = []
        """What was found and could not be used."""

    def save(self, step: int, tree: Any) -> None:
        """Write a tree of dicts and lists with tensors, numbers, texts and None as leaves; then remove older states.

        Raises:
            OSError: it could not be written; the older states are still there.
        """
        path = self._path(step)
        tensors: dict[str, Tensor] = {}
        numbers = _take_tensors(tree, "", tensors)
        with replacing_folder(path) as temporary:
            write_tensors(temporary / _TENSORS, tensors)
            (temporary / _NUMBERS).write_text(json.dumps(numbers), encoding="utf-8")
            write_manifest(temporary, _KIND, FORMAT_VERSION, f"seq2seq {__version__}")
        try:
            check_manifest(path, _KIND, FORMAT_VERSION)
        except BundleProblem as problem:
            raise OSError(errno.EIO, f"what was written cannot be read back: {problem.message}") from None
        for old in [s for s in self.steps() if s < step][KEPT - 1 :]:
            shutil.rmtree(self._path(old), ignore_errors=True)

    def newest(self) -> Any:
        """The tree of the newest whole state, or None if there is no state at all. Newer ones that are damaged are removed.

        Raises:
            BundleProblem: there are states, and none that can be used; or a newer release wrote one.
        """
        remove_leftovers(self._folder)
        damaged: list[Path] = []
        for step in self.steps():
            path = self._path(step)
            try:
                check_manifest(path, _KIND, FORMAT_VERSION)
                numbers = json.loads((path / _NUMBERS).read_text(encoding="utf-8"))
                tree = _put_tensors(numbers, safetensors.torch.load_file(path / _TENSORS))
            except NewerProblem:
                raise
            except (BundleProblem, safetensors.SafetensorError, ValueError, KeyError) as error:
                self.damaged.append(f"{path} is damaged ({error})")
                damaged.append(path)
                continue
            for useless in damaged:
                shutil.rmtree(useless, ignore_errors=True)
            return tree
        if damaged:
            raise BundleProblem(
                f"the run has no state to go on from: {'; '.join(self.damaged)}",
                "copy its folder again from where it was made, or begin anew with resume=restart",
            )
        return None

    def steps(self) -> list[int]:
        """The steps of the states that are there, newest first."""
        found = (re.fullmatch(r"step-(\d+)", path.name) for path in self._folder.glob("step-*"))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def forget_after(self, step: int) -> None:
        """Remove the states of later steps, unless there is no other."""
        for later in [s for s in self.steps()[:-1] if s > step]:
            shutil.rmtree(self._path(later), ignore_errors=True)

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"


def _take_tensors(tree: Any, name: str, taken: dict[str, Tensor]) -> Any:
    """The tree with each tensor moved to `taken` and its name left in its place."""
    if isinstance(tree, Tensor):
        taken[name] = tree.detach().cpu().contiguous()
        return {"tensor": name}
    if isinstance(tree, dict):
        return {key: _take_tensors(value, f"{name}/{key}", taken) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_take_tensors(value, f"{name}/{i}", taken) for i, value in enumerate(tree)]
    return tree


def _put_tensors(tree: Any, taken: dict[str, Tensor]) -> Any:
    if isinstance(tree, dict):
        if tree.keys() == {"tensor"}:
            return taken[tree["tensor"]]
        return {key: _put_tensors(value, taken) for key, value in tree.items()}
    return [_put_tensors(value, taken) for value in tree] if isinstance(tree, list) else tree
