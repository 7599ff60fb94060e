"""Whether a hundred thousand sentences are translated as fast as a thousand, and in how much memory.

    python tools/bench/scale.py BUNDLE SOURCES [--sizes 1000 100000] [--beam 1] [--precision float32]

Both are put through `Translator.stream`, as `seq2seq-translate` does, in a process of their own each; starting is not counted.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import chain, islice, repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("sources", help="a file of sentences, taken again and again")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000])
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options)
        return
    for size in options.sizes:
        done = subprocess.run([sys.executable, *sys.argv, "--only", str(size)], check=True, capture_output=True, text=True)
        print("{sentences:>9,} sentences: {rate:8.1f} a second, at most {memory:.2f} GiB".format(**json.loads(done.stdout)))


def measure(options: argparse.Namespace) -> None:
    from seq2seq.decoding.beam import BeamSearch
    from seq2seq.inference.native import Native
    from seq2seq.translator import Translator

    engine = Native(options.precision, options.workers)
    translator = Translator.load(options.bundle, BeamSearch(options.beam), "cpu", 128, engine)
    lines = Path(options.sources).read_text(encoding="utf-8").rstrip("\n").split("\n")
    again = chain.from_iterable(repeat(lines))
    for _ in translator.stream(lines[:200], 2048):  # what starts on first use starts now
        pass
    start = time.perf_counter()
    for _ in translator.stream(islice(again, options.only), 2048):
        pass
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({"sentences": options.only, "rate": options.only / seconds, "memory": memory}))


if __name__ == "__main__":
    main()
