"""SentencePiece subwords (Sennrich et al., 2016; Kudo and Richardson, 2018), trained from the corpus on first use."""

import copy
import hashlib
import io
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from seq2seq.data.drawing import SubwordDrawer
from seq2seq.data.recipe import Corpus, texts_of
from seq2seq.data.text import SPACE_MARK, SPACE_MARK_STAND_IN
from seq2seq.errors import BundleProblem, ConfigProblem, DataProblem
from seq2seq.folders import digest_of, remembered
from seq2seq.schema import build, plain, require
from seq2seq.symbols import BOS, EOS, PAD, SPECIAL, UNK

SETTINGS = "tokenizer.json"
SAMPLE = 1_000_000
"""Texts of each side: so many teach subwords as well as all of a larger corpus."""
_LARGEST = 64 << 20
LONGEST = 100_000
"""Characters."""


@dataclass(frozen=True)
class TokenizerConfig:
    """How text becomes tokens."""

    kind: Literal["bpe", "unigram", "char"] = "bpe"
    """char: every character a token, but what is rare is spelled as bytes."""
    vocab_size: int = 8000
    """At most this many tokens, bytes and special tokens among them. A small corpus gives fewer."""
    joint: bool = True
    """One vocabulary for both languages (needed to tie all embeddings), or one each."""
    byte_fallback: bool = True
    """A character that is not in the vocabulary is spelled as bytes, so that none is lost."""
    character_coverage: float = 0.9995
    """The share of the text's characters that get a token of their own."""
    split_digits: bool = True
    """Each digit is a token, so that numbers are copied and not remembered."""
    normalize: Literal["nfc", "nfkc", "none"] = "nfc"
    """Unicode normal form. nfkc folds look-alikes such as full-width letters, and loses the difference."""

    tags: tuple[str, ...] = ()
    """Tokens that may stand before a source and that no text can hold, such as <2de>. A recipe adds what it needs."""
    sampling: float = 0.0
    """Above 0, training sees other subwords of a text each time: bpe leaves out each merge with this probability (Provilkov et
    al., 2020: 0.1), unigram draws with this exponent (Kudo, 2018: 0.1 to 0.5). Never when translating."""

    def __post_init__(self) -> None:
        smallest = len(SPECIAL) + len(self.tags) + 1 + (256 if self.byte_fallback else 0)
        require(
            (self.vocab_size > smallest, f"vocab_size is {self.vocab_size}, special tokens and bytes alone take {smallest}"),
            (0 <= self.sampling < 1, f"sampling is {self.sampling}, it must be at least 0 and below 1"),
            (
                self.kind != "char" or not self.sampling,
                "sampling draws subwords, and characters have none: choose bpe or unigram",
            ),
            (
                len({*self.tags, *SPECIAL}) == len(self.tags) + len(SPECIAL) and not set("".join(self.tags)) & set(" ,"),
                f"tags are {' '.join(self.tags)}, each must be one word without a comma, there once, and no special token",
            ),
            (0.9 <= self.character_coverage <= 1.0, f"character_coverage is {self.character_coverage}, it must be from 0.9 to 1"),
        )


class Tokenizer:
    """Text <-> token ids. Encoded text ends with EOS; decoding leaves special tokens out.

    Attributes:
        said: the tags, with spaces between, that stand before every source.
    """

    said = ""

    def __init__(self, config: TokenizerConfig, source_model: bytes, target_model: bytes) -> None:
        self.config = config
        self._models = (source_model, target_model)
        self._source = _processor(source_model)
        self._target = self._source if target_model == source_model else _processor(target_model)
        self._drawers: dict[int, SubwordDrawer] = {}

    @property
    def source_vocab_size(self) -> int:
        return int(self._source.get_piece_size())

    @property
    def target_vocab_size(self) -> int:
        return int(self._target.get_piece_size())

    def source_pieces(self) -> list[str]:
        """The text of each source token, by id."""
        return [self._source.id_to_piece(i) for i in range(self.source_vocab_size)]

    def target_pieces(self) -> list[str]:
        return [self._target.id_to_piece(i) for i in range(self.target_vocab_size)]

    def saying(self, tags: str) -> "Tokenizer":
        """The same, with these tags before each source.

        Raises:
            BundleProblem: it has no such tag.
        """
        if unknown := set(tags.split()) - set(self.config.tags):
            raise BundleProblem(
                f"the tokenizer has no {' '.join(sorted(unknown))}, it knows {' '.join(self.config.tags) or 'no tags'}",
                "begin with a vocabulary that has it: tokenizer.tags=[…] when that is learned",
            )
        other = copy.copy(self)
        other.said = tags
        return other

    def tags_before(self, ids: Sequence[int]) -> int:
        """How many tags stand before a source."""
        tags = self._tag_ids
        return next((place for place, i in enumerate(ids) if i not in tags), len(ids))

    @cached_property
    def _tag_ids(self) -> frozenset[int]:
        return frozenset(int(self._source.piece_to_id(tag)) for tag in self.config.tags)

    def encode_source(self, texts: Sequence[str], tags: Sequence[str] | None = None) -> list[list[int]]:
        """Ids of each text, after those of `said` and of its own tags."""
        return self._tagged(self._encode(self._source, texts), tags)

    def encode_target(self, texts: Sequence[str]) -> list[list[int]]:
        return self._encode(self._target, texts)

    def draw_source(self, texts: Sequence[str], seeds: Sequence[str], tags: Sequence[str] | None = None) -> list[list[int]]:
        """As `encode_source`, with subwords drawn as `sampling` says; the seed of a text draws the same every time."""
        return self._tagged(self._draw(self._source, texts, seeds), tags)

    def draw_target(self, texts: Sequence[str], seeds: Sequence[str]) -> list[list[int]]:
        return self._draw(self._target, texts, seeds)

    def decode_target(self, ids: Sequence[Sequence[int]]) -> list[str]:
        decoded: list[str] = self._target.decode([[i for i in row if i not in (PAD, BOS, EOS)] for row in ids])
        return [text.replace(SPACE_MARK_STAND_IN, SPACE_MARK) for text in decoded]

    def _encode(self, processor: Any, texts: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = processor.encode([normalise(text, self.config.normalize) for text in texts])
        for row in encoded:
            row.append(EOS)
        return encoded

    def _tagged(self, rows: list[list[int]], tags: Sequence[str] | None) -> list[list[int]]:
        """Nothing stands before a text that is nothing."""
        tags = tags or [""] * len(rows)
        ids = {own: [int(self._source.piece_to_id(tag)) for tag in f"{self.said} {own}".split()] for own in set(tags)}
        return [ids[own] + row if len(row) > 1 else row for own, row in zip(tags, rows, strict=True)]

    def _draw(self, processor: Any, texts: Sequence[str], seeds: Sequence[str]) -> list[list[int]]:
        if id(processor) not in self._drawers:
            self._drawers[id(processor)] = SubwordDrawer(processor, self.config.kind, self.config.sampling)
        drawer = self._drawers[id(processor)]
        return [[*drawer(normalise(text, self.config.normalize), seed), EOS] for text, seed in zip(texts, seeds, strict=True)]

    @classmethod
    def train(cls, config: TokenizerConfig, sources: Iterable[str], targets: Iterable[str]) -> "Tokenizer":
        """Learn the subwords of texts."""
        if config.joint:
            model = _train(config, chain(sources, targets))
            return cls(config, model, model)
        return cls(config, _train(config, sources), _train(config, targets))

    @classmethod
    def for_corpus(cls, config: TokenizerConfig, corpus: Corpus) -> "Tokenizer":
        """As `train`, on a sample of the training split and with its tags, but remembered: the same settings and text give the cached tokenizer."""
        data = corpus.splits["train"]
        config = replace(config, tags=tuple(dict.fromkeys((*config.tags, *corpus.tags))))
        key = digest_of(plain(config), corpus.key("train"))

        def write(folder: Path) -> None:
            sides = (texts_of(data, column, SAMPLE) for column in ("source", "target"))
            cls.train(config, *sides).save(folder)

        return cls.load(remembered("tokenizers", key, write))

    def fingerprint(self) -> str:
        """What tells this tokenizer from others: SHA-256 of its models."""
        return hashlib.sha256(b"".join(hashlib.sha256(model).digest() for model in self._models)).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and one or two SentencePiece models into `folder`."""
        joint = self._models[0] == self._models[1]
        folder.mkdir(exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(plain(self.config), indent=2) + "\n", encoding="utf-8")
        for name, model in zip(("joint",) if joint else ("source", "target"), self._models, strict=False):
            (folder / f"{name}.model").write_bytes(model)

    @classmethod
    def load(cls, folder: Path) -> "Tokenizer":
        """Raises BundleProblem if a file is missing or is not what it should be."""
        joint = folder / "joint.model"
        names = (joint, joint) if joint.is_file() else (folder / "source.model", folder / "target.model")
        try:
            settings = json.loads(_read(folder / SETTINGS))
            models = [_read(name) for name in names]
            return cls(build(TokenizerConfig, settings, "tokenizer"), models[0], models[1])
        except (OSError, ValueError, RuntimeError) as error:
            files = ", ".join(str(name) for name in dict.fromkeys(names))
            raise BundleProblem(f"the tokenizer cannot be read from {files} ({error})", "copy or make it again") from None


def _read(path: Path) -> bytes:
    if path.stat().st_size > _LARGEST:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes, no tokenizer has more than {_LARGEST:,}")
    return path.read_bytes()


def normalise(text: str, form: str) -> str:
    """The form of a text that the model sees: one Unicode normal form, and every white space or control character a space."""
    if form != "none":
        text = unicodedata.normalize("NFC" if form == "nfc" else "NFKC", text)
    text = text.replace(SPACE_MARK, SPACE_MARK_STAND_IN)
    if text.isprintable():
        return text
    return (
        "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp", "Zs") or c == "\ufeff" else c for c in text)
        .encode("utf-8", "replace")
        .decode()
    )


def _processor(model: bytes) -> Any:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
    if ids != (PAD, BOS, EOS, UNK):
        raise BundleProblem(f"the SentencePiece model numbers its special tokens {ids}, expected {(PAD, BOS, EOS, UNK)}")
    return processor


def _pieces(text: str) -> Iterator[str]:
    """The text in pieces short enough for SentencePiece, which would leave out a longer one."""
    return (text[start : start + LONGEST] for start in range(0, len(text), LONGEST))


def _train(config: TokenizerConfig, texts: Iterable[str]) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(piece for text in texts for piece in _pieces(normalise(text, config.normalize))),
            model_writer=model,
            model_type=config.kind,
            vocab_size=config.vocab_size,
            hard_vocab_limit=False,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            split_digits=config.split_digits,
            control_symbols=",".join(config.tags),
            normalization_rule_name="identity",
            max_sentence_length=1 << 20,
            num_threads=1,
            pad_id=PAD,
            bos_id=BOS,
            eos_id=EOS,
            unk_id=UNK,
            minloglevel=2,
        )
    except RuntimeError as error:
        if needed := re.search(r"smaller than required_chars\. \d+ vs (\d+)", str(error)):
            raise ConfigProblem(
                f"vocab_size is {config.vocab_size}, and the characters of this text take {needed[1]} tokens by themselves",
                f"tokenizer.vocab_size={2 * int(needed[1])}",
            ) from None
        raise DataProblem(
            f"the tokenizer cannot be trained: {error}", "check the corpus, or choose another tokenizer.vocab_size"
        ) from None
    return model.getvalue()
