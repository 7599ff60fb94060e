"""What search needs of a model, and what it gives back. `Transformer` fits this by its shape; so does a ten-line mock."""

from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from torch import Tensor

from seq2seq.symbols import BOS, PAD, UNK


class State(Protocol):
    """The middle of decoding B sentences with K hypotheses each."""

    def select(self, rows: Tensor) -> Self:
        """The state of the hypotheses `rows` (B', K'), numbered b*K + k. Each row of `rows` lists hypotheses of one
        sentence; sentences may be left out but keep their order. The old state is not used any more."""
        ...

    def put(self, places: Tensor, new: Self) -> None:
        """Sentences of another state, with as many hypotheses, take the places (B') of sentences that are done."""
        ...


S = TypeVar("S", bound=State)

NEVER = float("-inf")
"""The log-probability of what cannot be."""
UNSPEAKABLE = (PAD, BOS, UNK)
"""Tokens that no translation may hold."""


class Stepper(Protocol[S]):
    """A model, one token at a time."""

    def start(self, source: Tensor) -> S:
        """source (B, S) ids -> the state before the first token, one hypothesis a sentence, of which there may be more."""
        ...

    def step(self, tokens: Tensor, state: S) -> tuple[Tensor, S]:
        """tokens (B, K), the newest of each hypothesis -> logits (B, K, V) of the next one, and the state that knows them."""
        ...


@dataclass(frozen=True)
class Hypothesis:
    """One translation, as token ids.

    Attributes:
        tokens: without BOS and EOS.
        score: what hypotheses are ranked by: the log-probability over the length penalty.
        log_probability: sum over the tokens and EOS, in nats.
        capped: the sentence was ended because it reached its maximum length.
    """

    tokens: list[int]
    score: float
    log_probability: float
    capped: bool = False


class Hypotheses(Protocol):
    """The hypotheses of the sentences that are being translated, K of each; at the start 1.

    What it keeps are tensors whose first axis is the sentence, in a dataclass, so that `batch` can let sentences come and go.
    """

    def newest(self) -> Tensor:
        """The tokens (B, K) that the model is to be told."""
        ...

    def advance(self, logits: Tensor) -> Tensor:
        """Logits (B, K, V) of the next token -> rows (B, K'): the old row, b*K + k, that each hypothesis goes on from now."""
        ...

    def done(self) -> Tensor:
        """(B): nothing better will come."""
        ...

    def results(self, sentences: list[int]) -> list[list[Hypothesis]]:
        """What was found for each of some sentences, best first."""
        ...


class Search(Protocol):
    """A way to find good translations; a frozen dataclass of its settings, some of which are known to whoever uses it.

    Attributes:
        hypotheses: how many a sentence has after its first token.
        no_repeats: no sequence of so many tokens occurs twice in a translation; 0: any may.
        max_target_length: room of the model on the target side, in tokens, or None. Whoever brings search and model
            together sets it.
    """

    @property
    def hypotheses(self) -> int: ...
    @property
    def no_repeats(self) -> int: ...
    @property
    def max_target_length(self) -> int | None: ...

    def begin(self, source: Tensor) -> Hypotheses:
        """source (B, S) ids, padded -> one hypothesis of each that says nothing yet."""
        ...
