"""What each option brings on validation: python tools/ablation.py FOLDER

Takes the trainings that FOLDER holds into recipes/ablation.json, writes the table in recipes/README.md from it (each option alone and some together,
against the experiment as it stands), and prints what is in neither, one command a line: `… | sh` runs them.
"""

import json
import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from seq2seq.atomic import write_text  # noqa: E402
from seq2seq.cli.sweep import markdown, over_seeds  # noqa: E402
from tools.results import PAGE, put, told  # noqa: E402

BEGIN, END = "<!-- options: python tools/ablation.py FOLDER -->", "<!-- end of options -->"
BASE = "experiment=multi30k_en_de recipe.form=tok tokenize=none trainer.max_steps=3400 trainer.validate_every=850"
SEEDS = (1, 2)
NOTHING = ""
OPTIONS = (
    NOTHING,
    "optimizer=muon",
    "optimizer.label_smoothing=0",
    "optimizer.label_smoothing=0.2",
    "optimizer.r_drop=1 trainer.max_steps=1700 trainer.validate_every=425",
    "model.dropout=0.1",
    "model.dropout=0.3",
    "model.attention_dropout=0.1 model.activation_dropout=0.1",
    "model.token_dropout=0.1",
    "noise.drop=0.1",
    "noise.shuffle=3",
    "tokenizer.sampling=0.1",
    "tokenizer=unigram",
    "tokenizer=unigram tokenizer.sampling=0.2",
    "tokenizer.vocab_size=3000",
    "tokenizer.vocab_size=10000",
    "averaging=none",
    "averaging=last",
    "averaging=best",
    "schedule=cosine",
    "schedule=inverse_square_root",
    "model.positions=sinusoidal",
    "model.norm=rms model.activation=swiglu",
    "model.norm_order=post",
    "model.norm_order=deep",
    "model.norm_order=post schedule.learning_rate=0.001",
    "model.norm_order=admin",
    "model.tied_embeddings=two-way",
    "recipe=joined",
    "optimizer=muon tokenizer.vocab_size=10000",
    "model.positions=sinusoidal model.norm_order=post averaging=last schedule=inverse_square_root",
)


def settings(option: str) -> list[str]:
    """What a training with an option is asked for."""
    base = BASE.replace("recipe.form=", "recipe.of.form=") if "recipe=" in option else BASE
    return [*base.split(), *option.split()]


def table(results: Sequence[dict[str, Any]]) -> str:
    """One row for all seeds of an option, the best first, in Markdown; set against the same seeds of none, since seeds differ, too."""
    rows = {option: [row for row in results if row["option"] == option] for option in OPTIONS}
    rows = {option: runs for option, runs in rows.items() if runs}
    means = {option: statistics.mean(run["validation"] for run in runs) for option, runs in rows.items()}
    none = {run["seed"]: run["validation"] for run in rows.get(NOTHING, [])}
    lines = [["settings", "parameters", "minutes", "seeds", "loss", "BLEU", "against none"]]
    for option in sorted(rows, key=lambda option: -means[option]):
        runs = rows[option]
        gains = [run["validation"] - none[run["seed"]] for run in runs if run["seed"] in none]
        shown = " ".join(f"`{setting}`" for setting in option.split() if not setting.startswith("trainer.")) or "none"
        lines.append(
            [
                shown,
                f"{runs[0]['parameters'] / 1e6:.2f} M",
                f"{statistics.mean(run['minutes'] for run in runs):.0f}",
                str(len(runs)),
                f"{statistics.mean(run['loss'] for run in runs):.3f}",
                over_seeds([run["validation"] for run in runs]),
                f"{statistics.mean(gains):+.2f}" if gains else "",
            ]
        )
    return markdown(lines)


def main(folder: Path, page: Path = PAGE) -> None:
    kept = page.parent / "ablation.json"
    before = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else []
    rows = {(row["option"], row["seed"]): row for row in before}
    for option, seed in product(OPTIONS, SEEDS):
        run = folder / (re.sub(r"\W+", "-", option) or "nothing") / str(seed)
        if (run / "result.json").is_file():
            rows[option, seed] = {**told(run), "option": option}
        elif (option, seed) not in rows:
            print(shlex.join(["seq2seq-train", f"run_dir={run}", *settings(option), f"seed={seed}"]))
    if rows:
        write_text(kept, json.dumps(list(rows.values()), indent=2) + "\n")
        put(table(list(rows.values())), page, BEGIN, END)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
