"""The table of a sweep: `seq2seq-train -m seed=1,2,3 …` and `seq2seq-evaluate -m …` leave `sweep.csv` and `sweep.md` in the sweep's folder."""

import csv
import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

_ROW = "row.json"


class SweepTable(Callback):
    """Every job leaves a row in its own folder, wherever it ran; when all are done the rows are a table, the best score first, BLEU or the first of
    an evaluation's metrics; if several differ in their seed alone, means over seeds stand in a table before it. A job that failed is in it without
    a score."""

    failed = 0
    """Jobs of the last sweep that came to nothing."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        SweepTable.failed = 0
        for left in Path(config.hydra.sweep.dir).rglob(_ROW):
            left.unlink()

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.COMPLETED or job_return.return_value is None:
            return  # of another command with the same settings nothing is compared
        metric = str(config.get("metrics", ["bleu"])[0])
        place = {"run_dir": config.run_dir} if "run_dir" in config else {}
        row = {"asked": _settings(list(config.hydra.overrides.task)) | place, "metric": metric, "score": job_return.return_value}
        folder = Path(config.hydra.sweep.dir) / config.hydra.sweep.subdir
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _ROW).write_text(json.dumps(row), encoding="utf-8")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        folder = Path(config.hydra.sweep.dir)
        rows = [Row(**json.loads(path.read_text(encoding="utf-8"))) for path in sorted(folder.rglob(_ROW))]
        if not rows:
            return
        rows.sort(key=Row.rank)
        heading = " or ".join(dict.fromkeys(row.metric for row in rows))
        names = dict.fromkeys(name for row in rows for name in row.asked)
        varied = [name for name in names if len({row.asked.get(name) for row in rows}) > 1]
        table = [[*varied, heading], *([*(row.asked.get(name, "") for name in varied), row.shown] for row in rows)]
        with (folder / "sweep.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(table)
        text = markdown(table)
        if "seed" in varied:
            text = markdown(_means(rows, [name for name in varied if name not in ("seed", "run_dir")], heading)) + "\n" + text
        (folder / "sweep.md").write_text(text, encoding="utf-8")
        print(f"\n{text}\nwritten to {folder / 'sweep.md'}")
        SweepTable.failed = sum(row.failed for row in rows)


@dataclass(frozen=True)
class Row:
    """One job: what it was asked for, and what came of it; a score that is no number if nothing did."""

    asked: dict[str, str]
    metric: str
    score: float

    @property
    def failed(self) -> bool:
        return math.isnan(self.score)

    @property
    def shown(self) -> str:
        return "failed" if self.failed else f"{self.score:.2f}"

    def rank(self) -> tuple[bool, float]:
        """The lower the better: TER counts errors."""
        return self.failed, self.score if self.metric == "ter" else -self.score


def _means(rows: Sequence[Row], settings: Sequence[str], heading: str) -> list[list[str]]:
    """One row for all seeds of the same settings."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if not row.failed:
            found.setdefault(tuple(row.asked.get(name, "") for name in settings), []).append(row)
    means = [
        (asked, Row({}, those[0].metric, statistics.mean(row.score for row in those)), those) for asked, those in found.items()
    ]
    means.sort(key=lambda each: each[1].rank())
    shown = [[*asked, str(len(those)), over_seeds([row.score for row in those])] for asked, _, those in means]
    return [[*settings, "seeds", heading], *shown]


def over_seeds(values: Sequence[float]) -> str:
    """The mean, and of several values half the distance between the best and the worst."""
    spread = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.2f}" + (f" ± {spread:.2f}" if len(values) > 1 else "")


def markdown(table: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is its head."""
    rows = [table[0], ["---"] * len(table[0]), *table[1:]]
    escaped = ([cell.replace("|", r"\|") for cell in cells] for cells in rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in escaped)


def _settings(overrides: list[str]) -> dict[str, str]:
    return {name.lstrip("+"): value for name, _, value in (override.partition("=") for override in overrides)}
