"""Settings of this toolkit's own engine, and how it is made of a bundle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from seq2seq.bundle import Bundle
from seq2seq.errors import ConfigProblem
from seq2seq.inference.engine import Engine, TorchEngine
from seq2seq.inference.products import Precision, prepared
from seq2seq.inference.workers import Workers, best_workers
from seq2seq.schema import require


@dataclass(frozen=True)
class Native:
    """conf/engine/native.yaml: this toolkit's own engine."""

    precision: Literal["float32", "bfloat16", "int8", "auto"] = "float32"
    """Of the matrix products. In float32 a sentence gets the same translation whatever shares its batch; the others are faster and
    differ a little. auto: what this machine does best."""
    workers: int | None = 1
    """Processes on a CPU; unset: as many as suit the machine."""

    def __post_init__(self) -> None:
        require((self.workers is None or self.workers >= 1, f"workers is {self.workers}, it must be at least 1"))

    def make(self, bundles: Sequence[Bundle], device: torch.device, batch_size: int) -> Engine:
        """An engine for a bundle, whose model stays as it is, or for several as one.

        Raises:
            ConfigProblem: this device has no products of that precision.
        """
        if self.precision == "int8" and device.type != "cpu":
            raise ConfigProblem(
                f"engine.precision=int8 is for a CPU, and the device is {device}", "engine.precision=bfloat16, or device=cpu"
            )
        precision = best_precision(device) if self.precision == "auto" else self.precision
        workers = best_workers(device) if self.workers is None else self.workers
        models = [prepared(bundle.model.to(device), precision, 2 * batch_size) for bundle in bundles]
        engine = TorchEngine(models, batch_size, device=device)
        return Workers(engine, workers) if workers > 1 else engine


def best_precision(device: torch.device) -> Precision:
    """bfloat16 on a GPU; int8 on a CPU that multiplies bytes in one instruction (VNNI), float32 on any other."""
    if device.type != "cpu":
        return "bfloat16"
    return "int8" if torch.cpu._is_vnni_supported() else "float32"
