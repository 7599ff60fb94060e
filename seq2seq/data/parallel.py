"""Parallel text: two files, line i of one the translation of line i of the other.

A folder laid out as `<folder>/<corpus>/<split>.<language>[.gz]` stands in for the download of any corpus. It is named by
`recipe.folder=` or by the environment variable `SEQ2SEQ_DATA`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from seq2seq.data.lines import read_lines, sha256
from seq2seq.data.recipe import Corpus, FileRecord, Pair, make_corpus
from seq2seq.errors import DataProblem

Find = Callable[[str, str], Path]
"""(file name up to the language, language) -> the file, found or fetched."""


def parallel_pairs(source: Path, target: Path) -> Iterator[Pair]:
    """The pairs of two files.

    Raises:
        DataProblem: the files do not have the same number of lines.
    """
    sources, targets = read_lines(source), read_lines(target)
    number = 0
    for number, line in enumerate(sources, start=1):
        other = next(targets, None)
        if other is None:
            raise _unequal(source, number + sum(1 for _ in sources), target, number - 1)
        yield line, other
    if (rest := sum(1 for _ in targets)) > 0:
        raise _unequal(source, number, target, number + rest)


def _unequal(source: Path, source_lines: int, target: Path, target_lines: int) -> DataProblem:
    return DataProblem(
        f"{source} has {source_lines} lines, {target} has {target_lines}: they must be translations line by line",
        "find where they part, for example with: paste FILE FILE | less",
    )


def find_side(prefix: Path, language: str) -> Path:
    """`prefix.language` or `prefix.language.gz`, whichever exists.

    Raises:
        DataProblem: neither does.
    """
    for suffix in ("", ".gz"):
        path = prefix.with_name(f"{prefix.name}.{language}{suffix}")
        if path.is_file():
            return path
    raise DataProblem(
        f"there is no file {prefix}.{language}, nor {prefix}.{language}.gz",
        f"name it by the part before the language: PREFIX for PREFIX.{language}",
    )


def record_file(path: Path) -> FileRecord:
    return FileRecord(path.name, path.stat().st_size, sha256(path))


def local_folder(folder: str | None, corpus: str) -> Path | None:
    """The local folder of a corpus, if there is one.

    Raises:
        DataProblem: a folder is named that does not exist.
    """
    root = folder or os.environ.get("SEQ2SEQ_DATA")
    if not root:
        return None
    inner = Path(root) / corpus
    if inner.is_dir():
        return inner
    if not Path(root).is_dir():
        raise DataProblem(f"there is no folder {root}", "correct recipe.folder or SEQ2SEQ_DATA, or unset it to download")
    return Path(root) if folder else None


def parallel_corpus(languages: tuple[str, str], stems: Mapping[str, str], find: Find, origin: str, licence: str) -> Corpus:
    """A corpus of two text files a split.

    Args:
        stems: split name -> file name up to the language.
        find: where such a file is; `in_folder` for a local one.
    """
    sides = {split: [find(stem, language) for language in languages] for split, stem in stems.items()}
    pairs = {split: parallel_pairs(*files) for split, files in sides.items()}
    return make_corpus(languages, pairs, origin, licence, (record_file(file) for files in sides.values() for file in files))


def in_folder(folder: Path, otherwise: Find | None = None) -> Find:
    """Files as they lie in a folder; what is not there is found `otherwise`.

    Raises:
        DataProblem: a file is not there, and there is no other way.
    """

    def find(stem: str, language: str) -> Path:
        try:
            return find_side(folder / stem, language)
        except DataProblem as problem:
            if otherwise is not None:
                return otherwise(stem, language)
            raise DataProblem(problem.message, "put it there, or unset recipe.folder and SEQ2SEQ_DATA to download") from None

    return find
