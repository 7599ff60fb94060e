"""Floor 0: where things are kept between commands."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seq2seq.atomic import replacing_folder


def cache_folder(name: str) -> Path:
    """A folder of our cache: `$SEQ2SEQ_CACHE`, else `~/.cache/seq2seq`."""
    root = os.environ.get("SEQ2SEQ_CACHE") or Path.home() / ".cache" / "seq2seq"
    return Path(root) / name


def digest_of(*made_from: Any) -> str:
    """What tells plain data from other plain data: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:32]


def remembered(name: str, key: str, write: Callable[[Path], None]) -> Path:
    """The folder `key` of our cache; if it is not there, `write` is given one to fill."""
    folder = cache_folder(name) / key
    if not folder.is_dir():
        with replacing_folder(folder) as temporary:
            write(temporary)
    return folder
