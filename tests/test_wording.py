"""Wishes in words: what users write and what translations hold."""

import pickle
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.text import beginnings, runs, spelled, words_of
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Search
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.mbr import MinimumBayesRisk
from seq2seq.model.transformer import Transformer
from seq2seq.translator import Translator
from seq2seq.wording import Glossary, Wording, _reading_machine, _spelling, make_lexicon, phrase_tokens, says
from tests.conftest import NUMBERS, ZAHLEN, small_config

FROZEN = Path(__file__).parent / "frozen" / "0.1" / "bundle"
TERMS = Glossary.parse(["one two\tZwölf", "One\tEins", "", "three  \t drei mal drei"], "terms")
SEARCH = BeamSearch(4, lengths=LengthLimits(1.0, 20))


@pytest.fixture(scope="module")
def bundle(random_model: Transformer, tokenizer: Tokenizer) -> Bundle:
    return Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)


def test_a_glossary_finds_its_terms_whole_and_the_longest_first() -> None:
    assert TERMS.wanted("ONE two, one; three.", True) == ["Zwölf", "Eins", "drei mal drei"]
    assert TERMS.wanted("ones twothree", True) == []
    assert Glossary.parse(["猫\tcat"], "terms").wanted("黒い猫です", False) == ["cat"]
    assert says("Das ist Zwölf.", "Zwölf", True)
    assert not says("Zwölfte", "Zwölf", True)


@pytest.mark.parametrize("line", ["alone", "a\tb\tc", "\tb", "a\t "])
def test_a_line_that_is_no_pair_is_named(line: str) -> None:
    with pytest.raises(DataProblem, match="terms line 2"):
        Glossary.parse(["a\tb", line], "terms")


def test_two_translations_of_one_term_are_refused() -> None:
    two = Wording(Glossary.parse(["US\tUSA", "it\tes", "us\tuns"], "terms"))
    with pytest.raises(ConfigProblem, match="two translations of 'us': 'USA' and 'uns'"):
        two.check((True, True))
    two.check((False, True))  # there case makes a difference
    Wording(Glossary.parse(["US\tUSA", "us\tUSA"], "terms")).check((True, True))


def test_what_is_wanted_may_not_be_banned(bundle: Bundle) -> None:
    glossary = Glossary((("one", "sieben acht"),))
    with pytest.raises(ConfigProblem, match="wants 'sieben acht', and 'acht' is banned"):
        Translator(bundle, SEARCH, wording=Wording(glossary, ("neun", "acht")))
    Translator(bundle, SEARCH, wording=Wording(glossary, ("sieb", "")))


@pytest.mark.parametrize(
    ("search", "glossary", "prefixes", "said"),
    [
        (Sampling(), True, False, "samples cannot"),
        (MinimumBayesRisk(), True, False, "samples cannot"),
        (BeamSearch(4, groups=2), True, False, "groups cannot"),
        (BeamSearch(4, groups=2), False, True, None),
        (SEARCH, True, True, None),
    ],
)
def test_wishes_that_cannot_be_followed_are_refused_before_a_line_has_one(
    bundle: Bundle, search: Search, glossary: bool, prefixes: bool, said: str | None
) -> None:
    translator = Translator(bundle, search, wording=Wording(TERMS if glossary else None))
    with nullcontext() if said is None else pytest.raises(ConfigProblem, match=said):
        translator.try_wishes(prefixes)


@settings(max_examples=25)
@given(numbers=st.lists(st.integers(0, 9), min_size=1, max_size=5), asked=st.sets(st.integers(0, 9), max_size=3))
def test_terms_are_in_the_translation(bundle: Bundle, numbers: list[int], asked: set[int]) -> None:
    glossary = Glossary(tuple((NUMBERS[i], f"{ZAHLEN[i]} {ZAHLEN[9 - i]}") for i in asked))
    line = " ".join(NUMBERS[i] for i in numbers)
    (found,) = Translator(bundle, SEARCH, wording=Wording(glossary)).translate_block([line])
    for i in asked & set(numbers):
        assert re.search(rf"\b{ZAHLEN[i]} {ZAHLEN[9 - i]}\b", found.text)
    assert "TERM" not in found.codes


def test_a_term_for_which_there_is_no_room_is_flagged(bundle: Bundle) -> None:
    tight = BeamSearch(4, lengths=LengthLimits(0, 2))
    glossary = Glossary((("one", " ".join(ZAHLEN)),))
    (found,) = Translator(bundle, tight, wording=Wording(glossary)).translate_block(["one"])
    assert "TERM" in found.codes


@settings(max_examples=25)
@given(
    banned=st.sets(st.sampled_from(ZAHLEN), min_size=1, max_size=4),
    pair=st.tuples(st.sampled_from(ZAHLEN), st.sampled_from(ZAHLEN)),
    numbers=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    drawn=st.booleans(),
)
def test_nothing_banned_is_in_any_translation(
    bundle: Bundle, banned: set[str], pair: tuple[str, str], numbers: list[int], drawn: bool
) -> None:
    """However the tokens cut it: an untrained model cuts words in any way."""
    phrases = (*banned, " ".join(pair))
    search = Sampling(4, lengths=LengthLimits(1.0, 10)) if drawn else BeamSearch(4, 4, lengths=LengthLimits(1.0, 10))
    translator = Translator(bundle, search, wording=Wording(banned=phrases))
    (found,) = translator.translate_block([" ".join(NUMBERS[i] for i in numbers)])
    for candidate in found.candidates:
        assert not any(says(candidate.text, phrase, True) for phrase in phrases)


texts = st.text("ab\u2581.\u00e9", max_size=3)


@settings(max_examples=200)
@given(
    spellings=st.lists(texts, min_size=1, max_size=6),
    phrases=st.sets(st.text("ab\u2581.", min_size=1, max_size=4), min_size=1, max_size=3),
    tokens=st.lists(st.integers(0, 5), max_size=6),
    spaces=st.booleans(),
)
def test_the_machine_reads_as_a_regular_expression(
    spellings: list[str], phrases: set[str], tokens: list[int], spaces: bool
) -> None:
    """Forbidden is what brings a phrase to its end at the end of a token, or to its end and the end of its word within one."""
    machine = _reading_machine(spellings, phrases, spaces)
    state, text = 0, ""

    def ends(text: str, at: int, phrase: str) -> bool:
        start = at - len(phrase)
        if start < 0 or text[start:at] != phrase:
            return False
        return not (spaces and phrase[0].isalnum() and start > 0 and text[start - 1].isalnum())

    for token in tokens:
        token %= len(spellings)
        new = text + spellings[token]
        complete = any(ends(new, len(new), phrase) for phrase in phrases) and spellings[token] != ""
        passed = any(
            ends(new, at, phrase) and (not spaces or not new[at].isalnum())
            for phrase in phrases
            for at in range(len(text) + 1, len(new))
        )
        assert bool(machine.forbidden[state, token]) == (complete or passed)
        text, state = new, int(machine.following[state, token])


def test_bytes_spell_characters() -> None:
    assert [_spelling(piece) for piece in ("<0x41>", "<0xC3>", "</s>", "<", "\u2581a")] == ["A", "\uf7c3", "", "<", "\u2581a"]


def test_what_is_banned_may_not_be_said_in_bytes_either(bundle: Bundle) -> None:
    """A character without a token of its own is spelled as bytes."""
    lexicon = make_lexicon(bundle.tokenizer, True, ["\u03a9x"])
    ids = {piece: i for i, piece in enumerate(bundle.tokenizer.target_pieces())}
    assert lexicon.banned is not None
    state = 0
    for piece in ("\u2581", "<0xCE>", "<0xA9>"):
        assert not lexicon.banned.forbidden[state, ids[piece]]
        state = int(lexicon.banned.following[state, ids[piece]])
    assert lexicon.banned.forbidden[state, ids["<0x78>"]]


def test_texts_of_another_normal_form_are_the_same(bundle: Bundle) -> None:
    """Files from a Mac have \u00fc as two characters."""
    decomposed = "fu\u0308nf"
    wording = Wording(Glossary((("one", decomposed),)), explain=True)
    (found,) = Translator(bundle, SEARCH, wording=wording).translate_block(["one"])
    assert "f\u00fcnf" in found.text
    assert "TERM" not in found.codes
    (found,) = Translator(bundle, SEARCH, wording=Wording(banned=(decomposed,))).translate_block(["five"])
    assert "f\u00fcnf" not in found.text


def test_a_term_that_no_token_can_spell_is_flagged() -> None:
    pairs = [("a b", "\u732b\u304c\u597d\u304d"), ("b a", "\u72ac\u304c\u597d\u304d")] * 9
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=40, byte_fallback=False), [s for s, _ in pairs], [t for _, t in pairs])
    sizes = dict(source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    model = Transformer(small_config(**sizes)).eval()
    made = Bundle(BundleConfig("en", "ja", model.config), model, tokenizer)
    (found,) = Translator(made, SEARCH, wording=Wording(Glossary((("a", "\u9f20"),)))).translate_block(["a b"])
    assert "TERM" in found.codes


def test_a_beginning_that_fills_the_length_leaves_no_room_for_a_term(bundle: Bundle) -> None:
    tight = BeamSearch(3, lengths=LengthLimits(0, 2))
    glossary = Glossary((("one", "zehn"),))
    (found,) = Translator(bundle, tight, wording=Wording(glossary)).translate_block(["one"], ["acht neun acht neun"])
    assert found.text.startswith("acht neun acht neun")
    assert "MEMORY" not in found.codes


def test_a_lexicon_goes_to_other_processes_by_value(bundle: Bundle) -> None:
    lexicon = make_lexicon(bundle.tokenizer, True, ZAHLEN)
    again = pickle.loads(pickle.dumps(lexicon))
    assert lexicon.banned is not None
    assert torch.equal(again.banned.forbidden, lexicon.banned.forbidden)
    assert torch.equal(again.banned.following, lexicon.banned.following)


def test_too_many_bans_are_refused(bundle: Bundle) -> None:
    with pytest.raises(ConfigProblem, match="too many"):
        make_lexicon(bundle.tokenizer, True, [f"{i:06} {i * 7:06}" for i in range(100_000)])


def test_translations_begin_as_wished(bundle: Bundle) -> None:
    lines = ["one two", "", "three", "four five six"]
    prefixes = ["acht neun", "drei", "", "sieben"]
    found = Translator(bundle, SEARCH).translate_block(lines, prefixes)
    assert found[0].text.startswith("acht neun")
    assert found[1].codes == ("BLANK",)
    assert found[2].text == Translator(bundle, SEARCH).translate(["three"])[0]
    assert found[3].text.startswith("sieben")


def test_phrases_of_a_language_without_spaces_have_none_before_them() -> None:
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=330), ["a b"] * 4, ["猫が好き", "犬が好き", "猫と犬"] * 9)
    tokens = phrase_tokens(tokenizer, "猫が", False)
    assert "".join(tokenizer.target_pieces()[i] for i in tokens) == "猫が"
    assert tokenizer.decode_target([phrase_tokens(tokenizer, "鼠", False)]) == ["鼠"]  # in bytes
    assert bool(make_lexicon(tokenizer, False).ends_word.all())


def test_explanations_belong_to_their_translations(bundle: Bundle) -> None:
    lines = ["one two three", "", " ".join(NUMBERS * 12)]  # the last is too long and is parted
    found = Translator(bundle, SEARCH, wording=Wording(explain=True)).translate_block(lines)
    for line, translation in zip(lines, found, strict=True):
        explanation = translation.explanation
        assert explanation is not None
        assert list(explanation.source_words) == line.split()
        assert all(0 <= s < len(explanation.source_words) for s, _ in explanation.links)
        assert [t for _, t in explanation.links] == list(range(len(explanation.target_words)))
        assert all(0 <= probability <= 1 for _, probability in explanation.tokens)
    assert "LONG_SPLIT" in found[2].codes
    log_probability = torch.tensor([p for _, p in found[0].explanation.tokens]).log().sum()  # type: ignore[union-attr]
    penalty = SEARCH.length_penalty(torch.tensor(len(found[0].explanation.tokens)))  # type: ignore[union-attr]
    assert found[0].candidates[0].score == pytest.approx(float(log_probability / penalty), abs=1e-4)


@pytest.mark.parametrize("tags", ["", "<2de>", "<2de> <bt>"])
def test_links_are_what_attention_says(tags: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tags before the source are no words of it."""
    from seq2seq import explanation
    from seq2seq.inference.forced import Forced

    texts, config = bundle.tokenizer.source_pieces()[300:], TokenizerConfig(vocab_size=340, tags=("<2de>", "<bt>"))
    tokenizer = Tokenizer.train(config, [*texts, "one two"], [*texts, "zwei eins"]).saying(tags)
    source, target = tokenizer.encode_source(["one two"])[0], tokenizer.encode_target(["zwei eins"])[0]
    attention = torch.zeros(len(target), len(source))
    attention[0, len(source) - 2], attention[len(target) - 2, len(tags.split())] = 0.9, 0.9
    attention[:, -1] = 1.0  # the end of the source counts for nothing
    monkeypatch.setattr(explanation, "force", lambda *_, **__: [Forced([0.0] * len(target), attention)])
    (found,) = explanation.explain([bundle.model], tokenizer, [source], [target[:-1]], (True, True))
    assert (found.source_words, found.target_words) == (("one", "two"), ("zwei", "eins"))
    assert found.links == ((1, 0), (0, 1))
    assert found.confidence == 1.0


def test_coverage_ranks_anew(bundle: Bundle) -> None:
    """Against its definition, from the attention of forced decoding."""
    from seq2seq.inference.coverage import ranked_by_coverage
    from seq2seq.inference.engine import TorchEngine
    from seq2seq.inference.forced import force
    from seq2seq.symbols import EOS

    sources = bundle.tokenizer.encode_source(["one two three", "four"])
    plain = TorchEngine([bundle.model]).search(BeamSearch(4, 4, lengths=LengthLimits(1.0, 5)), sources)
    found = TorchEngine([bundle.model]).search(BeamSearch(4, 2, lengths=LengthLimits(1.0, 5), coverage=0.4), sources)
    for source, before, after in zip(sources, plain, found, strict=True):
        scores = {}
        for hypothesis in before:
            (forced,) = force(bundle.model, [source], [[*hypothesis.tokens, EOS]], attention=True)
            covered = [min(float(column.sum()), 1.0) for column in forced.attention.T[:-1]]  # type: ignore[union-attr]
            scores[tuple(hypothesis.tokens)] = hypothesis.score + 0.4 * float(torch.tensor(covered).log().sum())
        best = sorted(scores, key=lambda tokens: -scores[tokens])[:2]
        assert [tuple(h.tokens) for h in after] == best
        assert [h.score for h in after] == pytest.approx([scores[tokens] for tokens in best], abs=1e-4)
    assert ranked_by_coverage([bundle.model], sources, [[], []], 0.4, 1) == [[], []]


def test_words_of_an_explanation_are_text() -> None:
    assert spelled(["\u2581", "<0x5A>", "<0xC3>", "<0xBC>", "rich"]) == "Zürich"
    assert spelled(["\u2581a", "\ue581", "<0xFF>"]) == "a\u2581\ufffd"
    pieces = ["<0xE6>", "<0x97>", "<0xA5>", "本", "<0x41>"]
    assert [spelled(pieces[i] for i in word) for word in words_of(range(5), beginnings(pieces, spaces=False))] == [
        "日",
        "本",
        "A",
    ]


def test_words_hold_the_marks_on_their_letters() -> None:
    """कल (yesterday) is no word of कला (art), whose last letter carries a vowel sign; a mark is a letter in decomposed text, too."""
    assert Glossary((("कल", "yesterday"),)).wanted("यह कला है, कल", True) == ["yesterday"]
    assert Glossary((("कल", "yesterday"),)).wanted("यह कला है", True) == []
    assert not says("यह कला है", "कल", True)
    assert says("कल, कला", "कल", True)
    assert not says("cafe\u0301", "cafe", True)
    assert says("I ❤\ufe0f you", "❤", True)
    assert says("1\ufe0f\u20e3", "1", True)
    assert runs("यह कला!  है") == ["यह", " ", "कला", "!", "  ", "है"]


def test_without_spaces_the_longest_term_is_taken_once() -> None:
    cities = Glossary((("東京", "Tokio"), ("東京都", "Präfektur Tokio"), ("京都", "Kioto")))
    assert cities.wanted("東京都に行く", False) == ["Präfektur Tokio"]
    assert cities.wanted("東京と京都", False) == ["Tokio", "Kioto"]


def test_terms_that_the_model_would_say_are_said_in_its_order() -> None:
    """By itself a narrow beam would drop what has said no term yet, and with it the translation of the words between them."""
    trained, terms = Bundle.load(FROZEN), dict(zip(NUMBERS, ZAHLEN, strict=True))
    others = [[NUMBERS[i] for i in torch.randperm(10).tolist() if i not in (1, 2)][:3] for _ in range(30)]
    lines = [f"{first} two {second} three {third}" for first, second, third in others]
    expected = [" ".join(terms[word] for word in line.split()) for line in lines]

    def right(beam: int, wording: Wording | None = None) -> int:
        found = Translator(trained, BeamSearch(beam), wording=wording).translate(lines)
        return sum(ours == theirs for ours, theirs in zip(found, expected, strict=True))

    wanted = Wording(Glossary((("two", "zwei"), ("three", "drei"))))
    assert right(8, wanted) >= 7
    assert [right(beam, wanted) for beam in (1, 2, 4)] == [right(8, wanted)] * 3


def test_terms_may_repeat_what_may_not_be_repeated() -> None:
    trained = Bundle.load(FROZEN)
    glossary = Glossary((("one", "drei vier fünf sechs"), ("two", "drei vier fünf sieben")))
    for size in (2, 3):
        search = BeamSearch(8, no_repeats=size, lengths=LengthLimits(2, 10))
        (found,) = Translator(trained, search, wording=Wording(glossary)).stream(["one two"])
        assert found.codes == ()
        assert says(found.text, "drei vier fünf sechs", True)
        assert says(found.text, "drei vier fünf sieben", True)
