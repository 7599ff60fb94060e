"""IWSLT 2017: transcribed TED talks, about 200,000 pairs of English with each of several languages."""

from collections.abc import Sequence
from dataclasses import dataclass

from seq2seq.recipes.hub import check_paired_with_english, folder_or_hub

from seq2seq.data.recipe import Corpus

_LICENCE = "CC BY-NC-ND 4.0 (TED talks)"


@dataclass(frozen=True)
class Iwslt2017:
    """English with Arabic, German, French, Japanese, Korean, Chinese, Italian, Dutch or Romanian."""

    source: str
    target: str
    folder: str | None = None

    def __post_init__(self) -> None:
        check_paired_with_english("IWSLT2017", self.source, self.target, ("ar", "de", "fr", "ja", "ko", "zh", "it", "nl", "ro"))

    def load(self, splits: Sequence[str] = ("train", "validation", "test")) -> Corpus:
        # The data set is a script, which `datasets` no longer runs; the hub keeps a Parquet copy of what it made.
        on_the_hub = ("IWSLT/iwslt2017", f"iwslt2017-{self.source}-{self.target}", "refs/convert/parquet")
        return folder_or_hub(self.folder, "iwslt2017", (self.source, self.target), splits, on_the_hub, _LICENCE)
