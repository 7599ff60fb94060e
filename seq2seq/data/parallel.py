"""Parallel text: two files, line i of one the translation of line i of the other.

A folder laid out as `<folder>/<corpus>/<split>.<language>`, packed or not, stands in for the download of any corpus. It is named by
`recipe.folder=` or by the environment variable `SEQ2SEQ_DATA`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from seq2seq.atomic import sha256
from seq2seq.data.alignment import lengths, parting
from seq2seq.data.lines import check_encoding, read_lines, scan
from seq2seq.data.packing import SUFFIXES, check_is_no_stream, nearby
from seq2seq.data.recipe import Corpus, FileRecord, Pair, make_corpus
from seq2seq.errors import DataProblem

Find = Callable[[str, str], Path]
"""(file name up to the language, language) -> the file, found or fetched."""


def parallel_pairs(source: Path, target: Path, replace_bad: bool = False) -> Iterator[Pair]:
    """The pairs of two files.

    Args:
        replace_bad: put U+FFFD where a byte is not UTF-8.

    Raises:
        DataProblem: the files do not have the same number of lines, or are not UTF-8. It is said before the first pair.
    """
    check_parallel(source, target, allow_bad=replace_bad)
    yield from zip(read_lines(source, replace_bad), read_lines(target, replace_bad), strict=True)


def check_parallel(source: Path, target: Path, allow_bad: bool = False) -> int:
    """The lines of either file.

    Raises:
        DataProblem: they are not the same number, or are not UTF-8.
    """
    found = [scan(path) for path in (source, target)]
    if found[0].lines != found[1].lines:
        raise DataProblem(
            f"{source} has {found[0].lines:,} lines, {target} has {found[1].lines:,} (counted by line feeds): they must be "
            f"translations line by line, and by their lengths they part near line {_parting(source, target):,}",
            f"look there: paste {source} {target} | less -N",
        )
    for path, one in zip((source, target), found, strict=True):
        if not allow_bad:
            check_encoding(one, str(path), "; recipe=files can leave them out: recipe.bad_utf8=drop")
    return found[0].lines


def _parting(source: Path, target: Path) -> int:
    """The line from which on the lengths fit better when one file is shifted by the lines it lacks."""
    one, other = (lengths(read_lines(path, replace_bad=True)) for path in (source, target))
    return parting(one, other, lines=len(other) - len(one)) + 1


def find_side(prefix: Path, language: str) -> Path:
    """`prefix.language`, or the same packed, whichever exists.

    Raises:
        DataProblem: neither does.
    """
    if not prefix.name:
        raise DataProblem(f"{prefix} is a folder", "name its files by the part before the language, PREFIX for PREFIX.en")
    for suffix in ("", *SUFFIXES):
        path = prefix.with_name(f"{prefix.name}.{language}{suffix}")
        if path.is_file():
            return path
    if prefix.is_file():
        said = f"{prefix} is a file, where the beginning of its name is wanted: PREFIX of PREFIX.{language}"
        fix = f"name both by {prefix.with_suffix('')}, or write both sides into one .tsv, the source first"
        raise DataProblem(said, fix)
    raise DataProblem(
        f"there is no file {prefix}.{language}, nor one of these endings after it: {', '.join(SUFFIXES)}",
        f"name it by the part before the language, PREFIX for PREFIX.{language}: {nearby(Path(f'{prefix}.{language}'))}",
    )


def record_file(path: Path) -> FileRecord:
    """Raises DataProblem if it is not there."""
    check_is_no_stream(path)
    if not path.is_file():
        raise DataProblem(f"there is no file {path}", nearby(path))
    return FileRecord(path.name, path.stat().st_size, sha256(path), str(path.absolute()))


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
    pairs = {split: parallel_pairs(source, target) for split, (source, target) in sides.items()}
    files = {split: [record_file(file) for file in both] for split, both in sides.items()}
    return make_corpus(languages, pairs, origin, licence, files)


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
