"""Sentences in, hypotheses out: which of them share a batch, and what happens when memory is short."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from seq2seq.decoding.batch import decode
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.ensemble import Ensemble
from seq2seq.decoding.stepper import Hypothesis, Search, Stepper, Wishes
from seq2seq.errors import BundleProblem, ConfigProblem, is_out_of_memory
from seq2seq.inference.coverage import ranked_by_coverage
from seq2seq.inference.shortlisted import PackRows, Shortlisted
from seq2seq.model.transformer import Transformer
from seq2seq.shortlist import Shortlist


class Engine(Protocol):
    """What `Translator` searches with."""

    def search(self, search: Search, sources: Sequence[Sequence[int]], wishes: Sequence[Wishes] = ()) -> list[list[Hypothesis]]:
        """The hypotheses of each source (ids that end with EOS), best first; of one for which memory does not suffice, none.

        Args:
            wishes: of each sentence; none: nothing in particular.
        """
        ...


class TorchEngine:
    """Searches with a Transformer, or several as one, on a device."""

    def __init__(
        self,
        models: Sequence[Transformer],
        batch_size: int = 64,
        batch_tokens: int = 4096,
        device: torch.device | str | None = None,
    ) -> None:
        """
        Args:
            models: in evaluation mode; several translate as one.
            batch_size: at most this many sentences at a time.
            batch_tokens: and at most about this many source tokens, padding counted.
            device: unset: where the first model is at the time.
        """
        self.models = models
        self.stepper = _as_one(models)
        self.may_say_all = True
        self.batch_size, self.batch_tokens, self._device = batch_size, batch_tokens, device

    @property
    def device(self) -> torch.device | str:
        return self._device or next(self.models[0].parameters()).device

    def use(self, shortlist: Shortlist, packs: Sequence[PackRows]) -> None:
        """From now on a sentence may say what is on its list.

        Args:
            packs: of each model, the product with some rows of its output.
        """
        listed = [Shortlisted(model, shortlist, pack) for model, pack in zip(self.models, packs, strict=True)]
        self.stepper, self.may_say_all = _as_one(listed), False

    def search(self, search: Search, sources: Sequence[Sequence[int]], wishes: Sequence[Wishes] = ()) -> list[list[Hypothesis]]:
        """See `Engine`.

        Raises:
            ConfigProblem: something must be said that may not be on the list.
        """
        if not self.may_say_all and any(wish != Wishes() for wish in wishes):
            raise ConfigProblem("a glossary or prefix may ask for what is not on the shortlist", "engine.shortlist=false")
        found: list[list[Hypothesis]] = [[] for _ in sources]
        if search.lexicon is not None:
            search = replace(search, lexicon=search.lexicon.to(self.device))  # type: ignore[type-var]
        for places, numbers in self._runs([len(ids) for ids in sources]):
            self._decode(search, sources, wishes, numbers, places, found)
        if isinstance(search, BeamSearch) and search.coverage:
            return ranked_by_coverage(self.models, sources, found, search.coverage, search.n_best)
        return found

    def _runs(self, lengths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Sentences of nearly one length, the longest first, and how many of them there is room for at a time."""
        run: list[int] = []
        places = 0
        for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
            at_most = 1 << (lengths[number] - 1).bit_length()  # so that not every length is a run of its own
            room = max(1, min(self.batch_size, self.batch_tokens // at_most))
            if run and room != places:
                yield places, run
                run = []
            places = room
            run.append(number)
        if run:
            yield places, run

    def _decode(
        self,
        search: Search,
        sources: Sequence[Sequence[int]],
        wishes: Sequence[Wishes],
        numbers: list[int],
        places: int,
        found: list[list[Hypothesis]],
    ) -> None:
        """Fill `found` at `numbers`. Where memory is short, half as many sentences share a batch."""
        at_a_time = min(places, len(numbers))
        while numbers:
            # One by itself has all the memory: among several, the next begins while one is in its place.
            run = numbers if at_a_time > 1 else numbers[:1]
            answered: set[int] = set()
            try:
                of_run = [sources[n] for n in run], at_a_time, self.device, [wishes[n] for n in run] if wishes else ()
                for i, hypotheses in decode(search, self.stepper, *of_run):
                    if not hypotheses:
                        raise BundleProblem("the model's scores are no numbers", "copy the bundle again, or train another")
                    found[run[i]] = hypotheses
                    answered.add(run[i])
                numbers = numbers[len(run) :]
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Here, outside of the handler, the tensors that its traceback held are gone.
            numbers = [n for n in numbers if n not in answered]
            if len(run) == 1:
                numbers, at_a_time = numbers[1:], places
            at_a_time = min(at_a_time, len(numbers)) // 2 or 1


def _as_one(models: Sequence[Stepper[Any]]) -> Stepper[Any]:
    return models[0] if len(models) == 1 else Ensemble(models)
