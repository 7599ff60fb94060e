r"""The one reader and the one writer of text files.

A record is the bytes up to `\n`. One trailing `\r` and a byte order mark at the start of the file are stripped; a last
line without `\n` counts. Nothing else breaks a line: not a lone `\r`, U+2028, NEL, VT or FF, at which Python's own
text mode or `str.splitlines` would.
"""

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from seq2seq.atomic import replacing_file
from seq2seq.data.packing import check_is_no_stream, command_on, open_binary, packing_for, unpacked_name
from seq2seq.errors import DataProblem

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_SHOWN = 5
"""Bad bytes that an error lists."""
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Scan:
    """What can be known of a text file without understanding it.

    Attributes:
        lines: how many.
        bad_lines: how many have a byte that is not UTF-8.
        bad_bytes: the first few of those, as `file:line:byte`, both counted from 1.
        carriage_returns: how many end in CRLF.
    """

    lines: int
    bad_lines: int = 0
    bad_bytes: tuple[str, ...] = ()
    carriage_returns: int = 0


def scan(path: Path) -> Scan:
    """Count the lines of a file and look for what is not UTF-8.

    Raises:
        DataProblem: there is no such file, it is damaged, or it is UTF-16; or it could not be read again.
    """
    check_is_no_stream(path)
    with open_binary(path) as stream:
        return scan_stream(stream, str(path))


def scan_stream(stream: Iterable[bytes], name: str) -> Scan:
    """As `scan`, of a stream that is open already."""
    lines, bad_lines, carriage_returns = 0, 0, 0
    bad_bytes: list[str] = []

    def counted() -> Iterator[bytes]:
        nonlocal carriage_returns
        for line in stream:
            carriage_returns += line.endswith(b"\r\n")
            yield line

    for lines, record in enumerate(records(counted(), name), start=1):
        try:
            record.decode()
        except UnicodeDecodeError as error:
            bad_lines += 1
            if len(bad_bytes) < _SHOWN:
                bad_bytes.append(f"{name}:{lines}:{error.start + 1}")
    return Scan(lines, bad_lines, tuple(bad_bytes), carriage_returns)


def check_encoding(found: Scan, name: str, otherwise: str = "") -> None:
    """Raises DataProblem if a scan found bytes that are not UTF-8, and says where.

    Args:
        otherwise: another way to go on, for the fix.
    """
    if found.bad_lines:
        raise DataProblem(
            f"{found.bad_lines:,} of {found.lines:,} lines of {name} are not UTF-8 (file:line:byte): {', '.join(found.bad_bytes)}",
            f"convert it if it is in an older encoding, {_converting('LATIN1', name)}; or mend these lines{otherwise}",
        )


def _converting(encoding: str, name: str) -> str:
    """The command that makes a file UTF-8, beside it and unpacked; a stream goes through it."""
    command, file = f"iconv -f {encoding} -t UTF-8", Path(name)
    if not file.is_file():
        return f"… | {command} | …"
    return f"{command_on(file, command)} > {shlex.quote(f'{unpacked_name(file)}.utf8')}"


def records(stream: Iterable[bytes], name: str) -> Iterator[bytes]:
    """The records of a binary stream.

    Raises:
        DataProblem: it looks like UTF-16.
    """
    for number, record in enumerate(stream, start=1):
        if number == 1:
            if record.startswith((b"\xff\xfe", b"\xfe\xff")) or _every_second_is_zero(record):
                raise DataProblem(f"{name} looks like UTF-16, expected UTF-8", _converting("UTF-16", name))
            record = record.removeprefix(_BYTE_ORDER_MARK)
        yield record.removesuffix(b"\n").removesuffix(b"\r")


def _every_second_is_zero(record: bytes) -> bool:
    """And none of the others: a few NULs in a text are no UTF-16."""
    record = record.removesuffix(b"\n")[:4096]
    even, odd = record[0::2], record[1::2]
    return len(record) >= 8 and ((not any(even) and all(odd)) or (not any(odd) and all(even)))


def read_lines(path: Path, replace_bad: bool = False) -> Iterator[str]:
    """Lines of a file, plain or packed by its first bytes.

    Args:
        replace_bad: put U+FFFD where a byte is not UTF-8.

    Raises:
        DataProblem: no such file, not UTF-8, or a damaged packed file.
    """
    with open_binary(path) as stream:
        yield from decode_lines(stream, str(path), replace_bad)


def decode_lines(stream: Iterable[bytes], name: str, replace_bad: bool = False) -> Iterator[str]:
    """As `read_lines`, of a stream that is open already."""
    for number, record in enumerate(records(stream, name), start=1):
        try:
            yield record.decode("utf-8", "replace" if replace_bad else "strict")
        except UnicodeDecodeError as error:
            raise DataProblem(
                f"{name}:{number}:{error.start + 1}: the byte 0x{record[error.start]:02x} is not UTF-8",
                f"mend the line, or convert the file: {_converting('LATIN1', name)}",
            ) from None


def as_record(text: str) -> bytes:
    """A text as a line of a file. A line break inside would shift every later line, so there can be none."""
    return text.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace") + b"\n"


class LineWriter:
    """Writes one record a line, packed by the chunk."""

    def __init__(self, stream: IO[bytes], name: Path) -> None:
        self._stream, self._pack = stream, packing_for(name)
        self._waiting: list[bytes] = []
        self._size = 0

    def write(self, text: str) -> None:
        self._waiting.append(as_record(text))
        self._size += len(self._waiting[-1])
        if self._size >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._stream.write(self._pack(b"".join(self._waiting)))
        self._waiting, self._size = [], 0


@contextmanager
def writing_lines(path: Path) -> Iterator[LineWriter]:
    """A writer to `path`, packed as its name says. The file appears whole, when all is written."""
    with replacing_file(path) as temporary, temporary.open("wb") as raw:
        writer = LineWriter(raw, path)
        yield writer
        writer.flush()
