"""seq2seq-translate: lines in, lines out; as a Unix filter, or from file to file."""

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seq2seq.cli.command import Command
from seq2seq.errors import ConfigProblem

if TYPE_CHECKING:
    from seq2seq.translator import Translation

COMMAND = Command(
    "translate",
    "translate lines; exactly one line out for each line in",
    (
        "seq2seq-translate bundle=runs/m30k/bundle < in.txt > out.txt",
        "seq2seq-translate bundle=runs/m30k/bundle input=in.txt output=out.txt decoding=beam decoding.beam_size=5",
        "seq2seq-translate bundle=runs/m30k/bundle input=in.txt.gz output=out.jsonl format=jsonl decoding.n_best=4",
    ),
    ("decoding",),
)


@dataclass(frozen=True)
class TranslateJob:
    """conf/translate.yaml."""

    decoding: Any
    bundle: str | None
    input: str | None
    output: str | None
    format: Literal["text", "tsv", "jsonl"]
    batch_size: int
    device: str
    overwrite: bool


def main() -> None:
    COMMAND.main(TranslateJob, run)


def run(job: TranslateJob, config: Mapping[str, Any]) -> None:
    """Translate everything that comes in."""
    from seq2seq.data.lines import LineWriter, decode_lines, read_lines, writing_lines

    _check(job)
    count = _count_lines(job)

    from seq2seq.translator import Translator

    translator = Translator.load(str(job.bundle), job.decoding, job.device, job.batch_size)
    lines = (
        read_lines(Path(job.input), replace_bad=True)
        if job.input
        else decode_lines(sys.stdin.buffer, "standard input", replace_bad=True)
    )
    # A person at the keyboard wants an answer to each line; a file sorts better in long blocks.
    chunk = 1 if not job.input and sys.stdin.isatty() else 8192
    codes: Counter[str] = Counter()
    with ExitStack() as stack:
        writer = stack.enter_context(writing_lines(Path(job.output))) if job.output else LineWriter(sys.stdout.buffer)
        for number, translation in enumerate(with_progress(translator.stream(lines, chunk), count), start=1):
            codes.update(translation.codes)
            for record in _records(job.format, number, translation):
                writer.write(record)
            if chunk == 1:
                writer.flush()
        writer.flush()
    for code, meaning in _REMARKS.items():
        if codes[code]:
            print(f"{codes[code]:,} lines {meaning} ({code})", file=sys.stderr)


_REMARKS = {
    "LONG_SPLIT": "were longer than the model holds: translated in parts and joined",
    "LENGTH_CAP": "were ended at the greatest length, decoding.lengths",
}


def _count_lines(job: TranslateJob) -> int | None:
    """How many lines will come, where that can be known without using them up."""
    from seq2seq.data.lines import open_binary

    if job.input:
        with open_binary(Path(job.input)) as stream:
            return sum(1 for _ in stream)
    if not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
        return None
    start = sys.stdin.buffer.tell()
    count = sum(1 for _ in sys.stdin.buffer)
    sys.stdin.buffer.seek(start)
    return count


def _check(job: TranslateJob) -> None:
    if job.bundle is None:
        raise ConfigProblem("which model? bundle= is not set", "bundle=RUN/bundle, the folder that training has written")
    if job.batch_size < 1:
        raise ConfigProblem(f"batch_size is {job.batch_size}, it must be at least 1")
    if job.output and Path(job.output).exists():
        if job.input and Path(job.input).exists() and Path(job.input).samefile(job.output):
            raise ConfigProblem(f"input and output are the same file, {job.output}", "choose another output")
        if not job.overwrite:
            raise ConfigProblem(f"{job.output} exists", "choose another output, or overwrite=true")


def _records(form: str, number: int, translation: "Translation") -> Iterator[str]:
    """A translation as one line of text, a line of JSON, or a TSV row a candidate: line number, rank, score, text."""
    if form == "text":
        yield translation.text
    elif form == "tsv":
        for rank, candidate in enumerate(translation.candidates, start=1):
            yield "\t".join((str(number), str(rank), f"{candidate.score:.6f}", candidate.text.replace("\t", " ")))
    else:
        candidates = [{"text": candidate.text, "score": round(candidate.score, 6)} for candidate in translation.candidates]
        yield json.dumps(
            {"line": number, "translation": translation.text, "candidates": candidates, "codes": translation.codes},
            ensure_ascii=False,
        )


def with_progress(translations: "Iterable[Translation]", count: int | None) -> "Iterator[Translation]":
    """The same, with a bar on the standard error stream when that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or (count is None and sys.stdin.isatty()):
        yield from translations
        return
    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("lines"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, expand=True, refresh_per_second=4) as progress:
        task = progress.add_task("translating", total=count)
        for translation in translations:
            yield translation
            progress.advance(task)
