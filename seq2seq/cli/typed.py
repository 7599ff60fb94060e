"""Commands as they are typed: what this one was asked, and what comes after it."""

import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from seq2seq.data.recipe import name_of


def asked() -> list[str]:
    """The settings that ask for this run, of a sweep for this one of it."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else sys.argv[1:]


def asked_of(recipe: Any) -> list[str]:
    """The settings that let another command judge by the recipe of this run. What else was typed of the recipe must be typed again. The
    languages are in the bundle; of a recipe that makes more of another's pairs they are told, whoever has chosen them."""
    typed = [argument for argument in asked() if re.match(r"\+*recipe[@.](?!(source|target|directions)=)", argument)]
    if not hasattr(recipe, "of"):
        return typed
    directions = getattr(recipe, "directions", ())
    told = [f"recipe.directions=[{','.join(directions)}]"] if directions else []
    return [setting("recipe.source", recipe.source), setting("recipe.target", recipe.target), *told, *typed]


def setting(name: str, value: object) -> str:
    """As Hydra reads it, which takes text for a number, a list or more of its own unless it is quoted or plainly a word or a path."""
    return f"{name}={_as_hydra_reads_it(value)}"


def _as_hydra_reads_it(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_as_hydra_reads_it, value))}]"
    text = "null" if value is None else str(value)
    if isinstance(value, str | Path) and not re.fullmatch(_PLAIN, text, re.IGNORECASE | re.ASCII):
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # no interpolation
        text = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", r"\'")
        text = f"'{text}'"
    return text


_PLAIN = r"(?!(?:null|true|false|nan|inf)\Z)[a-z_]+|[a-z0-9_.+@%*-]*/[a-z0-9_./+@%*-]*"


def search_settings(search: Any) -> list[str]:
    """What lets other commands search like this, which by themselves search with a beam."""
    from seq2seq.decoding.beam import BeamSearch

    def unusual(chosen: Any, usual: Any, name: str) -> Iterator[str]:
        for field in fields(chosen):
            value, other = getattr(chosen, field.name), getattr(usual, field.name, None)
            if is_dataclass(value):
                yield from unusual(value, other, f"{name}.{field.name}")
            elif value != other:
                yield setting(f"{name}.{field.name}", value)

    kind = name_of(search)
    if kind == "mbr" and isinstance(search.candidates, BeamSearch):
        kind = "mbr_beam"
    return [*([f"decoding={kind}"] if kind != "beam" else []), *unusual(search, BeamSearch(), "decoding")]
