"""The table of results in recipes/README.md: python tools/results.py RUN_FOLDER …

Of each run folder in which seq2seq-evaluate has left its results, what the table says goes into a file in recipes/results; then the table is written
anew from all files there, one row for all seeds of a command. Without a folder the table alone is written.
"""

import csv
import json
import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seq2seq.atomic import write_text
from seq2seq.bundle import Bundle
from seq2seq.folders import digest_of

PAGE = Path(__file__).parent.parent / "recipes" / "README.md"
BEGIN, END = "<!-- results: python tools/results.py -->", "<!-- end of results -->"
_OWN = ("seed=", "run_dir=", "resume=", "trainer.devices=")
"""Settings that do not make another row."""


def collect(run: Path, page: Path) -> Path:
    """Write what the table needs of a run.

    Raises:
        SystemExit: the folder holds no run that was trained to its end and evaluated.
    """
    for name in ("config.yaml", "result.json", "metrics.csv", "results.json"):
        if not (run / name).is_file():
            sys.exit(f"{run} has no {name}: train it to its end, then seq2seq-evaluate bundle={run}/bundle recipe=… split=test")
    if not (run / "config.yaml").read_text(encoding="utf-8").startswith("# seq2seq-train"):
        sys.exit(f"{run}/config.yaml does not say what command it is of: train it with this release")
    asked = shlex.split((run / "config.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        seconds = max(float(row["seconds"]) for row in csv.DictReader(file))
    judged, outcome = (json.loads((run / name).read_text(encoding="utf-8")) for name in ("results.json", "result.json"))
    seed = next((argument.partition("=")[2] for argument in asked if argument.startswith("seed=")), "1")
    command = shlex.join(argument for argument in asked if not argument.startswith(_OWN))
    row = {
        "command": command,
        "seed": int(seed),
        "test_set": judged["test_set"],
        "parameters": sum(parameter.numel() for parameter in Bundle.load(run / "bundle").model.parameters()),
        "minutes": round(seconds / 60, 1),
        "validation": outcome["bleu"],
        "scores": {score["metric"]: [score["value"], score["signature"]] for score in judged["scores"]},
    }
    name = re.sub(r"\W+", "-", f"{judged['test_set']} {digest_of(command)[:8]} seed {seed}")
    path = page.parent / "results" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    write_text(path, json.dumps(row, indent=2, ensure_ascii=False) + "\n")
    return path


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row for each command and test set, in Markdown; scores are means over seeds with half the distance between the extremes."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault((result["test_set"], result["command"]), []).append(result)
    columns = ("test set", "parameters", "minutes", "seeds", "validation BLEU", "BLEU", "chrF++", "command")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for (test_set, command), runs in sorted(rows.items()):
        scores = [_mean([run["scores"][metric][0] for run in runs]) for metric in ("BLEU", "chrF++")]
        size = f"{runs[0]['parameters'] / 1e6:.2f} M"
        minutes = f"{statistics.mean(run['minutes'] for run in runs):.0f}"
        validation = _mean([run["validation"] for run in runs])
        lines.append("| " + " | ".join((test_set, size, minutes, str(len(runs)), validation, *scores, f"`{command}`")) + " |")
    signatures = sorted({f"{metric} {result['scores'][metric][1]}" for result in results for metric in ("BLEU", "chrF++")})
    return "\n".join([*lines, "", *(f"`{signature}`" for signature in signatures)])


def _mean(values: Sequence[float]) -> str:
    spread = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.2f}" + (f" ± {spread:.2f}" if len(values) > 1 else "")


def write(page: Path) -> None:
    """Put the table between the marks of the page."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((page.parent / "results").glob("*.json"))]
    text = page.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        sys.exit(f"{page} has no place for the table: {BEGIN} and {END}")
    write_text(page, f"{before}{BEGIN}\n\n{table(results) if results else 'None yet.'}\n\n{END}{after}")


def main(arguments: Sequence[str], page: Path = PAGE) -> None:
    for run in arguments:
        print(collect(Path(run), page))
    write(page)


if __name__ == "__main__":
    main(sys.argv[1:])
