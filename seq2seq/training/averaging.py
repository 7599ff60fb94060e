"""Averages of weights: a moving one over steps, or the mean of several validations' (section 6.1)."""

from pathlib import Path
from typing import Any

import lightning
import safetensors.torch
import torch
from torch import Tensor

from seq2seq.atomic import replacing_file
from seq2seq.bundle import own_tensors, write_tensors
from seq2seq.training.module import TranslationModule, parameter_tensors
from seq2seq.training.options import Averaging
from seq2seq.training.sharding import like


class MovingAverage(lightning.Callback):
    """An exponential moving average of the weights, which stands in for them during validation.

    Early on the average reaches back less far: its decay at update n is at most (1 + n) / (10 + n).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._average: list[Tensor] = []

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._begin(pl_module)

    def _begin(self, module: TranslationModule) -> None:
        weights = list(parameter_tensors(module))
        if not self._average:
            self._average = [weight.clone() for weight in weights]
        self._average = [like(average, weight) for average, weight in zip(self._average, weights, strict=True)]

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        decay = min(self._decay, (1 + pl_module.step) / (10 + pl_module.step))
        torch._foreach_lerp_(self._average, list(parameter_tensors(pl_module)), 1 - decay)

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._begin(pl_module)
        self._swap(pl_module)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self._swap(pl_module)

    def _swap(self, module: TranslationModule) -> None:
        for weight, average in zip(parameter_tensors(module), self._average, strict=True):
            held = weight.clone()
            weight.copy_(average)
            average.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        return {"average": self._average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._average = list(state_dict["average"])


LISTS = 4
"""A file stays until so many validations in a row have done without it: the run may have to go back to an earlier state."""


class Snapshots(lightning.Callback):
    """Keeps the weights of the last or best few validations on disk, for their `mean`."""

    def __init__(self, options: Averaging, folder: Path) -> None:
        self._options, self._folder = options, folder
        self.kept: list[tuple[float, int]] = []
        """(BLEU, step), in the order they were made."""
        self._lists: list[list[int]] = []
        self.validated = 0
        """The step after which their mean was validated."""
        self.closed = False
        """No more is kept: the mean itself is being validated."""

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        result = pl_module.validation
        if self.closed:
            return
        with replacing_file(self._path(result.step)) as temporary:
            write_tensors(temporary, own_tensors(pl_module.validated_model))
        self.kept.append((result.bleu, result.step))
        if len(self.kept) > self._options.count:
            self.kept.remove(self.kept[0] if self._options.kind == "last" else min(self.kept))
        self._lists = [*self._lists[-LISTS + 1 :], [step for _, step in self.kept]]
        wanted = {self._path(step) for steps in self._lists for step in steps}
        for path in set(self._folder.glob("weights-*.safetensors")) - wanted:
            path.unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self._folder / f"weights-{step}.safetensors"

    def mean(self) -> dict[str, Tensor]:
        """Of the kept weights. Nothing more is kept from now on."""
        self.closed = True
        sums: dict[str, Tensor] = {}
        for _, step in self.kept:
            for name, tensor in safetensors.torch.load_file(self._path(step)).items():
                sums[name] = sums[name] + tensor if name in sums else tensor
        return {name: total / len(self.kept) for name, total in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.kept, "lists": self._lists, "validated": self.validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = [(float(bleu), int(step)) for bleu, step in state_dict["kept"]]
        self._lists = [list(map(int, steps)) for steps in state_dict["lists"]]
        self.validated = int(state_dict.get("validated", 0))
