"""What the commands that translate share: which bundles, and a translator of them."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from seq2seq.errors import ConfigProblem

if TYPE_CHECKING:
    from seq2seq.translator import Translator
    from seq2seq.wording import Wording

Bundles = str | list[str] | None
"""A folder, or several that translate as one."""


class Translating(Protocol):
    """The settings that say how to translate."""

    @property
    def decoding(self) -> Any: ...
    @property
    def engine(self) -> Any: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def direction(self) -> str | None: ...


def folders(bundle: Bundles) -> list[str]:
    """Raises ConfigProblem if there is none."""
    if not bundle:
        raise ConfigProblem("which model? bundle= is not set", "bundle=RUN/bundle, the folder that training has written")
    return [bundle] if isinstance(bundle, str) else bundle


def what_translates(engine: Mapping[str, Any]) -> dict[str, Any]:
    """An engine's settings, but for how its work is shared out, which changes no translation."""
    return {name: value for name, value in engine.items() if name not in ("workers", "threads")}


def run_of(bundle: str) -> Path:
    """The folder that a bundle lies in, which is its run's if it has not been moved."""
    path = Path(bundle)
    return path.parent if path.name not in ("", "..") else path.resolve().parent


def load_translator(bundle: Bundles, job: Translating, wording: "Wording | None" = None) -> "Translator":
    """What the machine chose, and whether the model was trained for what is asked, is said on the standard error stream."""
    from seq2seq.data.directions import asked_for
    from seq2seq.inference.native import Native, best_precision
    from seq2seq.inference.workers import keep_memory
    from seq2seq.translator import Translator, find_device

    keep_memory()
    if isinstance(job.engine, Native) and job.engine.precision == "auto":
        chosen = best_precision(find_device(job.device))
        print(f"this machine does best with engine.precision={chosen}", file=sys.stderr)
    direction = asked_for(job.direction)
    translator = Translator.load(folders(bundle), job.decoding, job.device, job.batch_size, job.engine, wording, direction)
    if direction and translator.bundle.config.directions and direction not in translator.bundle.config.directions:
        print(f"the model was never trained on {' to '.join(direction)}: it knows the languages, each by itself", file=sys.stderr)
    return translator
