"""Against a small server on this machine that breaks off, lies and redirects."""

import hashlib
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from seq2seq.data import download
from seq2seq.data.download import RemoteFile, open_member
from seq2seq.errors import DataProblem, MachineProblem

TEXT = b"".join(b"line %d\n" % i for i in range(20_000))
SHA256 = hashlib.sha256(TEXT).hexdigest()


class Server(BaseHTTPRequestHandler):
    asked: ClassVar[list[tuple[str, str | None]]] = []
    breaks = 0
    """Requests that are broken off half way."""

    def do_GET(self) -> None:
        span = self.headers.get("Range")
        self.asked.append((self.path, span))
        if self.path == "/missing":
            self.send_error(404)
        elif self.path == "/broken":
            self.send_error(503)
        elif self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/data")
            self.end_headers()
        elif self.path == "/page":
            self.answer(b"<!DOCTYPE html><html>please log in</html>", 200)
        else:
            start = int(span.removeprefix("bytes=").removesuffix("-")) if span else 0
            if start >= len(TEXT):
                self.send_error(416)
            else:
                self.answer(TEXT[start:], 206 if span else 200)

    def answer(self, data: bytes, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if type(self).breaks:
            type(self).breaks -= 1
            data = data[: len(data) // 2]
        self.wfile.write(data)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    Server.asked, Server.breaks = [], 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_file_is_fetched_once(tmp_path: Path, address: str) -> None:
    file = RemoteFile(f"{address}/data", SHA256, len(TEXT))
    for _ in range(2):
        assert file.fetch(tmp_path).read_bytes() == TEXT
    assert Server.asked == [("/data", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_connection_that_breaks_off_is_gone_on_with(tmp_path: Path, address: str) -> None:
    Server.breaks = 3
    assert RemoteFile(f"{address}/data", SHA256).fetch(tmp_path).read_bytes() == TEXT
    half = len(TEXT) // 2
    assert [span for _, span in Server.asked][:2] == [None, f"bytes={half}-"]
    assert len(Server.asked) == 4


def test_what_an_earlier_process_left_is_gone_on_with(tmp_path: Path, address: str) -> None:
    (tmp_path / "data.part").write_bytes(TEXT[:1000])
    assert RemoteFile(f"{address}/data", SHA256).fetch(tmp_path).read_bytes() == TEXT
    assert Server.asked == [("/data", "bytes=1000-")]
    (tmp_path / "data").rename(tmp_path / "data.part")
    assert RemoteFile(f"{address}/data", SHA256).fetch(tmp_path).read_bytes() == TEXT


def test_two_processes_fetch_a_file_once(tmp_path: Path, address: str) -> None:
    file = RemoteFile(f"{address}/data", SHA256)
    with ThreadPoolExecutor(4) as several:  # each opens the file by itself, as processes do
        found = list(several.map(lambda _: file.fetch(tmp_path).read_bytes(), range(4)))
    assert found == [TEXT] * 4
    assert Server.asked == [("/data", None)]
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(("name", "said"), [("data", "SHA-256"), ("page", "it is a web page")])
def test_another_file_is_refused_and_removed(tmp_path: Path, address: str, name: str, said: str) -> None:
    with pytest.raises(DataProblem, match=said):
        RemoteFile(f"{address}/{name}", "0" * 64).fetch(tmp_path)
    assert not any(tmp_path.iterdir())


def test_another_size_is_refused(tmp_path: Path, address: str) -> None:
    with pytest.raises(DataProblem, match="expected 7"):
        RemoteFile(f"{address}/data", None, 7).fetch(tmp_path)


@pytest.mark.parametrize(
    ("name", "times", "said"), [("missing", 1, "404"), ("broken", 5, "503"), ("elsewhere", 1, "not an https address")]
)
def test_what_cannot_be_had_is_said(tmp_path: Path, address: str, name: str, times: int, said: str) -> None:
    with pytest.raises(MachineProblem, match=said):
        RemoteFile(f"{address}/{name}", None).fetch(tmp_path)
    assert len(Server.asked) == times
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["http://example.org/x", "ftp://example.org/x", "file:///etc/passwd"])
def test_only_https(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with pytest.raises(MachineProblem, match="not an https address"):
        RemoteFile(url, None).fetch(tmp_path)


def test_offline_means_offline(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQ2SEQ_OFFLINE", "1")
    with pytest.raises(MachineProblem, match="SEQ2SEQ_OFFLINE"):
        RemoteFile(f"{address}/data", None).fetch(tmp_path)
    assert Server.asked == []


def archive(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


def test_a_member_is_read_and_nothing_is_unpacked(tmp_path: Path) -> None:
    path = archive(tmp_path, {"../../evil.en": b"one\n", "readme": b"x"})
    with open_member(path, ".en") as stream:
        assert stream.read() == b"one\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.zip"]
    assert not (tmp_path.parent.parent / "evil.en").exists()


def test_bombs_and_ruins_are_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path, {"a.en": bytes(300 << 20)})
    with pytest.raises(DataProblem, match="would unpack to"), open_member(bomb, ".en"):
        pass
    with pytest.raises(DataProblem, match="no member"), open_member(bomb, ".de"):
        pass
    bomb.write_bytes(bomb.read_bytes()[:100])
    with pytest.raises(DataProblem, match="not a whole zip"), open_member(bomb, ".en"):
        pass
