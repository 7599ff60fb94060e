"""Your own text: two parallel files by their prefix, or one .tsv or .jsonl; each may be gzip."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from seq2seq.data.lines import read_lines
from seq2seq.data.parallel import find_side, parallel_pairs, record_file
from seq2seq.data.recipe import Corpus, Pair, make_corpus
from seq2seq.errors import ConfigProblem, DataProblem

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
    licence: str = "not stated"

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        # A test set is only missed where it is asked for by itself.
        wanted = [split for split in splits if not (split == "test" and len(splits) > 1 and self.test is None)]
        paths = {split: self._paths(split) for split in wanted}
        pairs = {split: chain.from_iterable(self._pairs(path) for path in paths[split]) for split in wanted}
        files = [record_file(file) for split in wanted for path in paths[split] for file in self._files(path)]
        return make_corpus((self.source, self.target), pairs, "files of the user", self.licence, files)

    def _paths(self, split: str) -> list[Path]:
        given: Paths = getattr(self, split)
        if given is None:
            raise ConfigProblem(
                f"recipe.{split} is not set",
                f"recipe.{split}=corpus/{split} reads corpus/{split}.{self.source} and corpus/{split}.{self.target}",
            )
        return [Path(path) for path in ([given] if isinstance(given, str) else given)]

    def _files(self, path: Path) -> list[Path]:
        return [path] if _is_table(path) else [find_side(path, language) for language in (self.source, self.target)]

    def _pairs(self, path: Path) -> Iterator[Pair]:
        if not _is_table(path):
            source, target = self._files(path)
            yield from parallel_pairs(source, target)
        elif ".jsonl" in path.suffixes:
            yield from self._json_pairs(path)
        else:
            yield from _tab_pairs(path)

    def _json_pairs(self, path: Path) -> Iterator[Pair]:
        for number, line in enumerate(read_lines(path), start=1):
            try:
                record = json.loads(line)
                record = record.get("translation", record)
                source = record[self.source] if self.source in record else record["source"]
                target = record[self.target] if self.target in record else record["target"]
            except (ValueError, AttributeError, KeyError, TypeError):
                raise DataProblem(
                    f"{path}:{number}: expected an object with the keys '{self.source}' and '{self.target}' (or 'source' and 'target'), got {line[:80]}",
                    "mend the line or rename the keys",
                ) from None
            if not isinstance(source, str) or not isinstance(target, str):
                raise DataProblem(f"{path}:{number}: both sides must be text, got {line[:80]}", "mend the line")
            yield source, target


def _tab_pairs(path: Path) -> Iterator[Pair]:
    for number, line in enumerate(read_lines(path), start=1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise DataProblem(
                f"{path}:{number}: expected 2 columns with a tab between, got {len(columns)}",
                "mend the line; text cannot hold a tab here",
            )
        yield columns[0], columns[1]


def _is_table(path: Path) -> bool:
    return bool({".tsv", ".jsonl"} & set(path.suffixes[-2:]))
