"""Floor 0: where things are kept between commands."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """A folder of our cache: `$SEQ2SEQ_CACHE`, else `~/.cache/seq2seq`."""
    root = os.environ.get("SEQ2SEQ_CACHE") or Path.home() / ".cache" / "seq2seq"
    return Path(root) / name
