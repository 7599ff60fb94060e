"""How fast models are trained: this toolkit, OpenNMT-py and a plain PyTorch loop, side by side in one run.

    python tools/bench/train.py SOURCES TARGETS [--shape base] [--rounds 5] [--updates 8] [--opennmt PYTHON] [--json FILE]
    python tools/bench/train.py SOURCES TARGETS --held-out SOURCES TARGETS [--tokens 3000000] [--rate 0.001] …
    python tools/bench/train.py SOURCES TARGETS --device gpu --shape big --max-tokens 25000 --updates 50

Every system has all cores, its own batches of at most 4,096 tokens a side (`--max-tokens`) from the same tokenised pairs, and the same sizes
(tiny: 4+4 layers, 128 wide; base: 6+6, 512; big: 6+6, 1024), pre-norm, one matrix for all embeddings, dropout 0.1, label smoothing 0.1, Adam.
All take turns, one round after the other, so that a slow minute slows all of them: each begins anew, makes three updates to warm up (on a GPU,
where ours is compiled, forty) and `--updates` that count, and ends before the next begins. (Side by side, waiting, the others slow OpenNMT-py
down by a third.) The medians of the rounds are shown.
Ours runs in Lightning's loop as `seq2seq-train` does, OpenNMT-py in its own trainer. What is counted: source and target tokens without padding.

PYTHON has OpenNMT-py 3.5.1 (pip install --no-deps OpenNMT-py==3.5.1, then torch==2.13.0 and what it imports: pyonmttok configargparse
ctranslate2 flask waitress rapidfuzz sacrebleu spacy pyahocorasick fasttext-wheel). Without it that system is left out.

With `--held-out` each system trains once, until it has seen so many tokens, and what is shown is its loss on pairs it has not seen, in nats a target
token, of the last weights, without smoothing.

Share of peak: what the products with weights come to for tokens that are no padding, over what one large product of that precision does in the same
time on all cores, or on the GPU. Memory is the process's, or what tensors had of the GPU's.
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
from dataclasses import asdict, dataclass
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
    "big": dict(layers=6, d_model=1024, heads=16, d_feedforward=4096),
}
DROPOUT, SMOOTHING, CLIP, LONGEST = 0.1, 0.1, 1.0, 1024
WARM_UP = {"cpu": 2, "gpu": 39}
"""Updates after the first one that do not count."""


@dataclass(frozen=True)
class Work:
    """What a system is to do; `rate` is the learning rate."""

    shape: str
    device: str
    max_tokens: int
    rate: float

    @property
    def sizes(self) -> dict[str, int]:
        return SHAPES[self.shape]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", help="a file of sentences, or .gz")
    parser.add_argument("targets", help="their translations")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--max-tokens", type=int, default=4096, help="of a batch, a side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--vocabulary", type=int, default=10000)
    parser.add_argument("--opennmt", help="a Python that has OpenNMT-py")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--held-out", nargs=2, help="compare losses on these pairs instead of speed")
    parser.add_argument("--tokens", type=int, default=3_000_000, help="of source and target, after which losses are compared")
    parser.add_argument("--rate", type=float, default=1e-4, help="the learning rate, from the first update to the last")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.held_out and options.device == "gpu":
        parser.error("--held-out is for --device cpu")
    work = Work(options.shape, options.device, options.max_tokens, options.rate)
    if options.serve:
        SYSTEMS[options.serve](Path(options.folder), work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            (compare_losses if options.held_out else compare)(options, work, Path(folder))


# What a system's process does: it trains, and after every few updates waits until it is asked to go on.


class Pace:
    """Counts updates and tokens, and answers after as many updates as were asked for; `loss` is of the pairs held out."""

    def __init__(self, loss: Callable[[], float], device: str) -> None:
        self._loss, self._device = loss, device
        self.left, self.tokens, self.positions = 1, [0, 0], [0, 0]
        self.start = time.perf_counter()

    def update(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """After an update with so many tokens of source and target, in so many positions, padding counted."""
        for side in (0, 1):
            self.tokens[side] += tokens[side]
            self.positions[side] += positions[side]
        self.left -= 1
        if self.left:
            return
        memory = self._memory()
        now = time.perf_counter()
        taken = {"seconds": now - self.start, "first": now - BEGAN}
        answer({**taken, "tokens": self.tokens, "positions": self.positions, "memory": memory})
        while not (asked := json.loads(sys.stdin.readline() or "null") or os._exit(0)).get("updates"):
            answer({"loss": self._loss()})
        self.left, self.tokens, self.positions = asked["updates"], [0, 0], [0, 0]
        self.start = time.perf_counter()

    def _memory(self) -> float:
        """GiB at the most, when all that was begun is done."""
        if self._device == "cpu":
            return peak_memory()
        import torch

        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 2**30


def prepared(folder: Path, name: str = "train") -> Any:
    """The pairs as tokens, and the size of their vocabulary."""
    from seq2seq.data.tokens import TokenPairs, TokenRows

    data = json.loads((folder / f"{name}.json").read_text())
    size = data["vocabulary"]
    return TokenPairs(TokenRows(data["source"], size), TokenRows(data["target"], size)), size


def ours(precision: str) -> "System":
    def train(folder: Path, work: Work) -> None:
        import lightning
        import torch

        from seq2seq.data.sampler import BatchConfig
        from seq2seq.model.config import TransformerConfig
        from seq2seq.training.averaging import MovingAverage
        from seq2seq.training.data import TranslationData
        from seq2seq.training.module import TranslationModule
        from seq2seq.training.options import Averaging, Optimizer, TrainerOptions
        from seq2seq.training.processes import ALONE
        from seq2seq.training.run import _trainer, new_model
        from seq2seq.training.schedule import Constant

        pairs, size = prepared(folder)
        held_out, _ = prepared(folder, "valid")
        config = TransformerConfig(size, size, **work.sizes, dropout=DROPOUT, norm_order="pre", max_length=LONGEST)
        options = TrainerOptions(precision=precision, validate_every=10**9, accelerator=work.device)  # type: ignore[arg-type]
        data = TranslationData(pairs, held_out, BatchConfig(work.max_tokens), 1, options.max_steps, config.max_length)
        optimizer = Optimizer(label_smoothing=SMOOTHING, clip_norm=CLIP)
        nothing: Any = None
        constant = Constant(work.rate)
        module = TranslationModule(new_model(config, 1), optimizer, constant, options.max_steps, nothing, 1)
        module.prepare(options)

        def loss() -> float:
            module.eval()
            module.on_validation_epoch_start()
            with torch.no_grad():
                for batches in data.val_dataloader():
                    module.validation_step(batches, 0)
            module.train()
            return module._nll / module._tokens

        pace = Pace(loss, work.device)

        class Paced(lightning.Callback):
            def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
                tokens = [sum(one.source_tokens for one in batch), sum(one.target_tokens for one in batch)]
                padded = [sum(one.source.numel() for one in batch), sum(one.target_input.numel() for one in batch)]
                pace.update(tokens, tokens if options.by_kernels else padded)

        average = MovingAverage(Averaging().decay)
        _trainer(options, [average, Paced()], [], ALONE).fit(module, train_dataloaders=data.train_dataloader())

    return train


def plain(precision: str) -> "System":
    """What one writes first: torch's own Transformer, padded batches, torch's own loss; in bfloat16 by autocast."""

    def train(folder: Path, work: Work) -> None:
        import torch
        from torch import nn

        from seq2seq.data.sampler import BatchConfig, BatchPlan
        from seq2seq.model.masks import causal_mask
        from seq2seq.model.positions import sinusoids
        from seq2seq.symbols import PAD

        torch.manual_seed(1)
        device = torch.device("cuda" if work.device == "gpu" else "cpu")
        pairs, size = prepared(folder)
        plan = BatchPlan(pairs.source.lengths, pairs.target.lengths, BatchConfig(work.max_tokens), 1, max_length=LONGEST)
        width, layers = work.sizes["d_model"], work.sizes["layers"]
        table = nn.Embedding(size, width, padding_idx=PAD).to(device)
        nn.init.normal_(table.weight, std=width**-0.5)
        model = nn.Transformer(
            width, work.sizes["heads"], layers, layers, work.sizes["d_feedforward"], DROPOUT, batch_first=True, norm_first=True
        ).to(device)
        dropout, positions = nn.Dropout(DROPOUT), sinusoids(LONGEST, width).to(device)
        parameters = [*table.parameters(), *model.parameters()]
        adam = torch.optim.Adam(parameters, work.rate, betas=(0.9, 0.98))

        def embedded(ids: Any) -> Any:
            return dropout(table(ids) * width**0.5 + positions[: ids.size(1)])

        def loss_of(batch: Any, smoothing: float, reduction: str) -> Any:
            source, target, outputs = (ids.to(device) for ids in (batch.source, batch.target_input, batch.target_output))
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                features = model(
                    embedded(source),
                    embedded(target),
                    tgt_mask=~causal_mask(target.size(1)).to(device),
                    src_key_padding_mask=source == PAD,
                    memory_key_padding_mask=source == PAD,
                    tgt_is_causal=True,
                )
                logits = features @ table.weight.T
            return nn.functional.cross_entropy(
                logits.flatten(0, 1).float(), outputs.flatten(), ignore_index=PAD, label_smoothing=smoothing, reduction=reduction
            )

        def held_out_loss() -> float:
            held_out, _ = prepared(folder, "valid")
            for module in (model, dropout):
                module.eval()
            with torch.no_grad():
                batches = [held_out.batch(range(start, min(start + 50, len(held_out)))) for start in range(0, len(held_out), 50)]
                nll = sum(float(loss_of(batch, 0.0, "sum")) for batch in batches)
            for module in (model, dropout):
                module.train()
            return nll / sum(batch.target_tokens for batch in batches)

        pace = Pace(held_out_loss, work.device)
        for number in itertools.count():
            batch = pairs.batch(plan[number])
            loss = loss_of(batch, SMOOTHING, "mean")
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, CLIP)
            adam.step()
            adam.zero_grad()
            pace.update([batch.source_tokens, batch.target_tokens], [batch.source.numel(), batch.target_input.numel()])

    return train


def opennmt(folder: Path, work: Work) -> None:
    """OpenNMT-py's command, slowed down to the pace."""
    import yaml  # type: ignore[import-untyped]

    settings = dict(
        data={
            part: {"path_src": str(folder / f"{name}.source"), "path_tgt": str(folder / f"{name}.target")}
            for part, name in (("corpus", "train"), ("valid", "valid"))
        },
        src_vocab=str(folder / "vocabulary"),
        tgt_vocab=str(folder / "vocabulary"),
        share_vocab=True,
        save_model=str(folder / "opennmt"),
        encoder_type="transformer",
        decoder_type="transformer",
        layers=work.sizes["layers"],
        hidden_size=work.sizes["d_model"],
        word_vec_size=work.sizes["d_model"],
        heads=work.sizes["heads"],
        transformer_ff=work.sizes["d_feedforward"],
        position_encoding=True,
        share_embeddings=True,
        share_decoder_embeddings=True,
        dropout=[DROPOUT],
        attention_dropout=[0.0],
        label_smoothing=SMOOTHING,
        model_dtype="fp32",
        optim="adam",
        adam_beta2=0.98,
        learning_rate=work.rate,
        decay_method="none",
        max_grad_norm=CLIP,
        normalization="tokens",
        batch_type="tokens",
        batch_size=work.max_tokens,
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
        **({"world_size": 1, "gpu_ranks": [0]} if work.device == "gpu" else {}),
    )
    (folder / "opennmt.yaml").write_text(yaml.safe_dump(settings))
    import onmt.bin.train  # type: ignore[import-not-found]
    import onmt.trainer  # type: ignore[import-not-found]

    held: dict[str, Any] = {}
    pace = Pace(lambda: held["trainer"].validate(held["valid_iter"]).xent(), work.device)
    accumulate, train = onmt.trainer.Trainer._gradient_accumulation, onmt.trainer.Trainer.train

    def watched(self: Any, *arguments: Any, **more: Any) -> Any:
        held.update(trainer=self, valid_iter=more.get("valid_iter"))
        return train(self, *arguments, **more)

    def paced(self: Any, batches: Any, *rest: Any, **more: Any) -> Any:
        result = accumulate(self, batches, *rest, **more)
        padding = self.train_loss.padding_idx
        tokens = [sum(int(b["srclen"].sum()) for b in batches), sum(int((b["tgt"][:, 1:] != padding).sum()) for b in batches)]
        shapes = [(b["src"].shape[:2], b["tgt"].shape[:2]) for b in batches]
        pace.update(tokens, [sum(n * length for (n, length), _ in shapes), sum(n * (length - 1) for _, (n, length) in shapes)])
        return result

    onmt.trainer.Trainer.train = watched
    onmt.trainer.Trainer._gradient_accumulation = paced  # with its optimizer's step within
    sys.argv, sys.stdout = ["onmt_train", "-config", str(folder / "opennmt.yaml")], sys.stderr
    onmt.bin.train.main()


System = Callable[[Path, Work], None]
SYSTEMS: dict[str, System] = {
    "ours float32": ours("float32"),
    "ours bfloat16": ours("bfloat16"),
    "OpenNMT-py float32": opennmt,
    "plain PyTorch float32": plain("float32"),
    "plain PyTorch bfloat16": plain("bfloat16"),
}


# What the comparing process does.


def systems(options: argparse.Namespace) -> list[str]:
    """Those asked for that there are."""
    return [name for name in options.systems if options.opennmt or not name.startswith("OpenNMT")]


def compare(options: argparse.Namespace, work: Work, folder: Path) -> None:
    vocabulary = write_tokens(options, folder)
    names = systems(options)
    taken: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(options.rounds):
        for name in names:
            taken[name].append(one_round(name, options, work, folder))
            print(f"  {name}: {sum(taken[name][-1]['tokens']) / taken[name][-1]['seconds']:,.0f}", file=sys.stderr, flush=True)
    rows = [row(name, taken[name], work, vocabulary) for name in names]
    print(table(rows, f"{work.shape}, {work.device}, {work.max_tokens:,} tokens"))
    if options.json:
        Path(options.json).write_text(json.dumps({"options": vars(options), "rows": rows}, indent=1))


def compare_losses(options: argparse.Namespace, work: Work, folder: Path) -> None:
    write_tokens(options, folder)
    for name in systems(options):
        process, seen = started(name, options, work, folder), 0
        while seen < options.tokens:
            seen += sum(process.ask(updates=10)["tokens"])
        print(f"{name + ':':<24} {process.ask(loss=True)['loss']:.4f} after {seen:,} tokens", flush=True)
        process.end()


def started(name: str, options: argparse.Namespace, work: Work, folder: Path) -> Process:
    python = options.opennmt if name.startswith("OpenNMT") else sys.executable
    command = [
        python,
        __file__,
        options.sources,
        options.targets,
        "--serve",
        name,
        "--folder",
        str(folder),
        *(f"--{name.replace('_', '-')}={value}" for name, value in asdict(work).items()),
    ]
    threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)) if options.held_out else str(os.cpu_count() or 1)
    return Process(name, command, {"OMP_NUM_THREADS": threads}, folder / "log")


def one_round(name: str, options: argparse.Namespace, work: Work, folder: Path) -> dict[str, Any]:
    """Some updates by a system, after those that warm it up."""
    process = started(name, options, work, folder)
    process.ask(updates=WARM_UP[work.device])
    found = process.ask(updates=options.updates)
    process.end()
    return {**found, "first": process.first["first"]}


def write_tokens(options: argparse.Namespace, folder: Path) -> int:
    """The pairs as each system reads them; the size of the vocabulary."""
    from seq2seq.data.lines import read_lines
    from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
    from seq2seq.symbols import SPECIAL

    corpus = {"train": (options.sources, options.targets), "valid": options.held_out or (options.sources, options.targets)}
    texts = {name: [list(read_lines(Path(path))) for path in paths] for name, paths in corpus.items()}
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=options.vocabulary), *texts["train"])
    pieces = tokenizer.source_pieces()
    (folder / "vocabulary").write_text("".join(f"{piece}\n" for piece in pieces[len(SPECIAL) :]))
    for name, sides in texts.items():
        ids = dict(zip(("source", "target"), (tokenizer.encode_source(sides[0]), tokenizer.encode_target(sides[1])), strict=True))
        (folder / f"{name}.json").write_text(json.dumps({**ids, "vocabulary": len(pieces)}))
        for side, rows in ids.items():
            (folder / f"{name}.{side}").write_text("".join(" ".join(pieces[i] for i in row[:-1]) + "\n" for row in rows))
    return len(pieces)


def row(name: str, rounds: list[dict[str, Any]], work: Work, vocabulary: int) -> dict[str, Any]:
    rates = sorted(sum(found["tokens"]) / found["seconds"] for found in rounds)
    done = statistics.median(operations(*found["tokens"], work.sizes, vocabulary) / found["seconds"] for found in rounds)
    padding = 1 - sum(sum(found["tokens"]) for found in rounds) / sum(sum(found["positions"]) for found in rounds)
    return {
        "name": name,
        "tokens_per_second": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "share_of_peak": done / peak(name.split()[-1], work.device),
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
def peak(precision: str, device: str) -> float:
    """Operations a second of one large product on all cores or the GPU, at the best of many tries; on cores by two libraries."""
    import torch

    dtype = getattr(torch, precision)
    if device == "gpu":
        x, weight = (torch.randn(8192, 8192, dtype=dtype, device="cuda") for _ in range(2))
        products = [torch.mm]
    else:
        torch.set_num_threads(os.cpu_count() or 1)
        x, weight = (torch.randn(2048, 2048, dtype=dtype) for _ in range(2))
        products = [
            torch.nn.functional.linear,
            lambda x, weight: torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], ""),
        ]

    def tries() -> Iterator[float]:
        for product in products:
            begun = time.perf_counter()
            for _ in range(60):
                start = time.perf_counter()
                try:
                    product(x, weight)
                except RuntimeError:  # this library has none of that precision on this processor
                    break
                if device == "gpu":
                    torch.cuda.synchronize()
                now = time.perf_counter()
                yield now - start
                if now - begun > 10:
                    break

    return 2.0 * x.size(0) ** 3 / min(tries())


def table(rows: list[dict[str, Any]], what: str) -> str:
    """Markdown."""
    lines = [
        f"| training, {what} | tokens/s | (low to high) | share of peak | padding | GiB | first update |",
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
