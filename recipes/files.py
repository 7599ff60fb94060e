"""Your own text: two parallel files by their prefix, or one .tsv or .jsonl; each may be packed."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

from seq2seq.data.lines import check_encoding, read_lines, scan
from seq2seq.data.packing import command_on
from seq2seq.data.parallel import find_side, parallel_pairs, record_file
from seq2seq.data.recipe import Corpus, MaybePair, Pair, make_corpus, tempered
from seq2seq.data.text import is_blank, without_halves
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.schema import require

Paths = str | list[str] | None


@dataclass(frozen=True)
class Files:
    """`train=corpus/train` reads corpus/train.en and corpus/train.de for source=en, target=de. A list mixes corpora.

    A path that ends in .tsv has the source in the first column and the target in the second; one that ends in .jsonl
    has an object a line with the languages (or `source` and `target`) as keys.
    """

    source: str
    target: str
    train: Paths = None
    validation: Paths = None
    test: Paths = None
    weights: list[float] | None = None
    """How often an epoch takes each pair of each training corpus: 2.5 is twice or three times, 0.1 a new tenth every epoch."""
    temperature: float = 1.0
    """Without weights: small corpora are taken more often, so that their shares are those of sizes ** (1 / temperature). 5 is usual."""
    bad_utf8: Literal["stop", "drop"] = "stop"
    """What happens to pairs with bytes that are not UTF-8."""
    licence: str = "not stated"

    def __post_init__(self) -> None:
        require(
            (self.temperature >= 1, f"temperature is {self.temperature}, it must be at least 1"),
            (
                self.weights is None or (bool(self.weights) and min(self.weights) > 0),
                f"weights are {self.weights}, they must be above 0",
            ),
            (
                self.weights is None or len(self.weights) == len(_listed(self.train)),
                f"there are {len(self.weights or ())} weights for {len(_listed(self.train))} training corpora",
            ),
        )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        # A test set is only missed where it is asked for by itself.
        wanted = [split for split in splits if not (split == "test" and len(splits) > 1 and self.test is None)]
        paths = {split: self._paths(split) for split in wanted}
        files = {split: [record_file(file) for path in paths[split] for file in self._files(path)] for split in wanted}
        weights = self._weights(paths["train"]) if "train" in wanted and (self.weights or self.temperature > 1) else None
        pairs = {split: chain.from_iterable(self._pairs(path) for path in paths[split]) for split in wanted}
        drop = self.bad_utf8 == "drop"
        settings = {split: repr((self.weights, self.temperature, [path.suffixes for path in paths[split]])) for split in wanted}
        return make_corpus((self.source, self.target), pairs, "files of the user", self.licence, files, weights, drop, settings)

    def _weights(self, paths: Sequence[Path]) -> Iterator[float]:
        """The weight of each pair; nothing is read before the first is wanted."""
        sizes = [scan(self._files(path)[0]).lines for path in paths]
        weights = self.weights or tempered(sizes, self.temperature)
        for weight, size in zip(weights, sizes, strict=True):
            yield from repeat(weight, size)

    def _paths(self, split: str) -> list[Path]:
        given: Paths = getattr(self, split)
        if given is None:
            raise ConfigProblem(
                f"recipe.{split} is not set",
                f"recipe.{split}=corpus/{split} reads corpus/{split}.{self.source} and corpus/{split}.{self.target}",
            )
        return [Path(path) for path in _listed(given)]

    def _files(self, path: Path) -> list[Path]:
        return [path] if _is_table(path) else [find_side(path, language) for language in (self.source, self.target)]

    def _pairs(self, path: Path) -> Iterator[MaybePair]:
        if not _is_table(path):
            source, target = self._files(path)
            yield from parallel_pairs(source, target, self._allow_bad)
            return
        if not self._allow_bad:
            check_encoding(scan(path), str(path), "; or leave them out: recipe.bad_utf8=drop")
        lines = read_lines(path, self._allow_bad)
        yield from (
            self._json_pairs(path, lines) if ".jsonl" in path.suffixes else _tab_pairs(path, lines, (self.source, self.target))
        )

    @property
    def _allow_bad(self) -> bool:
        return self.bad_utf8 == "drop"

    def _json_pairs(self, path: Path, lines: Iterable[str]) -> Iterator[MaybePair]:
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                record = record.get("translation", record)
                source = record[self.source] if self.source in record else record["source"]
                target = record[self.target] if self.target in record else record["target"]
            except (ValueError, AttributeError, KeyError, TypeError):
                if is_blank(line):
                    yield "", ""
                    continue
                raise DataProblem(
                    f"{path}:{number}: expected an object with the keys '{self.source}' and '{self.target}' (or 'source' and 'target'), got {line[:80]}",
                    "mend the line or rename the keys",
                ) from None
            if not isinstance(source, str) or not isinstance(target, str):
                raise DataProblem(f"{path}:{number}: both sides must be text, got {line[:80]}", "mend the line")
            sides = without_halves(source), without_halves(target)
            if not self._allow_bad and sides != (source, target):
                raise DataProblem(
                    f"{path}:{number}: half of a surrogate pair, which is no character, got {line[:80]}",
                    "mend the line, or leave it out: recipe.bad_utf8=drop",
                )
            yield sides


def _tab_pairs(path: Path, lines: Iterable[str], languages: tuple[str, str]) -> Iterator[Pair]:
    headings = (["source", "target"], [language.lower() for language in languages])
    for number, line in enumerate(lines, start=1):
        columns = line.split("\t")
        if number == 1 and [column.strip().lower() for column in columns] in headings:
            said = f"{path}: the first line, {line!r}, is a heading, where the first pair is expected"
            raise DataProblem(said, f"{command_on(path, 'tail -n +2')} > NEW.tsv")
        if len(columns) != 2 and is_blank(line):
            columns = ["", ""]
        if len(columns) != 2:
            fix = "mend the line: the source, a tab, the target"
            if len(columns) > 2:
                fix = f"{command_on(path, 'cut -f 1,2')} > NEW.tsv keeps the first two"
            raise DataProblem(f"{path}:{number}: expected 2 columns with a tab between, got {len(columns)}", fix)
        yield columns[0], columns[1]


def _listed(paths: Paths) -> list[str]:
    return [paths] if isinstance(paths, str) else list(paths or ())


def _is_table(path: Path) -> bool:
    return bool({".tsv", ".jsonl"} & set(path.suffixes[-2:]))
