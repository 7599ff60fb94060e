"""Beam search, all sentences of a batch at once. Beam 1 is greedy search."""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from seq2seq.decoding.best import best_continuations, log_normalizers
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty, allow, forbid_repeats, penalise_repeats
from seq2seq.decoding.stepper import NEVER, Hypothesis
from seq2seq.schema import require
from seq2seq.symbols import BOS, EOS, PAD


@dataclass(frozen=True)
class BeamSearch:
    """Keeps the `beam_size` most probable hypotheses of each sentence (section 6.1: 4, with a length penalty of 0.6).

    A hypothesis is finished when its end is among the `beam_size` best continuations of its sentence; the unfinished
    ones go on, as many as before. A sentence is done when `beam_size` are finished, or as soon as no unfinished one can still
    enter its `n_best`: log-probability only falls, so a hypothesis can never score more than it would if it ended at the
    greatest length without losing any.
    """

    beam_size: int = 4
    n_best: int = 1
    length_penalty: LengthPenalty = field(default_factory=LengthPenalty)
    lengths: LengthLimits = field(default_factory=LengthLimits)
    no_repeats: int = 0
    """No sequence of so many tokens occurs twice in a hypothesis (Paulus et al., 2018); 0: any may."""
    repetition_penalty: float = 1.0
    """Above 1, what a hypothesis has said already becomes less probable: its log-probability is multiplied by this."""
    max_target_length: int | None = None
    """Room of the model on the target side, in tokens; set by whoever knows the model."""

    def __post_init__(self) -> None:
        require(
            (self.no_repeats >= 0, f"no_repeats is {self.no_repeats}, it must not be negative"),
            (self.repetition_penalty >= 1, f"repetition_penalty is {self.repetition_penalty}, it must be at least 1"),
            (self.beam_size >= 1, f"beam_size is {self.beam_size}, it must be at least 1"),
            (1 <= self.n_best <= self.beam_size, f"n_best is {self.n_best}, it must be from 1 to beam_size ({self.beam_size})"),
        )

    @property
    def hypotheses(self) -> int:
        return self.beam_size

    def begin(self, source: Tensor) -> "Beam":
        """See `Search`."""
        B, K, device = source.size(0), self.beam_size, source.device
        least, most = self.lengths(source, self.max_target_length)
        return Beam(
            self,
            least=least,
            most=most,
            length=torch.zeros(B, dtype=torch.long, device=device),
            scores=torch.zeros(B, 1, device=device),
            tokens=torch.full((B, 1, 1), BOS, device=device),
            finished_scores=torch.full((B, K), NEVER, device=device),
            finished_log_probabilities=torch.full((B, K), NEVER, device=device),
            finished_tokens=torch.full((B, K, 1), PAD, device=device),
        )


@dataclass
class Beam:
    """The hypotheses of B sentences: K unfinished ones of each (at the start 1), and the best K finished ones.

    Attributes:
        least, most: (B), how many tokens a translation may have.
        length: (B), how many the unfinished ones have.
        scores: (B, K), their log-probabilities; -inf where there is no hypothesis.
        tokens: (B, K, L), the newest last; before BOS comes PAD.
        finished_scores: (B, K), best first, what hypotheses are ranked by; -inf where there is none.
        finished_log_probabilities: (B, K).
        finished_tokens: (B, K, L), without EOS.
    """

    search: BeamSearch
    least: Tensor
    most: Tensor
    length: Tensor
    scores: Tensor
    tokens: Tensor
    finished_scores: Tensor
    finished_log_probabilities: Tensor
    finished_tokens: Tensor

    def newest(self) -> Tensor:
        return self.tokens[:, :, -1]

    def advance(self, logits: Tensor) -> Tensor:
        """Extend every hypothesis by every token and keep the best of each sentence: logits (B, K, V) -> rows (B, K)."""
        K, slots = self.search.beam_size, self.scores.size(1)
        totals, tokens, parents = self._continuations(logits)
        ends = tokens == EOS
        self._finish(totals[:, :K].masked_fill(~ends[:, :K], NEVER), parents[:, :K])
        self.scores, best = totals.masked_fill(ends, NEVER).topk(K, dim=1)
        tokens, parents = tokens.gather(1, best), parents.gather(1, best)
        self.tokens = torch.cat((_of_slots(self.tokens, parents), tokens[:, :, None]), dim=2)
        self.length = self.length + 1
        return torch.arange(parents.size(0), device=parents.device)[:, None] * slots + parents

    def _continuations(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The best of each sentence, enough that K do not end: log-probabilities, tokens and parent slots, each (B, 2K)."""
        normalizers = log_normalizers(logits)
        logits = allow(logits, self.length, self.least, self.most)
        if self.search.repetition_penalty != 1:
            logits = penalise_repeats(logits, normalizers, self.tokens, self.search.repetition_penalty)
        if self.search.no_repeats:
            logits = forbid_repeats(logits, self.tokens, self.search.no_repeats)
        return best_continuations(logits, self.scores - normalizers, 2 * self.search.beam_size)

    def _finish(self, log_probabilities: Tensor, parents: Tensor) -> None:
        """Put hypotheses that end now (others are -inf) among the finished, best first. Their length counts EOS."""
        if not bool((log_probabilities > NEVER).any()):
            return
        scores = log_probabilities / self.search.length_penalty(self.length + 1)[:, None]
        self.finished_scores, order = torch.cat((self.finished_scores, scores), dim=1).topk(scores.size(1), dim=1)
        self.finished_log_probabilities = torch.cat((self.finished_log_probabilities, log_probabilities), dim=1).gather(1, order)
        earlier = F.pad(self.finished_tokens, (self.tokens.size(2) - self.finished_tokens.size(2), 0), value=PAD)
        self.finished_tokens = _of_slots(torch.cat((earlier, _of_slots(self.tokens, parents)), dim=1), order)

    def done(self) -> Tensor:
        """(B): as many as the beam is wide are finished, or no unfinished one can enter the n best any more."""
        bound = self.scores[:, 0] / self.search.length_penalty(self.most + 1)
        return (self.finished_scores[:, -1] > NEVER) | (self.finished_scores[:, self.search.n_best - 1] >= bound)

    def results(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """The n best of each."""
        most, n = self.most.tolist(), self.search.n_best
        kept = torch.tensor(sentences, device=self.most.device)
        columns = (self.finished_scores, self.finished_log_probabilities, self.finished_tokens)
        found = zip(sentences, *(x.index_select(0, kept)[:, :n].tolist() for x in columns), strict=True)
        return [
            [
                _hypothesis(score, log_probability, tokens, most[b])
                for score, log_probability, tokens in zip(*rows, strict=True)
                if score > NEVER
            ]
            for b, *rows in found
        ]


def _of_slots(tokens: Tensor, slots: Tensor) -> Tensor:
    """(B, K, L) and (B, K') -> (B, K', L)."""
    return tokens.gather(1, slots[:, :, None].expand(-1, -1, tokens.size(2)))


def _hypothesis(score: float, log_probability: float, row: list[int], most: int) -> Hypothesis:
    tokens = [token for token in row if token not in (PAD, BOS)]
    return Hypothesis(tokens, score, log_probability, capped=len(tokens) >= most)
