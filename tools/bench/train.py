"""How fast models are trained: this toolkit, OpenNMT-py and a plain PyTorch loop, side by side in one run.

    python tools/bench/train.py SOURCES TARGETS [--base] [--rounds 5] [--updates 8] [--opennmt PYTHON] [--json FILE]

Every system has both cores, its own batches of at most 4,096 tokens a side from the same tokenised pairs, and the same sizes (tiny: 4+4
layers, 128 wide; base: 6+6, 512), pre-norm, one matrix for all embeddings, dropout 0.1, label smoothing 0.1, Adam. All take turns, once round
after the other, so that a slow minute slows all of them: each begins anew, makes three updates to warm up and `--updates` that count, and ends
before the next begins. (Side by side, waiting, the others slow OpenNMT-py down by a third.) The medians of the rounds are shown.
Ours runs in Lightning's loop as `seq2seq-train` does, OpenNMT-py in its own trainer. What is counted: source and target tokens without padding.

PYTHON has OpenNMT-py 3.5.1 (pip install --no-deps OpenNMT-py==3.5.1, then torch==2.13.0 and what it imports: pyonmttok configargparse
ctranslate2 flask waitress rapidfuzz sacrebleu spacy pyahocorasick fasttext-wheel). Without it that system is left out.

Share of peak: what the products with weights come to for tokens that are no padding, over what one large product of that precision does in the same
time on all cores.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
REPOSITORY = Path(__file__).parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.bench.process import Process, answer, peak_memory  # noqa: E402

SHAPES = {
    "tiny": dict(layers=4, d_model=128, heads=4, d_feedforward=256),
    "base": dict(layers=6, d_model=512, heads=8, d_feedforward=2048),
}
MAX_TOKENS, RATE, DROPOUT, SMOOTHING, CLIP = 4096, 1e-4, 0.1, 0.1, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", help="a file of sentences, or .gz")
    parser.add_argument("targets", help="their translations")
    parser.add_argument("--base", action="store_true", help="the shape of the base model instead of a tiny one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=10000)
    parser.add_argument("--opennmt", help="a Python that has OpenNMT-py")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = SHAPES["base" if options.base else "tiny"]
    if options.serve:
        SYSTEMS[options.serve](Path(options.folder), shape)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(options, shape, Path(folder))


# What a system's process does: it trains, and after every few updates waits until it is asked to go on.


class Pace:
    """Counts updates and tokens, and answers after as many updates as were asked for."""

    def __init__(self) -> None:
        self.left, self.tokens, self.positions, self.seconds = 1, [0, 0], [0, 0], 0.0
        self.start = time.perf_counter()

    def update(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """After an update with so many tokens of source and target, in so many positions, padding counted."""
        for side in (0, 1):
            self.tokens[side] += tokens[side]
            self.positions[side] += positions[side]
        self.left -= 1
        if self.left:
            return
        now = time.perf_counter()
        taken = {"seconds": now - self.start, "first": now - BEGAN}
        answer({**taken, "tokens": self.tokens, "positions": self.positions, "memory": peak_memory()})
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self.left, self.tokens, self.positions = json.loads(line)["updates"], [0, 0], [0, 0]
        self.start = time.perf_counter()


def prepared(folder: Path) -> Any:
    """The pairs as tokens, and the size of their vocabulary."""
    from seq2seq.data.tokens import TokenPairs, TokenRows

    data = json.loads((folder / "tokens.json").read_text())
    size = data["vocabulary"]
    return TokenPairs(TokenRows(data["source"], size), TokenRows(data["target"], size)), size


def ours(precision: str) -> Callable[[Path, dict[str, int]], None]:
    def train(folder: Path, shape: dict[str, int]) -> None:
        import lightning

        from seq2seq.data.sampler import BatchConfig
        from seq2seq.model.config import TransformerConfig
        from seq2seq.training.averaging import MovingAverage
        from seq2seq.training.data import TranslationData
        from seq2seq.training.module import TranslationModule
        from seq2seq.training.options import Averaging, Optimizer, TrainerOptions
        from seq2seq.training.run import _trainer, new_model

        pairs, size = prepared(folder)
        config = TransformerConfig(size, size, **shape, dropout=DROPOUT, norm_order="pre")
        options = TrainerOptions(precision=precision, validate_every=10**9, accelerator="cpu")  # type: ignore[arg-type]
        data = TranslationData(pairs, pairs, BatchConfig(MAX_TOKENS), 1, options.max_steps, config.max_length)
        optimizer = Optimizer(label_smoothing=SMOOTHING, clip_norm=CLIP)
        nothing: Any = None
        module = TranslationModule(new_model(config, 1), optimizer, _constant, options.max_steps, nothing, nothing, 1)
        module.prepare(options.precision, on_cpu=True)
        pace = Pace()

        class Paced(lightning.Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
                tokens = [sum(one.source_tokens for one in batch), sum(one.target_tokens for one in batch)]
                pace.update(tokens, tokens)  # no position is padding

        average = MovingAverage(Averaging().decay)
        _trainer(options, [average, Paced()], []).fit(module, train_dataloaders=data.train_dataloader())

    return train


def _constant(step: int, d_model: int, max_steps: int) -> float:
    return RATE


def plain(folder: Path, shape: dict[str, int]) -> None:
    """What one writes first: torch's own Transformer, padded batches, torch's own loss."""
    import torch
    from torch import nn

    from seq2seq.data.sampler import BatchConfig, BatchPlan
    from seq2seq.model.masks import causal_mask
    from seq2seq.model.positions import sinusoids
    from seq2seq.symbols import PAD

    torch.manual_seed(1)
    pairs, size = prepared(folder)
    plan = BatchPlan(pairs.source.lengths, pairs.target.lengths, BatchConfig(MAX_TOKENS), 1)
    width, layers = shape["d_model"], shape["layers"]
    table = nn.Embedding(size, width, padding_idx=PAD)
    nn.init.normal_(table.weight, std=width**-0.5)
    model = nn.Transformer(
        width, shape["heads"], layers, layers, shape["d_feedforward"], DROPOUT, batch_first=True, norm_first=True
    )
    dropout, positions = nn.Dropout(DROPOUT), sinusoids(512, width)
    parameters = [*table.parameters(), *model.parameters()]
    adam = torch.optim.Adam(parameters, RATE, betas=(0.9, 0.98))
    pace = Pace()

    def embedded(ids: Any) -> Any:
        return dropout(table(ids) * width**0.5 + positions[: ids.size(1)])

    for number in itertools.count():
        batch = pairs.batch(plan[number])
        source, target = batch.source, batch.target_input
        features = model(
            embedded(source),
            embedded(target),
            tgt_mask=~causal_mask(target.size(1)),
            src_key_padding_mask=source == PAD,
            memory_key_padding_mask=source == PAD,
            tgt_is_causal=True,
        )
        logits = features @ table.weight.T
        outputs = batch.target_output.flatten()
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), outputs, ignore_index=PAD, label_smoothing=SMOOTHING)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP)
        adam.step()
        adam.zero_grad()
        pace.update([batch.source_tokens, batch.target_tokens], [source.numel(), target.numel()])


def opennmt(folder: Path, shape: dict[str, int]) -> None:
    """OpenNMT-py's command, slowed down to the pace."""
    import yaml  # type: ignore[import-untyped]

    settings = dict(
        data={"corpus": {"path_src": str(folder / "train.source"), "path_tgt": str(folder / "train.target")}},
        src_vocab=str(folder / "vocabulary"),
        tgt_vocab=str(folder / "vocabulary"),
        share_vocab=True,
        save_model=str(folder / "opennmt"),
        encoder_type="transformer",
        decoder_type="transformer",
        layers=shape["layers"],
        hidden_size=shape["d_model"],
        word_vec_size=shape["d_model"],
        heads=shape["heads"],
        transformer_ff=shape["d_feedforward"],
        position_encoding=True,
        share_embeddings=True,
        share_decoder_embeddings=True,
        dropout=[DROPOUT],
        attention_dropout=[0.0],
        label_smoothing=SMOOTHING,
        model_dtype="fp32",
        optim="adam",
        adam_beta2=0.98,
        learning_rate=RATE,
        decay_method="none",
        max_grad_norm=CLIP,
        normalization="tokens",
        batch_type="tokens",
        batch_size=MAX_TOKENS,
        bucket_size=29000,
        num_workers=0,
        train_steps=10**6,
        save_checkpoint_steps=10**6,
        valid_steps=10**6,
        report_every=10**6,
        param_init_glorot=True,
        seed=1,
        overwrite=True,
        n_sample=0,
    )
    (folder / "opennmt.yaml").write_text(yaml.safe_dump(settings))
    import onmt.bin.train  # type: ignore[import-not-found]
    import onmt.trainer  # type: ignore[import-not-found]

    pace, accumulate = Pace(), onmt.trainer.Trainer._gradient_accumulation

    def paced(self: Any, batches: Any, *rest: Any, **more: Any) -> Any:
        result = accumulate(self, batches, *rest, **more)
        padding = self.train_loss.padding_idx
        tokens = [sum(int(b["srclen"].sum()) for b in batches), sum(int((b["tgt"][:, 1:] != padding).sum()) for b in batches)]
        shapes = [(b["src"].shape[:2], b["tgt"].shape[:2]) for b in batches]
        pace.update(tokens, [sum(n * length for (n, length), _ in shapes), sum(n * (length - 1) for _, (n, length) in shapes)])
        return result

    onmt.trainer.Trainer._gradient_accumulation = paced  # with its optimizer's step within
    sys.argv, sys.stdout = ["onmt_train", "-config", str(folder / "opennmt.yaml")], sys.stderr
    onmt.bin.train.main()


SYSTEMS: dict[str, Callable[[Path, dict[str, int]], None]] = {
    "ours float32": ours("float32"),
    "ours bfloat16": ours("bfloat16"),
    "OpenNMT-py float32": opennmt,
    "plain PyTorch float32": plain,
}


# What the comparing process does.


def compare(options: argparse.Namespace, shape: dict[str, int], folder: Path) -> None:
    vocabulary = write_tokens(options, folder)
    names = [name for name in options.systems if options.opennmt or not name.startswith("OpenNMT")]
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            taken[name].append(one_round(name, options, folder))
            print(f"  {name}: {sum(taken[name][-1]['tokens']) / taken[name][-1]['seconds']:,.0f}", file=sys.stderr, flush=True)
    rows = [row(name, taken[name], shape, vocabulary) for name in names]
    print(table(rows, "base" if options.base else "tiny"))
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "rows": rows}, indent=1))


def one_round(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Some updates by a system, after two that warm it up."""
    python = options.opennmt if name.startswith("OpenNMT") else sys.executable
    command = [python, __file__, options.sources, options.targets, "--serve", name, "--folder", str(folder)]
    process = Process(name, command + ["--base"] * options.base, {"OMP_NUM_THREADS": str(os.cpu_count() or 1)}, folder / "log")
    process.ask(updates=2)
    found = process.ask(updates=options.updates)
    process.end()
    return {**found, "first": process.first["first"]}


def write_tokens(options: argparse.Namespace, folder: Path) -> int:
    """The pairs as each system reads them; the size of the vocabulary."""
    from seq2seq.data.lines import read_lines
    from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
    from seq2seq.symbols import SPECIAL

    sources, targets = (list(read_lines(Path(name))) for name in (options.sources, options.targets))
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=options.vocabulary), sources, targets)
    ids = tokenizer.encode_source(sources), tokenizer.encode_target(targets)
    pieces = tokenizer.source_pieces()
    (folder / "tokens.json").write_text(json.dumps({"source": ids[0], "target": ids[1], "vocabulary": len(pieces)}))
    (folder / "vocabulary").write_text("".join(f"{piece}\n" for piece in pieces[len(SPECIAL) :]))
    for name, rows in zip(("source", "target"), ids, strict=True):
        (folder / f"train.{name}").write_text("".join(" ".join(pieces[i] for i in row[:-1]) + "\n" for row in rows))
    return len(pieces)


def row(name: str, rounds: list[dict[str, Any]], shape: dict[str, int], vocabulary: int) -> dict[str, Any]:
    rates = sorted(sum(found["tokens"]) / found["seconds"] for found in rounds)
    work = statistics.median(operations(*found["tokens"], shape, vocabulary) / found["seconds"] for found in rounds)
    padding = 1 - sum(sum(found["tokens"]) for found in rounds) / sum(sum(found["positions"]) for found in rounds)
    return {
        "name": name,
        "tokens_per_second": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "share_of_peak": work / peak(name.split()[-1]),
        "padding": padding,
        "memory_GiB": max(found["memory"] for found in rounds),
        "first_update_seconds": statistics.median(found["first"] for found in rounds),
    }


def operations(source: int, target: int, shape: dict[str, int], vocabulary: int) -> float:
    """What the products with weights come to: two operations a weight and token, forward, and twice that backward."""
    width, inner = shape["d_model"], shape["d_feedforward"]
    of_source = shape["layers"] * (4 * width**2 + 2 * width * inner + 2 * width**2)  # and keys and values of cross-attention
    of_target = shape["layers"] * (6 * width**2 + 2 * width * inner) + width * vocabulary
    return 6.0 * (of_source * source + of_target * target)


@cache
def peak(precision: str) -> float:
    """Operations a second of one large product on all cores, at the best of many tries by two libraries."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    x, weight = (torch.randn(2048, 2048, dtype=getattr(torch, precision)) for _ in range(2))

    def tries() -> Iterator[float]:
        for product in (
            torch.nn.functional.linear,
            lambda x, weight: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""),
        ):
            for _ in range(60):
                start = time.perf_counter()
                product(x, weight)
                yield time.perf_counter() - start

    return 2.0 * 2048**3 / min(tries())


def table(rows: list[dict[str, Any]], shape: str) -> str:
    """Markdown."""
    lines = [
        f"| training, {shape} | tokens/s | (low to high) | share of peak | padding | GiB | first update |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['name']} | {r['tokens_per_second']:,.0f} | {r['lowest']:,.0f} to {r['highest']:,.0f} | {100 * r['share_of_peak']:.0f} % "
        f"| {100 * r['padding']:.1f} % | {r['memory_GiB']:.2f} | {r['first_update_seconds']:.1f} s |"
        for r in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
