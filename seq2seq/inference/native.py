"""Settings of this toolkit's own engine, and how it is made of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from seq2seq.bundle import Bundle
from seq2seq.errors import BundleProblem, ConfigProblem
from seq2seq.inference.engine import Engine, TorchEngine
from seq2seq.inference.products import Precision, adds_bytes_exactly, prepared, rows_packed
from seq2seq.inference.workers import Workers, best_workers
from seq2seq.schema import require
from seq2seq.shortlist import Shortlist


@dataclass(frozen=True)
class Native:
    """conf/engine/native.yaml: this toolkit's own engine."""

    precision: Literal["float32", "bfloat16", "int8", "auto"] = "float32"
    """Of the matrix products. In float32 a sentence gets the same translation whatever shares its batch; the others are faster and
    differ a little. auto: what this machine does best."""
    workers: int | None = 1
    """Processes on a CPU; unset: as many as suit the machine."""
    shortlist: bool = False
    """Look only at the target tokens that a sentence is likely to need, as the bundle has learned. Faster for large vocabularies, and
    a translation may differ."""

    def __post_init__(self) -> None:
        require((self.workers is None or self.workers >= 1, f"workers is {self.workers}, it must be at least 1"))

    def make(self, bundles: Sequence[Bundle], device: torch.device, batch_size: int) -> Engine:
        """An engine for a bundle, whose model stays as it is, or for several as one.

        Raises:
            ConfigProblem: this device has no products of that precision.
            BundleProblem: no shortlist was learned.
        """
        if self.precision == "int8" and device.type != "cpu":
            raise ConfigProblem(
                f"engine.precision=int8 is for a CPU, and the device is {device}", "engine.precision=bfloat16, or device=cpu"
            )
        if self.workers not in (None, 1) and device.type != "cpu":
            raise ConfigProblem(
                f"engine.workers={self.workers} is for a CPU, and the device is {device}", "engine.workers=1, or device=cpu"
            )
        precision = best_precision(device) if self.precision == "auto" else self.precision
        workers = best_workers(device) if self.workers is None else self.workers
        models = [prepared(bundle.model.to(device), precision, 2 * batch_size) for bundle in bundles]
        engine = TorchEngine(models, batch_size, device=device)
        if self.shortlist:
            engine.use(
                _shortlist(bundles).to(device), [rows_packed(bundle.model, precision, 2 * batch_size) for bundle in bundles]
            )
        return Workers(engine, workers) if workers > 1 else engine


def _shortlist(bundles: Sequence[Bundle]) -> Shortlist:
    """That of the first, for all: they have one vocabulary."""
    if (shortlist := bundles[0].shortlist) is None:
        raise BundleProblem("this bundle has no shortlist", "train with shortlist=true, or engine.shortlist=false")
    return shortlist


def best_precision(device: torch.device) -> Precision:
    """bfloat16 on a GPU that has it; int8 on a CPU that multiplies bytes in one instruction (VNNI), float32 on any other."""
    if device.type != "cpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "int8" if adds_bytes_exactly() else "float32"
