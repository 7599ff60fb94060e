"""Pairs that bundles make."""

from pathlib import Path

import pytest
import sacrebleu
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from seq2seq.recipes.files import Files

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.inference.native import Native
from seq2seq.model.transformer import Transformer
from seq2seq.synthetic import Synthetic, dealt, nearest
from tests.conftest import counting_pairs, write_corpus


@pytest.fixture
def bundles(tmp_path: Path, random_model: Transformer, tokenizer: Tokenizer) -> list[str]:
    """Of two models that translate differently."""
    folders = []
    for name in ("a", "b"):
        model = Transformer(random_model.config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        Bundle(BundleConfig("en", "de", model.config), model, tokenizer).save(tmp_path / name)
        folders.append(str(tmp_path / name))
    return folders


def test_each_of_several_bundles_translates_its_fold(tmp_path: Path, bundles: list[str]) -> None:
    pairs = counting_pairs(11)
    train = write_corpus(tmp_path, "train", pairs)
    files = Files("en", "de", train=str(train), validation=str(train))

    def made(forward: str) -> list[str | None]:
        """A translation for each source, but where a model says nothing."""
        search = BeamSearch(2, lengths=LengthLimits(1, 3))
        recipe = Synthetic("en", "de", files, search, Native("float32", workers=1), (forward,), keep=False)
        train = recipe.load().splits["train"]
        translations = dict(zip(train["source"], train["target"], strict=True))
        return [translations.get(source) for source, _ in pairs]

    a, b = map(made, bundles)
    assert sum(one != other for one, other in zip(a, b, strict=True)) > 5
    assert made("|".join(bundles)) == [(a, b)[i % 2][i] for i in range(11)]
    assert made("|".join([*bundles, bundles[0]])) == [(a, b, a)[i % 3][i] for i in range(11)]


@given(st.lists(st.text()), st.integers(1, 9))
def test_what_is_dealt_out_comes_back_in_order(lines: list[str], count: int) -> None:
    assert list(dealt([iter(lines[hand::count]) for hand in range(count)])) == lines


@settings(max_examples=50)
@given(
    st.lists(st.text(alphabet="ab c", min_size=1, max_size=9), min_size=1, max_size=5),
    st.text(alphabet="ab c", min_size=1, max_size=9),
)
def test_the_nearest_text_has_the_best_chrf(texts: list[str], wanted: str) -> None:
    scores = [sacrebleu.sentence_chrf(text, [wanted], eps_smoothing=False).score for text in texts]
    assert scores[texts.index(nearest(texts, wanted))] == pytest.approx(max(scores))
