"""How fast sentences are translated: this toolkit, CTranslate2 and Hugging Face's Marian, side by side in one run.

    python tools/bench/decode.py BUNDLE SOURCES [--base] [--runs 5] [--beams 1 5] [--json FILE]

Every system has a process of its own and its own best settings: each is tried with several batch sizes, and with one process of two
threads and two of one, on a third of the sentences. Then all take turns, once round after the other, so that a slow minute slows all of them; the medians are
shown. The same weights, the same sentences; `--steps N` makes every translation N steps long. `--base` widens a tiny model to the
shape of the base model, without changing what it computes (see `widen.py`). Marian gets random weights of the same shape, so it takes part
in forced steps only. There the share of peak is told: what the products with weights would take at the speed of one large product on all cores,
over the time that was taken.
"""

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parent.parent.parent
sys.path.insert(0, str(REPOSITORY))

from tools.bench.process import Process, answer, peak_memory  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a trained bundle")
    parser.add_argument("sources", help="a file of sentences")
    parser.add_argument("--base", action="store_true", help="widen the model to the shape of the base model")
    parser.add_argument("--steps", type=int, help="exactly so many steps a sentence, instead of its real end")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--sentences", type=int, default=320)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--latency", action="store_true", help="one sentence at a time instead")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options)
    else:
        compare(options)


# What a system's process does.


def serve(options: argparse.Namespace) -> None:
    """Load a system, then time what standard input asks for, a line of JSON each."""
    system = json.loads(options.serve)
    import torch

    torch.set_num_threads(system["threads"] * system["workers"])
    bundle = the_bundle(options)
    sources = read_sources(bundle, options)
    translate = SYSTEMS[system["name"]](bundle, system, options)
    answer({"ready": True})
    for request in sys.stdin:
        asked = json.loads(request)
        if asked.get("latency"):
            seconds = []
            for source in sources[: asked["latency"]]:
                start = time.perf_counter()
                translate([source], asked["beam"])
                seconds.append(time.perf_counter() - start)
            answer({"seconds": seconds})
        else:
            start = time.perf_counter()
            found = translate(sources[:: asked["every"]], asked["beam"])
            answer(
                {"seconds": time.perf_counter() - start, "tokens": sum(map(len, found)), "found": found, "memory": peak_memory()}
            )


def the_bundle(options: argparse.Namespace) -> Any:
    from seq2seq.bundle import Bundle, BundleConfig
    from tools.bench.widen import widened

    bundle = Bundle.load(options.bundle)
    if not options.base:
        return bundle
    model = widened(bundle.model)
    return Bundle(BundleConfig(bundle.config.source, bundle.config.target, model.config), model, bundle.tokenizer)


def read_sources(bundle: Any, options: argparse.Namespace) -> list[list[int]]:
    lines = Path(options.sources).read_text(encoding="utf-8").split("\n")[: options.sentences]
    return bundle.tokenizer.encode_source([line for line in lines if line])  # type: ignore[no-any-return]


def native(precision: str) -> Callable[..., Any]:
    def start(bundle: Any, system: dict[str, Any], options: argparse.Namespace) -> Callable[..., Any]:
        from dataclasses import replace

        import torch

        from seq2seq.decoding.beam import BeamSearch
        from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
        from seq2seq.inference.native import Native
        from seq2seq.inference.workers import keep_memory

        keep_memory()
        engine = Native(precision, system["workers"]).make([bundle], torch.device("cpu"), system["batch"])  # type: ignore[arg-type]
        lengths = LengthLimits(0, options.steps - 1, 0, options.steps - 1) if options.steps else LengthLimits()
        search = BeamSearch(length_penalty=LengthPenalty("average", 1.0), lengths=lengths)
        search = replace(search, max_target_length=bundle.config.model.max_length - 1)

        def translate(sources: Sequence[list[int]], beam: int) -> list[list[int]]:
            return [found[0].tokens for found in engine.search(replace(search, beam_size=beam), sources)]

        return translate

    return start


def ctranslate2(precision: str) -> Callable[..., Any]:
    def start(bundle: Any, system: dict[str, Any], options: argparse.Namespace) -> Callable[..., Any]:
        import ctranslate2 as theirs

        from seq2seq.export.ctranslate2 import export

        folder = tempfile.mkdtemp()
        export(bundle, Path(folder), precision)  # type: ignore[arg-type]
        settings = dict(compute_type=precision, inter_threads=system["workers"], intra_threads=system["threads"])
        translator = theirs.Translator(folder, **settings)  # type: ignore[arg-type]
        pieces = bundle.tokenizer.target_pieces()
        ids = {piece: i for i, piece in enumerate(pieces)}
        lengths = {"min_decoding_length": options.steps, "max_decoding_length": options.steps} if options.steps else {}

        def translate(sources: Sequence[list[int]], beam: int) -> list[list[int]]:
            texts = [[pieces[i] for i in source] for source in sources]
            found = translator.translate_batch(
                texts, beam_size=beam, max_batch_size=system["batch"], length_penalty=1.0, **lengths
            )
            return [[ids[piece] for piece in result.hypotheses[0]] for result in found]

        return translate

    return start


def marian(bundle: Any, system: dict[str, Any], options: argparse.Namespace) -> Callable[..., Any]:
    import torch
    from transformers import MarianConfig, MarianMTModel

    from seq2seq.data.batch import pad

    config = bundle.config.model
    shape = dict(
        vocab_size=config.target_vocab_size,
        d_model=config.d_model,
        encoder_layers=config.layers,
        decoder_layers=config.decoder.layers,
    )
    heads = dict(encoder_attention_heads=config.heads, decoder_attention_heads=config.heads)
    inner = dict(encoder_ffn_dim=config.d_feedforward, decoder_ffn_dim=config.d_feedforward)
    special = dict(pad_token_id=0, eos_token_id=2, decoder_start_token_id=1, forced_eos_token_id=None, activation_function="relu")
    model = MarianMTModel(MarianConfig(**shape, **heads, **inner, **special)).eval()

    def translate(sources: Sequence[list[int]], beam: int) -> list[list[int]]:
        found: list[list[int]] = []
        for start in range(0, len(sources), system["batch"]):
            rows = sources[start : start + system["batch"]]
            batch = pad(rows)
            limits = dict(min_new_tokens=options.steps, max_new_tokens=options.steps)
            with torch.inference_mode():
                found += model.generate(
                    batch, attention_mask=(batch != 0).long(), num_beams=beam, do_sample=False, **limits
                ).tolist()
        return found

    return translate


SYSTEMS: dict[str, Callable[..., Any]] = {
    "ours float32": native("float32"),
    "ours bfloat16": native("bfloat16"),
    "ours int8": native("int8"),
    "CTranslate2 float32": ctranslate2("float32"),
    "CTranslate2 int8": ctranslate2("int8"),
    "Marian float32": marian,
}


# What the comparing process does.


def process(system: dict[str, Any], arguments: list[str]) -> Process:
    threads = system["threads"] * (system["workers"] if system["name"].startswith("ours") else 1)
    command = [sys.executable, __file__, *arguments, "--serve", json.dumps(system)]
    return Process(system["name"], command, {"OMP_NUM_THREADS": str(threads), **system.get("environment", {})})


def compare(options: argparse.Namespace) -> None:
    arguments = [options.bundle, options.sources, "--sentences", str(options.sentences)]
    arguments += ["--base"] * options.base + (["--steps", str(options.steps)] if options.steps else [])
    names = [name for name in options.systems if options.steps or not name.startswith("Marian")]
    results: dict[str, Any] = {"options": vars(options), "rows": []}
    for beam in options.beams:
        best = {name: best_settings(name, beam, arguments, options) for name in names}
        processes = {name: process(system, arguments) for name, system in best.items()}
        request = {"beam": beam, "latency": 60} if options.latency else {"beam": beam, "every": 1}
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for running in processes.values():
            running.ask(**request)
        for _ in range(options.runs):
            for name, running in processes.items():
                taken[name].append(running.ask(**request))
        for running in processes.values():
            running.end()
        for name in names:
            results["rows"].append(row(name, beam, best[name], taken[name], options))
        print(table([r for r in results["rows"] if r["beam"] == beam], options), flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


def best_settings(name: str, beam: int, arguments: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """The fastest of some batch sizes and divisions into processes and threads, on a third of the sentences."""
    cores = os.cpu_count() or 1
    shapes = [(1, cores), (cores, 1)] if not options.latency else [(1, cores), (1, 1)]
    sizes = [1] if options.latency else [32, 64, 128] if beam > 1 else [64, 128, 256]
    isas: list[dict[str, str]] = [{}]
    if name.startswith("CTranslate2"):
        isas.append({"CT2_FORCE_CPU_ISA": "AVX512"})
    if name.startswith("Marian"):
        shapes = shapes[:1]
    tried = []
    for workers, threads in shapes:
        for size in sizes:
            for environment in isas:
                system = dict(name=name, workers=workers, threads=threads, batch=size, environment=environment)
                trial = process(system, arguments)
                request = {"beam": beam, "latency": 12} if options.latency else {"beam": beam, "every": 3}
                trial.ask(**request)
                seconds = trial.ask(**request)["seconds"]
                trial.end()
                tried.append((statistics.median(seconds) if options.latency else seconds, len(tried), system))
                print(f"  tried {describe(system)}: {tried[-1][0]:.3f} s", file=sys.stderr, flush=True)
    return min(tried)[2]


def describe(system: dict[str, Any]) -> str:
    isa = " ".join(system.get("environment", {}).values())
    return f"{system['name']}, {system['workers']}x{system['threads']}, batch {system['batch']}" + (f", {isa}" if isa else "")


def row(name: str, beam: int, system: dict[str, Any], runs: list[dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    if options.latency:
        seconds = sorted(s for run in runs for s in run["seconds"])
        p50, p90 = seconds[len(seconds) // 2], seconds[len(seconds) * 9 // 10]
        return {"name": name, "beam": beam, "settings": describe(system), "p50_ms": p50 * 1e3, "p90_ms": p90 * 1e3}
    rates = sorted(len(run["found"]) / run["seconds"] for run in runs)
    result = {
        "name": name,
        "beam": beam,
        "settings": describe(system),
        "sentences_per_second": statistics.median(rates),
        "lowest": rates[0],
        "highest": rates[-1],
        "tokens_per_second": statistics.median(run["tokens"] / run["seconds"] for run in runs),
        "memory_GiB": max(run["memory"] for run in runs),
    }
    if not name.startswith("Marian"):
        result["mean_log_probability"] = judged(runs[-1]["found"], options)
    if options.steps:
        bundle = the_bundle(options)
        work = operations(read_sources(bundle, options), bundle.config.model, beam, options.steps)
        result["share_of_peak"] = work / statistics.median(run["seconds"] for run in runs) / peak(name.split()[-1])
    return result


def operations(sources: Sequence[Sequence[int]], config: Any, beam: int, steps: int) -> float:
    """What the products with weights come to, two operations a weight and row, when every translation has so many steps."""
    encoder, decoder = config.encoder, config.decoder
    width, inner = decoder.d_model, decoder.d_feedforward
    a_source = encoder.layers * (4 * encoder.d_model**2 + 2 * encoder.d_model * encoder.d_feedforward)
    a_source += decoder.layers * 2 * encoder.d_model * width
    a_row = decoder.layers * (6 * width**2 + 2 * width * inner) + width * config.target_vocab_size
    rows = 1 + (steps - 1) * beam
    return 2.0 * (a_source * sum(map(len, sources)) + a_row * rows * len(sources))


def peak(precision: str) -> float:
    """Operations a second of a large product on all cores: the floor under the time of any engine is operations over this."""
    import torch

    from seq2seq.inference.products import fastest

    torch.set_num_threads(os.cpu_count() or 1)
    x, weight = torch.randn(640, 2048), torch.randn(2048, 2048)
    with torch.inference_mode():
        product = fastest(precision, 2048, 2048, 640)(weight, None, False)  # type: ignore[arg-type]
        product(x)
        tries = []
        for _ in range(10):
            start = time.perf_counter()
            product(x)
            tries.append(time.perf_counter() - start)
    return 2.0 * x.numel() * len(weight) / statistics.median(tries)


def judged(found: list[list[int]], options: argparse.Namespace) -> float:
    """The mean log-probability of a token of the translations under the model in float64: who searched better."""
    from seq2seq.bundle import Bundle
    from seq2seq.inference.forced import token_log_probabilities
    from seq2seq.symbols import EOS

    bundle = Bundle.load(options.bundle)  # the wide one computes the same
    sources = read_sources(bundle, options)
    ends = [] if options.steps else [EOS]
    scores = token_log_probabilities([bundle.model.double()], sources, [[*tokens, *ends] or [EOS] for tokens in found])
    return math.fsum(map(math.fsum, scores)) / sum(map(len, scores))


def table(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Markdown."""
    shape = "base" if options.base else "tiny"
    end = f"{options.steps} steps" if options.steps else "real ends"
    if options.latency:
        lines = [f"| {shape}, beam {rows[0]['beam']}, {end}, one sentence | p50 ms | p90 ms | settings |", "|---|---|---|---|"]
        lines += [f"| {r['name']} | {r['p50_ms']:.1f} | {r['p90_ms']:.1f} | {r['settings'].split(', ', 1)[1]} |" for r in rows]
        return "\n".join(lines)
    lines = [
        f"| {shape}, beam {rows[0]['beam']}, {end} | sentences/s | (low to high) | tokens/s | share of peak | GiB | log-prob. a token | settings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        judged = f"{r['mean_log_probability']:.4f}" if "mean_log_probability" in r else ""
        share = f"{100 * r['share_of_peak']:.0f} %" if "share_of_peak" in r else ""
        lines.append(
            f"| {r['name']} | {r['sentences_per_second']:.1f} | {r['lowest']:.1f} to {r['highest']:.1f} | {r['tokens_per_second']:.0f} "
            f"| {share} | {r['memory_GiB']:.2f} | {judged} | {r['settings'].split(', ', 1)[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
