"""What a translation may say next: limits of length, no repeats, a given beginning, nothing that is banned."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from seq2seq.decoding.penalties import LengthLimits, forbid_repeats
from seq2seq.decoding.stepper import NEVER, UNSPEAKABLE, Search, Wishes
from seq2seq.symbols import EOS, PAD


class Restrictions(Search, Protocol):
    """The settings of a search that rules follow."""

    @property
    def lengths(self) -> LengthLimits: ...


@dataclass
class Rules:
    """The rules for the next token of B sentences, with K hypotheses each.

    Attributes:
        least, most: (B), how many tokens a translation may have, without EOS.
        length: (B), how many the hypotheses have.
        prefix: (B, P), the tokens each must begin with, the first one last; before them comes PAD.
        spelled: (B, K), how much of a banned phrase each hypothesis ends with: a state of `Banned`.
    """

    restrictions: Restrictions
    least: Tensor
    most: Tensor
    length: Tensor
    prefix: Tensor
    spelled: Tensor = field(repr=False)

    @classmethod
    def begin(cls, restrictions: Restrictions, source: Tensor, wishes: Sequence[Wishes]) -> "Rules":
        """source (B, S), and what is wanted of each of its sentences; nothing in particular if there are no wishes."""
        B, device = source.size(0), source.device
        least, most = restrictions.lengths(source, restrictions.max_target_length)
        prefix = pad_left([wish.prefix[::-1] for wish in wishes] or [()] * B).to(device)
        most = most.maximum((prefix != PAD).sum(dim=1))
        zero = torch.zeros(B, dtype=torch.long, device=device)
        return cls(restrictions, least, most, zero, prefix, zero[:, None])

    @property
    def must_end(self) -> Tensor:
        """(B)"""
        return self.length >= self.most

    def allow(self, logits: Tensor, tokens: Tensor, wished: Tensor | None = None) -> Tensor:
        """Make impossible what may not come next. In place.

        Args:
            logits: (B, K, V).
            tokens: (B, K, L) so far, the newest last.
            wished: (B, K, C), tokens that may come even where they repeat something; PAD for none.
        """
        wanted = self._wanted()
        at_wanted = None if wanted is None else logits.gather(2, wanted[:, None, None].expand(-1, logits.size(1), 1))
        logits[:, :, list(UNSPEAKABLE)] = NEVER
        logits[:, :, EOS] = logits[:, :, EOS].masked_fill((self.length < self.least)[:, None], NEVER)
        if self.restrictions.no_repeats:
            at_wished = None if wished is None else logits.gather(2, wished)
            logits = forbid_repeats(logits, tokens, self.restrictions.no_repeats)
            if wished is not None and at_wished is not None:
                logits.scatter_(2, wished, at_wished)
        if self.restrictions.lexicon is not None and self.restrictions.lexicon.banned is not None:
            logits.masked_fill_(self.restrictions.lexicon.banned.forbidden[self.spelled], NEVER)
        if bool(self.must_end.any()):
            _only(logits, self.must_end, logits[:, :, EOS : EOS + 1].clone(), torch.full_like(self.length, EOS))
        if wanted is not None and at_wanted is not None:
            _only(logits, wanted != PAD, at_wanted, wanted)
        return logits

    def advance(self, parents: Tensor, tokens: Tensor) -> None:
        """Every hypothesis (B, K) has gone on from a parent slot with a token."""
        self.length = self.length + 1
        self.spelled = self.spelled.gather(1, parents)
        if self.restrictions.lexicon is not None and self.restrictions.lexicon.banned is not None:
            self.spelled = self.restrictions.lexicon.banned.following[self.spelled, tokens].long()

    def _wanted(self) -> Tensor | None:
        """(B): the next token of each prefix, PAD where there is none; None if there is none at all."""
        if self.prefix.size(1) == 0:
            return None
        place = self.prefix.size(1) - 1 - self.length
        return self.prefix.gather(1, place.clamp(min=0)[:, None]).squeeze(1).masked_fill(place < 0, PAD)


def _only(logits: Tensor, sentences: Tensor, values: Tensor, tokens: Tensor) -> None:
    """In some sentences (B) nothing but one token (B), which has these values (B, K, 1)."""
    logits.masked_fill_(sentences[:, None, None], NEVER)
    places = tokens[:, None, None].expand(-1, logits.size(1), 1)
    logits.scatter_(2, places, torch.where(sentences[:, None, None], values, logits.gather(2, places)))


def pad_left(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, L): rows that end together, with PAD before the shorter ones."""
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*[PAD] * (longest - len(row)), *row] for row in rows], dtype=torch.long).view(len(rows), longest)
