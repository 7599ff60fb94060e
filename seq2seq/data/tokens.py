"""A tokenised parallel corpus: ids end to end, in memory or, for a large one, in files of the cache that are mapped into it."""

import hashlib
import multiprocessing
import os
import shutil
import signal
from array import array
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from seq2seq.data.batch import Batch, make_batch
from seq2seq.data.recipe import MANY, Corpus
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import MachineProblem
from seq2seq.folders import digest_of, remembered
from seq2seq.schema import plain
from seq2seq.stopping import die_with

if TYPE_CHECKING:
    from datasets import Dataset

Ids = npt.NDArray[np.int32]
_SIDES = ("source", "target")
_NEAR = 32
"""Rows: where every so many-th begins is kept, and where the others begin is counted from there. Kept for all, it would take twice the memory of
their lengths."""


class TokenRows:
    """Many rows of token ids in one flat array, two bytes an id where the vocabulary allows."""

    def __init__(self, rows: Iterable[Sequence[int]], vocab_size: int = 1 << 31) -> None:
        kind, dtype = ("H", np.uint16) if vocab_size <= 1 << 16 else ("i", np.int32)
        flat, lengths = array(kind), array("i")
        for row in rows:
            flat.extend(row)
            lengths.append(len(row))
        self._take(np.frombuffer(flat, dtype), np.frombuffer(lengths, dtype=np.int32))

    def _take(self, ids: npt.NDArray[Any], lengths: Ids) -> None:
        self.ids, self.lengths = ids, lengths
        some = np.add.reduceat(lengths, np.arange(0, len(lengths), _NEAR), dtype=np.int64)
        self._starts = np.cumsum(some) - some

    @classmethod
    def mapped(cls, ids: Path, lengths: Path) -> "TokenRows":
        """Of two .npy files, of which the system holds in memory what it likes."""
        rows = cls(())
        rows._take(np.load(ids, mmap_mode="r"), np.load(lengths))
        return rows

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        assert row >= 0
        near = row // _NEAR
        start = self._starts[near] + self.lengths[near * _NEAR : row].sum()
        return self.ids[start : start + self.lengths[row]]


@dataclass(frozen=True)
class TokenPairs:
    """A tokenised parallel corpus; each row ends with EOS."""

    source: TokenRows
    target: TokenRows
    known_sha256: str = ""

    def __len__(self) -> int:
        return len(self.source)

    def sha256(self) -> str:
        """Of all lengths and ids."""
        if self.known_sha256:
            return self.known_sha256
        digest = hashlib.sha256()
        for side in (self.source, self.target):
            digest.update(side.lengths.data)
            digest.update(side.ids.data)
        return digest.hexdigest()

    def batch(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Batch:
        """The given pairs as a batch."""
        return make_batch([self.source[row] for row in rows], [self.target[row] for row in rows])


def tokenise(corpus: Corpus, split: str, tokenizer: Tokenizer) -> TokenPairs:
    """A split as token ids. A large one is tokenised once, by all cores, and kept in the cache.

    Raises:
        MachineProblem: a process that tokenises was killed.
    """
    data = corpus.splits[split]
    if len(data) < MANY:
        return _tokenised(data, tokenizer, 0, len(data))
    key = digest_of(_VERSION, corpus.key(split), tokenizer.fingerprint(), plain(tokenizer.config), tokenizer.said)
    folder = remembered("tokens", key, lambda folder: _write(folder, data, tokenizer))
    source, target = (TokenRows.mapped(folder / f"{side}.ids.npy", folder / f"{side}.lengths.npy") for side in _SIDES)
    return TokenPairs(source, target, (folder / "sha256").read_text(encoding="ascii"))


_BLOCK = 10_000
_VERSION = 1
"""To be raised when other tokens are made of the same text."""


def _tokenised(data: "Dataset", tokenizer: Tokenizer, start: int, stop: int) -> TokenPairs:
    """Some pairs of a data set."""

    def rows(side: str, encode: Any, *more: str) -> Iterable[list[int]]:
        names = [side, *(column for column in more if column in data.column_names)]
        columns = data.select_columns(names)
        for block in range(start, stop, _BLOCK):
            taken = columns[block : min(block + _BLOCK, stop)]
            yield from encode(*(taken[name] for name in names))

    return TokenPairs(
        TokenRows(rows("source", tokenizer.encode_source, "tags"), tokenizer.source_vocab_size),
        TokenRows(rows("target", tokenizer.encode_target), tokenizer.target_vocab_size),
    )


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _write(folder: Path, data: "Dataset", tokenizer: Tokenizer) -> None:
    """Every process tokenises a part of the corpus and writes it down a block at a time; then the parts are joined."""
    global _shared
    processes = available_cores()
    bounds = np.linspace(0, len(data), processes + 1).astype(int).tolist()
    parts = [folder / f"part-{number}" for number in range(processes)]
    _shared = (data, tokenizer)  # a forked process finds it there
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("fork"), _begin_part, (os.getpid(),))
    try:
        list(pool.map(_write_part, parts, bounds[:-1], bounds[1:]))
    except BaseException as error:
        for process in list((pool._processes or {}).values()):
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise MachineProblem("a process that tokenises was killed, most often because memory ran out") from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        _shared = None
    digest = hashlib.sha256()
    for side in _SIDES:
        for kind, dtype in (("lengths", np.dtype(np.int32)), ("ids", np.dtype((parts[0] / f"{side}.dtype").read_text()))):
            _join([part / f"{side}.{kind}" for part in parts], dtype, folder / f"{side}.{kind}.npy", digest)
    for part in parts:
        shutil.rmtree(part)
    (folder / "sha256").write_text(digest.hexdigest(), encoding="ascii")


_shared: Any = None


def _begin_part(parent: int) -> None:
    """What is locked by the parent is locked by its children, too: they must not outlive it."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # these reach the parent, too, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    die_with(parent)


def _write_part(folder: Path, start: int, stop: int) -> None:
    data, tokenizer = _shared
    folder.mkdir()
    for block in range(start, stop, _BLOCK):
        pairs = _tokenised(data, tokenizer, block, min(block + _BLOCK, stop))
        for side, rows in zip(_SIDES, (pairs.source, pairs.target), strict=True):
            for kind, numbers in (("ids", rows.ids), ("lengths", rows.lengths)):
                with (folder / f"{side}.{kind}").open("ab") as file:
                    file.write(numbers.data)
            (folder / f"{side}.dtype").write_text(rows.ids.dtype.name)


def _join(parts: Sequence[Path], dtype: np.dtype[Any], path: Path, digest: Any) -> None:
    """Files of numbers, one behind the other, as one .npy file; the parts go."""
    count = sum(part.stat().st_size for part in parts) // dtype.itemsize
    with path.open("wb") as joined:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(joined, header)
        for part in parts:
            with part.open("rb") as file:
                while block := file.read(1 << 24):
                    digest.update(block)
                    joined.write(block)
            with suppress(OSError):
                part.unlink()
