"""How long a translation may be, and how length enters its score."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from seq2seq.decoding.stepper import NEVER
from seq2seq.schema import require
from seq2seq.symbols import EOS, PAD


@dataclass(frozen=True)
class LengthPenalty:
    """What the log-probability of a hypothesis is divided by. Lengths count EOS.

    gnmt: ((5 + length) / 6) ** alpha (Wu et al., 2016, eq. 14; section 6.1 of the paper: alpha 0.6).
    average: length ** alpha; alpha 1 gives the mean log-probability of a token.
    none: 1.
    """

    kind: Literal["gnmt", "average", "none"] = "gnmt"
    alpha: float = 0.6

    def __post_init__(self) -> None:
        require((0 <= self.alpha <= 100, f"alpha is {self.alpha}, it must be from 0 to 100"))

    def __call__(self, length: Tensor) -> Tensor:
        """Lengths of at least 1 -> divisors, of the same shape. Longer never gives less."""
        length = length.float()
        if self.kind == "gnmt":
            return ((5.0 + length) / 6.0) ** self.alpha
        return length**self.alpha if self.kind == "average" else length.new_ones(length.shape)


_MOST = 1_000_000


@dataclass(frozen=True)
class LengthLimits:
    """The least and the most tokens of a translation, without EOS, as functions of the source's tokens.

    `max = max_factor * source + max_offset` (section 6.1: input length + 50), likewise `min`.
    """

    max_factor: float = 2.0
    max_offset: int = 50
    min_factor: float = 0.0
    min_offset: int = 1
    """1: a sentence that says something is not answered with nothing."""

    def __post_init__(self) -> None:
        require(
            (
                0 <= self.max_factor <= _MOST and 0 <= self.min_factor <= _MOST,
                f"length factors must be from 0 to {_MOST:,}; no translation is longer than the model holds in any case",
            ),
            (self.max_offset <= _MOST and self.min_offset <= _MOST, f"length offsets must be at most {_MOST:,}"),
            (self.max_offset >= 1, "max_offset must be at least 1"),
            (self.min_offset >= 0, "min_offset must not be negative"),
            (
                self.max_factor >= self.min_factor and self.max_offset >= self.min_offset,
                "the minimum length must not exceed the maximum",
            ),
        )

    def __call__(self, source: Tensor, room: int | None = None) -> tuple[Tensor, Tensor]:
        """source (B, S) ids that end with EOS -> least and most tokens of each translation, (B) and (B).

        Args:
            room: the most tokens the model can hold on the target side.
        """
        tokens = (source != PAD).sum(dim=1) - 1
        most = (self.max_factor * tokens + self.max_offset).long()
        least = (self.min_factor * tokens + self.min_offset).long()
        if room is not None:
            most = most.clamp(max=room)
        return least.minimum(most), most


def penalise_repeats(logits: Tensor, normalizers: Tensor, tokens: Tensor, penalty: float) -> Tensor:
    """Multiply the log-probability of every token that a hypothesis has said already (Keskar et al., 2019). In place.

    Args:
        logits: (B, K, V) of the next token.
        normalizers: (B, K), what makes log-probabilities of them when it is subtracted.
        tokens: (B, K, L) so far, the newest last.
    """
    normalizers = normalizers[:, :, None]
    return logits.scatter_(2, tokens, (logits.gather(2, tokens) - normalizers) * penalty + normalizers)


def forbid_repeats(logits: Tensor, tokens: Tensor, size: int) -> Tensor:
    """Make impossible what would complete a sequence of `size` tokens that a hypothesis has already. In place.

    Args:
        logits: (B, K, V) of the next token.
        tokens: (B, K, L) so far, the newest last.
    """
    if tokens.size(2) < size:
        return logits
    earlier = tokens.unfold(2, size, 1)  # (B, K, L - size + 1, size)
    newest = tokens[:, :, None, tokens.size(2) - size + 1 :]
    same = (earlier[..., :-1] == newest).all(dim=-1)
    # Where nothing is forbidden, PAD is: it never comes anyway. An end is never forbidden.
    return logits.scatter_(2, torch.where(same & (earlier[..., -1] != EOS), earlier[..., -1], PAD), NEVER)
