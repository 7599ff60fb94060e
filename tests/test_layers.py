"""Imports go down only, and a foreign package comes in by the door that ARCHITECTURE.md names."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "symbols": 0,
    "errors": 0,
    "schema": 0,
    "atomic": 0,
    "journal": 0,
    "stopping": 0,
    "folders": 0,
    "kernels": 0,
    "model": 1,
    "data": 1,
    "decoding": 1,
    "recipes": 2,
    "bundle": 2,
    "evaluation": 2,
    "comparison": 2,
    "page": 2,
    "choosing": 2,
    "mbr": 2,
    "wording": 2,
    "shortlist": 2,
    "vocabulary": 2,
    "inference": 3,
    "noisy_channel": 3,
    "translator": 3,
    "explanation": 3,
    "synthetic": 4,
    "training": 4,
    "export": 4,
    "cli": 5,
}
ISLANDS = {"model", "data", "decoding", "recipes"}
"""On floor 1 nobody knows a neighbour; recipes know data only."""
DOORS = {
    "torch": {
        "model",
        "data/batch.py",
        "decoding",
        "choosing",
        "mbr",
        "wording",
        "shortlist",
        "vocabulary",
        "bundle",
        "inference",
        "explanation",
        "noisy_channel",
        "translator",
        "training",
        "export",
    },
    "numpy": {"data", "comparison", "mbr", "shortlist", "training/data.py", "training/memory.py", "export"},
    "ctranslate2": {"export"},
    "wandb": {"training/loggers.py"},
    "datasets": {"data", "recipes"},
    "sentencepiece": {"data/tokenizer.py"},
    "zstandard": {"data/packing.py"},
    "babel": {"recipes"},
    "safetensors": {"bundle", "training/averaging.py", "training/state.py"},
    "sacrebleu": {"evaluation", "comparison"},
    "lightning": {"training"},
    "hydra": {"cli"},
    "omegaconf": {"cli"},
    "yaml": {"training/folder.py"},
    "rich": {"cli", "training"},
}


def modules() -> list[Path]:
    return sorted([*(ROOT / "seq2seq").rglob("*.py"), *(ROOT / "recipes").glob("*.py")])


def place(path: Path) -> tuple[str, str]:
    """(the part of the house, the path within it) of a file."""
    relative = path.relative_to(ROOT)
    parts = relative.parts[1:] if relative.parts[0] == "seq2seq" else relative.parts
    return Path(parts[0]).stem, "/".join(parts)


def imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write imports in full"
            found += [node.module or ""]
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_go_down_and_through_doors(path: Path) -> None:
    part, inner = place(path)
    if inner == "__init__.py":  # the package itself only forwards names
        return
    for name in imports(path):
        top, *rest = name.split(".")
        if top == "seq2seq" and rest:
            other = rest[0]
            assert FLOORS[other] <= FLOORS[part], f"{inner} imports {name}, which is on a higher floor"
            if part in ISLANDS and other in ISLANDS and other != part:
                assert (part, other) == ("recipes", "data"), f"{inner} imports {name}: islands do not know each other"
        elif top not in sys.stdlib_module_names and top != "seq2seq":
            assert top in DOORS, f"{inner} imports {name}, which has no door in the map"
            doors = DOORS[top]
            assert part in doors or inner in doors, f"{inner} imports {name}; its doors are {', '.join(sorted(doors))}"


def test_every_part_has_a_floor() -> None:
    assert {place(path)[0] for path in modules()} - {"__init__"} == set(FLOORS)


def test_the_test_sees_what_it_should(tmp_path: Path) -> None:
    """A file that breaks the rule is noticed: the reader of imports finds nested and aliased ones."""
    file = tmp_path / "bad.py"
    file.write_text("def f():\n    import lightning.pytorch as x\n    from seq2seq.cli import command\n")
    assert imports(file) == ["lightning.pytorch", "seq2seq.cli"]
