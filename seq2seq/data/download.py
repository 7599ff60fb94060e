"""Files from the network: fetched once, checked by size and SHA-256, kept in a cache."""

import errno
import http.client
import math
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import urlsplit

from seq2seq.atomic import opened_alone, sha256, sync
from seq2seq.errors import DataProblem, MachineProblem

ATTEMPTS = 5
"""At one address, each going on where the one before broke off, with pauses of 1, 2, 4 and 8 seconds."""
_OTHERWISE = "or put the files into a folder and name it: recipe.folder=DIR or SEQ2SEQ_DATA=DIR"


def is_offline() -> bool:
    """Whether `SEQ2SEQ_OFFLINE` or the hub's own `HF_HUB_OFFLINE` forbids the network."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in ("SEQ2SEQ_OFFLINE", "HF_HUB_OFFLINE"))


def go_offline() -> None:
    """From now on nothing is asked of the network, by us or by the hub's library."""
    os.environ["SEQ2SEQ_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"


@dataclass(frozen=True)
class RemoteFile:
    """A file that is the same for everybody, as its SHA-256 says."""

    url: str
    sha256: str | None
    """None: the source does not say, so whatever comes is taken."""
    bytes: int | None = None
    """Its size, if known beforehand."""

    def fetch(self, folder: Path) -> Path:
        """The file in `folder`, downloaded unless it is there already.

        Raises:
            MachineProblem: it cannot be downloaded, or must not be.
            DataProblem: what came is not the file that was pinned.
        """
        path = folder / self.url.rsplit("/", 1)[-1]
        if self._is_there(path):
            return path
        if is_offline():
            raise MachineProblem(
                f"{self.url} is not in the cache, and offline=true or SEQ2SEQ_OFFLINE is set", f"allow the network, {_OTHERWISE}"
            )
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        with self._alone(part):
            try:
                if not self._is_there(path):
                    self._download(part)
                    self._check(part)
                    sync(part)
                    os.replace(part, path)  # at every moment one of the two is there
                    sync(folder)
            finally:
                if part.is_file() and not part.stat().st_size:
                    part.unlink()
        return path

    def _alone(self, part: Path) -> IO[Any]:
        """While another process fetches the file this one waits."""
        file = opened_alone(part, _PAUSE)
        if file is None:
            print(f"another process is fetching {self.url}: waiting for it", file=sys.stderr)
        return file or cast(IO[Any], opened_alone(part, math.inf))

    def _is_there(self, path: Path) -> bool:
        return path.is_file() and self.sha256 in (None, sha256(path))

    def _download(self, part: Path) -> None:
        """Bring `part` to its full size, whatever of it there is already."""
        for attempt in range(ATTEMPTS):
            try:
                return self._go_on(part)
            except urllib.error.HTTPError as error:
                if error.code == 416:  # there is no more to send
                    return None
                if error.code < 500 and error.code != 429:
                    raise self._failed(error) from None
                failure: Exception = error
            except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException, _Short) as error:
                failure = error
            if attempt + 1 < ATTEMPTS:
                time.sleep(_PAUSE * 2**attempt)
        raise self._failed(failure) from None

    def _go_on(self, part: Path) -> None:
        have = part.stat().st_size if part.is_file() else 0
        _check_address(self.url)
        request = urllib.request.Request(self.url, headers={"Range": f"bytes={have}-"} if have else {})
        with _opener().open(request, timeout=60) as response:
            resumed = response.status == 206
            expected = response.headers.get("Content-Length")
            with part.open("ab" if resumed else "wb") as out:
                shutil.copyfileobj(response, out)
        total = (have if resumed else 0) + int(expected) if expected else None
        if total is not None and part.stat().st_size < total:
            raise _Short(f"{part.stat().st_size:,} of {total:,} bytes came")

    def _check(self, part: Path) -> None:
        size = part.stat().st_size
        if self.bytes not in (None, size):
            seen, wanted = f"{size:,} bytes", f"{self.bytes:,}"
        elif self.sha256 not in (None, found := sha256(part)):
            seen, wanted = f"SHA-256 {found}", str(self.sha256)
        else:
            return
        with part.open("rb") as stream:
            page = stream.read(200).lstrip().lower().startswith((b"<!doctype html", b"<html"))
        part.unlink()
        raise DataProblem(
            f"{self.url} is not the file this recipe was made for: {seen}, expected {wanted}"
            + ("; it is a web page, perhaps of a proxy that wants a login" if page else ""),
            f"try again, {_OTHERWISE}",
        )

    def _failed(self, error: Exception) -> MachineProblem:
        return MachineProblem(f"cannot download {self.url} ({error})", f"try again, {_OTHERWISE}")


_PAUSE = 1.0


class _Short(Exception):
    """The connection ended before the file did."""


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows no redirect away from https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_StaySecure())


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost")):
        raise MachineProblem(f"{url} is not an https address", f"set one that is, {_OTHERWISE}")


MOST_BYTES, MOST_RATIO = 10 * 2**30, 200
"""What one member of an archive may unpack to, and how many times its packed size."""


@contextmanager
def open_member(archive: Path, suffix: str) -> Iterator[IO[bytes]]:
    """The one member of a zip archive whose name ends so, to be read as a stream. Nothing is unpacked to the disk.

    Raises:
        DataProblem: it is no whole zip archive, has no such member, or one that is damaged or not what it says.
    """
    again = f"delete it to download it again: rm {archive}"
    if not zipfile.is_zipfile(archive):
        raise DataProblem(f"{archive} is not a whole zip archive", again)
    try:
        with zipfile.ZipFile(archive) as packed:
            member = _member(packed, archive, suffix, again)
            with packed.open(member) as stream:
                yield stream
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):  # the disk says so; an impossible place in a file is damage
            raise
        raise DataProblem(f"{archive} is damaged ({error})", again) from None


def _member(packed: zipfile.ZipFile, archive: Path, suffix: str, again: str) -> zipfile.ZipInfo:
    for member in packed.infolist():
        if member.filename.endswith(suffix) and not member.is_dir():
            if member.file_size > min(MOST_BYTES, MOST_RATIO * max(member.compress_size, 1 << 16)):
                raise DataProblem(
                    f"{archive}: {member.filename} would unpack to {member.file_size:,} bytes", f"do not trust it; {again}"
                )
            return member
    raise DataProblem(f"{archive} has no member that ends in '{suffix}'", again)
