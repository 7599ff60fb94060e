"""The lines that a command is given, by a file or a stream."""

import os
import stat
import sys
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

from seq2seq.errors import check_open

if TYPE_CHECKING:
    from seq2seq.data.lines import Scan


def given(name: str | None, strict: bool) -> tuple[int | None, Iterator[str]]:
    """How many lines will come, where that can be known without using them up, and the lines; what is not UTF-8 in them is U+FFFD.

    Args:
        name: of the file; None: the standard input.

    Raises:
        DataProblem: with `strict`, when some are not UTF-8 and that can be known.
        ConfigProblem: the standard input is closed.
    """
    from seq2seq.data.lines import check_encoding, read_lines

    if not name:
        check_open("stdin", "input=FILE")
    found = _scanned(name)
    if found and strict:
        check_encoding(found, name or "standard input", "; without strict=true they are taken as U+FFFD")
    if found and found.carriage_returns:
        print(f"{found.carriage_returns:,} lines end in CRLF, which counts as a line end and is written as LF", file=sys.stderr)
    lines = read_lines(Path(name), replace_bad=True) if name else _of_standard_input()
    return found.lines if found else None, lines


def _scanned(name: str | None) -> "Scan | None":
    """What is known of what can be read again."""
    from seq2seq.data.lines import scan, scan_stream
    from seq2seq.data.packing import is_stream, unpacked

    if name:
        return None if is_stream(Path(name)) else scan(Path(name))
    if not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        return None
    start = sys.stdin.buffer.tell()
    with unpacked(_standard_input(), "standard input") as stream:
        found = scan_stream(stream, "standard input")
    sys.stdin.buffer.seek(start)
    return found


def _of_standard_input() -> Iterator[str]:
    from seq2seq.data.lines import decode_lines
    from seq2seq.data.packing import unpacked

    if sys.stdin.isatty():  # looking ahead would wait for a line
        yield from decode_lines(sys.stdin.buffer, "standard input", replace_bad=True)
        return
    with unpacked(_standard_input(), "standard input") as stream:
        yield from decode_lines(stream, "standard input", replace_bad=True)


def _standard_input() -> BufferedReader:
    return cast(BufferedReader, sys.stdin.buffer)
