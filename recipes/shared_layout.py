"""What downloading recipes have in common: a local folder laid out as `<folder>/<corpus>/<split>.<language>[.gz]`
stands in for the download. It is named by `recipe.folder=` or by the environment variable `SEQ2SEQ_DATA`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from seq2seq.data.recipe import Corpus, Provenance, find_side, make_split, parallel_pairs, record_file
from seq2seq.errors import DataProblem

Fetch = Callable[[str, str], Path]
"""(file stem, language) -> the file, for what is not in a local folder."""


def local_folder(folder: str | None, corpus: str) -> Path | None:
    """The local folder of a corpus, if there is one."""
    root = folder or os.environ.get("SEQ2SEQ_DATA")
    if not root:
        return None
    inner = Path(root) / corpus
    if not inner.is_dir() and not Path(root).is_dir():
        raise DataProblem(f"there is no folder {root}", "correct recipe.folder or SEQ2SEQ_DATA, or unset it to download")
    if inner.is_dir():
        return inner
    return Path(root) if folder else None


def no_download(stem: str, language: str) -> Path:
    """For corpora that are read from a folder as a whole or not at all."""
    raise DataProblem(f"there is no {stem}.{language} in the folder", "complete the folder")


def load_parallel(
    languages: tuple[str, str],
    stems: Mapping[str, str],
    splits: Sequence[str],
    folder: Path | None,
    fetch: Fetch,
    origin: str,
    licence: str,
) -> Corpus:
    """A corpus of two text files a split, from `folder` or through `fetch`.

    Args:
        stems: split name -> file name up to the language.
    """
    import datasets

    loaded, files, notes = {}, [], []
    for split in splits:
        sides = []
        for language in languages:
            side = find_side(folder / stems[split], language) if folder else fetch(stems[split], language)
            if side is None:
                raise DataProblem(
                    f"there is no file {folder}/{stems[split]}.{language}, nor with .gz behind",
                    "complete the folder, or leave out recipe.folder and SEQ2SEQ_DATA to download",
                )
            sides.append(side)
        loaded[split], said = make_split(parallel_pairs(*sides), split)
        files += [record_file(side) for side in sides]
        notes += said
    return Corpus(datasets.DatasetDict(loaded), *languages, Provenance(origin, licence, tuple(files), tuple(notes)))
