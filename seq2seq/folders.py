"""Floor 0: where things are kept between commands."""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from seq2seq.atomic import adding_folder


def cache_folder(name: str) -> Path:
    """A folder of our cache: `$SEQ2SEQ_CACHE`, else `~/.cache/seq2seq`.

    Raises:
        OSError: this user has no home.
    """
    if root := os.environ.get("SEQ2SEQ_CACHE"):
        return Path(root) / name
    try:
        return Path.home() / ".cache" / "seq2seq" / name
    except RuntimeError:
        raise OSError("this user has no home folder to keep things in: set SEQ2SEQ_CACHE=DIR") from None


def digest_of(*made_from: Any) -> str:
    """What tells plain data from other plain data: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def remembered(name: str, key: str, write: Callable[[Path], object]) -> Path:
    """The folder `key` of our cache; if it is not there, `write` is given one to fill. What is there is never changed."""
    folder = cache_folder(name) / key
    if not folder.is_dir():
        for left in folder.parent.glob(".*.tmp-*"):
            with suppress(FileNotFoundError):  # another process has finished it
                if time.time() - left.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(left, ignore_errors=True)
        with adding_folder(folder) as temporary:
            write(temporary)
    return folder


_FORGOTTEN = 7 * 24 * 3600.0
"""Seconds after which what a killed process left half made is removed."""
