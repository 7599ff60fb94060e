"""The learning rate as a function of the step (section 5.3). Steps count from 1. No torch here."""

import math
from dataclasses import dataclass
from typing import Protocol

from seq2seq.schema import require


class Schedule(Protocol):
    """A frozen dataclass of its settings."""

    def __call__(self, step: int, d_model: int, max_steps: int) -> float:
        """The learning rate of update `step` (1, 2, …) of `max_steps`, for a model of width `d_model`."""
        ...


def highest(schedule: Schedule, d_model: int, max_steps: int) -> float:
    """The highest rate of a run, or one within a hundredth of it: of so many steps at most ten thousand are looked at."""
    return max(schedule(step, d_model, max_steps) for step in range(1, max_steps + 1, -(-max_steps // 10_000)))


@dataclass(frozen=True)
class Noam:
    """lrate = factor * d_model^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), equation 3; 4,000 warm-up steps in the paper."""

    warmup_steps: int = 4000
    factor: float = 1.0

    def __post_init__(self) -> None:
        require((self.warmup_steps >= 1, "warmup_steps must be at least 1"), (self.factor > 0, "factor must be above 0"))

    def __call__(self, step: int, d_model: int, max_steps: int) -> float:
        return float(self.factor * d_model**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5))


@dataclass(frozen=True)
class _Peaked:
    """Linear up to a peak."""

    learning_rate: float | None = None
    """At the peak; None: 0.004 for models up to 128 wide, and for wider ones less in proportion (Yang et al., 2021, table 3: Adam)."""
    warmup_steps: int = 800

    def __post_init__(self) -> None:
        require(*self._conditions())

    def _conditions(self) -> list[tuple[bool, str]]:
        return [
            (self.learning_rate is None or self.learning_rate > 0, "learning_rate must be above 0, or null"),
            (self.warmup_steps >= 1, "warmup_steps must be at least 1"),
        ]

    def peak(self, d_model: int) -> float:
        return 0.004 * min(1.0, 128 / d_model) if self.learning_rate is None else self.learning_rate


@dataclass(frozen=True)
class InverseSquareRoot(_Peaked):
    """The curve of equation 3 named by its peak: linear to `learning_rate` in `warmup_steps`, then falling with step^-0.5."""

    def __call__(self, step: int, d_model: int, max_steps: int) -> float:
        return float(self.peak(d_model) * min(step / self.warmup_steps, (self.warmup_steps / step) ** 0.5))


@dataclass(frozen=True)
class LinearDecay(_Peaked):
    """Linear to `learning_rate` in `warmup_steps`, but at most a tenth of the run, then linear down to `floor` of it at the
    last step. A run that is extended goes on along the longer line, which is higher there."""

    floor: float = 0.02

    def _conditions(self) -> list[tuple[bool, str]]:
        return [*super()._conditions(), (0 <= self.floor <= 1, "floor must be from 0 to 1")]

    def __call__(self, step: int, d_model: int, max_steps: int) -> float:
        peak, warmup_steps = self.peak(d_model), max(1, min(self.warmup_steps, max_steps // 10))
        if step <= warmup_steps:
            return peak * step / warmup_steps
        left = max(0.0, (max_steps - step) / (max_steps - warmup_steps))
        return peak * (self.floor + (1 - self.floor) * self._share(left))

    def _share(self, left: float) -> float:
        """Of the rate, where such a share of the way down is left."""
        return left


@dataclass(frozen=True)
class CosineDecay(LinearDecay):
    """As `LinearDecay`, but down along half a cosine (Loshchilov and Hutter, 2017): longer near the top, longer near the floor."""

    def _share(self, left: float) -> float:
        return (1 - math.cos(math.pi * left)) / 2


@dataclass(frozen=True)
class Constant:
    """One learning rate, after `warmup_steps` of linear growth."""

    learning_rate: float = 0.0003
    warmup_steps: int = 1

    def __post_init__(self) -> None:
        require(
            (self.warmup_steps >= 1, "warmup_steps must be at least 1"), (self.learning_rate > 0, "learning_rate must be above 0")
        )

    def __call__(self, step: int, d_model: int, max_steps: int) -> float:
        return self.learning_rate * min(1.0, step / self.warmup_steps)
