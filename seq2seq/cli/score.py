"""seq2seq-score: how probable a model finds translations that exist already."""

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from seq2seq.cli.command import Command
from seq2seq.cli.translating import Bundles, folders
from seq2seq.errors import ConfigProblem, check_open
from seq2seq.schema import require

COMMAND = Command(
    "score",
    "the log-probability that a model gives to translations",
    (
        "seq2seq-score bundle=runs/m30k/bundle source=test.en target=test.de > scores.txt",
        "seq2seq-score bundle=runs/m30k/bundle source=test.en target=out.de format=jsonl output=scores.jsonl",
        "seq2seq-score bundle=runs/m30k/bundle source=crawl.en target=crawl.de normalize=true   # to filter a corpus",
    ),
    (),
)


@dataclass(frozen=True)
class ScoreJob:
    """conf/score.yaml."""

    bundle: Bundles
    source: str | None
    target: str | None
    output: str | None
    direction: str | None
    format: Literal["text", "jsonl"]
    normalize: bool
    batch_tokens: int
    device: str

    def __post_init__(self) -> None:
        require((self.batch_tokens >= 1, f"batch_tokens is {self.batch_tokens}, it must be at least 1"))


CHUNK = 10_000


def main() -> None:
    COMMAND.main(ScoreJob, run)


def run(job: ScoreJob, config: Mapping[str, Any]) -> None:
    """A line for each pair of lines."""
    folders(job.bundle)
    for name, value in (("source", job.source), ("target", job.target)):
        if value is None:
            raise ConfigProblem(f"{name}= is not set", "seq2seq-score bundle=RUN/bundle source=FILE target=FILE")
    if not job.output:
        check_open("stdout", "output=FILE")
    elif Path(job.output).exists():
        raise ConfigProblem(f"{job.output} exists", "choose another output")
    from seq2seq.data.lines import as_record, writing_lines

    lines = _lines(job)
    if job.output is None:
        for line in lines:
            sys.stdout.buffer.write(as_record(line))
        sys.stdout.buffer.flush()
        return
    with writing_lines(Path(job.output)) as writer:
        for line in lines:
            writer.write(line)


def _lines(job: ScoreJob) -> Iterator[str]:
    from seq2seq.bundle import load_alike
    from seq2seq.data.directions import asked_for
    from seq2seq.data.parallel import parallel_pairs
    from seq2seq.inference.forced import token_log_probabilities
    from seq2seq.translator import find_device

    bundles = load_alike(folders(job.bundle), asked_for(job.direction))
    device = find_device(job.device)
    models, bundle = [one.model.to(device) for one in bundles], bundles[0]
    most = bundle.config.model.max_length
    pieces = bundle.tokenizer.target_pieces()
    pairs = parallel_pairs(Path(str(job.source)), Path(str(job.target)))
    while block := list(islice(pairs, CHUNK)):
        sources = bundle.tokenizer.encode_source([source for source, _ in block])
        targets = bundle.tokenizer.encode_target([target for _, target in block])
        fits = [len(source) <= most and len(target) <= most for source, target in zip(sources, targets, strict=True)]
        asked = [i for i, fit in enumerate(fits) if fit]
        scores = iter(token_log_probabilities(models, [sources[i] for i in asked], [targets[i] for i in asked], job.batch_tokens))
        for target, fit in zip(targets, fits, strict=True):
            yield _line(job, [pieces[i] for i in target], next(scores) if fit else None)


def _line(job: ScoreJob, pieces: list[str], scores: list[float] | None) -> str:
    """One record. A pair that is longer than the model holds has no score: `nan`, or null."""
    total = None if scores is None else sum(scores) / (len(scores) if job.normalize else 1)
    if job.format == "text":
        return "nan" if total is None else f"{total:.6f}"
    tokens = None if scores is None else [[piece, round(score, 6)] for piece, score in zip(pieces, scores, strict=True)]
    return json.dumps({"score": None if total is None else round(total, 6), "tokens": tokens}, ensure_ascii=False)
