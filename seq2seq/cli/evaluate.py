"""seq2seq-evaluate: how good a model, or a file of translations, is."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from seq2seq.cli.command import Command
from seq2seq.errors import ConfigProblem

COMMAND = Command(
    "evaluate",
    "BLEU, chrF++ and TER of a model on a recipe's split or on files",
    (
        "seq2seq-evaluate bundle=runs/m30k/bundle recipe=multi30k split=test",
        "seq2seq-evaluate bundle=runs/mine/bundle source=test.en reference=test.de decoding.beam_size=5",
        "seq2seq-evaluate hypothesis=out.de reference=test.de tokenize=13a",
    ),
    ("recipe", "decoding"),
)


@dataclass(frozen=True)
class EvaluateJob:
    """conf/evaluate.yaml."""

    decoding: Any
    bundle: str | None
    split: Literal["train", "validation", "test"]
    source: str | None
    reference: str | None
    hypothesis: str | None
    output: str | None
    metrics: list[Literal["bleu", "chrf", "chrf++", "ter"]]
    tokenize: str
    lowercase: bool
    bootstrap: int
    batch_size: int
    device: str
    recipe: Any = None


def main() -> None:
    COMMAND.main(EvaluateJob, run)


def run(job: EvaluateJob, config: Mapping[str, Any]) -> None:
    """Score, print the table, write results.json."""
    from rich.console import Console
    from rich.table import Table

    from seq2seq.atomic import write_text
    from seq2seq.evaluation import check_tokenizer, evaluate, tokenizer_for

    if (job.recipe is None) == (job.reference is None):
        raise ConfigProblem(
            "say what to compare with: either recipe= and split=, or reference=", "for example recipe=cldr split=test"
        )
    if (job.bundle is None) == (job.hypothesis is None):
        raise ConfigProblem("say what to judge: either bundle= or hypothesis=", "for example bundle=runs/demo/bundle")
    language = _target_language(job)
    tokenize = tokenizer_for(language) if job.tokenize == "auto" else job.tokenize
    check_tokenizer(tokenize)
    sources, references, name = _text(job)
    hypotheses = _hypotheses(job, sources)
    scores = evaluate(hypotheses, references, job.metrics, tokenize, job.lowercase, job.bootstrap)

    console = Console(soft_wrap=True)
    table = Table(title=f"{name}, {len(references):,} sentences", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for heading in ("metric", "score", "95 % interval", "signature"):
        table.add_column(heading, justify="right" if heading == "score" else "left", no_wrap=True)
    for score in scores:
        interval = f"{score.low:.2f} to {score.high:.2f}" if score.low is not None and score.high is not None else ""
        table.add_row(f"[bold]{score.metric}[/]", f"[bold cyan]{score.value:.2f}[/]", interval, f"[dim]{score.signature}[/]")
    console.print(table, soft_wrap=True)
    empty = sum(not hypothesis.strip() for hypothesis in hypotheses)
    if empty:
        console.print(f"[yellow]{empty:,} translations are empty[/]")
    output = Path(job.output) if job.output else _results_path(job)
    results = {
        "test_set": name,
        "sentences": len(references),
        "empty": empty,
        "scores": [asdict(score) for score in scores],
        "config": dict(config),
    }
    write_text(output, json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    console.print(f"\nwritten to {output}", highlight=False)


def _target_language(job: EvaluateJob) -> str:
    """From the bundle, without loading it; else the recipe; else the reference's file name."""
    if job.bundle:
        config = Path(job.bundle) / "config.json"
        return str(json.loads(config.read_text(encoding="utf-8"))["target"]) if config.is_file() else ""
    if job.recipe is not None:
        return str(job.recipe.target)
    return Path(str(job.reference).removesuffix(".gz")).suffix.removeprefix(".")


def _text(job: EvaluateJob) -> tuple[list[str], list[str], str]:
    """Sources (none needed for hypotheses from a file), references, and what to call the test set."""
    from seq2seq.data.lines import read_lines

    if job.recipe is not None:
        recipe = job.recipe
        if job.bundle:
            languages = (
                json.loads((Path(job.bundle) / "config.json").read_text(encoding="utf-8"))
                if (Path(job.bundle) / "config.json").is_file()
                else {}
            )
            recipe = replace(recipe, source=languages.get("source", recipe.source), target=languages.get("target", recipe.target))
        corpus = recipe.load((job.split,))
        data = corpus.splits[job.split]
        return (
            list(data["source"]),
            list(data["target"]),
            f"{type(recipe).__module__.rpartition('.')[2]} {job.split}, {recipe.source} to {recipe.target}",
        )
    if job.source is None and job.bundle:
        raise ConfigProblem("a bundle needs something to translate", "source=FILE beside reference=FILE")
    sources = list(read_lines(Path(job.source))) if job.source else []
    references = list(read_lines(Path(str(job.reference))))
    return sources, references, Path(str(job.reference)).name


def _hypotheses(job: EvaluateJob, sources: list[str]) -> list[str]:
    from seq2seq.data.lines import read_lines

    if job.hypothesis:
        return list(read_lines(Path(job.hypothesis)))
    from seq2seq.cli.translate import with_progress
    from seq2seq.translator import Translator

    translator = Translator.load(str(job.bundle), job.decoding, job.device, job.batch_size)
    return [translation.text for translation in with_progress(translator.stream(sources), len(sources))]


def _results_path(job: EvaluateJob) -> Path:
    if job.bundle:
        return Path(job.bundle).parent / "results.json"
    return Path(str(job.hypothesis)).parent / "results.json"
