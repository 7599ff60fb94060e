"""Floor 0: a file or folder under its final name is complete, and one process at a time writes it.

Write under a temporary name beside it, fsync, rename once. A folder can carry a
manifest, which is written last and tells whether what is there is what was written.
"""

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from seq2seq.errors import BundleProblem, NewerProblem

MANIFEST = "manifest.json"


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """What a file holds, or which names a folder has, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock(file: IO[Any]) -> bool:
    """Whether an open file is this process's alone from now on, until it is closed or the process ends; False if another has it. Where the
    file system has no locks, processes are not kept apart."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES)
    return True


def opened_alone(path: Path, patience: float) -> IO[bytes] | None:
    """A file to read and to append to, that no other process has so; None if another still has it after `patience` seconds."""
    until = time.monotonic() + patience
    while True:
        file = path.open("a+b")
        if lock(file):
            with suppress(FileNotFoundError):
                if path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    return file
            file.close()  # whoever had it has finished meanwhile, and removed it
            continue
        file.close()
        if time.monotonic() > until:
            return None
        time.sleep(0.1)


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; on success it takes the place of `path`, on failure it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def replacing_folder(path: Path) -> AbstractContextManager[Path]:
    """Yield a temporary folder to fill; on success it takes the place of `path`, which is only then removed."""

    def put(temporary: Path) -> None:
        if path.exists():
            _exchange(temporary, path)  # what was there is now under the temporary name
        else:
            os.rename(temporary, path)

    return _folder_for(path, put)


def adding_folder(path: Path) -> AbstractContextManager[Path]:
    """As `replacing_folder`, but if another process has put its own there meanwhile, that one stays: somebody may be reading it."""

    def put(temporary: Path) -> None:
        try:
            os.rename(temporary, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    return _folder_for(path, put)


@contextmanager
def _folder_for(path: Path, put: Callable[[Path], None]) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on success it is synced and `put` there. What is under its name in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    temporary.mkdir()
    try:
        yield temporary
        for entry in sorted(temporary.rglob("*")):
            if not entry.is_symlink():
                sync(entry)
        sync(temporary)
        put(temporary)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def temporary_name(path: Path) -> Path:
    """Where this process writes before `path` is complete: a name that no other has, on whatever machine of a shared disk."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes left half written in `folder`. For who knows that no other process writes there."""
    for path in folder.glob(".*.tmp-*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a small text file at once."""
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _exchange(one: Path, other: Path) -> None:
    """Swap two names in one step, so that there is no moment without either. Linux and macOS can; elsewhere two renames do."""
    system = ctypes.CDLL(None, use_errno=True)
    here, there = os.fsencode(one), os.fsencode(other)
    swap = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
    if hasattr(system, "renameat2"):
        current = -100  # AT_FDCWD
        failed = system.renameat2(current, here, current, there, swap)
    elif hasattr(system, "renamex_np"):
        failed = system.renamex_np(here, there, swap)
    else:
        failed = -1
    if failed:
        aside = other.with_name(f"{other.name}.old-{secrets.token_hex(4)}")  # if this process is killed here, it stays
        os.rename(other, aside)
        os.rename(one, other)
        os.rename(aside, one)


def write_manifest(folder: Path, kind: str, version: int, written_by: str) -> None:
    """List every file in `folder` with its size and SHA-256. Call it when all of them are written."""
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = {"format": kind, "format_version": version, "written_by": written_by, "files": files}
    (folder / MANIFEST).write_text(_sealed(manifest), encoding="utf-8")


def check_manifest(folder: Path, kind: str, version: int) -> set[str]:
    """The files that `folder` holds, each exactly as it was written.

    Raises:
        BundleProblem: it holds something else, something is missing or damaged, or a newer release wrote it.
    """
    path = folder / MANIFEST
    again = "copy it again from where it was made"
    try:
        text = path.read_text(encoding="utf-8")
        manifest = json.loads(text)
        found, seen = str(manifest["format"]), int(manifest["format_version"])
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleProblem(f"{path} cannot be read ({type(error).__name__}: {error})", again) from None
    if found != kind:
        raise BundleProblem(f"{folder} is a {found!r}, expected a {kind!r}", "check the path")
    if seen > version:
        raise NewerProblem(
            f"{folder} has format {seen}, this release reads up to {version}",
            f"update: it was written by {manifest.get('written_by')}",
        )
    if text != _sealed({key: value for key, value in manifest.items() if key != "seal"}):
        raise BundleProblem(f"{path} is damaged: it is not as it was written", again)
    for name, expected in files.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts or file.is_symlink():
            raise BundleProblem(f"{path} lists {name}, which is outside the folder", "do not use it")
        if not file.is_file():
            raise BundleProblem(f"{file} is missing", again)
        if file.stat().st_size != expected[0] or sha256(file) != expected[1]:
            raise BundleProblem(f"{file} is damaged: its size or SHA-256 is not what {MANIFEST} says", again)
    return set(files)


def _sealed(manifest: dict[str, Any]) -> str:
    """The text of a manifest, with a SHA-256 of itself at the end."""
    seal = hashlib.sha256(json.dumps(manifest).encode()).hexdigest()
    return json.dumps({**manifest, "seal": seal}, indent=2) + "\n"
