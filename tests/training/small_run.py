"""A whole run of a very small model, for tests to start, stop and compare."""

import csv
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from rich.console import Console

from seq2seq.bundle import Bundle, BundleConfig, Card
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.decoding.beam import BeamSearch
from seq2seq.training.data import DrawnPairs, TranslationData
from seq2seq.training.folder import Outcome, RunFolder
from seq2seq.training.module import TranslationModule, ValidationText
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions
from seq2seq.training.processes import ALONE, Processes
from seq2seq.training.run import fit, new_model
from seq2seq.training.schedule import InverseSquareRoot
from seq2seq.training.screen import Example, Screen
from seq2seq.translator import Translator
from tests.conftest import counting_pairs, small_config

EMA = Averaging("ema", 0.9)
OPTIMIZER = Optimizer(clip_norm=1.0)
OPTIONS = TrainerOptions(max_steps=12, validate_every=4, log_every=2, accelerator="cpu")


class Run:
    """A run in `folder` with the given changes to its settings; `module` keeps what it was at the end."""

    def __init__(
        self,
        folder: Path,
        tokenizer: Tokenizer,
        options: TrainerOptions = OPTIONS,
        averaging: Averaging = EMA,
        accumulate: int = 1,
        sampling: float = 0.0,
        weights: Any = None,
        optimizer: Optimizer = OPTIMIZER,
        dropout: float = 0.1,
        positions: str = "sinusoidal",
        processes: Processes = ALONE,
    ) -> None:
        pairs = counting_pairs(300)
        tokens = TokenPairs(
            TokenRows(tokenizer.encode_source([s for s, _ in pairs])), TokenRows(tokenizer.encode_target([t for _, t in pairs]))
        )
        held = counting_pairs(20, seed=9)
        held_tokens = TokenPairs(
            TokenRows(tokenizer.encode_source([s for s, _ in held])), TokenRows(tokenizer.encode_target([t for _, t in held]))
        )
        config = small_config(
            source_vocab_size=tokenizer.source_vocab_size,
            target_vocab_size=tokenizer.target_vocab_size,
            dropout=dropout,
            positions=positions,
            norm_order="pre",
            d_model=32,
            heads=2,  # wide enough for the kernel of attention
            d_feedforward=64,
        )
        self.model = new_model(config, 3)
        self.folder = RunFolder(folder)
        bundle = Bundle(BundleConfig("en", "de", config), self.model, tokenizer)
        text = ValidationText([s for s, _ in held], [t for _, t in held], "13a", Translator(bundle, BeamSearch(2)))
        self.module = TranslationModule(
            self.model,
            optimizer,
            InverseSquareRoot(0.01, 20),
            options.max_steps,
            [text],
            5,
            processes,
        )
        self.console = Console(record=True, width=300, file=StringIO())
        self.screen = Screen(self.console, options.max_steps, [Example(text.sources[0], 0, ("en", "de"))])
        drawn = None
        if sampling:
            texts = Dataset.from_dict({"source": [s for s, _ in pairs], "target": [t for _, t in pairs]})
            config = replace(tokenizer.config, sampling=sampling)
            drawn = DrawnPairs(tokens, texts, Tokenizer(config, *tokenizer._models), 5, 64)
        self.data = TranslationData(
            tokens,
            held_tokens,
            BatchConfig(200, accumulate),
            5,
            options.max_steps,
            64,
            weights=weights,
            drawn=drawn,
            processes=processes,
            sharded=options.sharded,
        )
        self._go: Callable[[], Outcome] = lambda: fit(
            self.module,
            self.data,
            bundle,
            lambda v: Card("made up", v.step),
            self.folder,
            options,
            averaging,
            self.screen,
            [],
            processes,
        )

    def go(self) -> Outcome:
        return self._go()

    def weights(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.model.parameters()]

    def rows(self) -> list[dict[str, str]]:
        with self.folder.metrics.open() as file:
            return [{k: v for k, v in row.items() if k not in ("seconds", "tokens_per_second")} for row in csv.DictReader(file)]
