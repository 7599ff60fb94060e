"""How many tokens an update's batches may have on this machine: `batch.max_tokens=auto`."""

import math
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokens import TokenPairs
from seq2seq.errors import MachineProblem
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import PAD
from seq2seq.training.data import none_fits
from seq2seq.training.loss import projected_cross_entropy
from seq2seq.training.processes import ALONE, Processes

_PART = 0.5
"""Of the memory that is free: the rest is for what backward makes on its way, for validation, and for others."""
_A_WEIGHT = 28
"""Bytes that training keeps of a weight beside itself: gradient, two moments, average, what is saved of them, and a copy for products."""
_WHOLE = 4
"""And of a model in pieces for the one that is put together for validation."""
_TRIED = 1024
"""Tokens a side of the batch that is tried."""


def fitted(config: BatchConfig, bytes_a_token: float, free: float) -> BatchConfig:
    """The fewest batches an update whose tokens are `per_update` together, each within memory.

    Args:
        bytes_a_token: what is kept for backward of a token of each side.
        free: bytes there are for it.

    Raises:
        MachineProblem: there is not room for a single token.
    """
    affordable = int(free / bytes_a_token)
    if affordable < 1:
        raise MachineProblem("memory does not suffice to train this model", "a smaller model, or a machine with more memory")
    accumulate = math.ceil(config.per_update / affordable)
    return replace(config, max_tokens=math.ceil(config.per_update / accumulate), accumulate=accumulate)


def measured(
    config: BatchConfig,
    model: Transformer,
    pairs: TokenPairs,
    on_cpu: bool = True,
    passes: int = 1,
    processes: Processes = ALONE,
    sharded: bool = False,
) -> BatchConfig:
    """`fitted` to this machine and others like it, as a trial of some of the longest pairs shows.

    Args:
        passes: how often each pair is read at the same time.
        processes: share each batch; those of a machine without GPUs share its memory, too.
        sharded: and have pieces of the model.

    Raises:
        DataProblem: the model can hold no pair.
        MachineProblem: there is no room for a token.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lengths = np.maximum(pairs.source.lengths, pairs.target.lengths)
    fitting = np.flatnonzero(lengths <= model.config.max_length)
    if not len(fitting):
        raise none_fits(model.config.max_length)
    longest = fitting[np.argsort(-lengths[fitting], kind="stable")]
    batch = pairs.batch(longest[: max(1, _TRIED // int(lengths[longest[0]]))])
    tokens = max(batch.source.size(1), batch.target_input.size(1)) * len(batch)
    own = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.random.fork_rng(devices=[]), saved_tensors_hooks(keep, lambda tensor: tensor):
        real = batch.target_output != PAD
        features = model.train().features(batch.source, batch.target_input)[real]
        loss = projected_cross_entropy(features, model.output.weight, batch.target_output[real], 0.1)
    del loss
    owners = processes.machines if on_cpu else processes.count
    models = processes.local_count if on_cpu else 1
    of_a_model = (_A_WEIGHT / processes.count + _WHOLE if sharded else _A_WEIGHT) * parameters
    free = _PART * (free_memory(on_cpu) - models * of_a_model)
    return fitted(config, passes * sum(kept.values()) / tokens, owners * free)


def free_memory(on_cpu: bool = True) -> int:
    """Bytes: of the GPU, or of this machine or the part of it that we may have."""
    if not on_cpu and torch.cuda.is_available():
        torch.cuda.empty_cache()  # what is kept for no one is free, too
        return torch.cuda.mem_get_info()[0]
    found: list[Any] = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/meminfo").read_text().split("\n")
        found.append(next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable")))
    found += left_in_groups(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return min(found) if found else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def left_in_groups(root: Path, of_process: Path) -> list[int]:
    """Bytes that each control group of this process, and each group that one is in, may still take; version 1 or 2.

    Args:
        root: where Linux shows all groups.
        of_process: the file that says which are those of this process.
    """
    found = []
    with suppress(OSError):
        for _, kinds, name in (line.split(":", 2) for line in of_process.read_text().splitlines()):
            if kinds not in ("", "memory"):
                continue
            top, names = (
                (root, ("max", "current", "")) if not kinds else (root / kinds, ("limit_in_bytes", "usage_in_bytes", "total_"))
            )
            own = top / name.lstrip("/")
            for group in (own, *(parent for parent in own.parents if parent.is_relative_to(top))):
                with suppress(OSError, ValueError, StopIteration):
                    limit, in_use = (int((group / f"memory.{name}").read_text()) for name in names[:2])
                    lines = (group / "memory.stat").read_text().split("\n")
                    files = next(line for line in lines if line.startswith(f"{names[2]}inactive_file"))
                    found.append(limit - in_use + int(files.split()[1]))  # pages of files go when they must
    return found
