"""CTranslate2 as a second engine: the same sentences in, the same hypotheses out, found by their search."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch

from seq2seq.atomic import replacing_folder
from seq2seq.bundle import Bundle
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthPenalty
from seq2seq.decoding.stepper import UNSPEAKABLE, Hypothesis, Search, Wishes
from seq2seq.errors import ConfigProblem
from seq2seq.export import Quantization
from seq2seq.export.ctranslate2 import export, specs
from seq2seq.folders import cache_folder
from seq2seq.inference.engine import Engine
from seq2seq.schema import require


@dataclass(frozen=True)
class CTranslate2:
    """conf/engine/ctranslate2.yaml."""

    quantization: Quantization = "float32"
    workers: int = 1
    threads: int = 0

    def __post_init__(self) -> None:
        require(
            (self.workers >= 1, f"workers is {self.workers}, it must be at least 1"),
            (self.threads >= 0, f"threads is {self.threads}, it must not be negative"),
        )

    def make(self, bundles: Sequence[Bundle], device: torch.device, batch_size: int) -> Engine:
        """An engine for a bundle, whose model is converted once and kept in the cache.

        Raises:
            ConfigProblem: naming what of the model the format cannot express; there are several; or this machine has not that precision.
            MachineProblem: the extra is not installed.
        """
        specs()
        if len(bundles) > 1:
            raise ConfigProblem("engine=ctranslate2 cannot translate with several models as one", "engine=native, or one bundle")
        (bundle,) = bundles
        import ctranslate2  # type: ignore[import-untyped]

        can = {*ctranslate2.get_supported_compute_types(device.type, device.index or 0)} & {*get_args(Quantization)}
        if self.quantization not in can:
            raise ConfigProblem(
                f"CTranslate2 has no {self.quantization} here, on {device}", f"engine.quantization={'|'.join(sorted(can))}"
            )
        folder = (
            cache_folder("ctranslate2") / f"{bundle.fingerprint()[:32]}-{self.quantization}-{ctranslate2.__version__}-{_VERSION}"
        )
        if not folder.is_dir():
            with replacing_folder(folder) as temporary:
                export(bundle, temporary, self.quantization)
        translator = ctranslate2.Translator(
            str(folder),
            device=device.type,
            device_index=device.index or 0,
            compute_type=self.quantization,
            inter_threads=self.workers,
            intra_threads=self.threads,
        )
        return CTranslate2Engine(translator, bundle, batch_size)


_VERSION = 1
"""To be raised when a conversion is made otherwise."""


class CTranslate2Engine:
    """Their `Translator`, spoken to in token ids.

    Its scores are a little higher than ours: probability is shared out among the tokens that are allowed, and with a beam of 1
    the end of the sentence is left out.
    """

    def __init__(self, translator: Any, bundle: Bundle, batch_size: int) -> None:
        self.translator, self.batch_size = translator, batch_size
        self.source_pieces, self.target_pieces = bundle.tokenizer.source_pieces(), bundle.tokenizer.target_pieces()
        self.target_ids = {piece: i for i, piece in enumerate(self.target_pieces)}

    def search(self, search: Search, sources: Sequence[Sequence[int]], wishes: Sequence[Wishes] = ()) -> list[list[Hypothesis]]:
        """See `Engine`.

        Raises:
            ConfigProblem: it is another search than a beam, or has a wish that their engine understands otherwise.
        """
        if not isinstance(search, BeamSearch):
            raise ConfigProblem(
                f"engine=ctranslate2 cannot do {type(search).__name__}: only a beam search is the same there",
                "decoding=beam or engine=native",
            )
        for setting, plain in (("repetition_penalty", 1), ("groups", 1), ("coverage", 0)):
            if getattr(search, setting) != plain:
                raise ConfigProblem(
                    f"engine=ctranslate2 has no decoding.{setting} like ours", f"set it to {plain}, or engine=native"
                )
        if search.lexicon is not None or any(wish != Wishes() for wish in wishes):
            raise ConfigProblem("engine=ctranslate2 knows no glossary, prefix or banned phrases", "engine=native")
        limits = [
            tuple(int(limit) for limit in search.lengths(torch.tensor([source]), search.max_target_length)) for source in sources
        ]
        together = defaultdict(list)
        for i, (least, _) in enumerate(limits):
            together[least].append(i)
        found: list[list[Hypothesis]] = [[] for _ in sources]
        for least, numbers in together.items():
            longest = max(limits[i][1] for i in numbers)
            answers = self._translate(search, [sources[i] for i in numbers], least, longest)
            for i, hypotheses in zip(numbers, answers, strict=True):
                most = limits[i][1]
                if any(len(hypothesis.tokens) > most for hypothesis in hypotheses):
                    # Theirs has one limit for all: a sentence that passed its own is translated again by itself.
                    (hypotheses,) = self._translate(search, [sources[i]], least, most)
                found[i] = [Hypothesis(h.tokens, h.score, h.log_probability, len(h.tokens) >= most) for h in hypotheses]
        return found

    def _translate(self, search: BeamSearch, sources: list[Sequence[int]], least: int, most: int) -> list[list[Hypothesis]]:
        results = self.translator.translate_batch(
            [[self.source_pieces[i] for i in source] for source in sources],
            beam_size=search.beam_size,
            num_hypotheses=search.beam_size,
            max_batch_size=self.batch_size,
            length_penalty=_power(search.length_penalty),
            return_scores=True,
            no_repeat_ngram_size=search.no_repeats,
            min_decoding_length=least,
            max_decoding_length=most,
            max_input_length=0,
            suppress_sequences=[[self.target_pieces[i]] for i in UNSPEAKABLE],
        )
        return [self._ranked(search, result) for result in results]

    def _ranked(self, search: BeamSearch, result: Any) -> list[Hypothesis]:
        found = []
        for pieces, score in zip(result.hypotheses, result.scores, strict=True):
            tokens = [self.target_ids[piece] for piece in pieces]
            length = torch.tensor(len(tokens) + 1)
            log_probability = score * int(length) ** _power(search.length_penalty)
            found.append(Hypothesis(tokens, log_probability / float(search.length_penalty(length)), log_probability))
        return sorted(found, key=lambda hypothesis: -hypothesis.score)[: search.n_best]


def _power(penalty: LengthPenalty) -> float:
    """Their only length penalty is a power of the length, with which they stop when the beam is full of finished hypotheses, as ours
    does. What they divide by is known, so ours is applied after; the power decides only which they leave out when more than
    that are finished at the end. With the power 0 they would stop sooner."""
    steepness = {"average": 1.0, "gnmt": 0.75, "none": 0.0}  # gnmt: as steep as it is at 15 tokens
    return max(steepness[penalty.kind] * penalty.alpha, 1e-6)
