import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.lines import read_lines, scan, writing_lines
from seq2seq.data.packing import PACKINGS, SUFFIXES, Packing
from seq2seq.errors import DataProblem

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))


@given(st.lists(TEXT), st.sampled_from(["", *SUFFIXES]))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, lines: list[str], suffix: str) -> None:
    path = tmp_path_factory.mktemp("lines") / f"x.txt{suffix}"
    with writing_lines(path) as writer:
        for line in lines:
            writer.write(line)
    if lines and lines[0].startswith("\ufeff"):  # a byte order mark at the start of a file is not text
        lines[0] = lines[0][1:]
    assert list(read_lines(path)) == lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\r\nb\nc\r\n", ["a", "b", "c"]),
        (b"\n\n", ["", ""]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        ("a\u2028b\u0085c\x0bd\x0ce\rf\n".encode(), ["a\u2028b\u0085c\x0bd\x0ce\rf"]),
        (b"a\r\r\n", ["a\r"]),
    ],
)
def test_only_a_line_feed_ends_a_line(tmp_path: Path, data: bytes, lines: list[str]) -> None:
    (tmp_path / "x").write_bytes(data)
    (tmp_path / "x.gz").write_bytes(gzip.compress(data))
    assert list(read_lines(tmp_path / "x")) == list(read_lines(tmp_path / "x.gz")) == lines


def test_bad_bytes_are_named_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"good\nb\xffd\n")
    with pytest.raises(DataProblem, match=r"x.txt:2:2: the byte 0xff is not UTF-8"):
        list(read_lines(path))
    assert list(read_lines(path, replace_bad=True)) == ["good", "b\ufffdd"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_recognised(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.txt").write_bytes("hello\nthere\n".encode(encoding))
    with pytest.raises(DataProblem, match="UTF-16"):
        list(read_lines(tmp_path / "x.txt"))


def test_nuls_are_no_utf16(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\x000\x00\n\x00\x00\x00\x00\x00\x00\x00\x00\nab\x00")
    assert list(read_lines(tmp_path / "x.txt")) == ["\x000\x00", "\x00" * 8, "ab\x00"]


@pytest.mark.parametrize("packing", PACKINGS, ids=lambda packing: packing.name)
def test_a_packed_file_that_is_cut_or_spoilt_is_an_error(tmp_path: Path, packing: Packing) -> None:
    """Wherever it is, in a later member, too."""
    text = "".join(f"line {i} {i * i}\n" for i in range(20_000)).encode()
    members = [packing.pack(text[:100_000]), packing.pack(text[100_000:])]
    path = tmp_path / "x"
    path.write_bytes(b"".join(members))
    assert list(read_lines(path)) == text.decode().split("\n")[:-1]
    for damaged in (
        members[0][: len(members[0]) // 2],
        members[0] + members[1][:-3],
        members[0] + members[1][: len(members[1]) // 2],
        members[0] + b"not packed at all",
        members[0] + b"XXXXXXXX" + members[1][8:],
    ):
        path.write_bytes(damaged)
        with pytest.raises(DataProblem, match=packing.name):
            list(read_lines(path))


def test_a_scan_counts_and_finds(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\xff\n\xc3\nthree")
    found = scan(path)
    assert (found.lines, found.bad_lines, found.carriage_returns) == (4, 2, 1)
    assert found.bad_bytes == (f"{path}:2:4", f"{path}:3:1")


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "train.en").write_text("")
    with pytest.raises(DataProblem, match=r"train\.en'"):
        list(read_lines(tmp_path / "tarin.en"))


def test_a_line_break_in_a_record_cannot_shift_lines(tmp_path: Path) -> None:
    with writing_lines(tmp_path / "x") as writer:
        writer.write("a\nb\r")
    assert list(read_lines(tmp_path / "x")) == ["a b "]


def test_a_file_that_could_not_be_written_whole_does_not_appear(tmp_path: Path) -> None:
    def fail() -> None:
        with writing_lines(tmp_path / "x") as writer:
            writer.write("half")
            raise RuntimeError("the disk is full")

    (tmp_path / "x").write_text("old\n")
    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_text() == "old\n"
