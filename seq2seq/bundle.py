"""Floor 2: a trained model as one folder, which is all that evaluating and translating need.

    weights.safetensors   the model's tensors
    config.json           languages and the TransformerConfig
    tokenizer/            settings and SentencePiece model(s)
    README.md             the model card
    manifest.json         size and SHA-256 of every file above, written last

Nothing in it is code, and nothing in it chooses a class: plain data is checked by dataclasses, tensors by name and shape.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from seq2seq import __version__
from seq2seq.atomic import replacing_folder
from seq2seq.data.lines import sha256
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import BundleProblem, ConfigProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.schema import build, plain

FORMAT_VERSION = 1
_MANIFEST, _CONFIG, _WEIGHTS, _TOKENIZER, _CARD = "manifest.json", "config.json", "weights.safetensors", "tokenizer", "README.md"


@dataclass(frozen=True)
class BundleConfig:
    """`config.json`."""

    source: str
    target: str
    model: TransformerConfig


@dataclass(frozen=True)
class Card:
    """What the model card says beside languages and sizes."""

    recipe: str = "not stated"
    step: int = 0
    scores: tuple[str, ...] = ()
    """Each with its signature."""
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A trained model with its tokenizer and languages."""

    config: BundleConfig
    model: Transformer
    tokenizer: Tokenizer

    def save(self, folder: Path, card: Card | None = None) -> None:
        """Write the bundle; `folder` is complete or untouched."""
        with replacing_folder(folder) as temporary:
            safetensors.torch.save_file(own_tensors(self.model), temporary / _WEIGHTS, metadata={"format": "pt"})
            (temporary / _CONFIG).write_text(json.dumps(plain(self.config), indent=2) + "\n", encoding="utf-8")
            self.tokenizer.save(temporary / _TOKENIZER)
            (temporary / _CARD).write_text(_render_card(self, card or Card()), encoding="utf-8")
            files = {
                path.relative_to(temporary).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)}
                for path in sorted(temporary.rglob("*"))
                if path.is_file()
            }
            manifest = {
                "format": "seq2seq bundle",
                "format_version": FORMAT_VERSION,
                "written_by": f"seq2seq {__version__}",
                "files": files,
            }
            (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> "Bundle":
        """Read a bundle, the model in evaluation mode.

        Raises:
            BundleProblem: there is none, it is damaged, from a newer release, or its parts do not fit together.
        """
        folder = Path(folder)
        _check_manifest(folder)
        try:
            config = build(BundleConfig, json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
        except (ConfigProblem, ValueError) as problem:
            raise BundleProblem(
                f"{folder / _CONFIG}: {getattr(problem, 'message', problem)}", "make the bundle again with this release"
            ) from None
        tokenizer = Tokenizer.load(folder / _TOKENIZER)
        sizes = (tokenizer.source_vocab_size, tokenizer.target_vocab_size)
        wanted = (config.model.source_vocab_size, config.model.target_vocab_size)
        if sizes != wanted:
            raise BundleProblem(
                f"{folder}: the tokenizer has {sizes} tokens (source, target), the model {wanted}",
                "use the tokenizer the model was trained with",
            )
        model = Transformer(config.model)
        _load_weights(model, folder / _WEIGHTS)
        return cls(config, model.eval(), tokenizer)


def own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The state of a model, each tensor once: of tied ones only the first name."""
    seen: dict[int, str] = {}
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if seen.setdefault(tensor.data_ptr(), name) == name
    }


def _check_manifest(folder: Path) -> None:
    path = folder / _MANIFEST
    if not path.is_file():
        inner = folder / "bundle"
        fix = (
            f"did you mean {inner}?"
            if (inner / _MANIFEST).is_file()
            else "train a model first: seq2seq-train, then bundle=RUN/bundle"
        )
        raise BundleProblem(f"{folder} is not a bundle: there is no {_MANIFEST} in it", fix)
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version = int(manifest["format_version"])
        files = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleProblem(f"{path} cannot be read ({error})", "copy the bundle again") from None
    if version > FORMAT_VERSION:
        raise BundleProblem(
            f"{folder} has format {version}, this release reads up to {FORMAT_VERSION}",
            f"update: it was written by {manifest.get('written_by')}",
        )
    for name in (_WEIGHTS, _CONFIG):
        if name not in files:
            raise BundleProblem(f"{path} does not list {name}", "copy the bundle again")
    for extra in (folder / _TOKENIZER).glob("*"):
        if f"{_TOKENIZER}/{extra.name}" not in files:
            raise BundleProblem(f"{extra} is not in {_MANIFEST}", "do not use this bundle, or copy it again")
    for name, expected in files.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise BundleProblem(f"{path} lists {name}, which is outside the bundle", "do not use this bundle")
        if not file.is_file():
            raise BundleProblem(f"{file} is missing", "copy the bundle again")
        if (file.stat().st_size, sha256(file)) != expected:
            raise BundleProblem(f"{file} is damaged: its size or SHA-256 is not what {_MANIFEST} says", "copy the bundle again")


def _load_weights(model: Transformer, path: Path) -> None:
    expected = own_tensors(model)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            names = set(file.keys())
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleProblem(f"{path} cannot be read ({error})", "copy the bundle again") from None
    if names != set(expected):
        differing = sorted(names ^ set(expected))[:3]
        raise BundleProblem(
            f"{path} does not hold this model's tensors; they differ in {', '.join(differing)}", "make the bundle again"
        )
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise BundleProblem(
                f"{path}: {name} has shape {shapes[name]}, expected {tuple(tensor.shape)}", "make the bundle again"
            )
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)


def _render_card(bundle: Bundle, card: Card) -> str:
    config = bundle.config
    parameters = sum(p.numel() for p in bundle.model.parameters())
    scores = "\n".join(f"- {score}" for score in card.scores) or "- not measured"
    files = "\n".join(f"- {f['name']}: {f['bytes']} bytes, SHA-256 {f['sha256']}" for f in card.provenance.get("files", ()))
    return f"""# {config.source} to {config.target}

A Transformer (Vaswani et al., 2017) that translates from `{config.source}` to `{config.target}`.

- Parameters: {parameters:,}
- Trained for {card.step:,} steps on the recipe `{card.recipe}`
- Written by seq2seq {__version__}

## Scores on validation data

{scores}

## Data

- Origin: {card.provenance.get("origin", "not stated")}
- Licence: {card.provenance.get("licence", "not stated")}
{files}

## Use

```sh
seq2seq-translate bundle=. < source.txt > target.txt
```
"""
