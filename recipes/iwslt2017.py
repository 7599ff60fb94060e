"""IWSLT 2017: transcribed TED talks, about 200,000 pairs of English with each of several languages."""

from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq.recipes.hub import hub_corpus

from seq2seq.data.parallel import in_folder, local_folder, parallel_corpus
from seq2seq.data.recipe import Corpus
from seq2seq.errors import ConfigProblem

_PAIRED_WITH_ENGLISH = ("ar", "de", "fr", "ja", "ko", "zh", "it", "nl", "ro")


@dataclass(frozen=True)
class Iwslt2017:
    """English with Arabic, German, French, Japanese, Korean, Chinese, Italian, Dutch or Romanian."""

    source: str
    target: str
    folder: str | None = None

    def __post_init__(self) -> None:
        if "en" not in (self.source, self.target) or not {self.source, self.target} & set(_PAIRED_WITH_ENGLISH):
            raise ConfigProblem(
                f"IWSLT2017 pairs en with {', '.join(_PAIRED_WITH_ENGLISH)}; asked for {self.source} to {self.target}"
            )

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        languages = (self.source, self.target)
        licence = "CC BY-NC-ND 4.0 (TED talks)"
        if folder := local_folder(self.folder, "iwslt2017"):
            return parallel_corpus(languages, {s: s for s in splits}, in_folder(folder), "IWSLT2017, a local folder", licence)
        # The data set is a script, which `datasets` no longer runs; the hub keeps a Parquet copy of what it made.
        subset = f"iwslt2017-{self.source}-{self.target}"
        return hub_corpus("IWSLT/iwslt2017", subset, "refs/convert/parquet", languages, {s: s for s in splits}, licence)
