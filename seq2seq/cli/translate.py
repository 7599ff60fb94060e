"""seq2seq-translate: lines in, lines out; as a Unix filter, or from file to file."""

import json
import sys
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from seq2seq.cli.command import Command
from seq2seq.cli.given import given
from seq2seq.cli.progress import progress_bar
from seq2seq.cli.records import records_of
from seq2seq.cli.translating import Bundles, folders, load_translator, what_translates
from seq2seq.errors import ConfigProblem, DataProblem, FlaggedProblem, MachineProblem, check_open, machine_problem
from seq2seq.journal import Journal, fingerprint, is_complete
from seq2seq.schema import require
from seq2seq.stopping import Stopped

if TYPE_CHECKING:
    from seq2seq.translator import Translation, Translator

COMMAND = Command(
    "translate",
    "translate lines; exactly one line out for each line in",
    (
        "seq2seq-translate bundle=runs/m30k/bundle < in.txt > out.txt",
        "seq2seq-translate bundle=runs/m30k/bundle input=in.txt output=out.txt decoding=beam decoding.beam_size=5",
        "seq2seq-translate bundle=runs/m30k/bundle input=in.txt.gz output=out.jsonl format=jsonl explain=true decoding.n_best=4",
        "seq2seq-translate bundle=runs/m30k/bundle input=in.txt output=out.txt glossary=terms.tsv banned=never.txt",
    ),
    ("decoding", "engine"),
)


@dataclass(frozen=True)
class TranslateJob:
    """conf/translate.yaml."""

    decoding: Any
    engine: Any
    bundle: Bundles
    input: str | None
    output: str | None
    report: str | None
    format: Literal["text", "tsv", "jsonl"]
    explain: bool
    glossary: str | None
    banned: str | None
    prefix: str | None
    direction: str | None
    batch_size: int
    device: str
    overwrite: bool
    resume: bool
    strict: bool

    @property
    def report_path(self) -> Path | None:
        """Where the report goes; a stream has none unless it is asked for."""
        name = self.report or (f"{self.output}.report.jsonl" if self.output else None)
        return Path(name) if name else None

    def __post_init__(self) -> None:
        require(
            (self.batch_size >= 1, f"batch_size is {self.batch_size}, it must be at least 1"),
            (not (self.resume and self.overwrite), "resume=true goes on, overwrite=true begins anew: choose one"),
            (not self.explain or self.format == "jsonl", "explain=true needs format=jsonl, which has room for it"),
            (
                self.format != "text" or getattr(self.decoding, "n_best", 1) == 1,
                "format=text has one translation a line: decoding.n_best=1, or format=tsv or jsonl",
            ),
            (not self.resume or self.output is not None, "resume=true needs output=FILE: a stream cannot be gone on with"),
        )


COMPLETE = "COMPLETE"
"""The code in the last line of a file's report: `line` is how many there are, `detail` tells the command and its input from others."""
CHUNK = 2048
"""Lines that are sorted by length and translated together; a kill loses at most the chunk in hand."""


def main() -> None:
    COMMAND.main(TranslateJob, run)


def run(job: TranslateJob, config: Mapping[str, Any]) -> None:
    """Translate everything that comes in.

    Raises:
        FlaggedProblem: with strict=true, when something happened to a line beside being translated.
    """
    _check(job)
    if not job.output:
        check_open("stdout", "output=FILE")
    count, lines = given(job.input, job.strict)
    codes = _translate_file(job, config, lines, count) if job.output else _translate_stream(job, lines, count)
    from seq2seq.translator import CODES

    flagged = {code: codes[code] for code in CODES if codes[code] and code != "BLANK"}
    for code, number in flagged.items():
        print(f"{number:,} lines: {CODES[code]} ({code})", file=sys.stderr)
    if flagged and job.strict:
        raise FlaggedProblem(
            f"{sum(flagged.values()):,} remarks on lines, and strict=true",
            f"read {job.report_path or 'the counts above'}; all lines are translated",
        )


def _translator(job: TranslateJob) -> "Translator":
    from seq2seq.data.lines import read_lines
    from seq2seq.wording import Glossary, Wording

    glossary = Glossary.parse(read_lines(Path(job.glossary)), job.glossary) if job.glossary else None
    banned = tuple(read_lines(Path(job.banned))) if job.banned else ()
    translator = load_translator(job.bundle, job, Wording(glossary, banned, job.explain))
    translator.try_wishes(prefixes=job.prefix is not None)
    return translator


def _prefixes(job: TranslateJob, count: int | None) -> Iterator[str] | None:
    """What each translation must begin with, a line for each line of the input.

    Raises:
        DataProblem: there are more or fewer.
    """
    from seq2seq.data.lines import read_lines, scan

    if job.prefix is None:
        return None
    lines = scan(Path(job.prefix)).lines
    if count is not None and lines != count:
        raise DataProblem(
            f"{job.prefix} has {lines:,} lines, the input {count:,}", "write one line for each, empty where nothing is wished"
        )
    return read_lines(Path(job.prefix))


def _translate_stream(job: TranslateJob, lines: Iterator[str], count: int | None) -> Counter[str]:
    """To standard output, chunk by chunk."""
    from seq2seq.data.lines import writing_lines

    prefixes = _prefixes(job, count)
    translator = _translator(job)
    # A person at the keyboard wants an answer to each line; a file sorts better in long blocks.
    chunk = 1 if not job.input and sys.stdin.isatty() else CHUNK
    codes: Counter[str] = Counter()
    with ExitStack() as stack:
        report = stack.enter_context(writing_lines(Path(job.report))) if job.report else None
        for number, _, translations in _chunks(translator, lines, prefixes, chunk, count, 0):
            answers, remarks = records_of(job.format, number, translations)
            sys.stdout.buffer.write(b"".join(answers))
            sys.stdout.buffer.flush()
            for remark in remarks if report else ():
                report.write(remark)  # type: ignore[union-attr]
            codes.update(code for translation in translations for code in translation.codes)
    return codes


def _translate_file(job: TranslateJob, config: Mapping[str, Any], lines: Iterator[str], count: int | None) -> Counter[str]:
    """To a file that grows under another name, with a journal, so that a command that was killed can go on."""
    from seq2seq.atomic import sha256
    from seq2seq.bundle import manifest_of
    from seq2seq.choosing import bundles_of
    from seq2seq.data.lines import as_record
    from seq2seq.data.packing import packing_for

    output = Path(str(job.output))
    report = cast(Path, job.report_path)
    pack, pack_report = packing_for(output), packing_for(report)
    engine = what_translates(config["engine"])
    settings = {
        "bundle": [sha256(manifest_of(Path(bundle))) for bundle in (*folders(job.bundle), *bundles_of(job.decoding))],
        "decoding": config["decoding"],
        "engine": engine,
        "direction": job.direction,
        "format": job.format,
        "explain": job.explain,
        "wishes": [sha256(Path(name)) if name else None for name in (job.glossary, job.banned, job.prefix)],
    }
    prefixes = _prefixes(job, count)
    if job.resume and is_complete(output):
        _check_complete(output, report, fingerprint(settings, lines, output))
        print(f"{output} is already complete", file=sys.stderr)
        return _codes(report)
    try:
        with Journal([output, report], settings, job.resume, job.overwrite) as journal:
            journal.pass_over(lines)
            if prefixes is not None:
                prefixes = islice(prefixes, journal.lines, None)
            translator = _translator(job)
            for number, block, translations in _chunks(translator, lines, prefixes, CHUNK, count, journal.lines):
                answers, remarks = records_of(job.format, number, translations)
                journal.append(block, (pack(b"".join(answers)), pack_report(b"".join(map(as_record, remarks)))))
            if not journal.ended:
                end = json.dumps({"line": journal.lines, "code": COMPLETE, "detail": journal.fingerprint()})
                journal.append((), (b"", pack_report(as_record(end))), ended=True)
            journal.finish()
    except OSError as error:
        problem = machine_problem(error)
        raise MachineProblem(f"{output} cannot be written: {problem.message}", f"{problem.fix}, with resume=true") from None
    except Stopped as stop:
        raise Stopped(stop.number, f"stopped; what is finished is in {output}.partial, resume=true goes on") from None
    return _codes(report)


def _codes(report: Path) -> Counter[str]:
    from seq2seq.data.lines import read_lines

    return Counter(json.loads(line)["code"] for line in read_lines(report)) if report.is_file() else Counter()


def _check_complete(output: Path, report: Path, wanted: str) -> None:
    """Raises ConfigProblem if what is there is not of this input and these settings, as the last line of its report tells."""
    from seq2seq.data.lines import read_lines

    last = deque(read_lines(report) if report.is_file() else (), maxlen=1)
    if not last or wanted not in last[0]:
        raise ConfigProblem(
            f"{output} is complete, and {report} does not say that it is of this input, model and settings",
            "choose another output, or overwrite=true",
        )


def _chunks(
    translator: "Translator", lines: Iterator[str], prefixes: Iterator[str] | None, size: int, count: int | None, done: int
) -> "Iterator[tuple[int, list[str], list[Translation]]]":
    """(number of its first line, lines, translations) of each chunk, with a bar."""
    with progress_bar(count, done) as advance:
        number = done + 1
        while block := list(islice(lines, size)):
            beginnings = list(islice(prefixes, len(block))) if prefixes is not None else []
            if prefixes is not None and len(beginnings) < len(block):
                raise DataProblem(
                    "prefix has fewer lines than the input", "write one line for each, empty where nothing is wished"
                )
            yield number, block, translator.translate_block(block, beginnings)
            number += len(block)
            advance(len(block))
    if prefixes is not None and next(prefixes, None) is not None:
        raise DataProblem("prefix has more lines than the input", "write one line for each, empty where nothing is wished")


def _check(job: TranslateJob) -> None:
    from seq2seq.data.packing import check_is_no_stream

    folders(job.bundle)
    report = job.report_path
    for name in ("glossary", "banned", "prefix"):
        if wishes := getattr(job, name):
            check_is_no_stream(Path(wishes))
    if report and job.output and report.absolute() == Path(job.output).absolute():
        raise ConfigProblem(f"output and report are the same file, {report}", "choose another report")
    for path in (job.output, report):
        if path and Path(path).exists():
            if not Path(path).is_file():
                raise ConfigProblem(f"{path} is not a regular file", "name a file, or leave output out and write > FILE")
            for name in ("input", "glossary", "banned", "prefix"):
                read = getattr(job, name)
                if read and Path(read).exists() and Path(read).samefile(path):
                    raise ConfigProblem(f"{name} and output are the same file, {path}", "choose another output")
            if not job.overwrite and not job.resume:
                raise ConfigProblem(f"{path} exists", "choose another output, or overwrite=true")
