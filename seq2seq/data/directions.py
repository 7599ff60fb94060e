"""Several directions in one corpus and one model: what stands before a source says which language is wanted (Johnson et al., 2017).

Tags are tokens that no text can hold. `<2de>` asks for German; a mark such as `<bt>` says where a pair comes from (Caswell et al., 2019).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seq2seq.data.lines import read_lines
from seq2seq.data.recipe import Corpus, Provenance
from seq2seq.data.text import is_blank
from seq2seq.errors import ConfigProblem
from seq2seq.folders import digest_of

if TYPE_CHECKING:
    from datasets import Dataset

Direction = tuple[str, str]
"""Codes of source and target language."""
ONE_DIRECTION: Direction = ("source", "target")
"""Stands for that of a corpus of one, whose pairs are no copies even where both sides are of one language."""


def parsed(text: str) -> Direction:
    """`en-de`; with codes that have a hyphen of their own, `en:pt-BR`.

    Raises:
        ConfigProblem: it is not two codes.
    """
    codes = text.split(":" if ":" in text else "-")
    if len(codes) != 2 or not all(code and not code.isspace() for code in codes):
        raise ConfigProblem(f"'{text}' is no direction", "two language codes and a hyphen between, en-de, or a colon, en:pt-BR")
    return codes[0], codes[1]


def asked_for(text: str | None) -> Direction | None:
    """What the setting `direction` of a command says; nothing, if it is not set."""
    return parsed(text) if text else None


def written(direction: Direction) -> str:
    return (":" if any("-" in code for code in direction) else "-").join(direction)


def tag(language: str) -> str:
    """What asks for a language."""
    return f"<2{language}>"


def asks(language: str, tags: Sequence[str]) -> str:
    """What stands before a source where these are the tags: nothing, if none of them asks for a language."""
    return tag(language) if any(one.startswith("<2") for one in tags) else ""


def loaded(of: Any, direction: Direction, splits: Sequence[str]) -> Corpus:
    """What a recipe has of a direction, for a recipe that makes more of it.

    Raises:
        ConfigProblem: it is no recipe, or itself one of several directions or with marks.
    """
    if not is_dataclass(of) or isinstance(of, type):
        raise ConfigProblem(f"recipe.of is {of!r}, which is no recipe", "choose one by its name: recipe@recipe.of=NAME")
    recipe: Any = replace(of, source=direction[0], target=direction[1])
    corpus: Corpus = recipe.load(splits)
    if corpus.tags:
        raise ConfigProblem(
            "recipe.of has tags before its sources already", "name a recipe of one direction: recipe@recipe.of=NAME"
        )
    return corpus


def check_languages_are_told(corpus: Corpus, language: str) -> None:
    """Raises ConfigProblem if a file of another language than those that were asked for at first does not say which languages it is of, so that it
    would be taken for any."""
    for file in corpus.provenance.files:
        if ".tsv" in file.name or (".jsonl" in file.name and not _has_key(Path(file.path), language)):
            raise ConfigProblem(
                f"{file.name} does not say which languages its sides are, so it has no {language}",
                f"files by language, PREFIX.{corpus.source} and PREFIX.{corpus.target}, or .jsonl with the keys '{corpus.source}' and '{corpus.target}'",
            )


def _has_key(path: Path, language: str) -> bool:
    """Whether the first object of a .jsonl calls a side by its language."""
    record = json.loads(next((line for line in read_lines(path, replace_bad=True) if not is_blank(line)), "{}"))
    return language in record.get("translation", record)


def weights_in(corpus: Corpus) -> list[float] | None:
    """How often an epoch takes each training pair, if the corpus says so."""
    train = corpus.splits["train"]
    return list(train["weight"][:]) if "weight" in train.column_names else None


def inheriting(made: Corpus, real: Corpus) -> Corpus:
    """What was made of the pairs of another corpus, with its files and with what was dropped there, so that it stays as large a share."""
    dropped = {split: count + real.provenance.dropped.get(split, 0) for split, count in made.provenance.dropped.items()}
    notes = (*real.provenance.notes, *made.provenance.notes)
    files = tuple(dict.fromkeys((*real.provenance.files, *made.provenance.files)))
    return replace(made, provenance=replace(made.provenance, dropped=dropped, notes=notes, files=files))


def swapped(corpus: Corpus) -> Corpus:
    """The other direction of the same pairs."""
    splits = {name: data.rename_columns({"source": "target", "target": "source"}) for name, data in corpus.splits.items()}
    keys = {name: digest_of(_VERSION, "swapped", corpus.key(name)) for name in splits}
    return replace(corpus, splits=type(corpus.splits)(splits), source=corpus.target, target=corpus.source, keys=keys)


def together(
    corpora: Sequence[Corpus], direction: Direction, weights: Sequence[float] | None = None, marks: Sequence[str] | None = None
) -> Corpus:
    """Several corpora as one. If they do not all translate between the same languages, every source gets the tag of its target.

    Args:
        direction: what is taken where nothing is said.
        weights: how often an epoch takes each pair of each corpus; times what the corpus says of it itself.
        marks: one more tag for the training pairs of each, or "" for none.
    """
    import datasets

    weights, marks = weights or [1.0] * len(corpora), marks or [""] * len(corpora)
    directions = list(dict.fromkeys((corpus.source, corpus.target) for corpus in corpora))
    several = directions != [direction]
    trains = [corpus.splits["train"] for corpus in corpora if "train" in corpus.splits]
    weighted = any(weight != 1 for weight in weights) or any("weight" in data.column_names for data in trains)
    splits, keys = {}, {}
    for split in dict.fromkeys(name for corpus in corpora for name in corpus.splits):
        parts: list[Any] = []
        known: list[Any] = [_VERSION]
        for corpus, weight, mark in zip(corpora, weights, marks, strict=True):
            if split not in corpus.splits:
                continue
            said = [tag(corpus.target)] * several + [mark] * (mark != "" and split == "train")
            columns: dict[str, Any] = {"tags": " ".join(said)} if several or any(marks) else {}
            if several:
                columns["direction"] = written((corpus.source, corpus.target))
            if split == "train" and weighted:
                columns["weight"] = weight
            parts.append(_with(corpus.splits[split], columns, corpus.key(split)))
            known += [corpus.key(split), columns]
        splits[split], keys[split] = datasets.concatenate_datasets(parts), digest_of(*known)
    tags = [tag(target) for _, target in directions] * several + [mark for mark in marks if mark]
    provenance, named = _provenance(corpora, several), tuple(directions) if several else ()
    return Corpus(datasets.DatasetDict(splits), *direction, provenance, keys, tuple(dict.fromkeys(tags)), named)


_VERSION = 2
"""To be raised when other pairs are made of the same corpora."""


def _with(data: "Dataset", columns: dict[str, Any], key: str) -> "Dataset":
    import datasets

    for name, value in columns.items():
        values = [value] * len(data)
        if name in data.column_names:  # weights
            values = [value * own for own in data[name][:]]
            data = data.remove_columns(name)
        feature = datasets.Value("string" if isinstance(value, str) else "float32")
        # The library would tell the result from others by reading all of it.
        fingerprint = digest_of(key, name, value)
        data = data.add_column(name, values, new_fingerprint=fingerprint, feature=feature)
    return data


def _provenance(corpora: Sequence[Corpus], several: bool) -> Provenance:
    records = [corpus.provenance for corpus in corpora]
    dropped: dict[str, int] = {}
    for record in records:
        for split, count in record.dropped.items():
            dropped[split] = dropped.get(split, 0) + count
    notes = [
        f"{corpus.source} to {corpus.target}, {note}" if several else note
        for corpus in corpora
        for note in corpus.provenance.notes
    ]
    return Provenance(
        "; ".join(dict.fromkeys(record.origin for record in records)),
        "; ".join(dict.fromkeys(record.licence for record in records)),
        tuple(dict.fromkeys(file for record in records for file in record.files)),
        tuple(dict.fromkeys(notes)),
        dropped,
    )


def rows_by_direction(data: "Dataset", direction: Direction) -> Iterator[tuple[Direction, npt.NDArray[np.int64]]]:
    """Each direction with the numbers of its pairs; all are of `direction` if the data does not say."""
    if "direction" not in data.column_names:
        yield direction, np.arange(len(data))
        return
    names = np.asarray(data.select_columns("direction").with_format("numpy")[:]["direction"])
    for name in dict.fromkeys(names.tolist()):
        yield parsed(name), np.flatnonzero(names == name)


def by_direction(data: "Dataset", direction: Direction) -> "Iterator[tuple[Direction, Dataset]]":
    """Each direction with its pairs, in the order of the data."""
    for each, rows in rows_by_direction(data, direction):
        yield each, data.select(rows)
