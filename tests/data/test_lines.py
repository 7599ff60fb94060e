import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.lines import read_lines, writing_lines
from seq2seq.errors import DataProblem

TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))


@given(st.lists(TEXT), st.booleans())
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, lines: list[str], packed: bool) -> None:
    path = tmp_path_factory.mktemp("lines") / ("x.txt.gz" if packed else "x.txt")
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


def test_utf16_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes("hello".encode("utf-16"))
    with pytest.raises(DataProblem, match="UTF-16"):
        list(read_lines(tmp_path / "x.txt"))


def test_a_cut_gzip_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(gzip.compress(b"hello\n" * 1000)[:-9])
    with pytest.raises(DataProblem, match="cut short"):
        list(read_lines(tmp_path / "x.gz"))


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
