"""Several directions in one corpus: tags before sources."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from seq2seq.recipes.denoising import Denoising
from seq2seq.recipes.directions import Directions
from seq2seq.recipes.files import Files
from seq2seq.recipes.folds import Folds
from seq2seq.recipes.joined import Joined

from seq2seq.data.directions import by_direction, parsed, together, written
from seq2seq.data.filters import Filters, filtered, with_base_apart
from seq2seq.data.recipe import Corpus, make_corpus
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.data.tokens import tokenise
from seq2seq.decoding.beam import BeamSearch
from seq2seq.errors import BundleProblem, ConfigProblem, DataProblem
from seq2seq.symbols import EOS
from seq2seq.synthetic import Synthetic
from tests.conftest import counting_pairs, write_corpus


def corpus(source: str, target: str, count: int = 20) -> Corpus:
    pairs = counting_pairs(count)
    swapped = [(b, a) for a, b in pairs]
    return make_corpus((source, target), {"train": pairs if source == "en" else swapped, "validation": pairs[:5]}, source, "none")


@pytest.fixture
def both() -> Corpus:
    return together([corpus("en", "de"), corpus("de", "en", 30)], ("en", "de"), [1.0, 2.5], ["", "<bt>"])


@pytest.mark.parametrize(("text", "direction"), [("en-de", ("en", "de")), ("en:pt-BR", ("en", "pt-BR"))])
def test_a_direction_is_read_as_it_is_written(text: str, direction: tuple[str, str]) -> None:
    assert parsed(text) == direction
    assert written(direction) == text


@pytest.mark.parametrize("text", ["en", "en-", "en-pt-BR", "-de", "en- ", ""])
def test_what_is_no_direction_is_refused(text: str) -> None:
    with pytest.raises(ConfigProblem, match="no direction"):
        parsed(text)


def test_corpora_come_together(both: Corpus) -> None:
    train, validation = both.splits["train"], both.splits["validation"]
    assert train["tags"][:] == ["<2de>"] * 20 + ["<2en> <bt>"] * 30
    assert validation["tags"][:] == ["<2de>"] * 5 + ["<2en>"] * 5  # a mark is for training
    assert train["weight"][:] == [1.0] * 20 + [2.5] * 30
    assert both.tags == ("<2de>", "<2en>", "<bt>")
    parts = dict(by_direction(train, ("en", "de")))
    assert {direction: len(data) for direction, data in parts.items()} == {("en", "de"): 20, ("de", "en"): 30}
    assert parts["de", "en"]["source"][:] == corpus("de", "en", 30).splits["train"]["source"][:]
    other = together([corpus("en", "de"), corpus("de", "en", 30)], ("en", "de"), [1.0, 2.5], ["", "<2nd>"])
    assert other.key("train") != both.key("train")
    assert other.key("validation") == both.key("validation")


def test_of_one_direction_there_is_nothing_to_ask_for() -> None:
    one = together([corpus("en", "de"), corpus("en", "de")], ("en", "de"))
    assert one.tags == ()
    assert one.splits["train"].column_names == ["source", "target"]
    assert one.key("train") != corpus("en", "de").key("train")
    assert list(dict(by_direction(one.splits["train"], ("en", "de")))) == [("en", "de")]


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_tags_stand_before_sources_and_no_text_can_say_them(both: Corpus, kind: str) -> None:
    tokenizer = Tokenizer.for_corpus(TokenizerConfig(kind=kind, vocab_size=340), both)  # type: ignore[arg-type]
    ids = {piece: i for i, piece in enumerate(tokenizer.source_pieces())}
    tags = [ids[tag] for tag in both.tags]
    pairs = tokenise(both, "train", tokenizer)
    assert pairs.source[0][0] == ids["<2de>"]
    assert pairs.source[49][:2].tolist() == [ids["<2en>"], ids["<bt>"]]
    assert not np.isin(pairs.target.ids, tags).any()
    plain = tokenizer.encode_source(["one <2de> two"])[0]
    assert not set(plain) & set(tags)
    asked = tokenizer.saying("<2de>")
    assert asked.encode_source(["one <2de> two", "", " "]) == [[ids["<2de>"], *plain], [EOS], [EOS]]
    assert asked.encode_source(["one"], ["<bt>"])[0][:2] == [ids["<2de>"], ids["<bt>"]]
    assert tokenizer.said == ""
    assert tokenizer.decode_target([[*tags, *plain]]) == ["one <2de> two"]
    with pytest.raises(BundleProblem, match="has no <2fr>, it knows <2de> <2en> <bt>"):
        tokenizer.saying("<2fr>")


def test_drawn_subwords_keep_their_tags(both: Corpus) -> None:
    tokenizer = Tokenizer.for_corpus(TokenizerConfig(vocab_size=340, sampling=0.5), both)
    (drawn,) = tokenizer.draw_source(["seven three"], ["seed"], ["<2en> <bt>"])
    assert drawn[:2] == tokenizer.encode_source(["x"], ["<2en> <bt>"])[0][:2]
    assert drawn[2:] == tokenizer.draw_source(["seven three"], ["seed"])[0]


def test_the_other_direction_of_a_table_has_its_columns_the_other_way_round(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("one\teins\ntwo\tzwei\n")
    files = Files("?", "?", train=str(tmp_path / "a.tsv"))
    parts = dict(by_direction(Directions("en", "de", files, ("de-en", "en-de")).load(("train",)).splits["train"], ("en", "de")))
    assert parts["de", "en"]["source"][:] == parts["en", "de"]["target"][:] == ["eins", "zwei"]


def test_recipes_of_recipes_are_refused_where_they_cannot_be(tmp_path: Path) -> None:
    train = write_corpus(tmp_path, "train", counting_pairs(9))
    both = Directions("en", "de", Files("en", "de", train=str(train)), ("de-en", "en-de"))
    for recipe in (
        Directions("en", "de", both, ("en-de", "de-en")),
        Denoising("en", "de", both),
        Synthetic("en", "de", both, None, None, ("b",)),
    ):
        with pytest.raises(ConfigProblem, match="has tags before its sources already"):
            recipe.load(("train",))
    with pytest.raises(ConfigProblem, match="which is no recipe"):
        Denoising("en", "de", "files").load(("train",))
    with pytest.raises(ConfigProblem, match="text is of fr"):
        Denoising("en", "de", both, {"fr": "x"})
    for mark in ("s", "unk", "2de", ""):
        with pytest.raises(ConfigProblem, match="must be letters"):
            Synthetic("en", "de", both, None, None, mark=mark)
    for search, more, message in (
        (BeamSearch(4), {}, "among several"),
        (BeamSearch(4, 4), {"monolingual": "x"}, "real translations"),
    ):
        with pytest.raises(ConfigProblem, match=message):
            Synthetic("en", "de", both, search, None, backward=("b",), nearest=True, **more)


@pytest.mark.parametrize("tags", [("<s>",), ("<a>", "<a>"), ("<a>,<b>",), ("a b",)])
def test_tags_that_cannot_be_are_refused(tags: tuple[str, ...]) -> None:
    with pytest.raises(ConfigProblem, match="tags are"):
        TokenizerConfig(tags=tags)


def test_filters_judge_each_direction_by_itself() -> None:
    """Few pairs in another script are no strangers if they are all of their direction."""
    russian = make_corpus(("en", "ru"), {"train": [("one", "один")] * 3}, "x", "none")
    both = together([corpus("en", "de", 200), russian], ("en", "de"))
    kept, remarks = filtered(both, Filters(wrong_script=True), frozenset())
    assert len(kept.splits["train"]) == 203
    assert remarks == []


def test_the_recipe_asks_another_once_for_each_direction(tmp_path: Path) -> None:
    pairs = counting_pairs(40)
    train = write_corpus(tmp_path, "train", pairs)
    (tmp_path / "train.fr").write_text("".join(f"{i} x\n" for i in range(40)))
    files = Files("?", "?", train=str(train), validation=str(train), test=str(train))
    recipe = Directions("en", "de", files, ("en-de", "fr-en"), temperature=5.0)
    loaded = recipe.load(("train", "test"))
    assert len(loaded.splits["train"]) == len(loaded.splits["test"]) == 80
    assert loaded.directions == (("en", "de"), ("fr", "en"))
    assert "weight" not in loaded.splits["train"].column_names  # both have as many pairs
    assert loaded.splits["train"]["source"][40] == "0 x"
    copies = replace(recipe, copies=0.5).load(("train", "test"))
    train = copies.splits["train"]
    assert copies.directions == (("en", "de"), ("fr", "en"))  # what it is for
    assert train["direction"][80::40] == ["de-de", "en-en"]
    assert train["weight"][:] == [1.0] * 80 + [0.5] * 80
    assert train["source"][80:] == train["target"][80:] == [target for _, target in pairs] + [source for source, _ in pairs]
    assert len(copies.splits["test"]) == 80
    with pytest.raises(ConfigProblem, match="en to fr is none of"):
        Directions("en", "fr", files, ("en-de", "fr-en"))
    with pytest.raises(ConfigProblem, match="two or more"):
        Directions("en", "de", files, ("en-de",))


def numbered_pairs(count: int) -> list[tuple[str, str]]:
    return [(f"sentence {i:02}", f"Satz {i:02}") for i in range(count)]


def test_joined_pairs_are_two_of_the_text_end_to_end(tmp_path: Path) -> None:
    pairs = numbered_pairs(30)
    train, held = write_corpus(tmp_path, "train", pairs), write_corpus(tmp_path, "val", counting_pairs(20, 9))
    files = Files("en", "de", train=str(train), validation=str(held))
    corpus = Joined("en", "de", files, times=2, weight=0.5).load(("train", "validation"))
    rows = corpus.splits["train"]
    found = list(zip(rows["source"], rows["target"], strict=True))
    assert found[:30] == pairs
    assert rows["weight"][:] == [1.0] * 30 + [0.5] * 60
    for begin in (30, 60):
        places = []
        for (source, target), (first, first_target) in zip(found[begin : begin + 30], pairs, strict=True):
            partner = (source.removeprefix(f"{first} "), target.removeprefix(f"{first_target} "))
            assert (source, target) == (f"{first} {partner[0]}", f"{first_target} {partner[1]}")
            places.append(pairs.index(partner))
        assert sorted(places) == list(range(30))  # each is a partner once
        assert places != list(range(30))
    assert len(corpus.splits["validation"]) == 20
    again = Joined("en", "de", files, times=2, weight=0.5).load(("train",))
    assert again.key("train") == corpus.key("train")
    assert Joined("en", "de", files, times=2, seed=2).load(("train",)).key("train") != corpus.key("train")


def test_a_single_pair_is_joined_with_itself(tmp_path: Path) -> None:
    files = Files("en", "de", train=str(write_corpus(tmp_path, "train", numbered_pairs(1))), weights=(0.5,))
    train = Joined("en", "de", files).load(("train",)).splits["train"]
    assert train["source"][:] == ["sentence 00", "sentence 00 sentence 00"]
    assert train["weight"][:] == [0.5, 0.5]


def test_pairs_that_come_seldom_are_joined_as_seldom(tmp_path: Path) -> None:
    often, seldom = (
        write_corpus(tmp_path, "often", numbered_pairs(20)[:10]),
        write_corpus(tmp_path, "seldom", numbered_pairs(20)[10:]),
    )
    held = write_corpus(tmp_path, "val", counting_pairs(5, 9))
    files = Files("en", "de", train=(str(often), str(seldom)), validation=str(held), weights=(1.0, 0.25))
    train = Joined("en", "de", files).load(("train",)).splits["train"]
    own = dict(zip(train["source"][:20], train["weight"][:20], strict=True))
    for source, weight in zip(train["source"][20:], train["weight"][20:], strict=True):
        parts = [text for text in own if source.startswith(f"{text} ") or source.endswith(f" {text}")]
        assert weight == min(own[text] for text in parts)


@pytest.mark.parametrize("count", [2, 3, 40])
def test_each_pair_is_left_out_once(tmp_path: Path, count: int) -> None:
    train, held = write_corpus(tmp_path, "train", numbered_pairs(40)), write_corpus(tmp_path, "val", counting_pairs(9, 9))
    files = Files("en", "de", train=str(train), validation=str(held))
    whole = files.load(("train", "validation"))
    seen: list[str] = []
    keys = {whole.key("train")}
    for fold in range(1, count + 1):
        without = Folds("en", "de", files, count, fold).load(("train", "validation"))
        rest = without.splits["train"]["source"][:]
        left_out = [source for source in whole.splits["train"]["source"] if source not in rest]
        assert left_out == whole.splits["train"]["source"][fold - 1 :: count]
        assert len(rest) + len(left_out) == 40
        assert without.splits["validation"]["source"][:] == whole.splits["validation"]["source"][:]
        seen += left_out
        keys.add(without.key("train"))
    assert sorted(seen) == sorted(whole.splits["train"]["source"])
    assert len(keys) == count + 1
    assert Folds("en", "de", files).load(("validation",)).key("validation") == whole.key("validation")


def test_recipes_of_others_do_without_a_test_set(tmp_path: Path) -> None:
    """Files may have none; it is missed only where it is asked for by itself."""
    train = write_corpus(tmp_path, "train", numbered_pairs(8))
    files = Files("en", "de", train=str(train), validation=str(train))
    for recipe in (Folds("en", "de", files), Joined("en", "de", files), Denoising("en", "de", files)):
        assert set(recipe.load().splits) == {"train", "validation"}
        with pytest.raises(ConfigProblem):
            recipe.load(("test",))


def test_a_fold_is_as_clean_as_the_whole(tmp_path: Path) -> None:
    """Pairs that were dropped are judged by their share, which does not grow when a fold is left out."""
    train = write_corpus(tmp_path, "train", [*numbered_pairs(496), *[("one", " ")] * 4])
    files = Files("en", "de", train=str(train), validation=str(write_corpus(tmp_path, "val", numbered_pairs(9))))
    without = Folds("en", "de", files, count=2).load(("train", "validation"))
    assert without.provenance.dropped["train"] == 2
    filtered(without, Filters(), frozenset())


def test_folds_that_cannot_be_are_refused(tmp_path: Path) -> None:
    train = write_corpus(tmp_path, "train", numbered_pairs(3))
    files = Files("en", "de", train=str(train), validation=str(train))
    for count, left_out, message in ((1, 1, "at least 2"), (4, 0, "must be 1 to 4"), (4, 5, "must be 1 to 4")):
        with pytest.raises(ConfigProblem, match=message):
            Folds("en", "de", files, count, left_out)
    with pytest.raises(DataProblem, match="3 pairs, too few for 4 folds"):
        Folds("en", "de", files).load(("train",))


def _cleaned(recipe: Any) -> Corpus:
    return with_base_apart(recipe).load(("train", "validation", "test"))  # type: ignore[no-any-return]


def test_what_is_held_out_is_in_nothing_that_is_made_of_training_pairs(tmp_path: Path) -> None:
    pairs = numbered_pairs(30)
    train = write_corpus(tmp_path, "train", [*pairs, ("another source", "Satz 04")])
    held, test = write_corpus(tmp_path, "val", pairs[3:5]), write_corpus(tmp_path, "test", [("Sentence  07", "anders")])
    files = Files("en", "de", train=str(train), validation=str(held), test=str(test))
    out = {"sentence 03", "sentence 04", "sentence 07", "another source", "Satz 03", "Satz 04", "Satz 07"}
    several = Directions("en", "de", files, ("en-de", "de-en"), copies=1.0)
    twice = Folds("en", "de", Joined("en", "de", files))
    for recipe in (Joined("en", "de", files), Denoising("en", "de", files), several, Folds("en", "de", files), twice):
        corpus = _cleaned(recipe)
        rows = corpus.splits["train"]
        said = [text for column in ("source", "target") for text in rows[column]]
        assert said
        assert not any(text in one for one in said for text in out), type(recipe)
        assert any("4 pairs left out" in note for note in corpus.provenance.notes), type(recipe)
        assert corpus.key("train") != recipe.load(("train", "validation", "test")).key("train")
    assert with_base_apart(files) is files


def test_what_is_made_of_a_corpus_keeps_its_weights_and_what_was_dropped(tmp_path: Path) -> None:
    often = write_corpus(tmp_path, "often", numbered_pairs(8))
    seldom = write_corpus(tmp_path, "seldom", [*numbered_pairs(20)[8:16], ("blank", " "), ("blank", " ")])
    files = Files("en", "de", train=(str(often), str(seldom)), validation=str(often), weights=(1.0, 0.25))
    own = files.load(("train",))
    of_source = dict(zip(own.splits["train"]["source"], own.splits["train"]["weight"], strict=True))
    of_target = dict(zip(own.splits["train"]["target"], own.splits["train"]["weight"], strict=True))
    share = own.provenance.dropped["train"] / len(own.splits["train"])
    several = Directions("en", "de", files, ("en-de", "de-en"), copies=0.5)
    for recipe in (Joined("en", "de", files, weight=0.5), Denoising("en", "de", files), several):
        corpus = recipe.load(("train",))
        train = corpus.splits["train"]
        assert corpus.provenance.dropped["train"] / len(train) == pytest.approx(share)
        assert any("blank side" in note for note in corpus.provenance.notes)
        for source, target, weight in zip(train["source"], train["target"], train["weight"], strict=True):
            known = of_source | of_target
            if source in known:
                assert weight == pytest.approx(known[source] * (0.5 if source == target and recipe is several else 1.0))
            else:  # joined
                assert weight in (0.5, 0.125)
