"""Floor 0: files that grow by chunks, and can go on growing after a kill.

While it grows, `out.txt` is called `out.txt.partial`, and `out.txt.journal` has a line for each finished chunk: how much has been
read and written, with SHA-256. Going on reads that back, cuts off what a kill left behind the last finished chunk, and
checks that the input is the same as far as it was read. In the end the files are renamed; a file under its final name is complete.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Self

from seq2seq.atomic import opened_alone, sha256, sync
from seq2seq.errors import ConfigProblem, DataProblem, MachineProblem


class Journal:
    """Grows `files` together: a chunk is in all of them or in none.

    Attributes:
        lines: input lines that earlier processes have finished.
        ended: whether they have finished all.
    """

    def __init__(self, files: Sequence[Path], settings: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        """
        Args:
            files: final names; the first names the journal.
            settings: what must be the same to go on.
            resume: go on from a journal if there is one.
            overwrite: begin anew over what is there.

        Raises:
            ConfigProblem: something is there already, or was begun with other settings.
            MachineProblem: another command is writing there.
        """
        self._files = list(files)
        self._partials = [path.with_name(f"{path.name}.partial") for path in files]
        self._path = files[0].with_name(f"{files[0].name}.journal")
        self._read = hashlib.sha256()
        self._written = [hashlib.sha256() for _ in files]
        self._streams: list[IO[bytes]] = []
        self.lines, self.ended = 0, False
        self._settings = dict(settings)
        files[0].parent.mkdir(parents=True, exist_ok=True)
        log = opened_alone(self._path, _PATIENCE)
        if log is None:
            raise MachineProblem(f"another command is writing {files[0]}", "wait for it, or choose another output")
        self._log = log
        try:
            self._begin(settings, resume, overwrite)
        except BaseException:
            if not self._path.stat().st_size:  # nothing was here before
                self._path.unlink()
            self._close()
            raise

    def _begin(self, settings: Mapping[str, Any], resume: bool, overwrite: bool) -> None:
        files = self._files
        found = self._entries() if resume or not overwrite else []
        if len(found) > 1 and not resume:
            raise ConfigProblem(
                f"{self._partials[0]} is there from an earlier command, {found[-1].get('lines', 0):,} lines of it finished",
                "go on with resume=true, or begin anew with overwrite=true",
            )
        if len(found) > 1 and resume:
            self._take_up(found, settings)
        else:
            # Where nothing was translated, files under their final names are ours only if they are empty.
            ours = resume and bool(found)
            there = [file for file in files if file.exists() and not (ours and not file.stat().st_size)]
            if there and not overwrite:
                raise ConfigProblem(f"{there[0]} exists", "choose another output, or overwrite=true")
            self._log.truncate(0)
            for path in self._partials:
                path.unlink(missing_ok=True)
            self._digest_of_input = self._read.hexdigest()
            self._streams = [path.open("wb") for path in self._partials]
            self._note(dict(settings))

    def _entries(self) -> list[dict[str, Any]]:
        """The whole lines of the journal: the settings, then a line a chunk."""
        entries = []
        for line in self._path.read_bytes().split(b"\n")[:-1]:
            try:
                entries.append(json.loads(line))
            except ValueError:
                break  # the end of a journal that was being written
        return entries

    def _take_up(self, entries: list[dict[str, Any]], settings: Mapping[str, Any]) -> None:
        differing = [name for name in settings if entries[0].get(name) != settings[name]]
        if differing:
            raise ConfigProblem(
                "the earlier command was another one: "
                + "; ".join(f"{name} was {entries[0].get(name)}, is {settings[name]}" for name in differing),
                "repeat it as it was, or begin anew with overwrite=true",
            )
        last = entries[-1]
        self.lines, self.ended, self._digest_of_input = int(last["lines"]), bool(last.get("ended")), str(last["read"])
        for i, (partial, final) in enumerate(zip(self._partials, self._files, strict=True)):
            if not partial.exists() and final.exists():
                os.rename(final, partial)  # killed between the last renames
            partial.touch()
            stream = partial.open("r+b")
            size, expected = last["files"][i]
            for block in _blocks(stream, size):
                self._written[i].update(block)
            if self._written[i].hexdigest() != expected:
                raise DataProblem(f"{partial} is not as it was written", "begin anew with overwrite=true")
            stream.truncate(size)
            stream.seek(size)
            self._streams.append(stream)
        self._log.truncate(sum(len(json.dumps(entry).encode()) + 1 for entry in entries))

    def pass_over(self, lines: Iterator[str]) -> None:
        """Read from `lines` what was finished before.

        Raises:
            DataProblem: it is not what was read then.
        """
        passed = 0
        for line in islice(lines, self.lines):
            self._read.update(_record(line))
            passed += 1
        if self.ended and next(lines, None) is not None:
            raise DataProblem(
                f"the input has more than the {self.lines:,} lines that were all when they were translated",
                "begin anew with overwrite=true",
            )
        if passed < self.lines or self._read.hexdigest() != self._digest_of_input:
            raise DataProblem(
                f"the first {self.lines:,} lines of the input are not those that were translated before",
                "begin anew with overwrite=true",
            )

    def append(self, lines: Sequence[str], chunks: Sequence[bytes], ended: bool = False) -> None:
        """Add a chunk: the input lines it answers, and what it adds to each file; `ended` if it is the last."""
        for line in lines:
            self._read.update(_record(line))
        for stream, chunk, digest in zip(self._streams, chunks, self._written, strict=True):
            stream.write(chunk)
            _settle(stream)
            digest.update(chunk)
        self.lines += len(lines)
        files = [(stream.tell(), digest.hexdigest()) for stream, digest in zip(self._streams, self._written, strict=True)]
        self._note({"lines": self.lines, "read": self._read.hexdigest(), "files": files} | ({"ended": True} if ended else {}))

    def fingerprint(self) -> str:
        """What tells these settings, the input so far, and the first file from others; see the function of this name."""
        return _fingerprint(self._settings, self._read.hexdigest(), self._written[0].hexdigest())

    def finish(self) -> None:
        """Give the files their final names."""
        for stream in self._streams:
            stream.close()
        for partial, final in reversed(list(zip(self._partials, self._files, strict=True))):
            os.replace(partial, final)
        sync(self._path.parent)
        self._path.unlink()
        self._close()  # and with it the lock

    def _note(self, entry: Mapping[str, Any]) -> None:
        self._log.write(json.dumps(dict(entry)).encode() + b"\n")
        _settle(self._log)

    def _close(self) -> None:
        for stream in (*self._streams, self._log):
            stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()


_PATIENCE = 1.0
"""Seconds that processes of a command that was killed are given to end."""


def is_complete(file: Path) -> bool:
    """Whether a file has its final name and no journal any more."""
    return file.exists() and not file.with_name(f"{file.name}.journal").exists()


def fingerprint(settings: Mapping[str, Any], lines: Iterable[str], file: Path) -> str:
    """That of a journal with these settings that has read all the lines and has written this file first."""
    read = hashlib.sha256()
    for line in lines:
        read.update(_record(line))
    return _fingerprint(settings, read.hexdigest(), sha256(file))


def _fingerprint(settings: Mapping[str, Any], read: str, written: str) -> str:
    return hashlib.sha256(json.dumps([dict(settings), read, written], sort_keys=True).encode()).hexdigest()


def _record(line: str) -> bytes:
    return line.encode("utf-8", "surrogatepass") + b"\n"


def _settle(stream: Any) -> None:
    stream.flush()
    os.fsync(stream.fileno())


def _blocks(stream: Any, size: int) -> Iterator[bytes]:
    while size > 0 and (block := stream.read(min(size, 1 << 20))):
        size -= len(block)
        yield block
