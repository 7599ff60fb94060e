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

import yaml

from seq2seq.atomic import write_text
from seq2seq.bundle import Bundle
from seq2seq.cli.sweep import markdown, over_seeds
from seq2seq.cli.translating import folders
from seq2seq.folders import digest_of

PAGE = Path(__file__).parent.parent / "recipes" / "README.md"
BEGIN, END = "<!-- results: python tools/results.py -->", "<!-- end of results -->"
_OWN = ("seed=", "run_dir=", "runs=", "resume=", "trainer.devices=")
"""Settings that do not make another row."""


def told(run: Path) -> dict[str, Any]:
    """The command of a run, its seed and what came of it on validation.

    Raises:
        SystemExit: the folder holds no run that was trained to its end.
    """
    for name in ("config.yaml", "result.json", "metrics.csv"):
        if not (run / name).is_file():
            sys.exit(f"{run} has no {name}: train it to its end")
    if not (run / "config.yaml").read_text(encoding="utf-8").startswith("# seq2seq-train"):
        sys.exit(f"{run}/config.yaml does not say what command it is of: train it with this release")
    asked = shlex.split((run / "config.yaml").read_text(encoding="utf-8").splitlines()[0].removeprefix("# "))
    with (run / "metrics.csv").open(encoding="utf-8") as file:
        steps = list(csv.DictReader(file))
    outcome = json.loads((run / "result.json").read_text(encoding="utf-8"))
    at_best = [step for step in steps if step["validation_loss"] and int(step["step"]) == outcome["step"]]
    best = min(at_best, key=lambda step: abs(float(step["bleu"]) - outcome["bleu"]))  # else a mean that was no better
    bundle = Bundle.load(run / "bundle")
    seed = next((argument.partition("=")[2] for argument in asked if argument.startswith("seed=")), "1")
    return {
        "command": shlex.join(argument for argument in asked if not argument.startswith(_OWN)),
        "seed": int(seed),
        "parameters": sum(parameter.numel() for parameter in bundle.model.parameters()),
        "minutes": round(max(float(step["seconds"]) for step in steps) / 60, 1),
        "loss": float(best["validation_loss"]),
        "validation": outcome["bleu"] if len(bundle.config.trained) == 1 else None,  # of several directions it is their mean
        **({"validation_of_each": json.loads(best["bleu_of_each"])} if best.get("bleu_of_each") else {}),
    }


def collect(run: Path, page: Path) -> list[Path]:
    """Write what the table needs of a run, a file for each test set.

    Raises:
        SystemExit: the folder holds no run that was trained to its end and evaluated.
    """
    row = told(run)
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((run / "results").glob("*.json"))]
    trained = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    tested = [judged for judged in found if _is_of_a_row(judged, trained)]
    if not tested:
        how = f"with decoding and tokenize as in {run}/config.yaml"
        sys.exit(f"{run}/results has no test set of that search: seq2seq-evaluate bundle={run}/bundle recipe=… split=test, {how}")
    return [_write(row, judged, page.parent / "results") for judged in tested]


def _is_of_a_row(judged: dict[str, Any], trained: dict[str, Any]) -> bool:
    """Whether it says what this model alone reaches on a recipe's test split, searched and compared as in the validation of its training."""
    config = judged["config"]
    metrics = {score["metric"] for score in judged["scores"]}
    return (
        config.get("recipe")
        and config["split"] == "test"
        and len(folders(config["bundle"])) == 1
        and all(config[name] == trained[name] for name in ("decoding", "tokenize"))
        and config["engine"].get("precision") == "float32"
        and not config["engine"]["shortlist"]
        and not config["lowercase"]
        and metrics >= {"BLEU", "chrF++"}
    )


def _write(row: dict[str, Any], judged: dict[str, Any], folder: Path) -> Path:
    row = row | {"test_set": judged["test_set"]}
    for direction, bleu in row.pop("validation_of_each", {}).items():
        if row["test_set"].endswith(f", {direction}"):
            row["validation"] = bleu
    row["scores"] = {score["metric"]: [score["value"], score["signature"]] for score in judged["scores"]}
    name = re.sub(r"\W+", "-", f"{row['test_set']} {digest_of(row['command'])[:8]} seed {row['seed']}")
    path = folder / f"{name}.json"
    folder.mkdir(exist_ok=True)
    write_text(path, json.dumps(row, indent=2, ensure_ascii=False) + "\n")
    return path


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row for each command and test set, in Markdown; scores are means over seeds with half the distance between the extremes."""
    rows: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        rows.setdefault((result["test_set"], result["command"]), []).append(result)
    lines = [["test set", "parameters", "minutes", "seeds", "validation BLEU", "BLEU", "chrF++", "command"]]
    for (test_set, command), runs in sorted(rows.items()):
        scores = [over_seeds([run["scores"][metric][0] for run in runs]) for metric in ("BLEU", "chrF++")]
        size = f"{runs[0]['parameters'] / 1e6:.2f} M"
        minutes = f"{statistics.mean(run['minutes'] for run in runs):.0f}"
        validated = [run["validation"] for run in runs]
        validation = "" if None in validated else over_seeds(validated)
        lines.append([test_set, size, minutes, str(len(runs)), validation, *scores, f"`{command}`"])
    signatures = sorted({f"{metric} {result['scores'][metric][1]}" for result in results for metric in ("BLEU", "chrF++")})
    return markdown(lines) + "\n" + "\n".join(f"`{signature}`" for signature in signatures)


def put(text: str, page: Path, begin: str, end: str) -> None:
    """Put text between two marks of a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        sys.exit(f"{page} has no place for the table: {begin} and {end}")
    write_text(page, f"{before}{begin}\n\n{text.rstrip()}\n\n{end}{after}")


def write(page: Path) -> None:
    """Put the table between the marks of the page."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((page.parent / "results").glob("*.json"))]
    put(table(results) if results else "None yet.", page, BEGIN, END)


def main(arguments: Sequence[str], page: Path = PAGE) -> None:
    for run in arguments:
        print(*collect(Path(run), page), sep="\n")
    write(page)


if __name__ == "__main__":
    main(sys.argv[1:])
