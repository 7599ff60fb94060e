"""Floor 2: ways to choose among the translations that a search finds, by what they say. Where a search may be named, one of these may be: it
holds the search that finds its candidates."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from seq2seq.decoding.stepper import Hypothesis, Search
from seq2seq.schema import require

Choose = Callable[[Sequence[str], Sequence[Sequence[str]], Sequence[list[Hypothesis]], torch.device], list[list[Hypothesis]]]
"""Sources, the texts of each one's candidates, the candidates, and the device they were found on -> of each source the best candidates, best
first, with the scores that they were chosen by."""


@runtime_checkable
class Choosing(Protocol):
    """A frozen dataclass of settings."""

    @property
    def candidates(self) -> Any:
        """The search that finds them."""
        ...

    @property
    def n_best(self) -> int:
        """So many are chosen."""
        ...

    @property
    def bundles(self) -> tuple[str, ...]:
        """Folders of the models that are asked, beside those that translate."""
        ...

    def check_knows(self, source: str, target: str) -> None:
        """Whether all is there to choose among translations from one language to another.

        Raises:
            ConfigProblem: models that it needs are not named, or are of another direction.
            BundleProblem: one is missing or damaged.
        """
        ...

    def chooser(self, source: str, target: str) -> Choose:
        """How to choose among translations from one language to another.

        Raises:
            ConfigProblem, BundleProblem: as `check_knows`, or if models that are to be one do not fit together.
        """
        ...


def finding(search: Any) -> Search:
    """A search as it is, or that which finds the candidates of one of these."""
    return search.candidates if isinstance(search, Choosing) else search  # type: ignore[no-any-return]


def bundles_of(search: Any) -> tuple[str, ...]:
    """Those that a search asks by itself."""
    return search.bundles if isinstance(search, Choosing) else ()


def check_candidates(choosing: Choosing, name: str) -> None:
    """For `__post_init__` of one by this name: that as many are found as are wanted, and that nothing else chooses among them."""
    found_by = choosing.candidates
    found = getattr(found_by, "n_best", 1)
    require(
        (
            not isinstance(found_by, Choosing),
            f"{name} chooses among what a search finds: candidates is {type(found_by).__name__}",
        ),
        (not getattr(found_by, "coverage", 0), f"coverage ranks candidates, and so does {name}: choose one"),
        (1 <= choosing.n_best <= found, f"n_best is {choosing.n_best}, it must be from 1 to the {found} of candidates.n_best"),
    )
