from pathlib import Path

import numpy as np
import pytest
from seq2seq.recipes.files import Files

from seq2seq.data import filters, recipe, tokens
from seq2seq.data.filters import Filters, filtered
from seq2seq.data.recipe import Corpus
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.data.tokens import TokenPairs, tokenise
from seq2seq.folders import remembered
from tests.conftest import counting_pairs, write_corpus


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """A corpus that counts as a large one."""
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path / "cache"))
    for module in (recipe, filters, tokens):
        monkeypatch.setattr(module, "MANY", 100)
    monkeypatch.setattr(recipe, "_BLOCK", 64)
    monkeypatch.setattr(tokens, "_BLOCK", 64)
    return Files("en", "de", train=str(write_corpus(tmp_path, "train", [*counting_pairs(300), ("", "x")])))


def read(files: Files, settings: Filters | None = None) -> tuple[Corpus, list[str]]:
    return filtered(files.load(("train",)), settings or Filters(), frozenset())


def rows(pairs: TokenPairs) -> list[list[list[int]]]:
    return [[side[i].tolist() for i in range(len(pairs))] for side in (pairs.source, pairs.target)]


def test_a_large_corpus_is_tokenised_once_and_mapped(files: Files, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    first = tokenise(read(files)[0], "train", tokenizer)
    assert isinstance(first.source.ids, np.memmap)
    assert first.source.ids.dtype == np.uint16
    monkeypatch.setattr(recipe, "is_blank", None)  # to be read again it would be needed
    monkeypatch.setattr(tokens, "_write", None)
    again = tokenise(read(files)[0], "train", tokenizer)
    sources, targets = (list(side) for side in zip(*counting_pairs(300), strict=True))
    plain = [tokenizer.encode_source(sources), tokenizer.encode_target(targets)]
    assert rows(first) == rows(again) == plain
    assert first.sha256() == TokenPairs(first.source, first.target).sha256()


def test_what_is_kept_knows_what_it_is_made_from(files: Files, tokenizer: Tokenizer) -> None:
    corpus, _ = read(files)
    assert corpus.provenance.dropped == {"train": 1}
    again, _ = read(files)
    assert again.provenance == corpus.provenance
    assert list(again.splits["train"]["source"]) == list(corpus.splits["train"]["source"])
    short, remarks = read(files, Filters(max_length=12))
    assert "longer than 12 characters" in remarks[0]
    assert read(files, Filters(max_length=12))[1] == remarks
    assert 0 < len(short.splits["train"]) < 300
    assert len(tokenise(short, "train", tokenizer)) == len(short.splits["train"])
    assert len({corpus.key("train"), short.key("train")}) == 2
    path = Path(f"{files.train}.de")
    path.write_text(path.read_text().replace("eins", "zwei", 1))
    assert read(files)[0].key("train") != corpus.key("train")


def test_a_corpus_without_files_is_known_by_its_text() -> None:
    one, same, other = (
        recipe.make_corpus(("en", "de"), {"train": pairs}, "made up", "none").key("train")
        for pairs in (counting_pairs(20), counting_pairs(20), counting_pairs(21))
    )
    assert one == same != other


def test_who_is_second_to_fill_the_cache_takes_what_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_CACHE", str(tmp_path))

    def write(folder: Path) -> None:
        remembered("things", "key", lambda theirs: (theirs / "file").write_text("first") and None)
        (folder / "file").write_text("second")

    assert (remembered("things", "key", write) / "file").read_text() == "first"
    assert [path.name for path in (tmp_path / "things").iterdir()] == ["key"]
