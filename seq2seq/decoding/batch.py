"""Sentences come and go: a batch of places in which each sentence is searched at its own pace.

A sentence that is done leaves its place to one that waits, so every step works for a full batch, however long the others take
("continuous batching").
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from seq2seq.decoding.stepper import Hypothesis, S, Search, Stepper, Wishes
from seq2seq.symbols import PAD

H = TypeVar("H")


def decode(
    search: Search,
    model: Stepper[S],
    sources: Sequence[Sequence[int]],
    places: int,
    device: torch.device | str = "cpu",
    wishes: Sequence[Wishes] = (),
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Search for the translations of many sentences.

    Args:
        sources: the ids of each sentence. It saves work to have those of like length one after the other.
        places: at most this many are searched at a time.
        wishes: of each sentence; none: nothing in particular.

    Yields:
        The number of each sentence and its hypotheses, best first, as sentences are done.
    """
    waiting = deque(range(len(sources)))
    ready: _Batch[S] | None = None  # they have begun, and wait for places
    batch: _Batch[S] | None = None
    with torch.inference_mode():
        while waiting or ready or batch:
            if waiting and not ready:
                numbers = [waiting.popleft() for _ in range(min(places, len(waiting)))]
                source = pad_sequence([torch.tensor(sources[n]) for n in numbers], batch_first=True, padding_value=PAD)
                ready = _Batch(search, model, numbers, source.to(device), [wishes[n] for n in numbers] if wishes else ())
            if not batch:
                batch, ready = ready, None
            elif ready and len(batch.free) >= max(1, places // _REFILL):
                ready = batch.take_from(ready)
            else:
                batch.step()
            if batch:
                yield from batch.leave()
                batch = batch.without_free_places() if not (waiting or ready) else batch


_REFILL = 8
"""Places are filled again when one in so many is free: moving in several sentences at once is cheaper than one by one."""


class _Batch(Generic[S]):
    """The sentences in their places, with the model's state and the search's hypotheses of each."""

    def __init__(self, search: Search, model: Stepper[S], numbers: list[int], source: Tensor, wishes: Sequence[Wishes]) -> None:
        """source (B, S). The first step is made here, as long as each sentence has a single hypothesis."""
        self.model, self.places = model, len(numbers)
        self.sentences = dict(enumerate(numbers))
        """Which sentence is in each place. A place that is not here is free, and searched on for nothing until it is filled."""
        self.hypotheses: Any = search.begin(source, wishes)
        self.state = model.start(source)
        self.step()

    def step(self) -> None:
        logits, state = self.model.step(self.hypotheses.newest(), self.state)
        self.state = state.select(self.hypotheses.advance(logits))

    @property
    def free(self) -> list[int]:
        return [place for place in range(self.places) if place not in self.sentences]

    def leave(self) -> list[tuple[int, list[Hypothesis]]]:
        """What was found for the sentences that are done; their places are free now."""
        is_done = self.hypotheses.done().tolist()
        done = [place for place in self.sentences if is_done[place]]
        if not done:
            return []
        return [(self.sentences.pop(place), found) for place, found in zip(done, self.hypotheses.results(done), strict=True)]

    def take_from(self, ready: "_Batch[S]") -> "_Batch[S] | None":
        """The first sentences of another batch take the free places; what is left of it, or None."""
        moving = sorted(ready.sentences)[: len(self.free)]
        chosen = self.free[: len(moving)]
        places = torch.tensor(chosen, device=self.hypotheses.newest().device)
        state, hypotheses = ready.part(moving)
        self.state.put(places, state)
        self.hypotheses = put(self.hypotheses, places, hypotheses)
        self.sentences.update(zip(chosen, (ready.sentences.pop(place) for place in moving), strict=True))
        return ready if ready.sentences else None

    def part(self, places: list[int]) -> tuple[S, Any]:
        """State and hypotheses of some places."""
        newest = self.hypotheses.newest()
        kept, K = torch.tensor(places, device=newest.device), newest.size(1)
        rows = kept[:, None] * K + torch.arange(K, device=newest.device)
        return self.state.select(rows), part(self.hypotheses, kept)

    def without_free_places(self) -> "_Batch[S] | None":
        """When nothing waits and at least half of the places are free, only the others go on; None if none is left."""
        taken = sorted(self.sentences)
        if not taken:
            return None
        if 2 * len(taken) <= self.places:
            self.state, self.hypotheses = self.part(taken)
            self.sentences, self.places = dict(enumerate(self.sentences[place] for place in taken)), len(taken)
        return self


def part(hypotheses: H, sentences: Tensor) -> H:
    """Those of some sentences only."""
    return combined(lambda tensor: tensor.index_select(0, sentences), hypotheses)  # type: ignore[no-any-return]


def put(hypotheses: H, places: Tensor, new: H) -> H:
    """Other sentences take the places of some. What is shorter is padded before its beginning: the newest token is always the last."""

    def in_place(old: Tensor, rows: Tensor) -> Tensor:
        shape = [max(sizes) for sizes in zip(old.shape[1:], rows.shape[1:], strict=True)]
        old = _widened(old, shape).index_copy(0, places, _widened(rows, shape))
        return old[..., _first_in_use(old) :] if old.dim() == 3 and old.size(2) else old

    return combined(in_place, hypotheses, new)  # type: ignore[no-any-return]


def combined(make: Callable[..., Tensor], *states: Any) -> Any:
    """States of sentences that are built alike -> one such, each tensor made of those that the others have there."""
    first = states[0]
    if isinstance(first, Tensor):
        return make(*states)
    if isinstance(first, list):
        return [combined(make, *parts) for parts in zip(*states, strict=True)]
    if not is_dataclass(first) or first.__dataclass_params__.frozen:  # type: ignore[union-attr]
        return first  # settings, and nothing of a sentence
    parts = {name: combined(make, *(getattr(state, name) for state in states)) for name in vars(first)}
    return replace(first, **parts)  # type: ignore[type-var]


def _widened(tensor: Tensor, shape: list[int]) -> Tensor:
    """(B, *shape), with PAD, 0 or False before what there was."""
    if list(tensor.shape[1:]) == shape:
        return tensor
    return F.pad(tensor, [n for new, old in zip(shape[::-1], tensor.shape[:0:-1], strict=True) for n in (new - old, 0)])


def _first_in_use(tokens: Tensor) -> int:
    """The first column of (B, K, L) that is not PAD for all: what was before belonged to sentences that have left."""
    in_use = (tokens != PAD).any(dim=1).any(dim=0)
    return min(int(in_use.int().argmax()), tokens.size(2) - 1)
