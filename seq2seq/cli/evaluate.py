"""seq2seq-evaluate: how good a model, or a file of translations, is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seq2seq.cli.command import Command
from seq2seq.cli.test_sets import TestSet, check_output, check_test_set, metrics_of, test_set_of
from seq2seq.cli.translating import Bundles, folders, load_translator, run_of, what_translates
from seq2seq.errors import ConfigProblem
from seq2seq.schema import require

if TYPE_CHECKING:
    from seq2seq.evaluation import Score
    from seq2seq.translator import Translator

COMMAND = Command(
    "evaluate",
    "BLEU, chrF++ and TER of a model on a recipe's split or on files",
    (
        "seq2seq-evaluate bundle=runs/m30k/bundle recipe=multi30k split=test",
        "seq2seq-evaluate bundle=runs/mine/bundle source=test.en reference=test.de decoding.beam_size=5",
        "seq2seq-evaluate hypothesis=out.de reference=test.de tokenize=13a",
    ),
    ("recipe", "decoding", "engine"),
)


@dataclass(frozen=True)
class EvaluateJob:
    """conf/evaluate.yaml."""

    decoding: Any
    engine: Any
    bundle: Bundles
    split: Literal["train", "validation", "test"]
    source: str | None
    reference: str | None
    hypothesis: str | None
    output: str | None
    metrics: list[Literal["bleu", "chrf", "chrf++", "ter"]]
    tokenize: str
    lowercase: bool
    bootstrap: int
    direction: str | None
    batch_size: int
    device: str
    offline: bool
    recipe: Any = None

    def __post_init__(self) -> None:
        require(
            (not isinstance(self.recipe, dict), "recipe: choose one first, recipe=NAME"),
            (self.batch_size >= 1, f"batch_size is {self.batch_size}, it must be at least 1"),
            (self.bootstrap >= 0, f"bootstrap is {self.bootstrap}, it must not be negative"),
            (bool(self.metrics), "metrics is empty: choose one of bleu, chrf, chrf++, ter"),
        )


def main() -> None:
    COMMAND.main(EvaluateJob, run)


def run(job: EvaluateJob, config: Mapping[str, Any]) -> float:
    """Score, print the table, write it to a file; returns the first score, by which a sweep compares."""
    from seq2seq.atomic import write_text
    from seq2seq.data.download import go_offline
    from seq2seq.data.text import is_blank
    from seq2seq.evaluation import chosen_tokenizer, evaluate

    check_test_set(job)
    if bool(job.bundle) == bool(job.hypothesis):
        raise ConfigProblem("say what to judge: either bundle= or hypothesis=", "for example bundle=runs/demo/bundle")
    if job.bundle and job.reference and not job.source:
        raise ConfigProblem("a bundle needs something to translate", "source=FILE beside reference=FILE")

    if job.offline:
        go_offline()
    translator = load_translator(job.bundle, job) if job.bundle else None
    languages = (translator.bundle.config.source, translator.bundle.config.target) if translator else None
    test_set = test_set_of(job, languages)
    if job.bundle and not job.output:
        models = folders(job.bundle)
        engine = what_translates(config["engine"])
        name = test_set.file_name(models, config["decoding"], engine, job.tokenize, job.lowercase)
        output = run_of(models[0]) / "results" / name
    else:
        output = Path(job.output or f"{job.hypothesis}.results.json")
    check_output(output, (job.source, job.reference, job.hypothesis), '"test_set"')
    tokenize = chosen_tokenizer(job.tokenize, test_set.target)
    metrics = metrics_of(job.metrics, tokenize, test_set.target)
    hypotheses = _hypotheses(job, translator, test_set)
    scores = evaluate(hypotheses, test_set.references, metrics, tokenize, job.lowercase, job.bootstrap)

    empty = sum(is_blank(hypothesis) for hypothesis in hypotheses)
    empty_references = sum(is_blank(reference) for reference in test_set.references)
    results = {
        "test_set": test_set.name,
        "sentences": len(test_set.references),
        "empty": empty,
        "empty_references": empty_references,
        "scores": [asdict(score) for score in scores],
        "config": dict(config),
    }
    _show(test_set, scores, {"translations": empty, "references": empty_references})
    write_text(output, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    print(f"\nwritten to {output}")
    return scores[0].value


def _hypotheses(job: EvaluateJob, translator: "Translator | None", test_set: TestSet) -> list[str]:
    from seq2seq.cli.progress import with_progress
    from seq2seq.data.lines import read_lines

    if translator is None:
        return list(read_lines(Path(str(job.hypothesis))))
    return [translation.text for translation in with_progress(translator.stream(test_set.sources), len(test_set.sources))]


def _show(test_set: TestSet, scores: "list[Score]", empty: Mapping[str, int]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    console.print(f"[bold]{escape(test_set.name)}[/], {len(test_set.references):,} sentences\n")
    table = Table(box=None, padding=(0, 2, 0, 0))
    columns = {
        "metric": [f"[bold]{score.metric}[/]" for score in scores],
        "score": [f"[bold cyan]{score.value:.2f}[/]" for score in scores],
        "95 % interval": ["" if score.low is None else f"{score.low:.2f} to {score.high:.2f}" for score in scores],
        "n-grams of 1 to 4, length": [
            "" if score.length is None else f"{'/'.join(f'{share:.1f}' for share in score.precisions)}, {score.length:.3f}"
            for score in scores
        ],
    }
    columns = {heading: cells for heading, cells in columns.items() if any(cells)}
    for heading in columns:
        table.add_column(heading, justify="right" if heading == "score" else "left")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    console.print(table)
    for note in test_set.notes:
        console.print(f"[yellow]{escape(note)}[/]")
    for score in scores:
        console.print(f"[dim]{score.metric:<7} {score.signature}[/]")
    for what, count in empty.items():
        if count:
            console.print(f"[yellow]{count:,} {what} are empty[/]")
