"""Beam search, all sentences of a batch at once. Beam 1 is greedy search."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from seq2seq.decoding.best import best_continuations, log_normalizers
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty, penalise_repeats
from seq2seq.decoding.phrases import following, phrase_continuations, said
from seq2seq.decoding.rules import Rules, pad_left
from seq2seq.decoding.stepper import NEVER, Hypothesis, Lexicon, Wishes
from seq2seq.errors import ConfigProblem
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
    """No sequence of so many tokens occurs twice in a hypothesis (Paulus et al., 2018), but for what must be said; 0: any may."""
    repetition_penalty: float = 1.0
    """Above 1, what a hypothesis has said already becomes less probable: its log-probability is multiplied by this."""
    groups: int = 1
    """More than 1: the beam is parted into so many, each of which avoids what those before it say (Vijayakumar et al., 2018)."""
    diversity: float = 0.5
    """What a token costs in log-probability for each hypothesis of an earlier group that says it at the same place."""
    coverage: float = 0.0
    """Above 0, hypotheses that leave words of the source unattended are ranked lower (Wu et al., 2016, eq. 14: beta)."""
    max_target_length: int | None = None
    """Room of the model on the target side, in tokens; set by whoever knows the model."""
    lexicon: Lexicon | None = None
    """What tokens spell; set by whoever knows the tokenizer."""

    def __post_init__(self) -> None:
        require(
            (self.no_repeats >= 0, f"no_repeats is {self.no_repeats}, it must not be negative"),
            (self.repetition_penalty >= 1, f"repetition_penalty is {self.repetition_penalty}, it must be at least 1"),
            (self.beam_size >= 1, f"beam_size is {self.beam_size}, it must be at least 1"),
            (1 <= self.n_best <= self.beam_size, f"n_best is {self.n_best}, it must be from 1 to beam_size ({self.beam_size})"),
            (self.coverage >= 0, f"coverage is {self.coverage}, it must not be negative"),
            (
                not self.coverage or self.beam_size > 1,
                "coverage ranks what a beam finds, and a beam of 1 finds one: set beam_size",
            ),
            (self.diversity >= 0, f"diversity is {self.diversity}, it must not be negative"),
            (self.groups >= 1, f"groups is {self.groups}, it must be at least 1"),
            (
                self.groups < 1 or self.beam_size % self.groups == 0,
                f"beam_size {self.beam_size} cannot be parted into {self.groups} groups",
            ),
        )

    @property
    def wanted(self) -> int:
        """How many finished hypotheses are to be found: all of the beam where they are ranked anew by their coverage."""
        return self.beam_size if self.coverage else self.n_best

    def with_room(self, phrases: int) -> "BeamSearch":
        """As wide as it must be for a hypothesis of every bank (see `phrases`) and one more where so many phrases are to be said: from a
        narrower beam the hypotheses that have said none yet fall out first, and with them the order in which the model would say all."""
        return self if not phrases or self.groups > 1 else replace(self, beam_size=max(self.beam_size, 2 * phrases + 2))

    def begin(self, source: Tensor, wishes: Sequence[Wishes] = ()) -> "Beam | Groups":
        """See `Search`."""
        if self.groups > 1:
            if any(wish.phrases for wish in wishes):
                raise ConfigProblem("decoding.groups cannot be made to say given phrases", "decoding.groups=1 for a glossary")
            of_each = self.beam_size // self.groups
            # Coverage ranks what all of them have found.
            of_one = replace(self, beam_size=of_each, n_best=min(self.wanted, of_each), groups=1, coverage=0.0)
            return Groups(self, [of_one._beam(source, wishes) for _ in range(self.groups)])
        return self._beam(source, wishes)

    def _beam(self, source: Tensor, wishes: Sequence[Wishes]) -> "Beam":
        B, K, device = source.size(0), self.beam_size, source.device
        by_sentence = [pad_left(wish.phrases) for wish in wishes] or [torch.zeros(0, 0, dtype=torch.long)] * B
        C, M = (max((phrases.size(d) for phrases in by_sentence), default=0) for d in (0, 1))
        return Beam(
            self,
            Rules.begin(self, source, wishes),
            phrases=torch.stack([F.pad(x, (M - x.size(1), 0, C - x.size(0), 0), value=PAD) for x in by_sentence]).to(device),
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
        rules: what may be said next.
        phrases: (B, C, M), what must be said: each phrase ends in the last column, PAD before it.
        scores: (B, K), their log-probabilities; -inf where there is no hypothesis.
        tokens: (B, K, L), the newest last; before BOS comes PAD.
        finished_scores: (B, K), best first, what hypotheses are ranked by; -inf where there is none.
        finished_log_probabilities: (B, K).
        finished_tokens: (B, K, L), without EOS.
    """

    search: BeamSearch
    rules: Rules
    phrases: Tensor
    scores: Tensor
    tokens: Tensor
    finished_scores: Tensor
    finished_log_probabilities: Tensor
    finished_tokens: Tensor

    def newest(self) -> Tensor:
        return self.tokens[:, :, -1]

    def advance(self, logits: Tensor, discount: Tensor | None = None) -> Tensor:
        """Extend every hypothesis by every token and keep the best of each sentence: logits (B, K, V) -> rows (B, K).

        Args:
            discount: (B, V), what tokens count less when hypotheses are chosen.
        """
        K, slots = self.search.beam_size, self.scores.size(1)
        totals, tokens, parents = self._continuations(logits, discount)
        ends = tokens == EOS
        self._finish(totals[:, :K].masked_fill(~ends[:, :K], NEVER), parents[:, :K])
        go_on = ends.int().argsort(dim=1, stable=True)[:, :K]
        self.scores = totals.masked_fill(ends, NEVER).gather(1, go_on)
        tokens, parents = tokens.gather(1, go_on), parents.gather(1, go_on)
        self.tokens = torch.cat((_of_slots(self.tokens, parents), tokens[:, :, None]), dim=2)
        self.rules.advance(parents, tokens)
        return torch.arange(parents.size(0), device=parents.device)[:, None] * slots + parents

    def _continuations(self, logits: Tensor, discount: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """The best of each sentence, enough that K do not end: log-probabilities, tokens and parent slots, each (B, 2K)."""
        logits = logits.float()
        normalizers = log_normalizers(logits)
        lexicon = self.search.lexicon if self.phrases.size(1) else None
        wished = None
        if lexicon is not None and self.search.no_repeats:
            wished = following(self.phrases, *said(self.phrases, self.tokens, lexicon.ends_word))
        logits = self.rules.allow(logits, self.tokens, wished)
        if self.search.repetition_penalty != 1:
            logits = penalise_repeats(logits, normalizers, self.tokens, self.search.repetition_penalty)
        scores, count = self.scores - normalizers, 2 * self.search.beam_size
        if discount is not None:
            totals, tokens, parents = best_continuations(logits - discount[:, None], scores, count)
            return totals + discount.gather(1, tokens), tokens, parents
        if lexicon is not None:
            must_end = self.rules.must_end & (self.finished_scores[:, 0] == NEVER)
            wishes = (self.phrases, self.tokens, lexicon.ends_word, must_end)
            return phrase_continuations(logits, scores, count, *wishes)
        return best_continuations(logits, scores, count)

    def _finish(self, log_probabilities: Tensor, parents: Tensor) -> None:
        """Put hypotheses that end now (others are -inf) among the finished, best first. Their length counts EOS."""
        if not bool((log_probabilities > NEVER).any()):
            return
        scores = log_probabilities / self.search.length_penalty(self.rules.length + 1)[:, None]
        self.finished_scores, order = torch.cat((self.finished_scores, scores), dim=1).topk(scores.size(1), dim=1)
        self.finished_log_probabilities = torch.cat((self.finished_log_probabilities, log_probabilities), dim=1).gather(1, order)
        earlier = F.pad(self.finished_tokens, (self.tokens.size(2) - self.finished_tokens.size(2), 0), value=PAD)
        self.finished_tokens = _of_slots(torch.cat((earlier, _of_slots(self.tokens, parents)), dim=1), order)

    def done(self) -> Tensor:
        """(B): as many as the beam is wide are finished, or no unfinished one can enter the n best any more."""
        bound = self.scores.amax(dim=1) / self.search.length_penalty(self.rules.most + 1)
        return (self.finished_scores[:, -1] > NEVER) | (self.finished_scores[:, self.search.wanted - 1] >= bound)

    def results(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """The n best of each."""
        most, n = self.rules.most.tolist(), self.search.wanted
        kept = torch.tensor(sentences, device=self.scores.device)
        columns = (self.finished_scores, self.finished_log_probabilities, self.finished_tokens)
        found = zip(sentences, *(x.index_select(0, kept)[:, :n].tolist() for x in columns), strict=True)
        return [
            [
                Hypothesis.of(row, score, log_probability, most[b])
                for score, log_probability, row in zip(*rows, strict=True)
                if score > NEVER
            ]
            for b, *rows in found
        ]


@dataclass
class Groups:
    """Beams side by side, each of which avoids what those before it have just said."""

    search: BeamSearch
    beams: list[Beam]

    def newest(self) -> Tensor:
        at_first = self.beams[0].scores.size(1) == 1 and self.beams[0].tokens.size(2) == 1
        return self.beams[0].newest() if at_first else torch.cat([beam.newest() for beam in self.beams], dim=1)

    def advance(self, logits: Tensor) -> Tensor:
        """Logits (B, K, V) of all groups one after the other, at first (B, 1, V) of their common beginning -> rows (B, K)."""
        logits, K, all_rows = logits.float(), logits.size(1), []
        parts = torch.split(logits, K // len(self.beams), dim=1) if K > 1 else [logits] * len(self.beams)
        discount = torch.zeros_like(logits[:, 0])
        first = 0
        for beam, part in zip(self.beams, parts, strict=True):
            slots = part.size(1)
            rows = beam.advance(part.clone(), discount) % slots
            all_rows.append(torch.arange(rows.size(0), device=rows.device)[:, None] * K + first + rows)
            discount = discount.scatter_add(1, beam.newest(), self.search.diversity * (beam.scores > NEVER))
            first += slots if K > 1 else 0
        return torch.cat(all_rows, dim=1)

    def done(self) -> Tensor:
        """(B): in every group."""
        return torch.stack([beam.done() for beam in self.beams]).all(dim=0)

    def results(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """The n best of all groups, each text once."""
        found = zip(*(beam.results(sentences) for beam in self.beams), strict=True)
        return [self._merged([hypothesis for group in groups for hypothesis in group]) for groups in found]

    def _merged(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        distinct = {tuple(hypothesis.tokens): hypothesis for hypothesis in hypotheses}
        return sorted(distinct.values(), key=lambda hypothesis: -hypothesis.score)[: self.search.wanted]


def _of_slots(tokens: Tensor, slots: Tensor) -> Tensor:
    """(B, K, L) and (B, K') -> (B, K', L)."""
    return tokens.gather(1, slots[:, :, None].expand(-1, -1, tokens.size(2)))
