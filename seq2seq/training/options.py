"""The settings of training, checked before torch or Lightning load."""

import os
import shutil
from dataclasses import dataclass
from typing import Literal

from seq2seq.errors import MachineProblem
from seq2seq.schema import require

Precision = Literal["auto", "float32", "bfloat16"]
COMPILED_FROM = 5000
"""Steps of a training that may begin a minute later."""


@dataclass(frozen=True)
class Optimizer:
    """Adam (Kingma and Ba, 2015) with the paper's constants (section 5.3), AdamW (Loshchilov and Hutter, 2019), or for the matrices of the
    two stacks Muon (Jordan et al., 2024)."""

    kind: Literal["adam", "adamw", "muon"] = "adam"
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    """On matrices only, not on biases and norms."""
    clip_norm: float = 0.0
    """Gradients longer than this are shortened to it; 0: never."""
    label_smoothing: float = 0.1
    """Section 5.4."""
    r_drop: float = 0.0
    """Above 0, each pair is read twice under two dropouts, and by so much the two are to agree (R-Drop; Liang et al., 2021: 5). Twice the work."""

    def __post_init__(self) -> None:
        require(
            (all(0 <= b < 1 for b in self.betas), f"betas are {self.betas}, each must be at least 0 and below 1"),
            (self.epsilon > 0, "epsilon must be above 0"),
            (self.weight_decay >= 0, "weight_decay must not be negative"),
            (self.clip_norm >= 0, "clip_norm must not be negative"),
            (0 <= self.label_smoothing < 1, f"label_smoothing is {self.label_smoothing}, it must be at least 0 and below 1"),
            (self.r_drop >= 0, "r_drop must not be negative"),
        )


@dataclass(frozen=True)
class Averaging:
    """Which average of the weights is validated and kept.

    none: the weights of the best validation. ema: an exponential moving average over steps. last, best: at the end, the
    mean of the weights at the last (section 6.1) or best `count` validations, if it scores better than each alone.
    """

    kind: Literal["none", "ema", "last", "best"] = "none"
    decay: float = 0.999
    count: int = 5

    def __post_init__(self) -> None:
        require(
            (0 < self.decay < 1, f"decay is {self.decay}, it must be between 0 and 1"),
            (self.count >= 1, "count must be at least 1"),
        )


@dataclass(frozen=True)
class TrainerOptions:
    """How long and on what."""

    max_steps: int = 100000
    """Updates of the weights; the paper's base model took 100,000 (section 5.2)."""
    validate_every: int = 1000
    """Steps between validations."""
    save_every: int = 500
    """Steps between states to go on from after a kill; each validation begins with one, too. The newest two are kept."""
    patience: int | None = None
    """Stop after this many validations without a better BLEU; null: never."""
    validation_sentences: int | None = None
    """Score only the first so many sentences of each direction; null: all."""
    precision: Precision = "float32"
    """bfloat16: products in bfloat16, weights and sums in float32. auto: that, where the machine is clearly faster at it."""
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    """Processes, each with a GPU of its own if there are any, that share every update; where torchrun or srun starts them, they say how many."""
    sharded: bool = False
    """Each process keeps a piece of weights, gradients, moments and averages only (FSDP), for models that one GPU has no room for."""
    compile: bool | Literal["auto"] = "auto"
    """Let torch compile the layers, which takes a minute or so at the start. auto: on a GPU that it can compile for, for `COMPILED_FROM` steps or more."""
    hang_after: float = 60.0
    """Seconds for which a process in training may let the others wait before all end."""
    log_every: int = 50
    """Steps between rows of metrics.csv."""

    def __post_init__(self) -> None:
        require(
            *(
                (getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, it must be at least 1")
                for name in ("max_steps", "validate_every", "save_every", "devices", "log_every")
            ),
            (self.hang_after > 0, "hang_after must be above 0"),
            (self.patience is None or self.patience >= 1, "patience must be at least 1, or null"),
            (
                self.validation_sentences is None or self.validation_sentences >= 1,
                "validation_sentences must be at least 1, or null",
            ),
        )

    @property
    def on_cpu(self) -> bool:
        """Whether training is to run there.

        Raises:
            MachineProblem: a GPU is asked for where there is none.
        """
        import torch

        if self.accelerator == "gpu" and not torch.cuda.is_available():
            raise MachineProblem("trainer.accelerator is gpu, but there is none that torch can use", "trainer.accelerator=auto")
        return self.accelerator == "cpu" or not torch.cuda.is_available()

    @property
    def compiles(self) -> bool:
        """Whether the layers are compiled."""
        if self.compile != "auto":
            return self.compile
        if self.on_cpu or self.max_steps < COMPILED_FROM:
            return False
        from torch.utils._triton import has_triton

        return has_triton() and shutil.which(os.environ.get("CC", "cc")) is not None

    @property
    def by_kernels(self) -> bool:
        """Whether sentences lie end to end and our own kernels work on them, which is for whole models on a CPU."""
        return self.on_cpu and not self.sharded and not self.compiles

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps: the last is validated, too."""
        return step > 0 and (step % self.validate_every == 0 or step >= self.max_steps)

    def saves(self, step: int) -> bool:
        """Whether the state is saved after so many steps. A validation is always gone into from a saved state."""
        return step % self.save_every == 0 or self.validates(step)
