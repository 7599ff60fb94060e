"""Several models as one: the mean of what they expect (Sutskever et al., 2014)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from seq2seq.decoding.stepper import NEVER, Stepper


@dataclass
class EnsembleState:
    """The state of each model."""

    states: list[Any]

    def select(self, rows: Tensor) -> "EnsembleState":
        return EnsembleState([state.select(rows) for state in self.states])

    def put(self, places: Tensor, new: "EnsembleState") -> None:
        for state, newcomers in zip(self.states, new.states, strict=True):
            state.put(places, newcomers)


class Ensemble:
    """Fits `Stepper` as each of its models does; they must share a vocabulary."""

    def __init__(self, models: Sequence[Stepper[Any]]) -> None:
        self.models = models

    def start(self, source: Tensor) -> EnsembleState:
        return EnsembleState([model.start(source) for model in self.models])

    def step(self, tokens: Tensor, state: EnsembleState) -> tuple[Tensor, EnsembleState]:
        """The logarithm of the mean of the models' probabilities takes the place of logits."""
        logits, states = zip(
            *(model.step(tokens, of_one) for model, of_one in zip(self.models, state.states, strict=True)), strict=True
        )
        return log_of_sum(logits), EnsembleState(list(states))


def log_of_sum(logits: Sequence[Tensor]) -> Tensor:
    """Logits of each model (…, V) -> the logarithm of the sum of their probabilities (…, V)."""
    total = logits[0].float().softmax(dim=-1)
    for of_one in logits[1:]:
        total += of_one.float().softmax(dim=-1)
    rare = total < torch.finfo(total.dtype).tiny  # less probable than such a number can say, or impossible
    if rare.any() and any((of_one[rare] > NEVER).any() for of_one in logits):
        return torch.stack([of_one.float().log_softmax(dim=-1) for of_one in logits]).logsumexp(dim=0)
    return total.log_()
