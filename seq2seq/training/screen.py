"""What a person sees while a model trains: one bar, a row at each validation with three sentences, a table at the end."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from seq2seq.data.text import one_line
from seq2seq.training.callbacks import Meter, learning_rate
from seq2seq.training.module import Validation

LINE_EVERY = 30.0
"""Seconds between lines of progress where there is no terminal to draw a bar on."""


@dataclass(frozen=True)
class Example:
    """A sentence whose translation is shown at each validation."""

    source: str
    index: int
    languages: tuple[str, str]


class Screen(lightning.Callback):
    """Draws on `console`: a live bar on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, max_steps: int, examples: Sequence[Example]) -> None:
        self._console, self._max_steps = console, max_steps
        self._examples = examples
        self._meter = Meter()
        self._best = float("-inf")
        self._last_line = time.monotonic()
        self._progress = Progress(
            BarColumn(bar_width=24),
            TextColumn("[bold]{task.completed:,.0f}[/]/{task.total:,.0f}", table_column=Column(no_wrap=True)),
            _Numbers(table_column=Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("[dim]left[/]"),
            TimeRemainingColumn(),
            console=console,
            refresh_per_second=2,
        )

    def on_train_start(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        for task in self._progress.task_ids:
            self._progress.remove_task(task)
        self._task = self._progress.add_task("training", total=self._max_steps, completed=pl_module.step, numbers="")
        self._meter.reset()
        if self._console.is_terminal:
            self._progress.start()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._meter.add(outputs)
        if pl_module.skipped[-1:] == [pl_module.step]:
            self.say(f"step {pl_module.step:,}: the loss or its gradient is no number, the weights stay as they are")
        now = time.monotonic()
        if self._console.is_terminal:
            self._progress.update(self._task, completed=pl_module.step)
            if now - self._last_line >= 1.0:
                self._progress.update(self._task, numbers=self._numbers(trainer))
                self._last_line = now
                self._meter.reset()
        elif now - self._last_line >= LINE_EVERY:
            self._console.print(f"step {pl_module.step:,}/{self._max_steps:,}  {self._numbers(trainer)}", highlight=False)
            self._last_line = now
            self._meter.reset()

    def _numbers(self, trainer: lightning.Trainer) -> str:
        return f"{self._meter.tokens_per_second:,.0f} tokens/s  loss {self._meter.loss:.3f}  lr {learning_rate(trainer):.2e}"

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        result: Validation = pl_module.validation
        better = result.bleu > self._best
        self._best = max(self._best, result.bleu)
        mark = "  [bold green]best so far[/]" if better else ""
        row = Text.from_markup(
            f"[bold]step {result.step:>7,}[/]  loss {result.loss:.3f}  perplexity {result.perplexity:.2f}  "
            f"[bold cyan]BLEU {result.bleu:.2f}[/]  chrF {result.chrf:.2f}{mark}"
        )
        self._console.print(row)
        if len(result.bleu_of_each) > 1:
            each = "   ".join(f"{direction} [cyan]{bleu:.2f}[/]" for direction, bleu in result.bleu_of_each.items())
            self._console.print(f"  {each}", highlight=False)
        for example in self._examples:
            source, target = example.languages
            self._console.print(f"  [dim]{source:>5}  {escape(one_line(example.source))}[/]", highlight=False)
            self._console.print(f"  [dim]{target:>5}[/]  {escape(result.translations[example.index])}", highlight=False)
        self._meter.reset()
        self._last_line = time.monotonic()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: Any) -> None:
        self.close()

    def on_exception(self, trainer: lightning.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = float(state_dict["best"])

    def say(self, text: str) -> None:
        """A remark, above the bar."""
        self._console.print(text, style="yellow", markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


class _Numbers(ProgressColumn):
    """Tokens a second, loss and learning rate."""

    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("numbers", "")), style="cyan")


def summary(console: Console, rows: Sequence[tuple[str, str]], commands: Sequence[str]) -> None:
    """The end of a run: what came out, and how to go on."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in rows:
        table.add_row(name, escape(value))
    console.print()
    console.print(table)
    console.print("\nTo go on:", style="bold")
    for command in commands:
        console.print(f"  {command}", highlight=False, markup=False, soft_wrap=True)
