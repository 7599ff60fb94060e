"""Keep a small bundle of this release for the tests of later ones: python tools/freeze.py tests/frozen/0.1

The model is trained for a few seconds on made-up numbers, so that its translations do not hang on rounding.
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from seq2seq.bundle import Bundle
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.decoding.beam import BeamSearch
from seq2seq.training.options import TrainerOptions
from seq2seq.translator import Translator

sys.path.insert(0, str(Path(__file__).parent.parent))
LINES = ["one two three", "", "ten nine eight seven", "five", "six one"]


def main(folder: Path) -> None:
    from tests.conftest import counting_pairs
    from tests.training.small_run import Run

    pairs = counting_pairs(200)
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=340), [s for s, _ in pairs], [t for _, t in pairs])
    with TemporaryDirectory() as temporary:
        run = Run(Path(temporary), tokenizer, TrainerOptions(max_steps=600, validate_every=300, accelerator="cpu"))
        print(run.go())
        Bundle.load(run.folder.bundle).save(folder / "bundle")
    answers = Translator(Bundle.load(folder / "bundle"), BeamSearch(4)).translate(LINES)
    (folder / "expected.json").write_text(json.dumps(dict(zip(LINES, answers, strict=True)), indent=2, ensure_ascii=False) + "\n")
    print(answers)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
