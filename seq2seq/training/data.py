"""The corpus as batches for Lightning, in an order that depends on (seed, step) alone."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from random import Random
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt

from seq2seq.data.batch import Batch, make_batch
from seq2seq.data.directions import parsed
from seq2seq.data.noise import Noise
from seq2seq.data.sampler import BatchConfig, BatchPlan, Indices
from seq2seq.data.text import beginnings, has_spaces, words_of
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.data.tokens import TokenPairs
from seq2seq.errors import DataProblem
from seq2seq.symbols import UNK
from seq2seq.training.processes import ALONE, Processes


def weights_of(data: Any) -> npt.NDArray[np.float32] | None:
    """How often an epoch takes each pair of a data set, if it says so."""
    if "weight" not in data.column_names:
        return None
    return np.asarray(data.select_columns("weight").with_format("numpy")[:]["weight"], dtype=np.float32)


def none_fits(max_length: int) -> DataProblem:
    """The model can hold no pair."""
    return DataProblem(
        f"every pair is longer than model.max_length={max_length} tokens",
        "raise model.max_length, or split the text into sentences",
    )


class SourceNoise:
    """Noise on sources as the model reads them: tags stay in front, the end at the end, and a word is what a space begins."""

    def __init__(self, noise: Noise, tokenizer: Tokenizer, language: str) -> None:
        """`language` is that of sources whose direction is not said."""
        self._noise, self._tokenizer, self._language = noise, tokenizer, language
        self._begins = {spaces: beginnings(tokenizer.source_pieces(), spaces) for spaces in (True, False)}

    def __call__(self, ids: list[int], is_copy: bool, seed: str, direction: str | None) -> list[int]:
        if self._noise.copies_only and not is_copy:
            return ids
        front = self._tokenizer.tags_before(ids[:-1])
        language = parsed(direction)[0] if direction else self._language
        words = words_of(ids[front:-1], self._begins[has_spaces(language)])
        noisy = self._noise(words, [UNK], Random(f"{seed} noise"))
        return [*ids[:front], *chain.from_iterable(noisy), *ids[-1:]]


class DrawnPairs:
    """As `TokenPairs`, but the subwords of each batch are drawn anew (Kudo, 2018; Provilkov et al., 2020), and noise is put on its sources.

    What is drawn depends on the seed, the number of the batch and the pair alone. A text drawn longer than the model holds is taken as it is
    without drawing.
    """

    def __init__(
        self, pairs: TokenPairs, texts: Any, tokenizer: Tokenizer, seed: int, max_length: int, noise: SourceNoise | None = None
    ) -> None:
        self._pairs, self._texts, self._tokenizer = pairs, texts, tokenizer
        self._seed, self._max_length, self._noise = seed, max_length, noise

    def batch(self, rows: Indices, number: int) -> Batch:
        texts = self._texts[rows]
        seeds = [f"{self._seed} {number} {row}" for row in rows.tolist()]
        sources, targets = self._drawn(rows, texts, seeds)
        if self._noise:
            copies = [source == target for source, target in zip(texts["source"], texts["target"], strict=True)]
            directions = texts.get("direction", [None] * len(sources))
            sources = [self._noise(*source) for source in zip(sources, copies, seeds, directions, strict=True)]
        return make_batch(sources, targets)

    def _drawn(self, rows: Indices, texts: Any, seeds: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        if not self._tokenizer.config.sampling:
            return [self._pairs.source[row].tolist() for row in rows], [self._pairs.target[row].tolist() for row in rows]
        sources = self._tokenizer.draw_source(texts["source"], [f"{seed} source" for seed in seeds], texts.get("tags"))
        targets = self._tokenizer.draw_target(texts["target"], [f"{seed} target" for seed in seeds])
        for drawn, fixed in ((sources, self._pairs.source), (targets, self._pairs.target)):
            for i, row in enumerate(rows):
                if len(drawn[i]) > self._max_length:
                    drawn[i] = fixed[row].tolist()
        return sources, targets


@dataclass
class Updates:
    """What of the batches of updates `start` to `stop` is for this process, as Lightning's data loader: of each batch every so many-th pair,
    which are of nearly the same lengths, so that all have as much to do. Which they are depends on the plan alone."""

    make: Callable[[Indices, int], Batch]
    plan: BatchPlan
    accumulate: int
    start: int
    stop: int
    processes: Processes
    as_many: bool = False
    """Every process gets as many batches as any other; one for which a batch has no pair gets one without tokens to learn."""

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Batch]]:
        """Each update is made while the one before it is worked on."""
        with ThreadPoolExecutor(1) as ahead:
            coming = (ahead.submit(self._update, step) for step in range(self.start, self.stop))
            following = next(coming, None)
            while following:
                update, following = following, next(coming, None)
                yield update.result()

    def _update(self, step: int) -> list[Batch]:
        numbers = range(step * self.accumulate, (step + 1) * self.accumulate)
        shares = [(self.processes.share(self.plan[number]), number) for number in numbers]
        if self.as_many:
            return [self.make(rows, n) if len(rows) else self.make(self.plan[n][:1], n).silent() for rows, n in shares]
        return [self.make(rows, number) for rows, number in shares if len(rows)]


@dataclass
class OneRound:
    """Every validation batch once, what of it is for this process."""

    pairs: TokenPairs
    plan: BatchPlan
    processes: Processes

    def __len__(self) -> int:
        return self.plan.batches_per_epoch

    def __iter__(self) -> Iterator[list[Batch]]:
        shares = (self.processes.share(self.plan[number]) for number in range(len(self)))
        return ([self.pairs.batch(share)] if len(share) else [] for share in shares)


class TranslationData(lightning.LightningDataModule):
    """Training batches by plan, and one round of validation batches.

    Attributes:
        start: the update that training goes on with, set when a run is taken up again.
        left_out: by split, how many pairs the model cannot hold.
    """

    def __init__(
        self,
        train: TokenPairs,
        validation: TokenPairs,
        config: BatchConfig,
        seed: int,
        max_steps: int,
        max_length: int,
        weights: npt.NDArray[np.float32] | None = None,
        drawn: DrawnPairs | None = None,
        processes: Processes = ALONE,
        sharded: bool = False,
    ) -> None:
        """
        Args:
            max_length: the most tokens the model can hold on either side.
            weights: how often each training pair comes in an epoch; unset: once.
            drawn: where training batches come from, if not from the tokens as they are.
        """
        super().__init__()
        self._train, self._validation = train, validation
        self._make = drawn.batch if drawn else lambda rows, number: train.batch(rows)
        self._weights = weights
        self.plan = self._plan(train, config, seed, max_length, weights)
        self._validation_plan = self._plan(validation, config, 0, max_length)
        self.left_out = {"train": len(train) - self.plan.pairs, "validation": len(validation) - self._validation_plan.pairs}
        self._accumulate, self._max_steps, self._processes = config.accumulate, max_steps, processes
        self.start, self._sharded = 0, sharded

    @staticmethod
    def _plan(
        pairs: TokenPairs, config: BatchConfig, seed: int, max_length: int, weights: npt.NDArray[np.float32] | None = None
    ) -> BatchPlan:
        plan = BatchPlan(pairs.source.lengths, pairs.target.lengths, config, seed, weights, max_length)
        if not plan.pairs:
            raise none_fits(max_length)
        return plan

    def __len__(self) -> int:
        """Training pairs."""
        return self.plan.pairs

    def train_dataloader(self) -> Any:
        return Updates(self._make, self.plan, self._accumulate, self.start, self._max_steps, self._processes, self._sharded)

    def val_dataloader(self) -> Any:
        return OneRound(self._validation, self._validation_plan, self._processes)

    def fingerprint(self) -> dict[str, str]:
        """What tells these tokens from others."""
        weights = b"" if self._weights is None else self._weights.tobytes()
        training = hashlib.sha256(self._train.sha256().encode() + weights).hexdigest()
        return {"training data": training, "validation data": self._validation.sha256()}
