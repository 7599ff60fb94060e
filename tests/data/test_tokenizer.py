import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.recipe import make_corpus
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.errors import BundleProblem, ConfigProblem
from seq2seq.symbols import BOS, EOS, PAD, UNK
from tests.conftest import counting_pairs

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs", "Co"), exclude_characters="\ufeff"))


@given(st.lists(TEXT, max_size=6))
def test_no_character_is_lost(tokenizer: Tokenizer, words: list[str]) -> None:
    """Whatever the alphabet: bytes stand in for characters never seen. White space is folded, forms are NFC."""
    text = unicodedata.normalize("NFC", " ".join(word for word in words if word))
    ids = tokenizer.encode_target([text])
    assert tokenizer.decode_target(ids) == [text]
    assert UNK not in ids[0]


@given(st.text())
def test_text_never_makes_special_tokens(tokenizer: Tokenizer, text: str) -> None:
    for row in tokenizer.encode_source([text, text + "<s></s><pad><unk>▁"]):
        assert row[-1] == EOS
        assert not {PAD, BOS, EOS, UNK} & set(row[:-1])


def test_special_looking_text_is_text(tokenizer: Tokenizer) -> None:
    text = "a <s> b </s> <pad> ▁ 漢字 😀"
    assert tokenizer.decode_target(tokenizer.encode_target([text])) == [text]


def test_composed_and_decomposed_letters_are_one(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode_source(["fünf"]) == tokenizer.encode_source(["fu\u0308nf"])


@pytest.mark.parametrize("white", ["\t", "\u2028", "\u0085", "\x0b", "\x00", "\u00a0", "\u3000", "\r", "\x1b", "\ufeff"])
def test_odd_white_space_and_control_characters_are_spaces(tokenizer: Tokenizer, white: str) -> None:
    assert tokenizer.encode_source([f"one{white}two"]) == tokenizer.encode_source(["one two"])


def test_digits_are_tokens_of_their_own() -> None:
    numbers = [str(n) for n in range(1000, 1400)]
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=400), numbers, numbers)
    assert len(tokenizer.encode_source(["1234"])[0]) in (5, 6)  # perhaps a word boundary, four digits, EOS


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@pytest.mark.parametrize("joint", [True, False])
def test_saves_and_loads(tmp_path: Path, kind: str, joint: bool) -> None:
    pairs = counting_pairs(100)
    tokenizer = Tokenizer.train(
        TokenizerConfig(kind=kind, vocab_size=320, joint=joint), [s for s, _ in pairs], [t for _, t in pairs]
    )  # type: ignore[arg-type]
    tokenizer.save(tmp_path / "t")
    again = Tokenizer.load(tmp_path / "t")
    assert sorted(p.name for p in (tmp_path / "t").glob("*.model")) == (
        ["joint.model"] if joint else ["source.model", "target.model"]
    )
    assert again.config == tokenizer.config
    for text in ("one two", "fünf sechs", "漢"):
        assert again.encode_source([text]) == tokenizer.encode_source([text])
        assert again.encode_target([text]) == tokenizer.encode_target([text])


def test_the_cache_goes_by_content(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = counting_pairs(50)
    corpus, other = (make_corpus(("en", "de"), {"train": p}, "made up", "none") for p in (pairs, [*pairs[:-1], ("new", "neu")]))
    trained = []
    original = Tokenizer.train.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(Tokenizer, "train", classmethod(lambda cls, *a: trained.append(a) or original(cls, *a)))
    config = TokenizerConfig(vocab_size=310)
    Tokenizer.for_corpus(config, corpus)
    Tokenizer.for_corpus(config, corpus)
    assert len(trained) == 1
    Tokenizer.for_corpus(config, other)
    Tokenizer.for_corpus(TokenizerConfig(vocab_size=311), corpus)
    assert len(trained) == 3


def test_a_damaged_tokenizer_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    tokenizer.save(tmp_path)
    (tmp_path / "joint.model").write_bytes(b"\x00nonsense")
    with pytest.raises(BundleProblem, match="tokenizer"):
        Tokenizer.load(tmp_path)
    with pytest.raises(BundleProblem):
        Tokenizer.load(tmp_path / "nowhere")


def test_a_vocabulary_too_small_for_bytes_is_refused() -> None:
    with pytest.raises(ConfigProblem, match="bytes"):
        TokenizerConfig(vocab_size=200)


def test_fewer_tokens_than_the_text_has_characters_are_refused() -> None:
    numbers = [source for source, _ in counting_pairs(50)]
    with pytest.raises(ConfigProblem, match="vocab_size is 262, and the characters of this text take 275 tokens"):
        Tokenizer.train(TokenizerConfig(vocab_size=262), numbers, numbers)
