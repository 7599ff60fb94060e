"""Any text at all: all of Unicode, the characters that others take for line breaks, control characters, spellings of special tokens."""

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.lines import as_record, read_lines
from seq2seq.data.packing import SUFFIXES, packing_for
from seq2seq.data.parallel import parallel_pairs
from seq2seq.data.recipe import make_corpus
from seq2seq.data.text import is_blank
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.model.transformer import Transformer
from seq2seq.translator import Translator
from tests.promises.children import SOAK

BREAKS = "\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u2028\u2029\u0000\ufeff"
"""Twelve characters at which somebody's reader breaks lines or stops."""
SPELLINGS = [
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "\u2581",
    "<0x0A>",
    "<0x41>",
    "⁇",
    "\ufffd",
    "\x1b[2J",
    "NA",
    "null",
    '"',
    "\\n",
    "a\tb",
]
HOSTILE = st.lists(
    st.one_of(
        st.characters(exclude_characters="\n", exclude_categories=("Cs",)).map(str),
        st.sampled_from(BREAKS),
        st.sampled_from(SPELLINGS),
        st.sampled_from(["one", "two", " ", "\u200b", "é", "e\u0301", "😀", "漢"]),
    ),
    max_size=12,
).map("".join)


def hostile_line(draw: random.Random) -> str:
    """As `HOSTILE`, many at a time."""
    kinds = draw.choices(range(4), k=draw.randrange(9))
    return "".join(
        chr(draw.choice((draw.randrange(32, 0xD800), draw.randrange(0xE000, 0x110000))))
        if kind == 0
        else draw.choice(BREAKS)
        if kind == 1
        else draw.choice(SPELLINGS)
        if kind == 2
        else draw.choice(("one", "two", " "))
        for kind in kinds
    ).replace("\n", "")


def as_read(line: str, first: bool) -> str:
    """What the contract says a reader sees of a line: one CR at its end and a mark at the start of the file are no text."""
    return (line.removeprefix("\ufeff") if first else line).removesuffix("\r")


@settings(max_examples=2000 if SOAK else 100)
@given(st.lists(HOSTILE, max_size=20), st.sampled_from(["", *SUFFIXES]))
def test_any_text_is_read_line_for_line(tmp_path_factory: pytest.TempPathFactory, lines: list[str], suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"x{suffix}"
    path.write_bytes(packing_for(path)("".join(f"{line}\n" for line in lines).encode()))
    expected = [as_read(line, first=i == 0) for i, line in enumerate(lines)]
    assert list(read_lines(path)) == expected
    records = b"".join(map(as_record, expected)).split(b"\n")
    assert len(records) == len(lines) + 1


@settings(max_examples=300 if SOAK else 30)
@given(st.lists(HOSTILE, min_size=1, max_size=12))
def test_any_text_keeps_its_characters_and_makes_no_special_token(tokenizer: Tokenizer, lines: list[str]) -> None:
    """Not one control id but the end, and back comes what is no control character or white space."""
    from seq2seq.data.tokenizer import normalise

    for line, ids in zip(lines, tokenizer.encode_target(lines), strict=True):
        assert ids[-1] == 2
        assert not set(ids[:-1]) & {0, 1, 2, 3}
        seen = normalise(line, "nfc").replace("\ue581", "\u2581")  # as which SentencePiece's own mark travels
        assert "".join(tokenizer.decode_target([ids])[0].split()) == "".join(seen.split())


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Two parallel files of hostile lines; each begins with its number, so that a shift shows."""
    folder = tmp_path_factory.mktemp("hostile")
    draw = random.Random(7)
    sides = [[f"{i} {hostile_line(draw)}" if draw.random() < 0.9 else hostile_line(draw) for i in range(COUNT)] for _ in range(2)]
    for language, lines in zip(("en", "de"), sides, strict=True):
        (folder / f"train.{language}").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return folder, sides[0]


COUNT = 100_000 if SOAK else 2_000


def test_hostile_pairs_stay_pairs(hostile: tuple[Path, list[str]]) -> None:
    folder, _ = hostile
    corpus = make_corpus(("en", "de"), {"train": parallel_pairs(folder / "train.en", folder / "train.de")}, "made up", "none")
    data = corpus.splits["train"]
    misaligned = 0
    for source, target in zip(data["source"], data["target"], strict=True):
        numbers = [text.split(" ")[0] for text in (source, target)]
        if all(number.isascii() and number.isdigit() for number in numbers):
            misaligned += numbers[0] != numbers[1]
    assert misaligned == 0
    assert len(data) + corpus.provenance.dropped["train"] == COUNT
    print(f"\n{COUNT:,} hostile pairs: {misaligned} misaligned, {corpus.provenance.dropped['train']:,} with a blank side dropped")


def test_hostile_lines_out_for_lines_in(
    hostile: tuple[Path, list[str]], tokenizer: Tokenizer, random_model: Transformer, tmp_path: Path
) -> None:
    folder, lines = hostile
    bundle = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    translator = Translator(bundle, BeamSearch(1, lengths=LengthLimits(0, 2)), batch_size=256, batch_tokens=16_384)
    answers = list(translator.stream(read_lines(folder / "train.en")))
    (tmp_path / "out").write_bytes(b"".join(as_record(answer.text) for answer in answers))
    assert len(list(read_lines(tmp_path / "out"))) == len(lines) == COUNT
    mismatches = sum(
        is_blank(as_read(line, first=i == 0)) != ("BLANK" in answer.codes)
        for i, (line, answer) in enumerate(zip(lines, answers, strict=True))
    )
    assert mismatches == 0
    assert not any(set(answer.text) & {*BREAKS, "\n"} for answer in answers)
    print(f"\n{COUNT:,} hostile lines: {mismatches} mismatches")


def test_the_same_line_whatever_shares_its_batch(
    hostile: tuple[Path, list[str]], tokenizer: Tokenizer, random_model: Transformer
) -> None:
    folder, _ = hostile
    lines = list(read_lines(folder / "train.en"))[: 2_000 if SOAK else 200]
    bundle = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    found = []
    for batch_size, chunk in ((1, 100), (7, 33), (64, 5000), (500, 901)):
        translator = Translator(bundle, BeamSearch(3, lengths=LengthLimits(0, 8)), batch_size=batch_size, batch_tokens=20_000)
        found.append([(answer.text, answer.codes) for answer in translator.stream(lines, chunk)])
    differences = sum(answers != found[0][i] for other in found[1:] for i, answers in enumerate(other))
    assert differences == 0
    print(f"\n{len(lines):,} lines at four batchings: {differences} differences")
