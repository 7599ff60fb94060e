"""Sampling: translations drawn from the model's distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from torch import Tensor

from seq2seq.decoding.penalties import LengthLimits, forbid_repeats
from seq2seq.decoding.stepper import NEVER, UNSPEAKABLE, Hypothesis, S, Stepper
from seq2seq.schema import require
from seq2seq.symbols import BOS, EOS, PAD


@dataclass(frozen=True)
class Sampling:
    """Draws `n_best` translations of each sentence, most probable first.

    What is drawn depends on the seed and the sentence alone, not on what shares its batch.
    """

    n_best: int = 1
    temperature: float = 1.0
    """Logits are divided by it: below 1 is bolder towards the probable, above 1 wilder."""
    top_k: int | None = None
    """Only the k most probable tokens (Fan et al., 2018)."""
    top_p: float = 1.0
    """Only the fewest most probable tokens that together have this probability (Holtzman et al., 2020)."""
    seed: int = 1
    lengths: LengthLimits = field(default_factory=LengthLimits)
    no_repeats: int = 0
    """No sequence of so many tokens occurs twice in a translation; 0: any may."""
    max_target_length: int | None = None

    def __post_init__(self) -> None:
        require(
            (self.n_best >= 1, f"n_best is {self.n_best}, it must be at least 1"),
            (self.no_repeats >= 0, f"no_repeats is {self.no_repeats}, it must not be negative"),
            (self.temperature > 0, f"temperature is {self.temperature}, it must be above 0"),
            (self.top_k is None or self.top_k >= 1, f"top_k is {self.top_k}, it must be at least 1"),
            (0 < self.top_p <= 1, f"top_p is {self.top_p}, it must be above 0 and at most 1"),
        )

    @torch.inference_mode()
    def __call__(self, model: Stepper[S], source: Tensor) -> list[list[Hypothesis]]:
        """See `Search`. source (B, S)."""
        B, K, device = source.size(0), self.n_best, source.device
        least, most = self.lengths(source, self.max_target_length)
        draws = self._draws(source, int(most.max()) + 1).to(device)
        state = model.start(source).select(torch.arange(B, device=device)[:, None].expand(-1, K))
        tokens = torch.full((B, K, 1), BOS, device=device)
        log_probabilities = torch.zeros(B, K, device=device)
        ended = torch.zeros(B, K, dtype=torch.bool, device=device)
        for length in range(draws.size(2)):
            logits, state = model.step(tokens[:, :, -1], state)
            log_probs = logits.float().log_softmax(dim=-1)
            allowed = self._allow(log_probs, length, least, most)
            if self.no_repeats:
                allowed = forbid_repeats(allowed, tokens[:, :, 1:], self.no_repeats)
            chosen = self._draw(allowed, draws[:, :, length])
            gained = log_probs.gather(2, chosen[:, :, None]).squeeze(2)
            log_probabilities = log_probabilities + gained.masked_fill(ended, 0.0)
            tokens = torch.cat((tokens, chosen.masked_fill(ended, PAD)[:, :, None]), dim=2)
            ended = ended | (chosen == EOS)
            if bool(ended.all()):
                break
        return [self._ranked(t, p, m) for t, p, m in zip(tokens.tolist(), log_probabilities.tolist(), most.tolist(), strict=True)]

    def _allow(self, log_probs: Tensor, length: int, least: Tensor, most: Tensor) -> Tensor:
        """What may come next: never a special token, EOS not too early, and only EOS at the greatest length."""
        allowed = log_probs.clone()
        allowed[:, :, list(UNSPEAKABLE)] = NEVER
        allowed[:, :, EOS] = allowed[:, :, EOS].masked_fill((length < least)[:, None], NEVER)
        only_end = torch.full_like(allowed[:1, :1], NEVER)
        only_end[:, :, EOS] = 0.0
        return torch.where((length >= most)[:, None, None], only_end, allowed)

    def _draw(self, allowed: Tensor, draws: Tensor) -> Tensor:
        """Invert the cumulative distribution at `draws` (B, K), uniform in [0, 1): allowed (B, K, V) -> tokens (B, K)."""
        ranked, tokens = (allowed / self.temperature).sort(dim=-1, descending=True)
        if self.top_k is not None:
            ranked[:, :, self.top_k :] = NEVER
        probabilities = ranked.softmax(dim=-1)
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= self.top_p, 0.0)
        cumulative = probabilities.cumsum(dim=-1)
        place = (cumulative <= draws[:, :, None] * cumulative[:, :, -1:]).sum(dim=-1, keepdim=True)
        last_possible = (probabilities > 0).sum(dim=-1, keepdim=True) - 1
        return tokens.gather(2, place.minimum(last_possible)).squeeze(2)

    def _draws(self, source: Tensor, length: int) -> Tensor:
        """(B, K, length) uniform numbers, each row from a generator seeded by the seed and the sentence's tokens."""
        rows = []
        for row in source.tolist():
            generator = torch.Generator().manual_seed(_hash(self.seed, [t for t in row if t != PAD]))
            # Drawn position by position, so that a longer limit only adds numbers at the end.
            rows.append(torch.rand(length, self.n_best, generator=generator).T)
        return torch.stack(rows)

    @staticmethod
    def _ranked(rows: list[list[int]], log_probabilities: list[float], most: int) -> list[Hypothesis]:
        found = []
        for row, log_probability in zip(rows, log_probabilities, strict=True):
            tokens = [t for t in row if t not in (PAD, BOS, EOS)]
            found.append(Hypothesis(tokens, log_probability, log_probability, capped=len(tokens) >= most))
        return sorted(found, key=lambda hypothesis: -hypothesis.score)


def _hash(seed: int, tokens: Sequence[int]) -> int:
    data = b",".join(str(number).encode() for number in (seed, *tokens))
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1
