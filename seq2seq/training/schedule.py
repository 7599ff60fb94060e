"""The learning rate as a function of the step (section 5.3). Steps count from 1. No torch here."""

from dataclasses import dataclass
from typing import Protocol

from seq2seq.schema import require


class Schedule(Protocol):
    """A frozen dataclass of its settings."""

    def __call__(self, step: int, d_model: int) -> float:
        """The learning rate of update `step` (1, 2, …) of a model of width `d_model`."""
        ...


@dataclass(frozen=True)
class Noam:
    """lrate = factor * d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), equation 3; 4,000 warm-up steps in the paper."""

    warmup_steps: int = 4000
    factor: float = 1.0

    def __post_init__(self) -> None:
        require((self.warmup_steps >= 1, "warmup_steps must be at least 1"), (self.factor > 0, "factor must be above 0"))

    def __call__(self, step: int, d_model: int) -> float:
        return float(self.factor * d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5))


@dataclass(frozen=True)
class InverseSquareRoot:
    """The same curve named by its peak: linear to `learning_rate` in `warmup_steps`, then falling with step^-0.5."""

    learning_rate: float = 0.001
    warmup_steps: int = 1000

    def __post_init__(self) -> None:
        require(
            (self.warmup_steps >= 1, "warmup_steps must be at least 1"), (self.learning_rate > 0, "learning_rate must be above 0")
        )

    def __call__(self, step: int, d_model: int) -> float:
        return float(self.learning_rate * min(step / self.warmup_steps, (self.warmup_steps / step) ** 0.5))


@dataclass(frozen=True)
class LinearDecay:
    """Linear to `learning_rate` in `warmup_steps`, then linear down to `floor` of it at `total_steps`: for short runs
    whose length is known."""

    learning_rate: float = 0.001
    warmup_steps: int = 100
    total_steps: int = 1000
    floor: float = 0.0

    def __post_init__(self) -> None:
        require(
            (self.learning_rate > 0, "learning_rate must be above 0"),
            (1 <= self.warmup_steps < self.total_steps, "warmup_steps must be at least 1 and below total_steps"),
            (0 <= self.floor <= 1, "floor must be from 0 to 1"),
        )

    def __call__(self, step: int, d_model: int) -> float:
        if step <= self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        left = max(0.0, (self.total_steps - step) / (self.total_steps - self.warmup_steps))
        return self.learning_rate * (self.floor + (1 - self.floor) * left)


@dataclass(frozen=True)
class Constant:
    """One learning rate, after `warmup_steps` of linear growth."""

    learning_rate: float = 0.0003
    warmup_steps: int = 1

    def __post_init__(self) -> None:
        require(
            (self.warmup_steps >= 1, "warmup_steps must be at least 1"), (self.learning_rate > 0, "learning_rate must be above 0")
        )

    def __call__(self, step: int, d_model: int) -> float:
        return self.learning_rate * min(1.0, step / self.warmup_steps)
