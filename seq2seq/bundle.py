"""Floor 2: a trained model as one folder, which is all that evaluating and translating need.

    weights.safetensors   the model's tensors
    config.json           languages and the TransformerConfig
    tokenizer/            settings and SentencePiece model(s)
    shortlist.safetensors which target tokens a sentence may need, if that was learned
    README.md             the model card
    manifest.json         size and SHA-256 of every file above, written last

Nothing in it is code, and nothing in it chooses a class: plain data is checked by dataclasses, tensors by name and shape.
"""

import hashlib
import json
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seq2seq import __version__
from seq2seq.atomic import MANIFEST, check_manifest, replacing_folder, write_manifest
from seq2seq.data.directions import Direction, tag, written
from seq2seq.data.tokenizer import SETTINGS, Tokenizer
from seq2seq.errors import BundleProblem, ConfigProblem, MissingProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.schema import build, plain, require
from seq2seq.shortlist import Shortlist

FORMAT_VERSION = 1
_KIND = "seq2seq bundle"
_CONFIG, _WEIGHTS, _TOKENIZER, _CARD = "config.json", "weights.safetensors", "tokenizer", "README.md"
_SHORTLIST = "shortlist.safetensors"


@dataclass(frozen=True)
class BundleConfig:
    """`config.json`."""

    source: str
    target: str
    model: TransformerConfig
    directions: tuple[Direction, ...] = ()
    """Of a model of several, all that it was trained on; source and target are then the one that is taken where nothing is said."""

    def __post_init__(self) -> None:
        require((self.knows((self.source, self.target)), "source to target is none of the directions"))

    @property
    def trained(self) -> tuple[Direction, ...]:
        """All directions that it was trained on."""
        return self.directions or ((self.source, self.target),)

    def knows(self, direction: Direction) -> bool:
        """Whether it was trained to read the one language and to write the other, if not together."""
        if not self.directions:
            return direction == (self.source, self.target)
        return all(language in known for language, known in zip(direction, zip(*self.directions, strict=True), strict=True))

    def check_knows(self, direction: Direction, bundle: str = "the bundle") -> None:
        """Raises:
        ConfigProblem: it does not, by the name that is given.
        """
        if not self.knows(direction):
            trained = ", ".join(" to ".join(each) for each in self.trained)
            raise ConfigProblem(f"{bundle} does not know {' to '.join(direction)}", f"it was trained on {trained}")


@dataclass(frozen=True)
class Card:
    """What the model card says beside languages and sizes."""

    recipe: str = "not stated"
    step: int = 0
    scores: tuple[str, ...] = ()
    """Each with its signature."""
    search: tuple[str, ...] = ()
    """The settings that let a command search as the scores were made."""
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Bundle:
    """A trained model with its tokenizer and languages, and a shortlist if one was learned."""

    config: BundleConfig
    model: Transformer
    tokenizer: Tokenizer
    shortlist: Shortlist | None = None

    def save(self, folder: Path, card: Card | None = None) -> None:
        """Write the bundle; `folder` is complete or untouched.

        Raises:
            BundleProblem: something else is there.
        """
        not_ours = _what_is_not_ours(folder)
        with replacing_folder(folder) as temporary:
            write_tensors(temporary / _WEIGHTS, own_tensors(self.model))
            (temporary / _CONFIG).write_text(json.dumps(plain(self.config), indent=2) + "\n", encoding="utf-8")
            self.tokenizer.save(temporary / _TOKENIZER)
            if self.shortlist:
                write_tensors(temporary / _SHORTLIST, vars(self.shortlist))
            (temporary / _CARD).write_text(_render_card(self, card or Card()), encoding="utf-8")
            write_manifest(temporary, _KIND, FORMAT_VERSION, f"seq2seq {__version__}")
            for path in not_ours:
                _copy(path, temporary / path.name)

    def toward(self, direction: Direction | None) -> "Bundle":
        """The same model for another of its directions, or for one that it was not trained on between languages that it knows.

        Raises:
            ConfigProblem: it does not know them.
        """
        config = self.config
        direction = direction or (config.source, config.target)
        config.check_knows(direction)
        if not config.directions:
            return self
        config = replace(config, source=direction[0], target=direction[1])
        return replace(self, config=config, tokenizer=self.tokenizer.saying(tag(config.target)))

    def fingerprint(self) -> str:
        """What tells this model from others: SHA-256 of its settings, tokenizer and weights."""
        digest = hashlib.sha256(json.dumps(plain(self.config), sort_keys=True).encode() + self.tokenizer.fingerprint().encode())
        lists = {f"shortlist.{name}": table for name, table in vars(self.shortlist).items()} if self.shortlist else {}
        for name, tensor in sorted((own_tensors(self.model) | lists).items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def load(cls, folder: str | Path) -> "Bundle":
        """Read a bundle, the model in evaluation mode.

        Raises:
            BundleProblem: there is none, it is damaged, from a newer release, or its parts do not fit together.
        """
        folder = Path(folder)
        config = config_of(folder)
        tokenizer = Tokenizer.load(folder / _TOKENIZER)
        sizes = (tokenizer.source_vocab_size, tokenizer.target_vocab_size)
        wanted = (config.model.source_vocab_size, config.model.target_vocab_size)
        if sizes != wanted:
            raise BundleProblem(
                f"{folder}: the tokenizer has {sizes} tokens (source, target), the model {wanted}",
                "use the tokenizer the model was trained with",
            )
        shortlist = _read_shortlist(folder / _SHORTLIST, sizes) if (folder / _SHORTLIST).exists() else None
        return cls(config, _read_weights(config.model, folder / _WEIGHTS).eval(), tokenizer, shortlist).toward(None)


def load_alike(folders: Sequence[str | Path], direction: Direction | None = None) -> list[Bundle]:
    """Bundles that translate as one, in a direction that all know, or in that which they take where nothing is said.

    Raises:
        ConfigProblem: one does not know the direction.
        BundleProblem: one is missing or damaged, or they do not fit together.
    """
    bundles = []
    for folder in folders:
        bundle = Bundle.load(folder)
        if direction:
            bundle.config.check_knows(direction, str(folder))
        bundles.append(bundle.toward(direction))
        _check_alike(bundles[0], bundles[-1], str(folders[0]), str(folder))
    return bundles


def _check_alike(first: Bundle, other: Bundle, name: str, other_name: str) -> None:
    """Raises:
    BundleProblem: the two, by these names, cannot translate as one.
    """
    languages, others = ((bundle.config.source, bundle.config.target) for bundle in (first, other))
    if languages != others:
        raise BundleProblem(
            f"{name} translates {' to '.join(languages)}, {other_name} {' to '.join(others)}", "choose bundles of one direction"
        )
    if first.config.model.max_length != other.config.model.max_length:
        raise BundleProblem(f"{name} and {other_name} hold sequences of different length (max_length)", "choose others")
    if first.tokenizer.fingerprint() != other.tokenizer.fingerprint():
        raise BundleProblem(
            f"{name} and {other_name} have different tokenizers",
            "train them on the same corpus with the same tokenizer settings, and another seed",
        )


def config_of(folder: Path) -> BundleConfig:
    """The settings of a bundle.

    Raises:
        BundleProblem: there is none, it is damaged or from a newer release.
    """
    check_bundle(folder)
    try:
        return build(BundleConfig, json.loads((folder / _CONFIG).read_text(encoding="utf-8")))
    except (ConfigProblem, ValueError) as problem:
        raise BundleProblem(
            f"{folder / _CONFIG}: {getattr(problem, 'message', problem)}", "make the bundle again with this release"
        ) from None


def _what_is_not_ours(folder: Path) -> list[Path]:
    """What somebody may have put beside the files of the bundle that is about to be replaced.

    Raises:
        BundleProblem: it is no bundle at all.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return []
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        ours = {*(Path(name).parts[0] for name in manifest["files"]), MANIFEST} if manifest["format"] == _KIND else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if not ours:
        raise BundleProblem(f"{folder} is there, and is no bundle", "choose another folder, or move it away")
    return [path for path in folder.iterdir() if path.name not in ours]


def _copy(path: Path, to: Path) -> None:
    if to.exists():
        return
    if path.is_dir() and not path.is_symlink():
        shutil.copytree(path, to, symlinks=True)
    else:
        shutil.copy2(path, to, follow_symlinks=False)


def own_tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    """The parameters of a model, each once: of tied ones only the first name."""
    return {name: parameter.detach().cpu().contiguous() for name, parameter in model.named_parameters()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file. The library's own writer hides what the system refuses, and writes under names of its own."""
    path.write_bytes(safetensors.torch.save(dict(tensors), metadata={"format": "pt"}))


def manifest_of(folder: Path) -> Path:
    """The file that tells one bundle from any other.

    Raises:
        BundleProblem: there is no bundle.
    """
    if not (folder / MANIFEST).is_file():
        what, inner = f"{folder} is not a bundle: there is no {MANIFEST} in it", folder / "bundle"
        if (inner / MANIFEST).is_file():
            raise BundleProblem(what, f"did you mean {inner}?")
        raise MissingProblem(what, "train a model first: seq2seq-train, then bundle=RUN/bundle", str(folder))
    return folder / MANIFEST


def check_bundle(folder: Path) -> None:
    """Everything in the folder is as it was written, and nothing that is read is missing or has been added.

    Raises:
        BundleProblem: it is not.
    """
    manifest_of(folder)
    listed = check_manifest(folder, _KIND, FORMAT_VERSION)
    for name in (_WEIGHTS, _CONFIG, f"{_TOKENIZER}/{SETTINGS}"):
        if name not in listed:
            raise BundleProblem(f"{folder / MANIFEST} does not list {name}", "copy the bundle again")
    for extra in ((folder / _SHORTLIST), *(folder / _TOKENIZER).glob("*")):
        if extra.exists() and str(extra.relative_to(folder)) not in listed:
            raise BundleProblem(f"{extra} is not in {MANIFEST}", "do not use this bundle, or copy it again")


def _read_weights(config: TransformerConfig, path: Path) -> Transformer:
    """The model with its weights. What the file holds is compared with the config before memory is taken for either."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 - it is no dict
    except (safetensors.SafetensorError, OSError) as error:
        raise BundleProblem(f"{path} cannot be read ({error})", "copy the bundle again") from None
    _compare(shapes, _largest(config), path)
    with _NothingDrawn():
        model = Transformer(config)
    expected = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    if differing := sorted(set(shapes) ^ set(expected))[:3]:
        raise BundleProblem(
            f"{path} does not hold this model's tensors; they differ in {', '.join(differing)}", "make the bundle again"
        )
    _compare(shapes, expected, path)
    model.load_state_dict(safetensors.torch.load_file(path), strict=False)
    return model


def _read_shortlist(path: Path, sizes: tuple[int, int]) -> Shortlist:
    try:
        shortlist = Shortlist(**safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise BundleProblem(f"{path} cannot be read ({error})", "copy the bundle again") from None
    if not shortlist.fits(*sizes):
        raise BundleProblem(f"{path} is not for vocabularies of {sizes} tokens (source, target)", "make the bundle again")
    return shortlist


def _largest(config: TransformerConfig) -> dict[str, tuple[int, ...]]:
    """Enough of the tensors to know that the model is no larger than the file."""
    sizes: dict[str, tuple[int, ...]] = {"source_embedding.tokens.weight": (config.source_vocab_size, config.d_model)}
    if config.tied_embeddings != "three-way":
        sizes["target_embedding.tokens.weight"] = (config.target_vocab_size, config.decoder.d_model)
    for name, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        sizes[f"{name}.layers.{stack.layers - 1}.feedforward.inner.weight"] = (stack.d_feedforward, stack.d_model)
    return sizes


def _compare(shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], path: Path) -> None:
    for name, shape in expected.items():
        if name not in shapes:
            raise BundleProblem(f"{path} does not hold this model's tensors: {name} is missing", "make the bundle again")
        if shapes[name] != shape:
            raise BundleProblem(f"{path}: {name} has shape {shapes[name]}, expected {shape}", "make the bundle again")


class _NothingDrawn(TorchFunctionMode):
    """Weights that come from a file are not first drawn at random, which for a large model takes longer than reading it."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function.__name__ in ("normal_", "uniform_"):
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return function(*args, **(kwargs or {}))


def _render_card(bundle: Bundle, card: Card) -> str:
    config = bundle.config
    parameters = sum(p.numel() for p in bundle.model.parameters())
    scores = "\n".join(f"- {score}" for score in card.scores) or "- not measured"
    files = "\n".join(f"- {f['name']}: {f['bytes']} bytes, SHA-256 {f['sha256']}" for f in card.provenance.get("files", ()))
    said = ", ".join(f"from `{source}` to `{target}`" for source, target in config.trained)
    command = [
        "seq2seq-translate",
        "bundle=.",
        *([f"direction={written(config.trained[-1])}"] if config.directions else []),
        *card.search,
    ]
    return f"""# {", ".join(f"{source} to {target}" for source, target in config.trained)}

A Transformer (Vaswani et al., 2017) that translates {said}.

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
{shlex.join(command)} < source.txt > target.txt
```
"""
