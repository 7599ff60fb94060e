"""seq2seq-export: a bundle in the format of another toolkit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from seq2seq.cli.command import Command
from seq2seq.cli.translating import folders
from seq2seq.errors import ConfigProblem
from seq2seq.export import Quantization

COMMAND = Command(
    "export",
    "a bundle in the format of another toolkit",
    (
        "seq2seq-export bundle=runs/m30k/bundle output=runs/m30k/ctranslate2",
        "seq2seq-export bundle=runs/m30k/bundle output=runs/m30k/int8 quantization=int8",
        "seq2seq-translate bundle=runs/m30k/bundle engine=ctranslate2 < in.txt > out.txt   # needs no export before",
    ),
    (),
)


@dataclass(frozen=True)
class ExportJob:
    """conf/export.yaml."""

    bundle: str | None
    format: Literal["ctranslate2"]
    output: str | None
    quantization: Quantization


def main() -> None:
    COMMAND.main(ExportJob, run)


def run(job: ExportJob, config: Mapping[str, Any]) -> None:
    """Write the folder: the model, and beside it the tokenizer and what a program needs to know."""
    (folder,) = folders(job.bundle)
    if job.output is None:
        raise ConfigProblem("where to? output= is not set", "output=FOLDER, which must not exist")
    output = Path(job.output)
    if output.exists():
        raise ConfigProblem(f"{output} exists", "choose another output")
    from seq2seq.atomic import replacing_folder
    from seq2seq.bundle import Bundle
    from seq2seq.export.ctranslate2 import export

    bundle = Bundle.load(folder)
    with replacing_folder(output) as temporary:
        export(bundle, temporary, job.quantization)
        bundle.tokenizer.save(temporary / "tokenizer")
    front = f"begin with {bundle.tokenizer.said} and " if bundle.tokenizer.said else ""
    print(
        f"written to {output}: a CTranslate2 model ({job.quantization}), with its SentencePiece tokenizer in {output / 'tokenizer'}"
    )
    print(
        f"sources {front}end with </s>; every text is brought into the normal form that tokenizer/tokenizer.json names before it is encoded"
    )
