from dataclasses import replace

import pytest
import torch

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.loops import loops
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Hypothesis
from seq2seq.errors import BundleProblem
from seq2seq.inference.engine import TorchEngine
from seq2seq.model.transformer import Transformer
from seq2seq.translator import Translator
from tests.conftest import counting_pairs

SHORT = BeamSearch(3, lengths=LengthLimits(1, 3))


@pytest.fixture
def bundle(random_model: Transformer, tokenizer: Tokenizer) -> Bundle:
    return Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)


@pytest.fixture
def translator(bundle: Bundle) -> Translator:
    return Translator(bundle, SHORT)


def test_line_by_line_whatever_the_batch_size(bundle: Bundle) -> None:
    lines = [s for s, _ in counting_pairs(60)] + ["", "  ", "\u3000", "\u200b\t"] + [s for s, _ in counting_pairs(20, seed=3)]
    expected = [Translator(bundle, SHORT).translate([line])[0] for line in lines]
    for batch_size in (1, 7, 64):
        assert Translator(bundle, SHORT, batch_size).translate(lines) == expected
    for chunk in (1, 5, len(lines) - 1, len(lines), len(lines) + 1):
        found = Translator(bundle, SHORT, 4).stream(iter(lines), chunk)
        assert [translation.text for translation in found] == expected
    assert expected[60:64] == [""] * 4


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9])
def test_as_many_out_as_in(translator: Translator, count: int) -> None:
    translator.batch_size = 4
    lines = [s for s, _ in counting_pairs(count)]
    assert len(translator.translate(lines)) == count
    assert len(list(translator.stream(lines, chunk=4))) == count


def test_blank_lines_do_not_reach_the_model(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(translator.search), "__call__", lambda *_: pytest.fail("the model was asked"))
    assert translator.translate(["", " ", "\t", "\u00a0", "\u3000"]) == [""] * 5
    assert next(iter(translator.stream([""]))).codes == ("BLANK",)


def test_long_lines_are_split_and_rejoined_never_cut(translator: Translator) -> None:
    """A line of many times the model's length comes back as the translations of its parts, in order."""
    long = ". ".join(s for s, _ in counting_pairs(200)) + "."
    assert not translator._fits(translator.tokenizer.encode_source([long])[0])
    between = list(translator.stream(["one", long, "two"]))
    assert [t.codes[:1] == ("LONG_SPLIT",) for t in between] == [False, True, False]
    parts = [ids for _, ids in translator._split(long)]
    assert sum(len(part) - 1 for part in parts) == len(translator.tokenizer.encode_source([long])[0]) - 1
    assert all(translator._fits(part) for part in parts)
    assert between[1].text == " ".join(translator.translate(translator.tokenizer.decode_target(parts)))


def test_translations_are_one_line(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translator.tokenizer, "decode_target", lambda rows: ["a\nb\u2028c\rd\x0be"] * len(rows))
    try:
        assert translator.translate(["one"]) == ["a b c d e"]
    finally:
        monkeypatch.undo()


def test_n_best_come_best_first(bundle: Bundle) -> None:
    translator = Translator(bundle, replace(SHORT, n_best=3))
    for translation in translator.stream(["one two", "three"]):
        scores = [candidate.score for candidate in translation.candidates]
        assert len(scores) == 3
        assert scores == sorted(scores, reverse=True)
        assert translation.text == translation.candidates[0].text


def test_samples_too(bundle: Bundle) -> None:
    lines = ["one two", "three four five"]
    both = [Translator(bundle, Sampling(2, lengths=LengthLimits(1, 3)), size).translate(lines) for size in (1, 2)]
    assert both[0] == both[1]


def test_a_translation_that_reaches_the_limit_says_so(bundle: Bundle) -> None:
    limited = BeamSearch(2, lengths=LengthLimits(0, 2, 0, 2))
    assert next(iter(Translator(bundle, limited).stream(["one two three"]))).codes == ("LENGTH_CAP",)


def test_the_model_is_left_in_the_mode_it_was_in(bundle: Bundle) -> None:
    bundle.model.train()
    Translator(bundle, SHORT).translate(["one"])
    assert bundle.model.training
    bundle.model.eval()


def test_where_memory_is_short_batches_are_halved(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to one line; only a line that is too much by itself is given up, and said."""
    lines = [s for s, _ in counting_pairs(20)] + ["one " * 40]
    expected = Translator(bundle, SHORT).translate(lines)
    start = Transformer.start

    def short_of_memory(self: Transformer, source: torch.Tensor) -> object:
        if source.size(0) > 3 or source.size(1) > 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return start(self, source)

    monkeypatch.setattr(Transformer, "start", short_of_memory)
    found = list(Translator(bundle, SHORT).stream(lines))
    assert [translation.text for translation in found] == [*expected[:-1], ""]
    assert ["MEMORY" in translation.codes for translation in found] == [False] * 20 + [True]


def test_other_errors_of_torch_are_not_taken_for_memory(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(Transformer, "start", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        Translator(bundle, SHORT).translate(["one"])


@pytest.mark.parametrize(
    ("target", "source", "endless"),
    [
        ([5] * 7, [9] * 7, False),
        ([5] * 8, [9, 8, 7], True),
        ([5, 6] * 8, [9] * 7, False),
        ([5, 6] * 8, [9, 8, 7, 6], True),
        ([5, 6, 7, 8] * 8, list(range(9, 30)), True),
        ([4, *[5, 6, 7] * 8, 4], list(range(9, 30)), True),
        ([5] * 9, [9] * 9, False),
        (list(range(4, 45)), [9, 8], True),
        (list(range(4, 44)), [9, 8], False),
        ([], [], False),
    ],
)
def test_what_repeats_itself_without_end(target: list[int], source: list[int], endless: bool) -> None:
    """Eight times over, and more than the source does: eight zeros for eight zeros are none."""
    if target == [5, 6] * 8 and not endless:
        source = [9, 8] * 8
    assert loops(target, source) == endless


def test_an_endless_translation_is_made_again_without_repeats(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def repeating(self: TorchEngine, search: BeamSearch, sources: list[list[int]], wishes: object) -> list[list[Hypothesis]]:
        asked.append(search.no_repeats)
        tokens = [270, 271] * 20 if not search.no_repeats else [270, 271, 272]
        return [[Hypothesis(tokens, -1.0, -1.0)] for _ in sources]

    monkeypatch.setattr(TorchEngine, "search", repeating)
    found = list(Translator(bundle, SHORT).stream(["one", "two three"]))
    assert asked == [0, 3]
    assert all(translation.codes == ("LOOP",) for translation in found)
    assert {translation.text for translation in found} == set(bundle.tokenizer.decode_target([[270, 271, 272]]))


def test_bytes_that_are_no_text_are_flagged(translator: Translator) -> None:
    lines = ["one \ufffd two", "one \ud800 two", "one\x00two", "one"]
    codes = [{"BAD_UTF8", "CONTROL"} & set(translation.codes) for translation in translator.stream(lines)]
    assert codes == [{"BAD_UTF8"}, {"BAD_UTF8"}, {"CONTROL"}, set()]


def test_what_is_no_lines_of_text_is_refused(translator: Translator) -> None:
    with pytest.raises(TypeError, match="line 1, counted from 0, is of type bytes"):
        translator.translate(["a", b"b"])  # type: ignore[list-item]
    assert translator.translate(iter(["a", "b"])) == translator.translate(["a", "b"])
    with pytest.raises(TypeError, match="put it in a list"):
        translator.translate("one two")  # type: ignore[arg-type]


def test_a_long_beginning_is_no_repetition(bundle: Bundle) -> None:
    (found,) = Translator(bundle, BeamSearch(2, lengths=LengthLimits(0, 60))).translate_block(["one"], ["zwei " * 45])
    assert "LOOP" not in found.codes


def test_all_models_of_an_ensemble_translate_without_dropout(bundle: Bundle) -> None:
    config = replace(bundle.config.model, dropout=0.5)
    models = [Transformer(config) for _ in range(2)]
    for model in models:
        model.load_state_dict(bundle.model.state_dict())
    first, other = (replace(bundle, model=model) for model in models)
    lines = [s for s, _ in counting_pairs(20)]
    expected = Translator(first, SHORT, others=[replace(other, model=other.model.eval())]).translate(lines)
    for model in models:
        model.train()
    assert Translator(first, SHORT, others=[other]).translate(lines) == expected
    assert all(model.training for model in models)


def test_scores_that_are_no_numbers_are_not_taken_for_short_memory(bundle: Bundle) -> None:
    broken = Transformer(bundle.config.model).eval()
    with torch.no_grad():
        for weight in broken.parameters():
            weight.fill_(float("nan"))
    with pytest.raises(BundleProblem, match="no numbers"):
        Translator(replace(bundle, model=broken), SHORT).translate(["one"])
