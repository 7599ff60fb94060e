"""Beam search, all sentences of a batch at once. Beam 1 is greedy search."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from seq2seq.decoding.penalties import LengthLimits, LengthPenalty, forbid_repeats
from seq2seq.decoding.stepper import NEVER, UNSPEAKABLE, Hypothesis, S, Stepper
from seq2seq.schema import require
from seq2seq.symbols import BOS, EOS, PAD


@dataclass(frozen=True)
class BeamSearch:
    """Keeps the `beam_size` most probable hypotheses of each sentence (section 6.1: 4, with a length penalty of 0.6).

    A finished hypothesis keeps its place in the beam, so the unfinished ones share what is left. A sentence is done
    when its beam is full of finished hypotheses, or as soon as no unfinished one can still enter its `n_best`: log-probability
    only falls, so a hypothesis can never score more than it would if it ended at the greatest length without losing any.
    """

    beam_size: int = 4
    n_best: int = 1
    length_penalty: LengthPenalty = field(default_factory=LengthPenalty)
    lengths: LengthLimits = field(default_factory=LengthLimits)
    no_repeats: int = 0
    """No sequence of so many tokens occurs twice in a hypothesis (Paulus et al., 2018); 0: any may."""
    max_target_length: int | None = None
    """Room of the model on the target side, in tokens; set by whoever knows the model."""

    def __post_init__(self) -> None:
        require(
            (self.no_repeats >= 0, f"no_repeats is {self.no_repeats}, it must not be negative"),
            (self.beam_size >= 1, f"beam_size is {self.beam_size}, it must be at least 1"),
            (1 <= self.n_best <= self.beam_size, f"n_best is {self.n_best}, it must be from 1 to beam_size ({self.beam_size})"),
        )

    @torch.inference_mode()
    def __call__(self, model: Stepper[S], source: Tensor) -> list[list[Hypothesis]]:
        """See `Search`. source (B, S)."""
        beam = _Beam(self, source)
        state = model.start(source)
        state = state.select(beam.first_rows())
        while True:
            logits, state = model.step(beam.last_tokens(), state)
            rows = beam.advance(logits)
            beam.retire_done_sentences()
            if beam.empty:
                return beam.results
            if (kept := beam.rows_to_keep(rows)) is not None:
                state = state.select(kept)


class _Beam:
    """The hypotheses of the sentences still being searched: B of them, K slots each.

    A slot is live, or dead: score -inf, because a finished hypothesis has taken its place. Finished hypotheses are
    kept beside, best first, K slots likewise.
    """

    def __init__(self, search: BeamSearch, source: Tensor) -> None:
        self.search, self.device = search, source.device
        B, K = source.size(0), search.beam_size
        self.least, self.most = search.lengths(source, search.max_target_length)
        self.earliest_end = int(self.most.min())
        self.unspeakable = torch.tensor(UNSPEAKABLE, device=self.device)
        self.results: list[list[Hypothesis]] = [[] for _ in range(B)]
        self.sentences = torch.arange(B, device=self.device)
        self.length = 0
        """Tokens of every live hypothesis, without BOS."""
        self.scores = torch.full((B, K), NEVER, device=self.device)
        self.scores[:, 0] = 0.0
        self.tokens = torch.full((B, K, 1), BOS, device=self.device)
        self.finished_scores = torch.full((B, K), NEVER, device=self.device)
        self.finished_log_probabilities = torch.full((B, K), NEVER, device=self.device)
        self.finished_tokens = torch.full((B, K, 1), PAD, device=self.device)
        self.finished_count = torch.zeros(B, dtype=torch.long, device=self.device)
        self._kept: Tensor | None = None

    @property
    def empty(self) -> bool:
        return self.sentences.numel() == 0

    def first_rows(self) -> Tensor:
        """One row a sentence becomes K."""
        return torch.arange(self.scores.size(0), device=self.device)[:, None].expand(-1, self.search.beam_size)

    def last_tokens(self) -> Tensor:
        return self.tokens[:, :, -1]

    def advance(self, logits: Tensor) -> Tensor:
        """Extend every hypothesis by its best tokens, keep the best of a sentence: logits (B, K, V) -> rows (B, K),
        the old row that each new slot goes on from."""
        B, K = self.scores.shape
        candidates, tokens, parents = self._candidates(logits)
        places = torch.arange(K, device=self.device)
        taken = (places < (K - self.finished_count)[:, None]) & (candidates > NEVER)
        ends = tokens == EOS
        grown = torch.cat(
            (self.tokens.gather(1, parents[:, :, None].expand(-1, -1, self.tokens.size(2))), tokens[:, :, None]), dim=2
        )
        self.length += 1
        self._finish(candidates.masked_fill(~(taken & ends), NEVER), grown)
        self.scores = candidates.masked_fill(~taken | ends, NEVER)
        self.tokens = grown
        return torch.arange(B, device=self.device)[:, None] * K + parents

    def _candidates(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The K best continuations of each sentence: log-probabilities, tokens and parent slots, each (B, K).

        The best few of each hypothesis's raw logits hold the best K of the sentence, so that of the whole vocabulary
        only a log-sum-exp and a top-k are taken: enough of them that K remain when the unspeakable ones are gone.
        """
        K = self.search.beam_size
        logits = logits.float()
        log_total = logits.logsumexp(dim=-1, keepdim=True)
        if self.search.no_repeats:
            logits = forbid_repeats(logits, self.tokens[:, :, 1:], self.search.no_repeats)
        best, tokens = logits.topk(min(K + len(UNSPEAKABLE) + 1, logits.size(-1)), dim=-1)
        too_early = (self.length < self.least)[:, None, None]
        allowed = ~torch.isin(tokens, self.unspeakable) & ~((tokens == EOS) & too_early)
        best = best.masked_fill(~allowed, NEVER)
        if self.length >= self.earliest_end:
            must_end = (self.length >= self.most)[:, None, None]
            only_end = torch.full_like(best, NEVER)
            only_end[:, :, 0] = logits[:, :, EOS]
            best, tokens = torch.where(must_end, only_end, best), tokens.masked_fill(must_end, EOS)
        totals = (self.scores[:, :, None] + (best - log_total)).flatten(1)
        best, places = totals.topk(K, dim=1)
        return best, tokens.flatten(1).gather(1, places), places // tokens.size(2)

    def _finish(self, log_probabilities: Tensor, tokens: Tensor) -> None:
        """Put newly finished hypotheses (others are -inf) among the finished, best first. Their length counts EOS."""
        K = self.search.beam_size
        penalty = self.search.length_penalty(torch.tensor(self.length, device=self.device))
        scores = torch.cat((self.finished_scores, log_probabilities / penalty), dim=1)
        self.finished_scores, order = scores.topk(K, dim=1)
        self.finished_log_probabilities = torch.cat((self.finished_log_probabilities, log_probabilities), dim=1).gather(1, order)
        grown = torch.cat((self.finished_tokens, torch.full_like(self.finished_tokens[:, :, :1], PAD)), dim=2)
        self.finished_tokens = torch.cat((grown, tokens), dim=1).gather(1, order[:, :, None].expand(-1, -1, tokens.size(2)))
        self.finished_count = (self.finished_scores > NEVER).sum(dim=1)

    def _is_done(self) -> Tensor:
        """(B): no live hypothesis is left, or none can enter the n best any more."""
        best_live = self.scores.max(dim=1).values
        bound = best_live / self.search.length_penalty(self.most + 1)
        return (best_live == NEVER) | (self.finished_scores[:, self.search.n_best - 1] >= bound)

    def retire_done_sentences(self) -> None:
        """Move sentences that are done to the results and out of the beam."""
        done = self._is_done()
        self._kept = None
        if not bool(done.any()):
            return
        for b in done.nonzero().flatten().tolist():
            self.results[int(self.sentences[b])] = self._hypotheses(b)
        kept = (~done).nonzero().flatten()
        for name in (
            "least",
            "most",
            "sentences",
            "scores",
            "tokens",
            "finished_scores",
            "finished_log_probabilities",
            "finished_tokens",
            "finished_count",
        ):
            setattr(self, name, getattr(self, name).index_select(0, kept))
        self._kept = kept

    def rows_to_keep(self, rows: Tensor) -> Tensor | None:
        """The rows the model's state must go on with; None when they are the ones it has."""
        if self._kept is not None:
            return rows.index_select(0, self._kept)
        return rows if self.search.beam_size > 1 else None

    def _hypotheses(self, b: int) -> list[Hypothesis]:
        most = int(self.most[b])
        rows = zip(
            self.finished_scores[b].tolist(),
            self.finished_log_probabilities[b].tolist(),
            self.finished_tokens[b].tolist(),
            strict=True,
        )
        found: list[Hypothesis] = []
        for score, log_probability, row in rows:
            if score > NEVER and len(found) < self.search.n_best:
                tokens = [t for t in row if t not in (PAD, BOS, EOS)]
                found.append(Hypothesis(tokens, score, log_probability, capped=len(tokens) >= most))
        return found
