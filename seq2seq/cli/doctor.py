"""seq2seq-doctor: a look at data, tokenizer and machine before a training command is given."""

import platform
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seq2seq.cli.begun import as_begun
from seq2seq.cli.command import Command
from seq2seq.cli.train import COMMAND as TRAIN
from seq2seq.cli.train import TrainJob, fewer_tokens, needing, tokenizer_of
from seq2seq.data.download import go_offline
from seq2seq.data.filters import Filters, loaded_filtered

if TYPE_CHECKING:
    from rich.console import Console

    from seq2seq.data.survey import Finding

COMMAND = Command(
    "doctor",
    "look at data, tokenizer and machine before training; takes what seq2seq-train takes",
    (
        "seq2seq-doctor recipe=multi30k recipe.source=en recipe.target=de model=tiny run_dir=runs/m30k",
        "seq2seq-doctor recipe=files recipe.source=en recipe.target=de recipe.train=corpus/train recipe.validation=corpus/val",
        "seq2seq-doctor",
    ),
    TRAIN.groups,
    config="train",
)


def main() -> None:
    COMMAND.main(TrainJob, examine)


def examine(job: TrainJob, config: Mapping[str, Any]) -> None:
    """Print what was found, and for each finding the setting that mends it. Nothing is trained, and nothing written but to the cache."""
    from rich.console import Console
    from rich.markup import escape

    from seq2seq.data.survey import Finding, pair_findings, survey_splits, tokenizer_findings
    from seq2seq.errors import ConfigProblem, DataProblem

    console = Console(soft_wrap=True, highlight=False)
    job.logger.check()
    if job.offline:
        go_offline()
    findings: list[Finding] = []
    with needing(job):
        job, _ = as_begun(job, config)
        try:
            corpus, remarks = loaded_filtered(job.recipe, job.filters, ("train", "validation", "test"))
        except (ConfigProblem, DataProblem) as problem:
            corpus, remarks = loaded_filtered(
                job.recipe, job.filters, ("train", "validation")
            )  # which is all that training needs
            if isinstance(problem, DataProblem):
                findings.append(Finding(f"test: {problem.message}", problem.fix))
    console.print(f"[bold]{job.recipe_name}[/], {corpus.source} to {corpus.target}: {escape(corpus.provenance.origin)}\n")
    _show_splits(console, survey_splits(corpus))
    for remark in remarks if job.filters != Filters() else ():
        console.print(f"[dim]{escape(remark)}[/]")
    findings += [Finding(note, "mend the files; what is dropped is dropped as a pair") for note in corpus.provenance.notes]
    findings += pair_findings(corpus)

    tokenizer = tokenizer_of(job, corpus)
    sizes = (tokenizer.source_vocab_size, tokenizer.target_vocab_size)
    if fewer := fewer_tokens(job, tokenizer):
        findings.append(Finding(fewer, f"tokenizer.vocab_size={max(sizes)}"))
    findings += tokenizer_findings(corpus, tokenizer, job.model.max_length)

    from seq2seq.training.run import disk_forecast  # which takes seconds

    model = replace(job.model, source_vocab_size=sizes[0], target_vocab_size=sizes[1])
    forecast = disk_forecast(model, job.averaging)
    folder = Path(job.run_dir).absolute()
    free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if free < 1.2 * forecast:
        said = f"the run needs {_size(forecast)} of disk, {folder} has {_size(free)} free"
        findings.append(Finding(said, "run_dir=DIR on a larger disk"))
    _show_machine(console, forecast, free)
    findings += _machine_findings()

    if not findings:
        console.print("\n[green]nothing that would need mending[/]")
    for finding in findings:
        console.print(f"\n[yellow]{escape(finding.said)}[/]\n  [dim]fix:[/] {escape(finding.fix)}")


def _show_splits(console: "Console", splits: "Any") -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("split", "pairs", "source", "target"):
        table.add_column(heading, justify="left" if heading == "split" else "right", no_wrap=True)
    for split in splits:
        lengths = [" / ".join(f"{length:,}" for length in side) for side in split.lengths]
        table.add_row(split.name, f"{split.pairs:,}", *lengths)
    console.print(table)
    console.print("[dim]source and target in characters: median / 95 of 100 / longest[/]")


def _show_machine(console: "Console", forecast: int, free: int) -> None:
    from seq2seq import __version__
    from seq2seq.training.run import machine

    facts = ", ".join(f"{name.partition(': ')[2]} {value}" for name, value in machine().items())
    console.print(f"\n[dim]machine[/]   {facts}")
    console.print(f"[dim]versions[/]  seq2seq {__version__}, Python {platform.python_version()}")
    console.print(f"[dim]disk[/]      the run needs at most {_size(forecast)}; {_size(free)} are free")


def _machine_findings() -> "list[Finding]":
    from seq2seq.data.survey import Finding
    from seq2seq.data.tokens import available_cores
    from seq2seq.training.folder import MACHINE
    from seq2seq.training.run import machine

    cores = available_cores()
    facts = machine()
    if facts[f"{MACHINE}GPU"] != "none" or facts[f"{MACHINE}threads"] == str(cores):
        return []
    said = f"torch uses {facts[f'{MACHINE}threads']} threads, this process may use {cores} cores"
    return [Finding(said, f"export OMP_NUM_THREADS={cores}")]


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit in ("bytes", "KiB", "MiB") else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"
