r"""The one reader and the one writer of text files.

A record is the bytes up to `\n`. One trailing `\r` and a byte order mark at the start of the file are stripped; a last
line without `\n` counts. Nothing else breaks a line: not a lone `\r`, U+2028, NEL, VT or FF, at which Python's own
text mode or `str.splitlines` would.
"""

import gzip
import hashlib
import unicodedata
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from seq2seq.atomic import replacing_file
from seq2seq.errors import DataProblem, did_you_mean

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def decode_lines(stream: Iterable[bytes], name: str, replace_bad: bool = False) -> Iterator[str]:
    """Lines of a binary stream.

    Raises:
        DataProblem: at a byte that is not UTF-8, naming file and line, unless `replace_bad` puts U+FFFD there.
    """
    for number, record in enumerate(stream, start=1):
        if number == 1:
            if record.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise DataProblem(f"{name} looks like UTF-16, expected UTF-8", f"iconv -f UTF-16 -t UTF-8 {name}")
            record = record.removeprefix(_BYTE_ORDER_MARK)
        record = record.removesuffix(b"\n").removesuffix(b"\r")
        try:
            yield record.decode("utf-8", "replace" if replace_bad else "strict")
        except UnicodeDecodeError as error:
            raise DataProblem(
                f"{name}:{number}: byte {error.start + 1} of the line (0x{record[error.start]:02x}) is not UTF-8",
                f"mend the line, or convert the file: iconv -f LATIN1 -t UTF-8 {name}",
            ) from None


def read_lines(path: Path, replace_bad: bool = False) -> Iterator[str]:
    """Lines of a file, plain or gzip by its first bytes.

    Raises:
        DataProblem: no such file, not UTF-8, or a damaged gzip file.
    """
    with open_binary(path) as stream:
        yield from decode_lines(stream, str(path), replace_bad)


@contextmanager
def open_binary(path: Path) -> Iterator[IO[bytes]]:
    """The bytes of a file, unpacked if it is gzip."""
    if not path.is_file():
        raise DataProblem(f"there is no file {path}", _nearby(path))
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if packed:
            try:
                with gzip.GzipFile(fileobj=raw) as unpacked:
                    yield cast(IO[bytes], unpacked)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                raise DataProblem(
                    f"{path}: the gzip file is damaged or cut short ({error})", "copy or download it again"
                ) from None
        else:
            yield raw


def _nearby(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; check the path"
    names = sorted(entry.name for entry in path.parent.iterdir())
    near = did_you_mean(path.name, names).removeprefix(", ")
    return near or f"{path.parent} holds: {', '.join(names[:8]) or 'nothing'}"


def is_blank(text: str) -> bool:
    """Nothing but white space, control characters and invisible ones such as U+200B."""
    return all(c.isspace() or unicodedata.category(c) in ("Cc", "Cf") for c in text)


def one_line(text: str) -> str:
    """The text with every control character and every line or paragraph separator made a space."""
    return text if text.isprintable() else "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


class LineWriter:
    """Writes one record a line. A line break inside a record would shift every later line, so there can be none."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, record: str) -> None:
        self._stream.write(record.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace") + b"\n")

    def flush(self) -> None:
        self._stream.flush()


@contextmanager
def writing_lines(path: Path) -> Iterator[LineWriter]:
    """A writer to `path`, gzip if its name ends so. The file appears whole, when all is written."""
    with replacing_file(path) as temporary, temporary.open("wb") as raw:
        if path.suffix == ".gz":
            with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed:
                yield LineWriter(cast(IO[bytes], packed))
        else:
            yield LineWriter(raw)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
