"""WMT 2014, the paper's data (section 5.1): 4.5 million pairs English-German, 36 million English-French."""

from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq.recipes.hub import check_paired_with_english, folder_or_hub

from seq2seq.data.recipe import Corpus

_LICENCE = "the licences of Europarl, Common Crawl and News Commentary, for research; see statmt.org/wmt14"


@dataclass(frozen=True)
class Wmt14:
    """Training on the task's corpora, validation on newstest2013, test on newstest2014 (3,003 sentences)."""

    source: str
    target: str
    folder: str | None = None

    def __post_init__(self) -> None:
        check_paired_with_english("WMT14", self.source, self.target, ("de", "fr", "cs", "hi", "ru"))

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        other = self.target if self.source == "en" else self.source
        on_the_hub = ("wmt/wmt14", f"{other}-en", None)
        return folder_or_hub(self.folder, "wmt14", (self.source, self.target), splits, on_the_hub, _LICENCE)
