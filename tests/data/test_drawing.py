"""Against SentencePiece's own encoding, and against all cuts of a word."""

import math
import subprocess
import sys
from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.drawing import SubwordDrawer, bpe_dropout, unigram_sampling
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig, normalise
from tests.conftest import counting_pairs

TEXT = st.lists(st.sampled_from("one two three seven vier fünf x ß 漢字 😀 12,345 a\u2581b".split()), max_size=6).map(" ".join)


def tokenizer(kind: str, sampling: float) -> Tokenizer:
    pairs = counting_pairs(200)
    config = TokenizerConfig(kind=kind, vocab_size=340, sampling=sampling)  # type: ignore[arg-type]
    return Tokenizer.train(config, [s for s, _ in pairs], [t for _, t in pairs])


BPE, DROPPED, DRAWN = (tokenizer(kind, sampling) for kind, sampling in (("bpe", 0.0), ("bpe", 0.3), ("unigram", 0.2)))


@given(TEXT)
def test_without_dropout_it_is_bpe(text: str) -> None:
    assert BPE.draw_source([text], ["1"]) == BPE.encode_source([text])


@given(TEXT)
def test_with_a_great_exponent_it_is_the_most_probable_cut(text: str) -> None:
    drawn = SubwordDrawer(DRAWN._target, "unigram", 200.0)(normalise(text, "nfc"), "1")
    assert drawn == DRAWN.encode_target([text])[0][:-1]


@given(TEXT, st.text(max_size=3))
def test_what_is_drawn_says_the_same_and_depends_on_the_seed_alone(text: str, seed: str) -> None:
    for drawing in (DROPPED, DRAWN):
        drawn = drawing.draw_target([text], [seed])
        assert drawing.decode_target(drawn) == drawing.decode_target(drawing.encode_target([text]))
        assert drawing.draw_target([text], [seed]) == drawn


def test_another_process_draws_the_same() -> None:
    """SentencePiece's own drawing would not."""
    asked = "[t.draw_source(['seven three vier'] * 3, ['a', 'b', 'a']) for t in (DROPPED, DRAWN)]"
    program = f"from tests.data.test_drawing import DROPPED, DRAWN; print({asked})"
    said = {subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    drawn = [t.draw_source(["seven three vier"] * 3, ["a", "b", "a"]) for t in (DROPPED, DRAWN)]
    assert said == {f"{drawn}\n"}
    assert all(rows[0] == rows[2] for rows in drawn)
    assert any(rows[0] != rows[1] for rows in drawn)


def test_cuts_are_drawn_as_often_as_their_probability_says() -> None:
    scores = {"a": -1.0, "b": -2.0, "ab": -2.5, "ba": -4.0, "aba": -3.0}
    cuts = {("a", "b", "a"): -4.0, ("ab", "a"): -3.5, ("a", "ba"): -5.0, ("aba",): -3.0}
    total = sum(math.exp(0.5 * score) for score in cuts.values())
    draw, random = unigram_sampling(scores, 0.5), Random(1)
    found = Counter(tuple(draw("aba", random)) for _ in range(20_000))
    for cut, score in cuts.items():
        assert found[cut] / 20_000 == pytest.approx(math.exp(0.5 * score) / total, abs=0.015)


def test_a_merge_is_left_out_as_often_as_asked() -> None:
    draw, random = bpe_dropout({"ab": -1.0}, 0.25), Random(1)
    found = Counter(len(draw("ab", random)) for _ in range(20_000))
    assert found[2] / 20_000 == pytest.approx(0.25, abs=0.015)
