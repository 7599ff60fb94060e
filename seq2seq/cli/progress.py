"""A bar of lines while something is translated."""

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Of = TypeVar("Of")


def with_progress(translations: Iterable[Of], count: int) -> Iterator[Of]:
    """The same, with a bar."""
    with progress_bar(count, 0) as advance:
        for translation in translations:
            yield translation
            advance(1)


@contextmanager
def progress_bar(count: int | None, done: int) -> Iterator[Callable[[int], None]]:
    """A bar of lines on the standard error stream when that is a terminal; yields what moves it on."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal or (count is None and sys.stdin.isatty()):
        yield lambda lines: None
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
        task = progress.add_task("translating", total=count, completed=done)
        yield lambda lines: progress.advance(task, lines)
