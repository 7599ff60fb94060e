"""The choice among candidates by what models of the other direction think of them."""

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.directions import tag
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
from seq2seq.errors import BundleProblem, ConfigProblem
from seq2seq.inference.engine import TorchEngine
from seq2seq.inference.forced import token_log_probabilities
from seq2seq.mbr import MinimumBayesRisk
from seq2seq.model.transformer import Transformer
from seq2seq.noisy_channel import NoisyChannel
from seq2seq.translator import Translator
from seq2seq.wording import Glossary, Wording
from tests.conftest import counting_pairs, small_config

LINES = ["one two", "", "three", "four five six"]


def made(
    tokenizer: Tokenizer, seed: int, source: str = "de", target: str = "en", directions: Sequence[tuple[str, str]] = ()
) -> Bundle:
    """An untrained model."""
    torch.manual_seed(seed)
    config = small_config(source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    return Bundle(BundleConfig(source, target, config, tuple(directions)), Transformer(config).eval(), tokenizer)


@pytest.fixture
def backward(tokenizer: Tokenizer, tmp_path: Path) -> list[str]:
    for seed in (1, 2):
        made(tokenizer, seed).save(tmp_path / str(seed))
    return [str(tmp_path / "1"), str(tmp_path / "2")]


def beam(n_best: int) -> BeamSearch:
    return BeamSearch(6, n_best=n_best, lengths=LengthLimits(1, 3))


@pytest.mark.parametrize("count", [1, 2])
def test_adds_what_the_models_give_the_source(
    random_model: Transformer, tokenizer: Tokenizer, backward: list[str], count: int
) -> None:
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    models = [Bundle.load(folder).model for folder in backward[:count]]
    channel = NoisyChannel(tuple(backward[:count]), 5.0, beam(6), n_best=3)
    proposed, chosen = (list(Translator(forward, search).stream(LINES)) for search in (beam(6), channel))
    changed = False
    for line, before, after in zip(LINES, proposed, chosen, strict=True):
        if not line:
            assert after.text == ""
            continue
        (wanted,) = tokenizer.encode_target([line])
        expected: dict[str, float] = {}
        length = len(TorchEngine([random_model]).search(beam(6), tokenizer.encode_source([line]))[0][0].tokens) + 1
        for candidate in before.candidates:
            read = tokenizer.encode_source([candidate.text])
            by_model = [token_log_probabilities([model], read, [wanted])[0] for model in models]
            tokens = (math.log(math.fsum(map(math.exp, of_token)) / count) for of_token in zip(*by_model, strict=True))
            expected.setdefault(candidate.text, candidate.score + 5.0 * math.fsum(tokens) / ((5 + length) / 6) ** 0.6)
        best = sorted(expected, key=lambda text: -expected[text])[:3]
        assert [candidate.text for candidate in after.candidates] == best
        assert [candidate.score for candidate in after.candidates] == pytest.approx([expected[text] for text in best], abs=1e-4)
        changed |= best[0] != before.text
    assert changed


def test_without_weight_the_beam_decides(random_model: Transformer, tokenizer: Tokenizer, backward: list[str]) -> None:
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    channel = NoisyChannel((backward[0],), 0.0, beam(6), n_best=6)
    proposed, chosen = ([t.text for t in Translator(forward, search).stream(LINES)] for search in (beam(6), channel))
    assert proposed == chosen


def test_one_folder_is_one(random_model: Transformer, tokenizer: Tokenizer, backward: list[str]) -> None:
    assert NoisyChannel(backward[0]).bundles == NoisyChannel((backward[0],)).bundles == (backward[0],)


def test_with_a_beginning_a_term_and_an_explanation(random_model: Transformer, tokenizer: Tokenizer, backward: list[str]) -> None:
    """What is wished of the search holds for what is chosen, and what is chosen is explained."""
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    wording = Wording(glossary=Glossary((("two", "zwei"),)), explain=True)
    translator = Translator(forward, NoisyChannel(backward[0], 50.0, BeamSearch(8, n_best=8)), wording=wording)
    (chosen,) = translator.translate_block(["one two"], ["drei"])
    assert chosen.text.startswith("drei")
    assert "zwei" in chosen.text.split()
    assert chosen.explanation is not None
    assert " ".join(chosen.explanation.target_words) == chosen.text


def test_a_split_line_is_chosen_in_parts_and_too_little_memory_is_said(
    random_model: Transformer, tokenizer: Tokenizer, backward: list[str]
) -> None:
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    (chosen,) = Translator(forward, NoisyChannel(backward[0], candidates=beam(6))).translate_block(["one two three. " * 40])
    assert "LONG_SPLIT" in chosen.codes
    assert chosen.text

    class NoMemory:
        def search(self, search: object, sources: Sequence[object], wishes: object = ()) -> list[list[object]]:
            return [[] for _ in sources]

    without = Translator(forward, NoisyChannel(backward[0], candidates=beam(6)), engine=NoMemory())  # type: ignore[arg-type]
    assert without.translate_block(["one", ""])[0].codes == ("MEMORY",)


def test_what_the_models_have_no_room_for_stays_as_it_was(
    random_model: Transformer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    config = small_config(
        source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size, max_length=4
    )
    Bundle(BundleConfig("de", "en", config), Transformer(config), tokenizer).save(tmp_path / "short")
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    line = "one two three four five six seven eight"
    assert len(tokenizer.encode_target([line])[0]) > 4
    channel = NoisyChannel((str(tmp_path / "short"),), candidates=beam(6))
    proposed, chosen = (Translator(forward, search).translate_block([line])[0] for search in (beam(6), channel))
    assert chosen.candidates == proposed.candidates[:1]


def test_a_model_of_several_directions_is_asked_for_the_right_one(random_model: Transformer, tmp_path: Path) -> None:
    pairs = counting_pairs(200)
    config = TokenizerConfig(vocab_size=340, tags=(tag("en"), tag("de")))
    tokenizer = Tokenizer.train(config, [s for s, _ in pairs], [t for _, t in pairs])
    both = made(tokenizer, 3, "en", "de", (("en", "de"), ("de", "en")))
    both.save(tmp_path / "both")
    search = BeamSearch(6, n_best=6, length_penalty=LengthPenalty("none"), lengths=LengthLimits(1, 3))
    channel = NoisyChannel((str(tmp_path / "both"),), candidates=search)
    (chosen,) = Translator(both.toward(("en", "de")), channel).translate_block(["one two"])
    (proposed,) = Translator(both.toward(("en", "de")), search).translate_block(["one two"])
    back = both.toward(("de", "en"))
    scores = []
    for candidate in proposed.candidates:
        read, wanted = back.tokenizer.encode_source([candidate.text]), back.tokenizer.encode_target(["one two"])
        scores.append(candidate.score + 0.25 * sum(token_log_probabilities([back.model], read, wanted)[0]))
    assert chosen.candidates[0].score == pytest.approx(max(scores), abs=1e-5)


def test_what_cannot_translate_back(random_model: Transformer, tokenizer: Tokenizer, backward: list[str], tmp_path: Path) -> None:
    forward = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    with pytest.raises(ConfigProblem, match="needs a model that translates back, de to en"):
        Translator(forward, NoisyChannel())
    made(tokenizer, 1, "en", "de").save(tmp_path / "there")
    with pytest.raises(ConfigProblem, match="there does not know de to en"):
        Translator(forward, NoisyChannel((str(tmp_path / "there"),)))
    with pytest.raises(BundleProblem):
        Translator(forward, NoisyChannel((str(tmp_path / "nowhere"),)))
    pairs = counting_pairs(100, 3)
    other = Tokenizer.train(TokenizerConfig(vocab_size=330), [s for s, _ in pairs], [t for _, t in pairs])
    made(other, 1).save(tmp_path / "other")
    with pytest.raises(BundleProblem, match="different tokenizers"):
        Translator(forward, NoisyChannel((backward[0], str(tmp_path / "other"))))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"n_best": 21}, "from 1 to the 20"),
        ({"weight": -1.0}, "not negative"),
        ({"weight": math.nan}, "not negative"),
        ({"candidates": BeamSearch(4, coverage=0.2)}, "coverage ranks candidates"),
        ({"candidates": MinimumBayesRisk(n_best=5)}, "candidates is MinimumBayesRisk"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigProblem, match=said):
        NoisyChannel(("a",), **settings)  # type: ignore[arg-type]
