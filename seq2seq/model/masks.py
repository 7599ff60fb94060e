"""Masks: boolean, True where a query may attend to a key."""

import torch
from torch import Tensor

from seq2seq.symbols import PAD


def padding_mask(ids: Tensor) -> Tensor:
    """(B, L) token ids -> (B, 1, 1, L): every query may attend to every key that is not padding."""
    return (ids != PAD)[:, None, None, :]


def causal_mask(length: int, device: torch.device | None = None) -> Tensor:
    """(T, T): position t may attend to positions up to t (section 3.2.3: leftward flow is prevented by masking)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()
