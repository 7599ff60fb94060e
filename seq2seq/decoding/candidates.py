"""Searches that let another one find translations and choose among them afterwards, by what they say."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from seq2seq.decoding.stepper import Hypotheses, Hypothesis, Lexicon, Wishes
from seq2seq.schema import require

Choose = Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[list[Hypothesis]]], list[list[Hypothesis]]]
"""Of each sentence its text, those of its candidates and these themselves -> the best of them, best first, with the scores they are chosen by."""


@runtime_checkable
class Choosing(Protocol):
    """A `Search` of this kind: a frozen dataclass of its settings."""

    @property
    def candidates(self) -> Any: ...
    @property
    def n_best(self) -> int: ...
    @property
    def no_repeats(self) -> int: ...
    @property
    def max_target_length(self) -> int | None: ...
    @property
    def lexicon(self) -> Lexicon | None: ...

    def chooser(self, source: str, target: str, device: torch.device) -> Choose:
        """How to choose among translations from one language to another; models that it needs for that go to the device.

        Raises:
            ConfigProblem: models that it needs are not named, or are of another direction.
            BundleProblem: one is missing or damaged.
        """
        ...


def check(choosing: Choosing, name: str) -> None:
    """For `__post_init__` of one by this name: that there is as much to choose from as is wanted, and nothing else that chooses."""
    made = getattr(choosing.candidates, "n_best", 1)
    require(
        (not getattr(choosing.candidates, "coverage", 0), f"coverage ranks candidates, and so does {name}: choose one"),
        (1 <= choosing.n_best <= made, f"n_best is {choosing.n_best}, it must be from 1 to the {made} of candidates.n_best"),
        (choosing.no_repeats >= 0, f"no_repeats is {choosing.no_repeats}, it must not be negative"),
    )


def begin(choosing: Choosing, source: Tensor, wishes: Sequence[Wishes]) -> Hypotheses:
    """See `Search`: what finds the candidates begins, with all that is known of the search that will choose among them."""
    found_by = choosing.candidates
    strictest = min((size for size in (choosing.no_repeats, found_by.no_repeats) if size), default=0)
    known = dict(max_target_length=choosing.max_target_length, lexicon=choosing.lexicon)
    return replace(found_by, no_repeats=strictest, **known).begin(source, wishes)  # type: ignore[no-any-return]
