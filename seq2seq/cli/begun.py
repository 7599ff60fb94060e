"""A training that begins from a bundle: what it takes from there, whatever else is composed."""

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seq2seq.cli.typed import asked
from seq2seq.errors import ConfigProblem
from seq2seq.training.folder import OWN_WHEN_BEGUN

if TYPE_CHECKING:
    from seq2seq.cli.train import TrainJob


def as_begun(job: "TrainJob", config: Mapping[str, Any]) -> "tuple[TrainJob, Mapping[str, Any]]":
    """The job and its config with the shape of the bundle that training begins from, and with its tokenizer's settings where that is kept.

    Raises:
        ConfigProblem: others were typed.
        BundleProblem: there is no such bundle, or it is damaged.
    """
    if job.begin_from is None:
        return job, config
    from seq2seq.bundle import config_of
    from seq2seq.data.tokenizer import Tokenizer

    bundle = Path(job.begin_from)
    begun: dict[str, Any] = {"model": config_of(bundle).model}
    if job.begin_vocabulary == "keep":
        begun["tokenizer"] = Tokenizer.load(bundle / "tokenizer").config
    typed = {argument.partition("=")[0].lstrip("+") for argument in asked()}
    taken, differing = {}, []
    for group, there in begun.items():
        taken[group] = {
            field.name: getattr(there, field.name) for field in fields(there) if not field.name.endswith(OWN_WHEN_BEGUN)
        }
        here = getattr(job, group)
        differing += [
            f"{group}.{name} is {getattr(here, name)}, there {value}"
            for name, value in taken[group].items()
            if getattr(here, name) != value and typed & {group, f"{group}.{name}"}
        ]
    if differing:
        raise ConfigProblem(
            f"training begins from {bundle} and keeps what that is made of: {'; '.join(differing)}",
            "leave these settings out, or train without begin_from",
        )
    return (
        replace(job, **{group: replace(getattr(job, group), **values) for group, values in taken.items()}),
        {**config, **{group: {**config[group], **json.loads(json.dumps(values))} for group, values in taken.items()}},
    )
