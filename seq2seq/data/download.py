"""Files from the network: fetched once, checked by SHA-256, kept in a cache."""

import os
import shutil
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from seq2seq.atomic import replacing_file
from seq2seq.data.lines import sha256
from seq2seq.errors import DataProblem, MachineProblem


def cache_folder(name: str) -> Path:
    """A folder of our cache: `$SEQ2SEQ_CACHE`, else `~/.cache/seq2seq`."""
    root = os.environ.get("SEQ2SEQ_CACHE") or Path.home() / ".cache" / "seq2seq"
    return Path(root) / name


@dataclass(frozen=True)
class RemoteFile:
    """A file that is the same for everybody, as its SHA-256 says."""

    url: str
    sha256: str | None
    """None: the source does not say, so whatever comes is taken."""

    def fetch(self, folder: Path) -> Path:
        """The file in `folder`, downloaded unless it is there already.

        Raises:
            MachineProblem: it cannot be downloaded.
            DataProblem: what came is not the file that was pinned.
        """
        path = folder / self.url.rsplit("/", 1)[-1]
        if path.is_file() and self.sha256 in (None, sha256(path)):
            return path
        with replacing_file(path) as temporary:
            try:
                with urllib.request.urlopen(self.url, timeout=60) as response, temporary.open("wb") as out:
                    shutil.copyfileobj(response, out)
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                raise MachineProblem(
                    f"cannot download {self.url} ({error})",
                    "try again, or put the files into a folder and name it: recipe.folder=DIR or SEQ2SEQ_DATA=DIR",
                ) from None
            if self.sha256 not in (None, seen := sha256(temporary)):
                raise DataProblem(
                    f"{self.url} is not the file this recipe was made for: SHA-256 {seen}, expected {self.sha256}",
                    "fetch the file from elsewhere and name its folder: recipe.folder=DIR",
                )
        return path
