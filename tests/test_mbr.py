"""Utilities against sacreBLEU, pair by pair; and the choice among candidates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import CHRF

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.sampling import Sampling
from seq2seq.errors import ConfigProblem
from seq2seq.mbr import MinimumBayesRisk, bleu, chrf
from seq2seq.model.transformer import Transformer
from seq2seq.translator import Translator

TEXTS = st.lists(st.text(alphabet="ab cé.", max_size=14), min_size=1, max_size=6)


@settings(max_examples=60)
@given(texts=TEXTS)
def test_chrf_is_sacrebleus(texts: list[str]) -> None:
    metric = CHRF()
    for row, hypothesis in zip(chrf(texts), texts, strict=True):
        assert list(row) == pytest.approx([metric.sentence_score(hypothesis, [reference]).score for reference in texts], abs=1e-4)


def test_bleu_by_hand() -> None:
    found = bleu(["a b c d", "a b c e", "a b"])
    assert found[0, 0] == pytest.approx(100)
    # 3 of 4 words; 2+1 of 3+1 pairs, 1+1 of 2+1 triples, 0+1 of 1+1 of four.
    assert found[0, 1] == pytest.approx(100 * (3 / 4 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert found[2, 0] == pytest.approx(100 * 2.718281828 ** (1 - 4 / 2))  # all it says is there, but it is half as long


def test_chooses_what_most_agree_on() -> None:
    texts = ["a dog runs", "a cat sat", "the dog runs", "a cat", "the dog runs", "the dog ran"]
    ((best, utility),) = MinimumBayesRisk().rank(texts, [-1.0] * 6)
    assert best == 2
    assert 0 < utility < 100
    three = MinimumBayesRisk(n_best=3).rank(texts, [-1.0] * 6)
    assert three[0] == (best, utility)
    assert len({texts[place] for place, _ in three}) == 3


def test_samples_count_by_how_often_they_were_drawn_and_what_a_beam_finds_by_its_probability() -> None:
    texts, log_probabilities = ["a dog runs", "a cat sat", "a cat sits"], [math.log(0.6), math.log(0.2), math.log(0.1)]
    expected = chrf(texts) @ (np.array([6, 2, 1]) / 9)
    ((best, utility),) = MinimumBayesRisk(BeamSearch(3, n_best=3)).rank(texts, log_probabilities)
    assert (best, utility) == (int(expected.argmax()), pytest.approx(expected.max()))
    ((often, _),) = MinimumBayesRisk().rank([texts[0]] * 3 + [texts[1]], [math.log(0.1)] * 3 + [math.log(0.9)])
    ((rarely, _),) = MinimumBayesRisk().rank(texts, log_probabilities)
    assert best == 0
    assert often == 0
    assert rarely > 0  # two cats against a dog


@pytest.mark.parametrize("utility", ["chrf", "bleu"])
def test_through_the_translator(random_model: Transformer, tokenizer: Tokenizer, utility: str) -> None:
    bundle = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    search = MinimumBayesRisk(Sampling(8, lengths=LengthLimits(1, 3)), utility, n_best=2)  # type: ignore[arg-type]
    translations = [list(Translator(bundle, search, size).stream(["one two", "", "three " * 60])) for size in (1, 4)]
    assert translations[0] == translations[1]
    assert translations[0][0].text
    assert translations[0][1].text == ""
    assert len(translations[0][0].candidates) == 2


@pytest.mark.parametrize("n_best", [0, -1, 9])
def test_no_more_and_no_fewer_are_wanted_than_there_are(n_best: int) -> None:
    with pytest.raises(ConfigProblem, match="from 1 to the 8"):
        MinimumBayesRisk(Sampling(8), n_best=n_best)
