"""Sentences come and go: a batch of places in which each sentence is searched at its own pace.

A sentence that is done leaves its place to one that waits, so every step works for a full batch, however long the others take
("continuous batching").
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from seq2seq.decoding.stepper import Hypotheses, Hypothesis, S, Search, Stepper
from seq2seq.symbols import PAD

H = TypeVar("H", bound=Hypotheses)


def decode(
    search: Search, model: Stepper[S], sources: Sequence[Sequence[int]], places: int, device: torch.device | str = "cpu"
) -> Iterator[tuple[int, list[Hypothesis]]]:
    """Search for the translations of many sentences.

    Args:
        sources: the ids of each sentence. It saves work to have those of like length one after the other.
        places: at most this many are searched at a time.

    Yields:
        The number of each sentence and its hypotheses, best first, as sentences are done.
    """
    waiting = deque(range(len(sources)))
    batch: _Batch[S] | None = None
    with torch.inference_mode():
        while waiting or batch:
            free = batch.free if batch else list(range(places))
            if waiting and len(free) >= max(1, places // _REFILL):
                numbers = [waiting.popleft() for _ in free[: len(waiting)]]
                new = _Batch(search, model, numbers, _pad([sources[n] for n in numbers]).to(device))
                batch = batch.join(new) if batch else new
            elif batch:
                batch.step()
            if batch:
                yield from batch.leave()
                batch = batch.without_free_places() if not waiting else batch


_REFILL = 8
"""Places are filled again when one in so many is free: encoding several sentences at once is cheaper than one by one."""


class _Batch(Generic[S]):
    """The sentences in their places, with the model's state and the search's hypotheses of each."""

    def __init__(self, search: Search, model: Stepper[S], numbers: list[int], source: Tensor) -> None:
        """source (B, S). The first step is made here, as long as each sentence has a single hypothesis."""
        self.model = model
        self.numbers: list[int | None] = list(numbers)
        """Which sentence is in each place; None: free, and searched on for nothing until it is filled."""
        self.hypotheses: Any = search.begin(source)
        self.state = model.start(source)
        self.step()

    def step(self) -> None:
        logits, state = self.model.step(self.hypotheses.newest(), self.state)
        self.state = state.select(self.hypotheses.advance(logits))

    @property
    def free(self) -> list[int]:
        return [place for place, number in enumerate(self.numbers) if number is None]

    def leave(self) -> list[tuple[int, list[Hypothesis]]]:
        """What was found for the sentences that are done; their places are free now."""
        done = [b for b, is_done in enumerate(self.hypotheses.done().tolist()) if is_done and self.numbers[b] is not None]
        if not done:
            return []
        found = [(int(self.numbers[b] or 0), results) for b, results in zip(done, self.hypotheses.results(done), strict=True)]
        for b in done:
            self.numbers[b] = None
        return found

    def join(self, new: "_Batch[S]") -> "_Batch[S]":
        """The sentences of `new` take free places."""
        chosen = self.free[: len(new.numbers)]
        places = torch.tensor(chosen, device=self.hypotheses.newest().device)
        self.state.put(places, new.state)
        put(self.hypotheses, places, new.hypotheses)
        for place, number in zip(chosen, new.numbers, strict=True):
            self.numbers[place] = number
        return self

    def without_free_places(self) -> "_Batch[S] | None":
        """When nothing waits and at least half of the places are free, only the others go on; None if none is left."""
        taken = [place for place, number in enumerate(self.numbers) if number is not None]
        if not taken:
            return None
        if 2 * len(taken) <= len(self.numbers):
            newest = self.hypotheses.newest()
            kept, K = torch.tensor(taken, device=newest.device), newest.size(1)
            self.state = self.state.select(kept[:, None] * K + torch.arange(K, device=newest.device))
            self.hypotheses = keep(self.hypotheses, kept)
            self.numbers = [self.numbers[place] for place in taken]
        return self


def keep(hypotheses: H, sentences: Tensor) -> H:
    """Some sentences only."""
    return replace(hypotheses, **{name: x.index_select(0, sentences) for name, x in _tensors(hypotheses).items()})  # type: ignore[type-var]


def put(hypotheses: H, places: Tensor, new: H) -> None:
    """Sentences take the places of others. Tokens that are fewer are padded on their left: the newest is always the last."""
    newcomers = _tensors(new)
    for name, old in _tensors(hypotheses).items():
        rows = newcomers[name]
        if old.dim() == 3:
            longest = max(old.size(2), rows.size(2))
            old, rows = (F.pad(x, (longest - x.size(2), 0), value=PAD) for x in (old, rows))
        old = old.index_copy(0, places, rows)
        setattr(hypotheses, name, old[:, :, _first_in_use(old) :] if old.dim() == 3 else old)


def _first_in_use(tokens: Tensor) -> int:
    """The first column of (B, K, L) that is not PAD for all: what was before belonged to sentences that have left."""
    in_use = (tokens != PAD).any(dim=1).any(dim=0)
    return min(int(in_use.int().argmax()), tokens.size(2) - 1)


def _tensors(hypotheses: Any) -> dict[str, Tensor]:
    values = {field.name: getattr(hypotheses, field.name) for field in fields(hypotheses)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}


def _pad(rows: Sequence[Sequence[int]]) -> Tensor:
    """(B, S), padded at the end."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[PAD] * (longest - len(row))] for row in rows])
