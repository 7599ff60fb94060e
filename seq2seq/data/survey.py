"""What can be known of a parallel corpus before a model is trained on it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from seq2seq.data.alignment import said_of_shift
from seq2seq.data.directions import ONE_DIRECTION, by_direction, rows_by_direction
from seq2seq.data.filters import Filters, fits, held_out_text, is_known, same_on_both_sides, unbalanced, usual_of
from seq2seq.data.recipe import Corpus, pairs_of, texts_of
from seq2seq.data.text import SPACE_MARK_STAND_IN, base_language
from seq2seq.data.tokenizer import Tokenizer, normalise

if TYPE_CHECKING:
    from datasets import Dataset

SAMPLE = 20_000
"""Texts of each side that go through the tokenizer."""
RATIO = 3.0


@dataclass(frozen=True)
class Finding:
    """Something that deserves a look, and what to type against it."""

    said: str
    fix: str


@dataclass(frozen=True)
class SplitSurvey:
    """One split; `lengths` are the median, the 95th of a hundred and the greatest, in characters, of source and target."""

    name: str
    pairs: int
    lengths: tuple[tuple[int, int, int], tuple[int, int, int]]


def survey_splits(corpus: Corpus) -> list[SplitSurvey]:
    return [
        SplitSurvey(name, len(data), (_quantiles(data, "source"), _quantiles(data, "target")))
        for name, data in corpus.splits.items()
    ]


def _quantiles(data: "Dataset", column: str) -> tuple[int, int, int]:
    lengths = np.array([len(text) for text in texts_of(data, column)])
    median, high, greatest = np.quantile(lengths, (0.5, 0.95, 1.0), method="nearest").tolist()
    return int(median), int(high), int(greatest)


def pair_findings(corpus: Corpus) -> list[Finding]:
    """What is odd about training pairs, and what they share with the other splits."""
    data = corpus.splits["train"]
    held_out = held_out_text(split for name, split in corpus.splits.items() if name != "train")
    usual = usual_of(data)
    before = Filters(duplicates=True).judges(data, held_out)["there before"]
    counts = dict.fromkeys(("duplicates", "identical", "max_ratio", "wrong_script", "decontaminate"), 0)
    for (spoken, wanted), rows in rows_by_direction(data, ONE_DIRECTION):
        for source, target in pairs_of(data if len(rows) == len(data) else data.select(rows)):
            counts["duplicates"] += before(source, target)
            counts["identical"] += spoken != wanted and same_on_both_sides(source, target)
            counts["max_ratio"] += unbalanced(source, target, RATIO)
            counts["wrong_script"] += not (fits(source, usual[0]) and fits(target, usual[1]))
            counts["decontaminate"] += is_known(source, target, held_out)
    meanings = {
        "duplicates": "were there before",
        "identical": "say the same on both sides: left untranslated, or the same file twice",
        "max_ratio": f"have a side {RATIO:g} times as long as the other: perhaps no translations",
        "wrong_script": "are in a script that is rare on their side: another language, or sides swapped",
        "decontaminate": "have a side that is in validation or test, too: scores may flatter",
    }
    values = dict.fromkeys(counts, "true") | {"max_ratio": f"{RATIO:g}"}
    counted = [
        Finding(f"train: {count:,} pairs ({count / len(data):.1%}) {meanings[name]}", f"filters.{name}={values[name]}")
        for name, count in counts.items()
        if count
    ]
    return [*_wrong_languages(corpus, usual), *_swapped(corpus), *_shifted(corpus), *counted]


_WRITTEN_IN = {
    "CYRILLIC": "be bg kk ky mk mn ru tg uk",
    "ARABIC": "ar fa ps ur",
    "DEVANAGARI": "hi mr ne",
    "CJK": "ja zh",
    "HANGUL": "ko",
    "GREEK": "el",
    "HEBREW": "he yi",
    "THAI": "th",
    "GEORGIAN": "ka",
    "ARMENIAN": "hy",
    "BENGALI": "bn as",
    "TAMIL": "ta",
    "TELUGU": "te",
    "ETHIOPIC": "am ti",
    "LATIN": "cs da de en es et fi fr hr hu id is it lt lv ms nb nl nn no pl pt ro sk sl sv sw tr vi",
}
"""Scripts that texts in some languages are sure to hold."""


def _wrong_languages(corpus: Corpus, usual: Sequence[frozenset[str]]) -> list[Finding]:
    """Sides that are not in the script of their language at all: named wrongly, or swapped."""
    findings = []
    for side, language, scripts in zip(("source", "target"), (corpus.source, corpus.target), usual, strict=True):
        wanted = next((script for script, languages in _WRITTEN_IN.items() if base_language(language) in languages.split()), None)
        if wanted and wanted not in scripts and scripts - {""}:
            said = f"train: the {side} is called {language}, and is written in {', '.join(sorted(scripts - {''})).capitalize()} script"
            findings.append(Finding(said, "look whether the sides are swapped: recipe.source= and recipe.target="))
    return findings


def _swapped(corpus: Corpus) -> list[Finding]:
    """Splits whose sides are those of the training pairs the other way round, by the letters that often follow each other."""
    train = [_frequent(corpus.splits["train"], side) for side in ("source", "target")]
    findings = []
    for name, data in corpus.splits.items():
        sides = [_frequent(data, side) for side in ("source", "target")]
        straight = [len(train[i] & sides[i]) for i in (0, 1)]
        crossed = [len(train[i] & sides[1 - i]) for i in (0, 1)]
        if all(cross > max(30, 1.2 * own) for cross, own in zip(crossed, straight, strict=True)):
            said = f"{name}: its source reads like the target of the training pairs, and its target like their source"
            findings.append(Finding(said, "look which files have the names of the other language"))
    return findings


def _frequent(data: "Dataset", column: str) -> frozenset[str]:
    """What three characters in a row are the most frequent in a sample."""
    found = Counter(text[i : i + 3] for text in texts_of(data, column, 1_000) for i in range(len(text) - 2))
    return frozenset(three for three, _ in found.most_common(300))


def _shifted(corpus: Corpus) -> list[Finding]:
    """Splits of which a stretch fits line by line only when one side is taken some lines later."""
    return [
        Finding(f"{name}: {said}", "compare both sides there, and mend the files; pairs with a blank side are not counted")
        for name, data in corpus.splits.items()
        for _, part in by_direction(data, ONE_DIRECTION)
        if (said := said_of_shift(texts_of(part, "source"), texts_of(part, "target")))
    ]


def tokenizer_findings(corpus: Corpus, tokenizer: Tokenizer, max_length: int) -> list[Finding]:
    """What the tokenizer would lose of a sample of training text, and how much does not fit into the model."""
    findings = []
    data = corpus.splits["train"]
    too_long = 0
    lost: dict[str, int] = {}
    changed = total = 0
    texts = {column: list(texts_of(data, column, SAMPLE)) for column in ("source", "target")}
    for column, encode in (("source", tokenizer.encode_source), ("target", tokenizer.encode_target)):
        rows = encode(texts[column])
        too_long += sum(len(row) > max_length for row in rows)
        if column == "target":
            _count_lost(texts[column], tokenizer.decode_target(rows), tokenizer, lost)
        for text in texts[column]:
            composed = normalise(text, "nfc")  # which changes how characters are spelled, but none
            total += len(composed)
            changed += (Counter(composed) - Counter(normalise(composed, tokenizer.config.normalize))).total()
    count = sum(map(len, texts.values()))
    if too_long:
        findings.append(
            Finding(
                f"{too_long / count:.2%} of texts have more than {max_length} tokens and would be left out",
                f"model.max_length={2 * max_length}",
            )
        )
    if lost:
        shown = " ".join(sorted(lost, key=lambda c: -lost[c])[:10])
        findings.append(
            Finding(f"the tokenizer loses {len(lost)} kinds of characters, such as {shown}", "tokenizer.byte_fallback=true")
        )
    if changed > 0.01 * total:
        findings.append(
            Finding(
                f"tokenizer.normalize={tokenizer.config.normalize} changes {changed / total:.1%} of the characters",
                "tokenizer.normalize=nfc",
            )
        )
    return findings


def _count_lost(texts: Sequence[str], decoded: Iterable[str], tokenizer: Tokenizer, lost: dict[str, int]) -> None:
    for text, back in zip(texts, decoded, strict=True):
        for character in set(normalise(text, tokenizer.config.normalize)) - set(back) - {" ", SPACE_MARK_STAND_IN}:
            lost[character] = lost.get(character, 0) + 1
