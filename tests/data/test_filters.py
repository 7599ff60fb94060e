import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import pytest
from seq2seq.recipes.directions import Directions
from seq2seq.recipes.files import Files

from seq2seq.data.filters import (
    Filters,
    filtered,
    fits,
    held_out_text,
    loaded_filtered,
    script,
    too_long,
    unbalanced,
    usual_scripts,
)
from seq2seq.data.recipe import Corpus, Pair, make_corpus
from seq2seq.data.survey import pair_findings, survey_splits, tokenizer_findings
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.errors import ConfigProblem, DataProblem
from tests.conftest import write_corpus

GOOD = [(f"house number {i}", f"Haus Nummer {i}") for i in range(60)]


def corpus(train: Sequence[tuple[str | None, str | None]], validation: Sequence[Pair] = (("garden", "Garten"),)) -> Corpus:
    return make_corpus(("en", "de"), {"train": train, "validation": validation}, "made up", "MIT")


def left(filters: Filters, extra: Sequence[Pair]) -> tuple[list[Pair], list[str]]:
    """What of `extra` stays, and what is said."""
    made = corpus([*GOOD, *extra])
    held_out = held_out_text([made.splits["validation"]])
    kept, remarks = filtered(made, filters, held_out)
    data = kept.splits["train"]
    pairs = list(zip(data["source"], data["target"], strict=True))
    assert pairs[: len(GOOD)] == GOOD
    return pairs[len(GOOD) :], remarks


@pytest.mark.parametrize(
    ("settings", "bad", "said"),
    [
        (dict(max_length=20), ("x" * 21, "y"), "longer than 20 characters"),
        (dict(max_ratio=3.0), ("short", "long " * 20), "3 times as long"),
        (dict(identical=True), ("Left  as it was", "left as it was"), "the same on both sides"),
        (dict(duplicates=True), ("House number 3", "Haus nummer 3"), "there before"),
        (dict(wrong_script=True), ("house", "дом"), "unusual script"),
        (dict(decontaminate=True), ("Garden", "ein Garten"), "a side is in validation or test"),
        (dict(decontaminate=True), ("his garden", "Garten"), "a side is in validation or test"),
    ],
)
def test_a_filter_takes_its_own_and_counts(settings: dict, bad: Pair, said: str) -> None:
    good = ("a small tree", "ein kleiner Baum")
    assert left(Filters(), [bad, good])[0] == [bad, good]
    kept, remarks = left(Filters(**settings), [bad, good])
    assert kept == [good]
    assert len(remarks) == 1
    assert remarks[0].startswith("train: 1 pairs left out: ")
    assert said in remarks[0]


def test_leaks_are_said_without_being_asked() -> None:
    kept, remarks = left(Filters(), [("garden", "Garten")])
    assert kept == [("garden", "Garten")]
    assert "filters.decontaminate=true" in remarks[0]


def test_too_many_lost_pairs_are_no_accident() -> None:
    lost = [(None, "x"), (" ", "y")]
    assert filtered(corpus([*GOOD, *lost]), Filters(max_drop=0.1), frozenset())[1] == []
    with pytest.raises(DataProblem, match=r"2 pairs, 3.2%, have a blank or damaged side"):
        filtered(corpus([*GOOD, *lost]), Filters(), frozenset())
    with pytest.raises(DataProblem, match="leave no pair"):
        filtered(corpus(GOOD), Filters(max_length=1), frozenset())


def test_copies_that_are_meant_are_not_taken_for_untranslated(tmp_path: Path) -> None:
    write_corpus(tmp_path, "train", [*GOOD, ("the same", "the same")])
    write_corpus(tmp_path, "val", [("garden", "Garten")])
    of = Files("en", "de", str(tmp_path / "train"), str(tmp_path / "val"))
    several = Directions("en", "de", of, ("en-de", "de-en"), copies=1.0)
    kept, remarks = loaded_filtered(several, Filters(identical=True), ("train", "validation"))
    assert remarks == ["train: 2 pairs left out: the same on both sides"]
    assert len(kept.splits["train"]) == 4 * len(GOOD) + 2
    said = [finding.said for finding in pair_findings(several.load(("train", "validation")))]
    assert any("train: 2 pairs" in each and "same on both sides" in each for each in said)


@pytest.mark.parametrize(
    ("suffix", "line", "said"),
    [
        (".tsv", "{}\t{}\n", "train.tsv does not say which languages its sides are, so it has no fr"),
        (
            ".jsonl",
            '{{"source": "{}", "target": "{}"}}\n',
            "train.jsonl does not say which languages its sides are, so it has no fr",
        ),
        (".jsonl", '\n{{"translation": {{"en": "{}", "de": "{}", "fr": "quoi"}}}}\n', ""),
    ],
)
def test_a_table_is_not_taken_for_a_third_language(suffix: str, line: str, said: str, tmp_path: Path) -> None:
    train, val = (tmp_path / f"{name}{suffix}" for name in ("train", "val"))
    for path in (train, val):
        path.write_text("".join(line.format(source, target) for source, target in GOOD))
    of = Files("en", "de", str(train), str(val))
    assert len(Directions("en", "de", of, ("en-de", "de-en")).load(("train",)).splits["train"]) == 2 * len(GOOD)
    french = Directions("en", "de", of, ("en-de", "en-fr"))
    if said:
        with pytest.raises(ConfigProblem, match=said):
            french.load(("train",))
    else:
        assert "quoi" in french.load(("train",)).splits["train"]["target"][:]


@pytest.mark.parametrize(
    ("language", "text", "odd"),
    [
        ("ja", "ゴルフクラブ", False),
        ("ja", "ひらがなばかり", False),
        ("ja", "ー々", False),
        ("sr", "Dobar dan", False),
        ("ru-RU", "Dobryj den", True),
        ("zh-CN", "Ni hao", True),
        ("ZH", "你好", False),
    ],
)
def test_a_language_is_known_by_its_script(language: str, text: str, odd: bool) -> None:
    made = make_corpus(("en", language), {"train": [("Good day", text)] * 40, "validation": [("House", text)]}, "made up", "MIT")
    assert any("is called" in finding.said for finding in pair_findings(made)) == odd


def test_pure_functions() -> None:
    assert [too_long("ab", "abc", 3), too_long("ab", "abcd", 3)] == [False, True]
    assert [unbalanced("", "a" * 10, 2.0), unbalanced("", "a" * 11, 2.0), unbalanced("a" * 11, "", 2.0)] == [False, True, True]
    assert [script(text) for text in ("house 3", "дом", "家です", "123", "")] == ["LATIN", "CYRILLIC", "CJK", "", ""]
    usual = usual_scripts(["house"] * 30 + ["дом"])
    assert (fits("tree", usual), fits("дерево", usual), fits("42", usual)) == (True, False, True)


def test_a_long_corpus_lies_on_disk_and_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from seq2seq.data import recipe

    monkeypatch.setattr(recipe, "MANY", 20)
    monkeypatch.setattr(recipe, "_BLOCK", 7)
    weights = [1.0 + i for i in range(len(GOOD) + 1)]
    made = make_corpus(("en", "de"), {"train": [*GOOD[:3], ("", "x"), *GOOD[3:]]}, "made up", "MIT", weights=weights).splits[
        "train"
    ]
    assert list(zip(made["source"], made["target"], strict=True)) == GOOD
    assert list(made["weight"])[:5] == [1.0, 2.0, 3.0, 5.0, 6.0]
    assert made[GOOD.index(GOOD[40])]["source"] == GOOD[40][0]


def test_the_survey_finds_what_is_odd() -> None:
    odd = [GOOD[0], ("the same", "The same"), ("x", "y " * 40), ("house", "дом"), ("garden", "Garten")]
    made = corpus([*GOOD, *odd])
    said = " ".join(f"{finding.said} {finding.fix}" for finding in pair_findings(made))
    for name in ("duplicates=true", "identical=true", "max_ratio=3", "wrong_script=true", "decontaminate=true"):
        assert f"filters.{name}" in said
    assert pair_findings(corpus(GOOD)) == []
    assert [(split.name, split.pairs) for split in survey_splits(made)] == [("train", 65), ("validation", 1)]
    swapped = make_corpus(("ru", "en"), {"train": GOOD, "validation": GOOD[:1]}, "made up", "MIT")
    assert "the source is called ru, and is written in Latin" in pair_findings(swapped)[0].said


def test_the_survey_finds_what_the_tokenizer_loses() -> None:
    rare = [*GOOD * 4, ("a", "ein Haus mit 龍")]
    made = corpus(rare)
    config = TokenizerConfig(vocab_size=200, byte_fallback=False, character_coverage=0.99, normalize="nfkc")
    tokenizer = Tokenizer.train(config, [s for s, _ in rare], [t for _, t in rare])
    said = [finding.said for finding in tokenizer_findings(made, tokenizer, 5)]
    assert any("loses" in text and "龍" in text for text in said)
    assert any("more than 5 tokens" in text for text in said)
    fallback = Tokenizer.train(TokenizerConfig(vocab_size=400), [s for s, _ in rare], [t for _, t in rare])
    assert tokenizer_findings(made, fallback, 100) == []


def test_the_doctor_counts_what_a_normal_form_changes_and_misses_no_stand_in() -> None:
    composed = [(f"für ▁ {i} schöne Häuser", f"Größe {i} ▁") for i in range(60)]
    apart = [(unicodedata.normalize("NFD", source), unicodedata.normalize("NFD", target)) for source, target in composed]
    ligatures = [(f"ﬁn ① {source}", target) for source, target in composed]
    for pairs, form, share in (
        (apart, "nfc", None),
        (apart, "nfkc", None),
        (composed, "nfkc", None),
        (ligatures, "nfkc", 2 / 37),
    ):
        tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=400, normalize=form), *zip(*pairs, strict=True))  # type: ignore[arg-type]
        said = [finding.said for finding in tokenizer_findings(corpus(pairs), tokenizer, 512)]
        assert len(said) == (share is not None), said
        for text in said:
            assert float(re.search(r"([\d.]+)% of the characters", text)[1]) == pytest.approx(100 * share, abs=0.5)  # type: ignore[index, operator]
