"""WMT 2014, the paper's data (section 5.1): 4.5 million pairs English-German, 36 million English-French."""

from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq.recipes.hub import hub_corpus

from seq2seq.data.parallel import in_folder, local_folder, parallel_corpus
from seq2seq.data.recipe import Corpus
from seq2seq.errors import ConfigProblem

_PAIRED_WITH_ENGLISH = ("de", "fr", "cs", "hi", "ru")


@dataclass(frozen=True)
class Wmt14:
    """Training on the task's corpora, validation on newstest2013, test on newstest2014 (3,003 sentences)."""

    source: str
    target: str
    folder: str | None = None

    def __post_init__(self) -> None:
        if "en" not in (self.source, self.target) or not {self.source, self.target} & set(_PAIRED_WITH_ENGLISH):
            raise ConfigProblem(
                f"WMT14 pairs en with {', '.join(_PAIRED_WITH_ENGLISH)}; asked for {self.source} to {self.target}"
            )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        languages = (self.source, self.target)
        licence = "the licences of Europarl, Common Crawl and News Commentary, for research; see statmt.org/wmt14"
        if folder := local_folder(self.folder, "wmt14"):
            return parallel_corpus(languages, {s: s for s in splits}, in_folder(folder), "WMT14, a local folder", licence)
        other = self.target if self.source == "en" else self.source
        return hub_corpus("wmt/wmt14", f"{other}-en", None, languages, {s: s for s in splits}, licence)
