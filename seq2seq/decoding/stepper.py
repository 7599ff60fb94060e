"""What search needs of a model, and what it gives back. `Transformer` fits this by its shape; so does a ten-line mock."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

from seq2seq.symbols import BOS, EOS, PAD, UNK


class State(Protocol):
    """The middle of decoding B sentences with K hypotheses each."""

    def select(self, rows: Tensor) -> Self:
        """The state of the hypotheses `rows` (B', K'), numbered b*K + k. Each row of `rows` lists hypotheses of one
        sentence; sentences may be left out but keep their order. Of the old state only those that are left out are used any more."""
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
class Wishes:
    """What is wanted of the translation of one sentence, in tokens.

    Attributes:
        prefix: it begins with these.
        phrases: it says each of these somewhere, as whole words.
    """

    prefix: tuple[int, ...] = ()
    phrases: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Banned:
    """Phrases that may not be said, however they are cut into tokens: a machine that reads what a hypothesis spells.

    Attributes:
        forbidden: (N, V), True where a token would complete a phrase after what state n has read.
        following: (N, V), the state after it.
    """

    forbidden: Tensor
    following: Tensor

    def __reduce__(self) -> Any:
        """For other processes by value: shared memory, torch's own way, may be as small as a container says."""
        return _banned, (tuple(self.forbidden.shape), *(bytes(x.cpu().numpy().data) for x in (self.forbidden, self.following)))


def _banned(shape: tuple[int, int], forbidden: bytes, following: bytes) -> Banned:
    return Banned(
        torch.frombuffer(bytearray(forbidden), dtype=torch.bool).view(shape),
        torch.frombuffer(bytearray(following), dtype=torch.int32).view(shape),
    )


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What search needs to know of the text that tokens stand for.

    Attributes:
        ends_word: (V), True for what cannot continue a word: where one of these follows, a phrase was said in whole words.
    """

    ends_word: Tensor
    banned: Banned | None = None

    def to(self, device: torch.device | str) -> "Lexicon":
        banned = self.banned and Banned(self.banned.forbidden.to(device), self.banned.following.to(device))
        return Lexicon(self.ends_word.to(device), banned)


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

    @classmethod
    def of(cls, row: Sequence[int], score: float, log_probability: float, most: int) -> "Hypothesis":
        """From a row of tokens among which may be PAD, BOS and EOS, of a sentence that may have `most` tokens."""
        tokens = [token for token in row if token not in (PAD, BOS, EOS)]
        return cls(tokens, score, log_probability, capped=len(tokens) >= most)


class Hypotheses(Protocol):
    """The hypotheses of the sentences that are being translated, K of each; at the start 1.

    What it keeps are tensors whose first axis is the sentence, in dataclasses, so that `batch` can let sentences come and go.
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
        no_repeats: no sequence of so many tokens occurs twice in a translation; 0: any may.
        max_target_length: room of the model on the target side, in tokens, or None. Whoever brings search and model
            together sets it.
        lexicon: what tokens spell, or None where no wish needs it. Likewise.
    """

    @property
    def no_repeats(self) -> int: ...
    @property
    def max_target_length(self) -> int | None: ...
    @property
    def lexicon(self) -> Lexicon | None: ...

    def begin(self, source: Tensor, wishes: Sequence[Wishes]) -> Hypotheses:
        """source (B, S) ids, padded -> one hypothesis of each that says nothing yet.

        Args:
            wishes: of each sentence; none: nothing in particular.

        Raises:
            ConfigProblem: this search cannot do what is wished.
        """
        ...
