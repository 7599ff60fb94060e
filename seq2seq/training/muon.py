"""Muon (Jordan et al., 2024): matrices move by what is orthogonal and nearest to their momentum, all else as Adam has it."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from seq2seq.training.sharding import full, like

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Of x -> a x + b x³ + c x⁵, which sends a singular value of nearly any size to between 0.7 and 1.2 in five rounds."""
_ROUNDS = 5
_RMS = 0.2
"""Of the steps of Adam, about, so that one learning rate suits both (Liu et al., 2025)."""


def orthogonalised(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """For each of many matrices (N, R, C) one with its singular vectors and singular values near 1. Products are made in `dtype`."""
    wide = matrices.mT if matrices.size(1) > matrices.size(2) else matrices
    x = (wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)).to(dtype)
    a, b, c = NEWTON_SCHULZ
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x.mT if matrices.size(1) > matrices.size(2) else x  # type: ignore[no-any-return]


class Muon(torch.optim.Adam):
    """Of groups with `orthogonal=True` every parameter is a matrix for Muon; the others are Adam's. Weight decay is decoupled in both."""

    def __init__(
        self, groups: Iterable[dict[str, Any]], dtype: torch.dtype = torch.float32, momentum: float = 0.95, **adam: Any
    ) -> None:
        super().__init__([{"orthogonal": False, **group} for group in groups], decoupled_weight_decay=True, **adam)
        self._momentum, self._dtype = momentum, dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update; what Muon has moved has no gradient any more, so that Adam passes it over."""
        for group in self.param_groups:
            if group["orthogonal"]:
                by_shape: dict[tuple[int, ...], list[Tensor]] = {}
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        by_shape.setdefault(tuple(parameter.shape), []).append(parameter)
                for alike in by_shape.values():
                    # Of matrices in pieces one at a time is put together.
                    at_once = 1 if isinstance(alike[0], DTensor) else len(alike)
                    for i in range(0, len(alike), at_once):
                        self._move(alike[i : i + at_once], group["lr"], group["weight_decay"])
        super().step(closure)

    def _move(self, alike: list[Tensor], rate: float, weight_decay: float) -> None:
        """Matrices of one shape together, so that a round is three products whatever their number."""
        for parameter in alike:
            if not self.state[parameter]:
                # Adam looks for a step where it finds a state.
                self.state[parameter].update(step=torch.zeros(()), momentum=torch.zeros_like(parameter))
        gradients = [parameter.grad for parameter in alike if parameter.grad is not None]
        momenta = [self.state[parameter]["momentum"] for parameter in alike]
        torch._foreach_lerp_(momenta, gradients, 1 - self._momentum)
        ahead = torch.stack([full(matrix) for matrix in torch._foreach_lerp(gradients, momenta, self._momentum)])
        moves = orthogonalised(ahead, self._dtype).mul_(-rate * _RMS * math.sqrt(max(alike[0].shape)))
        if weight_decay:
            torch._foreach_mul_(alike, 1 - rate * weight_decay)
        torch._foreach_add_(alike, [like(move, parameter) for move, parameter in zip(moves, alike, strict=True)])
        for parameter in alike:
            parameter.grad = None
