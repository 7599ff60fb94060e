"""Every recipe, on small data made on the spot."""

import gzip
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from seq2seq.recipes.cldr import Cldr
from seq2seq.recipes.files import Files
from seq2seq.recipes.hub import Hub
from seq2seq.recipes.iwslt2017 import Iwslt2017
from seq2seq.recipes.multi30k import Multi30k
from seq2seq.recipes.tatoeba import Tatoeba, draw_splits
from seq2seq.recipes.wmt14 import Wmt14

from seq2seq.data.recipe import Recipe
from seq2seq.errors import ConfigProblem, DataProblem
from tests.conftest import counting_pairs, write_corpus

PAIRS = counting_pairs(12)


def pairs_of(recipe: Recipe, split: str) -> list[tuple[str, str]]:
    data = recipe.load((split,)).splits[split]
    return list(zip(data["source"], data["target"], strict=True))


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("fr", "cs"), ("en", "ja"), ("pt_BR", "zh_Hant"), ("no", "ko")])
def test_cldr_makes_distinct_examples_for_any_locales(source: str, target: str) -> None:
    corpus = Cldr(source, target, train_size=2500, validation_size=50, test_size=50).load()
    sides = {split: (set(data["source"]), set(data["target"])) for split, data in corpus.splits.items()}
    assert {split: len(data) for split, data in corpus.splits.items()} == {"train": 2500, "validation": 50, "test": 50}
    for split, data in corpus.splits.items():
        assert len(sides[split][0]) == len(sides[split][1]) == len(data)
        for other in set(sides) - {split}:
            assert not sides[split][0] & sides[other][0]
            assert not sides[split][1] & sides[other][1]
        for text in [*data["source"], *data["target"]]:
            assert text == " ".join(text.split())
            assert text
            assert "-meter" not in text
            assert "duration-" not in text


def test_cldr_is_a_function_of_its_seed() -> None:
    small = dict(train_size=300, validation_size=10, test_size=10)
    assert pairs_of(Cldr(**small), "test") == pairs_of(Cldr(**small), "test")  # type: ignore[arg-type]
    assert pairs_of(Cldr(**small), "test") != pairs_of(Cldr(**small, seed=2), "test")  # type: ignore[arg-type]


def test_cldr_refuses_what_is_no_locale() -> None:
    with pytest.raises(ConfigProblem, match="not a locale"):
        Cldr("en", "xx_nowhere").load()
    with pytest.raises(ConfigProblem, match="same locale"):
        Cldr("en", "en")


def test_files_by_prefix_packed_mixed_and_as_tables(tmp_path: Path) -> None:
    prefix = write_corpus(tmp_path, "train", PAIRS)
    packed = write_corpus(tmp_path, "packed", PAIRS)
    for language in ("en", "de"):
        path = tmp_path / f"packed.{language}"
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    tsv, jsonl = tmp_path / "t.tsv", tmp_path / "t.jsonl.gz"
    tsv.write_text("".join(f"{s}\t{t}\n" for s, t in PAIRS))
    jsonl.write_bytes(gzip.compress("".join(json.dumps({"translation": {"en": s, "de": t}}) + "\n" for s, t in PAIRS).encode()))
    for path in (prefix, packed, tsv, jsonl):
        assert pairs_of(Files("en", "de", train=str(path)), "train") == PAIRS
    mixed = Files("en", "de", train=[str(prefix), str(tsv)], validation=str(prefix))
    assert pairs_of(mixed, "train") == PAIRS + PAIRS
    corpus = mixed.load()
    assert set(corpus.splits) == {"train", "validation"}
    assert corpus.provenance.files[0].sha256 == hashlib.sha256((tmp_path / "train.en").read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"train.en": "a\nb\n", "train.de": "a\n"}, "has 2 lines, .* has 1"),
        ({"train.en": "a\n", "train.de": "a\nb\nc\n"}, "has 1 lines, .* has 3"),
        ({"train.en": "a\n"}, r"no file .*train\.de"),
        ({"train.en": "\n", "train.de": "\n"}, "holds no pair"),
    ],
)
def test_files_that_do_not_align_are_refused(tmp_path: Path, content: dict[str, str], said: str) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(DataProblem, match=said):
        Files("en", "de", train=str(tmp_path / "train")).load(("train",))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("x.tsv", "a\tb\na\tb\tc\n", r"x\.tsv:2: expected 2 columns .* got 3 .*cut -f 1,2 .*x\.tsv"),
        ("x.tsv", "a\tb\na\n", r"x\.tsv:2: expected 2 columns .* got 1 .*the source, a tab, the target"),
        ("x.tsv", "Source\tTarget\na\tb\n", "is a heading"),
        ("x.tsv", "EN\tde\na\tb\n", r"is a heading.*tail -n \+2 /"),
        ("x y.tsv.gz", "en\tde\na\tb\n", r"is a heading.*gzip -dc < '.*x y\.tsv\.gz' \| tail -n \+2 > "),
        ("x.jsonl", '{"en": "a", "De": "b"}\n{"en": "a"}\n', r"x\.jsonl:2"),
    ],
)
def test_tables_with_wrong_rows_are_refused_by_line(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    with pytest.raises(DataProblem, match=said):
        Files("en", "De", train=str(tmp_path / name)).load(("train",))


@pytest.mark.parametrize(("name", "row"), [("x.tsv", "a\tb"), ("x.jsonl", '{"en": "a", "de": "b"}')])
def test_a_blank_line_of_a_table_is_a_blank_pair(tmp_path: Path, name: str, row: str) -> None:
    (tmp_path / name).write_text(f"{row}\n\n{row}\n \n")
    corpus = Files("en", "de", train=str(tmp_path / name)).load(("train",))
    assert list(corpus.splits["train"]["target"]) == ["b", "b"]
    assert corpus.provenance.notes == ("train: 2 pairs with a blank side dropped",)


def test_a_blank_side_takes_its_partner_along_and_is_counted(tmp_path: Path) -> None:
    prefix = write_corpus(tmp_path, "train", [("a", "b"), (" ", "c"), ("d", ""), ("e", "f")])
    corpus = Files("en", "de", train=str(prefix)).load(("train",))
    assert list(corpus.splits["train"]["source"]) == ["a", "e"]
    assert corpus.provenance.notes == ("train: 2 pairs with a blank side dropped",)


def test_a_missing_split_says_how_to_set_it() -> None:
    with pytest.raises(ConfigProblem, match="recipe.validation is not set"):
        Files("en", "de").load(("validation",))


@pytest.mark.parametrize(
    ("make", "folder", "validation", "test"),
    [
        (Multi30k, "multi30k", "val", "test_2016_flickr"),
        (Wmt14, "wmt14", "validation", "test"),
        (Iwslt2017, "iwslt2017", "validation", "test"),
        (Tatoeba, "tatoeba", "valid", "test"),
    ],
)
def test_a_local_folder_stands_in_for_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: type, folder: str, validation: str, test: str
) -> None:
    for name in ("train", validation, test):
        write_corpus(tmp_path / folder, name, PAIRS)
    by_override = make("en", "de", folder=str(tmp_path)).load()
    monkeypatch.setenv("SEQ2SEQ_DATA", str(tmp_path))
    by_environment = make("en", "de").load()
    for corpus in (by_override, by_environment):
        assert list(corpus.splits) == ["train", "validation", "test"]
        assert list(corpus.splits["test"]["target"]) == [t for _, t in PAIRS]
        assert len(corpus.provenance.files) == 6
    (tmp_path / folder / "train.de").unlink()
    with pytest.raises(DataProblem, match=r"train\.de"):
        make("en", "de", folder=str(tmp_path)).load(("train",))


@pytest.mark.parametrize(
    "make", [lambda: Multi30k("en", "ja"), lambda: Wmt14("de", "fr"), lambda: Iwslt2017("en", "cs"), lambda: Multi30k("en", "en")]
)
def test_unknown_languages_are_refused(make: object) -> None:
    with pytest.raises(ConfigProblem):
        make()  # type: ignore[operator]


def test_the_hub_recipe_reads_translation_columns_and_text_columns(tmp_path: Path) -> None:
    import datasets

    rows = [{"en": s, "de": t} for s, t in PAIRS] + [{"en": "x", "de": None}, {"en": "two\nlines", "de": "y"}]
    nested = datasets.Dataset.from_dict({"id": list(range(14)), "translation": rows})
    flat = datasets.Dataset.from_dict({"eng": [row["en"] for row in rows], "deu": [row["de"] for row in rows]})
    expected = [*PAIRS, ("two lines", "y")]
    for name, data, columns in (("nested", nested, {}), ("flat", flat, dict(source_column="eng", target_column="deu"))):
        (tmp_path / name).mkdir()
        data.to_parquet(str(tmp_path / name / "train.parquet"))
        recipe = Hub("en", "de", str(tmp_path / name), **columns)
        assert pairs_of(recipe, "train") == expected
        assert recipe.load(("train",)).provenance.notes == (
            "train: 1 pairs with a blank side dropped",
            "train: 1 pairs had a line break inside, made a space",
        )
    with pytest.raises(DataProblem, match="no column for 'fr'"):
        Hub("en", "fr", str(tmp_path / "nested")).load(("train",))
    with pytest.raises(DataProblem, match="the column 'id' .* is no text but int64"):
        Hub("en", "de", str(tmp_path / "nested"), source_column="id").load(("train",))


def test_tatoeba_keeps_most_of_a_little_text_for_training() -> None:
    splits = draw_splits([(f"s{i}", f"t{i}") for i in range(500)], held_out=2000)
    assert len(splits["train"]) > 350
    assert 20 < len(splits["validation"]) < 80
    assert 20 < len(splits["test"]) < 80
    with pytest.raises(ConfigProblem, match="held_out is 0"):
        Tatoeba("en", "de", held_out=0)


def test_tatoeba_draws_splits_that_share_no_sentence(tmp_path: Path) -> None:
    pairs = [(f"s{i}", f"t{j}") for i in range(400) for j in (i, i // 2, i // 3 + 500)] * 2
    splits = draw_splits(pairs, held_out=100)
    assert sum(map(len, splits.values())) == len(set(pairs))
    assert splits == draw_splits(pairs, held_out=100)
    for split, held in splits.items():
        for other in set(splits) - {split}:
            for side in (0, 1):
                assert not {pair[side] for pair in held} & {pair[side] for pair in splits[other]}


def test_tatoeba_reads_the_archive_of_opus(tmp_path: Path) -> None:
    archive = tmp_path / "de-en.txt.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("README", "x")
        packed.writestr("Tatoeba.de-en.de", "".join(f"d{i}\n" for i in range(50)))
        packed.writestr("Tatoeba.de-en.en", "".join(f"e{i}\n" for i in range(50)))
    corpus, other = (
        Tatoeba(*languages, held_out=10)._from_archive(archive, ("train", "validation", "test"))
        for languages in (("en", "de"), ("de", "en"))
    )
    for split, data in corpus.splits.items():  # the test set of one direction is not in the training of the other
        assert data["source"][:] == other.splits[split]["target"][:]
    rows = {pair for data in corpus.splits.values() for pair in zip(data["source"], data["target"], strict=True)}
    assert rows == {(f"e{i}", f"d{i}") for i in range(50)}


def test_corpora_are_mixed_by_weight_or_temperature(tmp_path: Path) -> None:
    for name, count in (("large", 81), ("small", 9), ("val", 2)):
        write_corpus(tmp_path, name, [(f"{name} {i}", f"{name} {i}") for i in range(count)])
    paths = [str(tmp_path / "large"), str(tmp_path / "small")]

    def weights(**settings: Any) -> set[tuple[str, float]]:
        data = Files("en", "de", train=paths, validation=str(tmp_path / "val"), **settings).load(("train",)).splits["train"]
        return {(text.split()[0], round(weight, 4)) for text, weight in zip(data["source"], data["weight"], strict=True)}

    assert weights(weights=[0.5, 2.5]) == {("large", 0.5), ("small", 2.5)}
    assert weights(temperature=2.0) == {("large", 1.0), ("small", 3.0)}  # shares as the roots of 81 and 9
    plain = Files("en", "de", train=paths, validation=str(tmp_path / "val")).load(("train",)).splits["train"]
    assert plain.column_names == ["source", "target"]
    with pytest.raises(ConfigProblem, match="1 weights for 2"):
        Files("en", "de", train=paths, weights=[1.0])
