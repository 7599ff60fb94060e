"""How much memory a large corpus takes: writes N made-up pairs, trains a few steps on them, and prints the peak.

python tools/large_corpus.py 10000000
"""

import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

SETTINGS = (
    "recipe=files recipe.train=train recipe.validation=val model=tiny tokenizer.vocab_size=2000 trainer.max_steps=20 "
    "trainer.validate_every=20 logger=csv run_dir=run"
).split()


def write(folder: Path, name: str, count: int) -> None:
    """Sentences of 3 to 12 made-up words, the other side the same words in another alphabet of endings."""
    draw = random.Random(count)
    words = ["".join(draw.choices("abcdefghiklmnoprstuvz", k=draw.randrange(2, 9))) for _ in range(20_000)]
    with (folder / f"{name}.en").open("w") as source, (folder / f"{name}.de").open("w") as target:
        for _ in range(count):
            picked = draw.choices(words, k=draw.randrange(3, 13))
            source.write(" ".join(picked) + "\n")
            target.write(" ".join(word + "en" for word in picked) + "\n")


def main(count: int) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, "train", count)
        write(folder, "val", 200)
        size = sum(path.stat().st_size for path in folder.iterdir())
        began = time.monotonic()
        own = 0
        with subprocess.Popen([Path(sys.executable).parent / "seq2seq-train", *SETTINGS], cwd=folder) as training:
            while training.poll() is None:
                own = max(own, anonymous(training.pid))
                time.sleep(0.1)
        seconds = time.monotonic() - began
    whole = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    print(
        f"{count:,} pairs, {size / 2**30:.2f} GiB of text: {seconds:,.0f} s, peak memory {own / 2**30:.2f} GiB, "
        f"with pages of files, which the system takes back when it needs them, {whole / 2**30:.2f} GiB"
    )


def anonymous(process: int) -> int:
    """Bytes of memory that stand in no file."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in status.split("\n") if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
