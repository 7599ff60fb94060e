"""Packed files: gzip, xz, bzip2, and Zstandard with the extra `zstd`. Read by their first bytes, written by their name.

Each is written as independent members one after the other, as all four formats allow, so that a file can grow chunk by chunk and
its bytes do not depend on when it was interrupted.
"""

import bz2
import gzip
import io
import lzma
import shlex
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from seq2seq.errors import DataProblem, did_you_mean, missing_extra


@dataclass(frozen=True)
class Packing:
    """One format: how its files begin and end in name, the program for it, and how bytes are packed and unpacked."""

    magic: bytes
    suffix: str
    name: str
    program: str
    pack: Callable[[bytes], bytes]
    unpack: Callable[[IO[bytes]], Any]


def _zstandard() -> Any:
    if find_spec("zstandard") is None:
        raise missing_extra("zstandard", "zstd", "a .zst file")
    import zstandard

    return zstandard


class _Members(io.RawIOBase):
    """The members of a packed file, one after the other, all of them whole. The standard library takes a member it cannot read for the
    end of the file."""

    def __init__(self, raw: IO[bytes], decompressor: Callable[[], Any]) -> None:
        self._raw, self._make = raw, decompressor
        self._member: Any = None
        self._packed = self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            packed = self._packed or self._raw.read(1 << 14)
            self._packed = b""
            if not packed:
                if self._member is not None:
                    raise EOFError("it ends in the middle")
                return 0
            self._member = self._member or self._make()
            self._ready = self._member.decompress(packed)
            if self._member.eof:
                self._packed, self._member = self._member.unused_data, None
        size = min(len(buffer), len(self._ready))
        buffer[:size], self._ready = self._ready[:size], self._ready[size:]
        return size


def _unpacked(raw: IO[bytes], decompressor: Callable[[], Any]) -> IO[bytes]:
    return io.BufferedReader(_Members(raw, decompressor), 1 << 18)


PACKINGS = (
    Packing(
        b"\x1f\x8b", ".gz", "gzip", "gzip", lambda data: gzip.compress(data, mtime=0), lambda raw: gzip.GzipFile(fileobj=raw)
    ),
    Packing(b"\xfd7zXZ\x00", ".xz", "xz", "xz", lzma.compress, lambda raw: _unpacked(raw, lzma.LZMADecompressor)),
    Packing(b"BZh", ".bz2", "bzip2", "bzip2", bz2.compress, lambda raw: _unpacked(raw, bz2.BZ2Decompressor)),
    Packing(
        b"\x28\xb5\x2f\xfd",
        ".zst",
        "Zstandard",
        "zstd",
        lambda data: bytes(_zstandard().compress(data)),
        lambda raw: _unpacked(raw, lambda: _zstandard().ZstdDecompressor().decompressobj()),
    ),
)
SUFFIXES = tuple(packing.suffix for packing in PACKINGS)


def packing_for(path: Path) -> Callable[[bytes], bytes]:
    """What packs a chunk of bytes for a file of this name.

    Raises:
        MachineProblem: the name asks for a format whose package is not installed.
    """
    for packing in PACKINGS:
        if path.suffix == packing.suffix:
            packing.pack(b"")
            return packing.pack
    return bytes


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe or a terminal, such as `<(zcat x.gz)`, whose text is gone when it has been read."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_is_no_stream(path: Path) -> None:
    """Raises DataProblem if a file that is read more than once is none."""
    if is_stream(path):
        raise DataProblem(f"{path} is no file but a stream, which can be read only once", "write it to a file first")


def unpacked_name(path: Path) -> Path:
    """The path without the ending of a packed file."""
    return path.with_suffix("") if path.suffix in SUFFIXES else path


def command_on(path: Path, command: str) -> str:
    """A command line that works on the text of a file, packed or not, whatever it is called."""
    with path.open("rb") as raw:
        packing = _packing_of(raw.read(8))
    name = shlex.quote(str(path))
    return f"{packing.program} -dc < {name} | {command}" if packing else f"{command} {name}"


def _packing_of(beginning: bytes) -> Packing | None:
    return next((packing for packing in PACKINGS if beginning.startswith(packing.magic)), None)


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if it is packed, whatever it is called.

    Raises:
        DataProblem: there is no such file, it may not be read, or it is damaged or cut short.
    """
    try:
        raw = path.open("rb")
    except FileNotFoundError:
        raise DataProblem(f"there is no file {path}", nearby(path)) from None
    except IsADirectoryError:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:8]) or "nothing"
        raise DataProblem(f"{path} is a folder, expected a file", f"name a file in it; it holds: {names}") from None
    except OSError as error:
        raise DataProblem(f"{path} cannot be read ({error.strerror})", "correct the path or its rights") from None
    with raw, unpacked(raw, str(path)) as stream:
        yield stream


@contextmanager
def unpacked(raw: io.BufferedReader, name: str) -> Iterator[IO[bytes]]:
    """The bytes of an open stream, unpacked if it begins as packed ones do.

    Raises:
        DataProblem: it is damaged or cut short.
    """
    packing = _packing_of(raw.peek(6))
    if packing is None:
        yield raw
        return
    try:
        with packing.unpack(raw) as stream:
            yield stream
    except Exception as error:
        of_the_format = isinstance(error, EOFError | OSError | lzma.LZMAError | zlib.error) or type(error).__name__ == "ZstdError"
        if not of_the_format or getattr(error, "errno", None) is not None:
            raise
        place = f" near its byte {raw.tell():,}" if raw.seekable() else ""
        raise DataProblem(
            f"{name}: the {packing.name} file is damaged or cut short{place} ({error})", "copy or download it again"
        ) from None


def nearby(path: Path) -> str:
    """The existing path most like that of a file that is not there, or what its folder holds."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; check the path"
    names = sorted(entry.name for entry in path.parent.iterdir())
    near = did_you_mean(path.name, names, lambda name: str(path.with_name(name))).removeprefix(", ")
    return near or f"{path.parent} holds: {', '.join(names[:8]) or 'nothing'}"
