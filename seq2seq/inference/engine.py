"""Sentences in, hypotheses out: which of them share a batch, and what happens when memory is short."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch

from seq2seq.bundle import Bundle
from seq2seq.decoding.batch import decode
from seq2seq.decoding.ensemble import Ensemble
from seq2seq.decoding.stepper import Hypothesis, Search, Stepper
from seq2seq.errors import is_out_of_memory
from seq2seq.inference.products import Precision, prepared
from seq2seq.schema import require


class Engine(Protocol):
    """What `Translator` searches with."""

    def search(self, search: Search, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        """The hypotheses of each source (ids that end with EOS), best first; of one for which memory does not suffice, none."""
        ...


class TorchEngine:
    """Searches with a Transformer, or several as one, on a device."""

    def __init__(
        self, model: Stepper[Any], batch_size: int = 64, batch_tokens: int = 4096, device: torch.device | str = "cpu"
    ) -> None:
        """
        Args:
            model: in evaluation mode.
            batch_size: at most this many sentences at a time.
            batch_tokens: and at most about this many source tokens, padding counted.
        """
        self.model, self.batch_size, self.batch_tokens, self.device = model, batch_size, batch_tokens, device

    def search(self, search: Search, sources: Sequence[Sequence[int]]) -> list[list[Hypothesis]]:
        """See `Engine`."""
        found: list[list[Hypothesis]] = [[] for _ in sources]
        for places, numbers in self._runs([len(ids) for ids in sources]):
            self._decode(search, sources, numbers, places, found)
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
        self, search: Search, sources: Sequence[Sequence[int]], numbers: list[int], places: int, found: list[list[Hypothesis]]
    ) -> None:
        """Fill `found` at `numbers`. Where memory is short, half as many sentences share a batch."""
        at_a_time = min(places, len(numbers))
        while numbers:
            answered: set[int] = set()
            try:
                for i, hypotheses in decode(search, self.model, [sources[n] for n in numbers], at_a_time, self.device):
                    found[numbers[i]] = hypotheses
                    answered.add(numbers[i])
                return
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Here, outside of the handler, the tensors that its traceback held are gone.
            numbers = [n for n in numbers if n not in answered]
            if at_a_time == 1:
                numbers, at_a_time = numbers[1:], places
            at_a_time = min(at_a_time, len(numbers)) // 2 or 1


@dataclass(frozen=True)
class Native:
    """conf/engine/native.yaml: this toolkit's own engine."""

    precision: Literal["float32", "bfloat16", "int8", "auto"] = "float32"
    """Of the matrix products. In float32 a sentence gets the same translation whatever shares its batch; the others are faster and
    differ a little. auto: what this machine does best."""
    workers: int | None = 1
    """Processes on a CPU; unset: as many as suit the machine."""

    def __post_init__(self) -> None:
        require((self.workers is None or self.workers >= 1, f"workers is {self.workers}, it must be at least 1"))

    def on(self, device: torch.device) -> "Native":
        """The same with all that was left to the machine decided."""
        from seq2seq.inference.workers import best_workers

        precision = best_precision(device) if self.precision == "auto" else self.precision
        return Native(precision, best_workers(device) if self.workers is None else self.workers)

    def make(self, bundles: Sequence[Bundle], device: torch.device, batch_size: int) -> Engine:
        """An engine for a bundle, whose model stays as it is, or for several as one."""
        from seq2seq.inference.workers import Workers

        decided = self.on(device)
        precision: Any = decided.precision
        workers = decided.workers or 1
        models = [prepared(bundle.model.to(device), precision, 2 * batch_size) for bundle in bundles]
        engine = TorchEngine(models[0] if len(models) == 1 else Ensemble(models), batch_size, device=device)
        return Workers(engine, workers) if workers > 1 else engine


def best_precision(device: torch.device) -> Precision:
    """bfloat16 on a GPU; int8 on a CPU that multiplies bytes in one instruction (VNNI), float32 on any other."""
    if device.type != "cpu":
        return "bfloat16"
    return "int8" if torch.cpu._is_vnni_supported() else "float32"
