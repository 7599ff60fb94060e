"""What is written of translations: lines of text, of JSON, or rows; and the remarks of a report."""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from seq2seq.data.lines import as_record

if TYPE_CHECKING:
    from seq2seq.translator import Translation


def records_of(form: str, number: int, translations: "Sequence[Translation]") -> tuple[list[bytes], list[str]]:
    """The records of a chunk, and a line of JSON for everything that happened to its lines."""
    from seq2seq.translator import CODES

    answers: list[bytes] = []
    remarks: list[str] = []
    for line, translation in enumerate(translations, start=number):
        answers += map(as_record, _records(form, line, translation))
        remarks += [json.dumps({"line": line, "code": code, "detail": CODES[code]}) for code in translation.codes]
    return answers, remarks


def _records(form: str, number: int, translation: "Translation") -> Iterator[str]:
    """A translation as one line of text, a line of JSON, or a TSV row a candidate: line number, rank, score, text."""
    if form == "text":
        yield translation.text
    elif form == "tsv":
        for rank, candidate in enumerate(translation.candidates, start=1):
            yield "\t".join((str(number), str(rank), f"{candidate.score:.6f}", candidate.text.replace("\t", " ")))
    else:
        candidates = [{"text": candidate.text, "score": round(candidate.score, 6)} for candidate in translation.candidates]
        record = {"line": number, "translation": translation.text, "candidates": candidates, "codes": translation.codes}
        yield json.dumps(record | _explained(translation), ensure_ascii=False)


def _explained(translation: "Translation") -> dict[str, Any]:
    """What explain=true adds to a line of JSON."""
    if (explanation := translation.explanation) is None:
        return {}
    return {
        "confidence": None if explanation.confidence is None else round(explanation.confidence, 4),
        "tokens": [[piece, round(probability, 4)] for piece, probability in explanation.tokens],
        "source_words": explanation.source_words,
        "target_words": explanation.target_words,
        "alignment": [f"{source}-{target}" for source, target in explanation.links],
    }
