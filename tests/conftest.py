"""Shared by all tests: a cache of their own, and small things to test with."""

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch

from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from tests.promises.children import SOAK

# A busy machine is no failure. The cases drawn are the same in every run but a soak, which looks for new ones.
hypothesis.settings.register_profile("ours", deadline=None, derandomize=not SOAK)
hypothesis.settings.load_profile("ours")

BFLOAT16 = bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())
"""Whether this processor has fast products in bfloat16; oneDNN makes them of AVX-512 and newer instructions."""
PRECISIONS = ("float32", "bfloat16", "int8") if BFLOAT16 else ("float32", "int8")
"""Of products with weights that do not change."""


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQ2SEQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("SEQ2SEQ_DATA", raising=False)
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


def small_config(**changes: object) -> TransformerConfig:
    """A Transformer small enough to compare number by number."""
    settings: dict[str, object] = dict(
        source_vocab_size=40, target_vocab_size=40, layers=2, d_model=16, heads=4, d_feedforward=32, max_length=64, dropout=0.0
    )
    return TransformerConfig(**(settings | changes))  # type: ignore[arg-type]


def ids(rows: int, length: int, vocabulary: int = 40) -> torch.Tensor:
    """Random token ids without special tokens."""
    return torch.randint(4, vocabulary, (rows, length))


NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
ZAHLEN = ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"]


def counting_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Made-up parallel text: numbers in English and German."""
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    for _ in range(count):
        picked = torch.randint(0, 10, (int(torch.randint(1, 6, (1,), generator=generator)),), generator=generator).tolist()
        pairs.append((" ".join(NUMBERS[i] for i in picked), " ".join(ZAHLEN[i] for i in picked)))
    return pairs


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    pairs = counting_pairs(200)
    return Tokenizer.train(TokenizerConfig(vocab_size=340), [s for s, _ in pairs], [t for _, t in pairs])


@pytest.fixture(scope="session")
def random_model(tokenizer: Tokenizer) -> Transformer:
    """An untrained model that fits the tokenizer."""
    torch.manual_seed(7)
    return Transformer(
        small_config(source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    ).eval()


def write_corpus(folder: Path, name: str, pairs: list[tuple[str, str]], languages: tuple[str, str] = ("en", "de")) -> Path:
    """Two parallel files; returns their prefix."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, language in enumerate(languages):
        (folder / f"{name}.{language}").write_text("".join(pair[side] + "\n" for pair in pairs), encoding="utf-8")
    return folder / name
