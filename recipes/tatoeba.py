"""Tatoeba: everyday sentences with translations by volunteers, in hundreds of languages."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from seq2seq.data.download import RemoteFile, open_member
from seq2seq.data.lines import decode_lines
from seq2seq.data.parallel import in_folder, local_folder, parallel_corpus, record_file
from seq2seq.data.recipe import Corpus, Pair, make_corpus
from seq2seq.errors import DataProblem
from seq2seq.folders import cache_folder
from seq2seq.schema import require

_MOST = 0.1
_LICENCE = "CC BY 2.0 FR, tatoeba.org"
_URL = "https://object.pouta.csc.fi/OPUS-Tatoeba/v2023-04-12/moses/{pair}.txt.zip"


@dataclass(frozen=True)
class Tatoeba:
    """A local folder tatoeba/ with its own split (train, valid, test), else the OPUS release of 2023-04-12.

    The release has no split, so one is drawn: sentences that share a translation, directly or through others, go to
    the same split, hence no sentence of validation or test occurs in training on either side.
    """

    source: str
    target: str
    folder: str | None = None
    held_out: int = 2000
    """Sentences of validation and of test, about, when the split is drawn; each is a tenth of all at the most."""
    sha256: str | None = None
    """Of the downloaded archive. Unset: whatever comes is taken, and its SHA-256 is written into the provenance."""

    def __post_init__(self) -> None:
        require((self.held_out >= 1, f"held_out is {self.held_out}, it must be at least 1"))

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        languages = (self.source, self.target)
        if folder := local_folder(self.folder, "tatoeba"):
            stems = {"train": "train", "validation": "valid", "test": "test"}
            wanted = {split: stems[split] for split in splits}
            return parallel_corpus(languages, wanted, in_folder(folder), "Tatoeba, local copy with its own split", _LICENCE)
        first, second = sorted(languages)
        archive = RemoteFile(_URL.format(pair=f"{first}-{second}"), self.sha256).fetch(cache_folder("tatoeba"))
        return self._from_archive(archive, splits)

    def _from_archive(self, archive: Path, splits: Sequence[str]) -> Corpus:
        # Drawn in one order of the languages, so that both directions part alike: one's test is never in the other's training.
        languages = sorted((self.source, self.target))
        sides = [_member(archive, language) for language in languages]
        if len(sides[0]) != len(sides[1]):
            raise DataProblem(
                f"{archive}: {len(sides[0])} lines of {languages[0]}, {len(sides[1])} of {languages[1]}",
                "delete the file to download it again",
            )
        drawn = draw_splits(list(zip(*sides, strict=True)), self.held_out)
        step = 1 if languages[0] == self.source else -1
        wanted = {split: [(pair[::step][0], pair[::step][1]) for pair in drawn[split]] for split in splits}
        files = {split: [record_file(archive)] for split in splits}
        origin = f"Tatoeba through OPUS, {archive.name}"
        settings = dict.fromkeys(splits, f"held out: {self.held_out}")
        return make_corpus((self.source, self.target), wanted, origin, _LICENCE, files, settings=settings)


def _member(archive: Path, language: str) -> list[str]:
    with open_member(archive, f".{language}") as stream:
        return list(decode_lines(stream, f"{archive}, {language}"))


def draw_splits(pairs: Iterable[Pair], held_out: int) -> dict[str, list[Pair]]:
    """Divide distinct pairs so that no sentence of one split occurs in another; the same pairs always divide the same."""
    pairs = list(dict.fromkeys(pairs))
    parent: dict[tuple[int, str], tuple[int, str]] = {}

    def root(node: tuple[int, str]) -> tuple[int, str]:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for source, target in pairs:
        first, second = sorted((root((0, source)), root((1, target))))
        parent[second] = first
    share = min(held_out / max(len(pairs), 1), _MOST)
    splits: dict[str, list[Pair]] = {"train": [], "validation": [], "test": []}
    for source, target in pairs:
        group = root((0, source))
        draw = int.from_bytes(blake2b(group[1].encode(), digest_size=8).digest()) / 2**64
        splits["validation" if draw < share else "test" if draw < 2 * share else "train"].append((source, target))
    return splits
