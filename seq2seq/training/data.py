"""The corpus as batches for Lightning, in an order that depends on (seed, step) alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np

from seq2seq.data.batch import Batch, TokenPairs, TokenRows
from seq2seq.data.recipe import Corpus
from seq2seq.data.sampler import BatchConfig, BatchPlan
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import DataProblem


def tokenise(corpus: Corpus, split: str, tokenizer: Tokenizer) -> TokenPairs:
    """A split as token ids."""
    data = corpus.splits[split]
    sources: list[list[int]] = []
    targets: list[list[int]] = []
    for block in data.iter(batch_size=10_000):
        sources += tokenizer.encode_source(block["source"])
        targets += tokenizer.encode_target(block["target"])
    return TokenPairs(TokenRows(sources), TokenRows(targets))


def within(pairs: TokenPairs, max_length: int) -> TokenPairs:
    """Only the pairs both of whose sides the model can hold.

    Raises:
        DataProblem: there are none.
    """
    fits = (pairs.source.lengths <= max_length) & (pairs.target.lengths <= max_length)
    if fits.all():
        return pairs
    kept = np.flatnonzero(fits).tolist()
    if not kept:
        raise DataProblem(
            f"every pair is longer than model.max_length={max_length} tokens",
            "raise model.max_length, or split the text into sentences",
        )
    return TokenPairs(TokenRows([pairs.source[i].tolist() for i in kept]), TokenRows([pairs.target[i].tolist() for i in kept]))


@dataclass
class PlannedBatches:
    """Batches `start` to `stop` of a plan, as Lightning's data loader. Its length counts from 0, as Lightning counts."""

    pairs: TokenPairs
    plan: BatchPlan
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop

    def __iter__(self) -> Iterator[Batch]:
        for number in range(self.start, self.stop):
            yield self.pairs.batch(self.plan[number], self.plan.normalizer(number), number)


class TranslationData(lightning.LightningDataModule):
    """Training batches by plan, and one round of validation batches."""

    def __init__(self, train: TokenPairs, validation: TokenPairs, config: BatchConfig, seed: int, max_steps: int) -> None:
        super().__init__()
        self._train, self._validation = train, validation
        self.plan = BatchPlan(train.source.lengths, train.target.lengths, config, seed)
        self._validation_plan = BatchPlan(validation.source.lengths, validation.target.lengths, config, 0)
        self.accumulate, self._max_steps = config.accumulate, max_steps

    def train_dataloader(self) -> Any:
        # Lightning restores its step before it asks for the loader: a resumed run goes on where it stood.
        done = self.trainer.global_step if self.trainer else 0
        return PlannedBatches(self._train, self.plan, done * self.accumulate, self._max_steps * self.accumulate)

    def val_dataloader(self) -> Any:
        return PlannedBatches(self._validation, self._validation_plan, 0, self._validation_plan.batches_per_epoch)
