"""A model that says only what the shortlist of a sentence allows: the product with most of the vocabulary is not made."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from seq2seq.decoding.stepper import NEVER
from seq2seq.model.cache import Cache
from seq2seq.model.transformer import Transformer
from seq2seq.shortlist import Shortlist

PackRows = Callable[[Tensor], Callable[[Tensor], Tensor]]
"""Rows of the output's weight (U) -> the product with them: (…, E) -> (…, U)."""


@dataclass(frozen=True)
class Union:
    """What the sentences of a batch may say together, until one comes or goes.

    Attributes:
        tokens: (U).
        banned: (B, 1, U), True for those that a sentence may not say.
        product: (…, E) -> logits (…, U).
    """

    tokens: Tensor
    banned: Tensor
    product: Callable[[Tensor], Tensor]


@dataclass
class Listed:
    """A model's cache, and what each sentence may say (B, V)."""

    cache: Cache
    allowed: Tensor
    union: Union | None = None

    def select(self, rows: Tensor) -> "Listed":
        """See `State`."""
        sentences, hypotheses = self.cache.lengths.shape
        cache = self.cache.select(rows)
        if rows.size(0) != sentences:
            return Listed(cache, self.allowed.index_select(0, rows[:, 0] // hypotheses))
        return Listed(cache, self.allowed, self.union)

    def put(self, places: Tensor, new: "Listed") -> None:
        """See `State`."""
        self.cache.put(places, new.cache)
        self.allowed[places] = new.allowed
        self.union = None


class Shortlisted:
    """Fits `Stepper`. A sentence is scored over its own list, whatever shares its batch; the product is made for all that any
    sentence of the batch may say."""

    def __init__(self, model: Transformer, shortlist: Shortlist, pack: PackRows) -> None:
        self.model, self.shortlist, self.pack = model, shortlist, pack

    def start(self, source: Tensor) -> Listed:
        return Listed(self.model.start(source), self.shortlist.allowed(source, self.model.config.target_vocab_size))

    def step(self, tokens: Tensor, state: Listed) -> tuple[Tensor, Listed]:
        """Logits (B, K, V); -inf for what is not listed."""
        features = self.model.step_features(tokens, state.cache)
        union = state.union = state.union or self._union(state.allowed)
        listed = union.product(features).masked_fill_(union.banned, NEVER)
        logits = listed.new_full((*tokens.shape, state.allowed.size(1)), NEVER)
        return logits.index_copy_(2, union.tokens, listed), state

    def _union(self, allowed: Tensor) -> Union:
        tokens = allowed.any(dim=0).nonzero().flatten()
        return Union(tokens, ~allowed.index_select(1, tokens)[:, None], self.pack(tokens))
