"""Sampling: translations drawn from the model's distribution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import torch
from torch import Tensor

from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.rules import Rules
from seq2seq.decoding.stepper import NEVER, Hypothesis, Lexicon, Wishes
from seq2seq.errors import ConfigProblem
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
    lexicon: Lexicon | None = None

    def __post_init__(self) -> None:
        require(
            (self.n_best >= 1, f"n_best is {self.n_best}, it must be at least 1"),
            (self.no_repeats >= 0, f"no_repeats is {self.no_repeats}, it must not be negative"),
            (
                self.temperature >= 1e-4,
                f"temperature is {self.temperature}, it must be at least 0.0001; decoding=greedy takes what is most probable",
            ),
            (self.top_k is None or self.top_k >= 1, f"top_k is {self.top_k}, it must be at least 1"),
            (0 < self.top_p <= 1, f"top_p is {self.top_p}, it must be above 0 and at most 1"),
        )

    def begin(self, source: Tensor, wishes: Sequence[Wishes] = ()) -> "Samples":
        """See `Search`."""
        if any(wish.phrases for wish in wishes):
            raise ConfigProblem("samples cannot be made to say given phrases", "decoding=beam for a glossary")
        B, device = source.size(0), source.device
        rules = Rules.begin(self, source, wishes)
        return Samples(
            self,
            rules,
            draws=self._draws(source, int(rules.most.max()) + 1).to(device),
            tokens=torch.full((B, 1, 1), BOS, device=device),
            log_probabilities=torch.zeros(B, 1, device=device),
            ended=torch.zeros(B, 1, dtype=torch.bool, device=device),
        )

    def _draws(self, source: Tensor, length: int) -> Tensor:
        """(B, K, length) uniform numbers, the first one last; each row from a generator seeded by the seed and the sentence's tokens."""
        rows = []
        for row in source.tolist():
            generator = torch.Generator().manual_seed(_hash(self.seed, [t for t in row if t != PAD]))
            # Drawn position by position, so that a longer limit only adds numbers to come later.
            rows.append(torch.rand(length, self.n_best, generator=generator).T)
        return torch.stack(rows).flip(2)

    def draw(self, allowed: Tensor, draws: Tensor) -> Tensor:
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


@dataclass
class Samples:
    """The translations of B sentences as far as they are drawn, K of each.

    Attributes:
        rules: what may be said next.
        draws: (B, K, L), a random number for every token, the first one last.
        tokens: (B, K, L), the newest last; before BOS and after EOS comes PAD.
        log_probabilities: (B, K).
        ended: (B, K).
    """

    search: Sampling
    rules: Rules
    draws: Tensor
    tokens: Tensor
    log_probabilities: Tensor
    ended: Tensor

    def newest(self) -> Tensor:
        return self.tokens[:, :, -1]

    def advance(self, logits: Tensor) -> Tensor:
        """Draw a token for every translation: logits (B, K, V) -> rows (B, K). At first every one goes on from the only row."""
        B, K = logits.size(0), self.search.n_best
        rows = torch.arange(B * K, device=logits.device).view(B, K) // (K // logits.size(1))
        if logits.size(1) < K:
            logits, self.tokens = logits.expand(-1, K, -1), self.tokens.expand(-1, K, -1)
            self.log_probabilities, self.ended = self.log_probabilities.expand(-1, K), self.ended.expand(-1, K)
        log_probs = logits.float().log_softmax(dim=-1)
        self.rules.spelled = self.rules.spelled.expand(-1, K)
        allowed = self.rules.allow(log_probs.clone(), self.tokens)
        place = (self.draws.size(2) - 1 - self.rules.length).clamp(min=0)
        draws = self.draws.gather(2, place[:, None, None].expand(-1, K, -1)).squeeze(2)
        chosen = self.search.draw(allowed, draws)
        gained = log_probs.gather(2, chosen[:, :, None]).squeeze(2)
        self.log_probabilities = self.log_probabilities + gained.masked_fill(self.ended, 0.0)
        self.tokens = torch.cat((self.tokens, chosen.masked_fill(self.ended, PAD)[:, :, None]), dim=2)
        self.ended = self.ended | (chosen == EOS)
        self.rules.advance(torch.arange(K, device=rows.device).expand(B, -1), chosen)
        return rows

    def done(self) -> Tensor:
        """(B): all have ended."""
        return self.ended.all(dim=1)

    def results(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """What was drawn for each, the most probable first."""
        found = []
        for b in sentences:
            most = int(self.rules.most[b])
            drawn = zip(self.tokens[b].tolist(), self.log_probabilities[b].tolist(), strict=True)
            rows = [Hypothesis.of(row, log_probability, log_probability, most) for row, log_probability in drawn]
            found.append(sorted(rows, key=lambda hypothesis: -hypothesis.score))
        return found


def _hash(seed: int, tokens: Sequence[int]) -> int:
    data = b",".join(str(number).encode() for number in (seed, *tokens))
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big") >> 1
