"""Noise on words, and where it comes in."""

from pathlib import Path
from random import Random

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from seq2seq.recipes.denoising import Denoising
from seq2seq.recipes.files import Files

from seq2seq.data.directions import by_direction
from seq2seq.data.noise import Noise
from seq2seq.data.text import words_of
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.errors import ConfigProblem
from seq2seq.symbols import EOS, UNK
from seq2seq.training.data import DrawnPairs, SourceNoise
from tests.conftest import counting_pairs, write_corpus

WORDS = st.lists(st.integers(), min_size=1, max_size=30, unique=True)


@given(WORDS, st.integers(0, 5), st.integers())
def test_no_word_moves_further_than_it_may(words: list[int], shuffle: int, seed: int) -> None:
    moved = Noise(shuffle=shuffle)(words, -1, Random(seed))
    assert sorted(moved) == sorted(words)
    assert all(abs(words.index(word) - place) <= shuffle for place, word in enumerate(moved))


@given(WORDS, st.integers())
def test_what_is_left_keeps_its_order_and_is_something(words: list[int], seed: int) -> None:
    left = Noise(drop=0.9)(words, -1, Random(seed))
    assert left
    places = [words.index(word) for word in left]
    assert places == sorted(places)


def test_shares_are_as_asked() -> None:
    words = list(range(20_000))
    left = Noise(drop=0.2, blank=0.3)(words, -1, Random(1))
    assert len(left) == pytest.approx(16_000, rel=0.03)
    assert left.count(-1) == pytest.approx(4_800, rel=0.05)


@pytest.mark.parametrize("wrong", [{"drop": 1.0}, {"blank": -0.1}, {"shuffle": -1}, {"copies_only": True}])
def test_noise_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigProblem):
        Noise(**wrong)  # type: ignore[arg-type]


def test_words_begin_where_they_are_said_to() -> None:
    assert words_of([1, 2, 2, 1, 1], [False, True, False]) == [[1, 2, 2], [1], [1]]
    assert words_of([0, 1, 0], [False, True]) == [[0], [1, 0]]


@pytest.mark.parametrize("sampling", [0.0, 0.2])
def test_training_sees_other_noise_each_time_and_the_same_for_the_same_batch(sampling: float) -> None:
    pairs = counting_pairs(60)
    rows = [(source, source if i % 2 else target) for i, (source, target) in enumerate(pairs)]
    config = TokenizerConfig(vocab_size=340, tags=("<2de>", "<bt>"), sampling=sampling)
    tokenizer = Tokenizer.train(config, [s for s, _ in pairs], [t for _, t in pairs]).saying("<2de>")
    data = {"source": [s for s, _ in rows], "target": [t for _, t in rows], "tags": ["<bt>"] * len(rows)}
    tokens = TokenPairs(
        TokenRows(tokenizer.encode_source(data["source"], data["tags"])), TokenRows(tokenizer.encode_target(data["target"]))
    )
    texts, wanted = Dataset.from_dict(data), list(range(40))

    def batch(number: int, noise: Noise | None) -> list[list[int]]:
        made = SourceNoise(noise, tokenizer, "en") if noise else None
        found = DrawnPairs(tokens, texts, tokenizer, 1, 64, made).batch(np.array(wanted), number)
        return [[i for i in row if i] for row in found.source.tolist()]

    plain, noise = batch(0, None), Noise(drop=0.2, blank=0.2, shuffle=2)
    first = batch(0, noise)
    assert first == batch(0, noise) != batch(1, noise)
    assert all(row[:2] == before[:2] and row[-1] == EOS for row, before in zip(first, plain, strict=True))
    assert any(UNK in row for row in first)
    copies = batch(0, Noise(blank=0.9, copies_only=True))
    assert all(copies[i] == plain[i] for i in wanted[::2])
    assert sum(UNK in copies[i] for i in wanted[1::2]) > 15


def test_a_language_without_spaces_loses_tokens() -> None:
    """Each source by its own language; the end and tags stay."""
    tokenizer = Tokenizer.train(
        TokenizerConfig(kind="char", vocab_size=340, tags=("<2zh>",)), ["一二三四五六七八"] * 9, ["one two"] * 9
    )
    noise = SourceNoise(Noise(blank=0.5), tokenizer, "en")
    (ids,) = tokenizer.saying("<2zh>").encode_source(["一二三四五六七八"])
    by_token, by_word = (noise(ids, True, "1", direction) for direction in ("zh-zh", None))
    assert len(by_token) == len(ids)
    assert 0 < by_token.count(UNK) < len(ids) - 3
    assert by_token[0] == ids[0]
    assert by_word in (ids, [ids[0], UNK, EOS])


def test_denoising_is_each_side_by_itself(tmp_path: Path) -> None:
    train, held = write_corpus(tmp_path, "train", counting_pairs(30)), write_corpus(tmp_path, "val", counting_pairs(20, 9))
    (tmp_path / "more.de").write_text("elf\nzwölf\n")
    recipe = Denoising("en", "de", Files("en", "de", train=str(train), validation=str(held)), {"de": str(tmp_path / "more.de")})
    corpus = recipe.load(("train", "validation"))
    parts = dict(by_direction(corpus.splits["train"], ("en", "en")))
    assert {direction: len(data) for direction, data in parts.items()} == {("en", "en"): 30, ("de", "de"): 32}
    assert all(data["source"][:] == data["target"][:] for data in parts.values())
    assert parts["de", "de"]["source"][-1] == "zwölf"
    validation = corpus.splits["validation"]
    assert validation["source"][:] != validation["target"][:]
    assert validation["source"][:] == recipe.load(("validation",)).splits["validation"]["source"][:]
