"""seq2seq-train: recipe -> corpus -> tokenizer -> batches -> model -> bundle."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seq2seq.cli.command import COMPOSED, Command
from seq2seq.data.directions import asks, by_direction
from seq2seq.data.download import go_offline
from seq2seq.data.filters import Filters, filtered, held_out_sources
from seq2seq.data.noise import Noise
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import TokenizerConfig
from seq2seq.errors import ConfigProblem, DataProblem
from seq2seq.evaluation import chosen_tokenizer
from seq2seq.model.config import TransformerConfig
from seq2seq.schema import require
from seq2seq.training.folder import MACHINE, Outcome, RunFolder
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions

if TYPE_CHECKING:
    from rich.console import Console

    from seq2seq.data.recipe import Corpus
    from seq2seq.data.tokenizer import Tokenizer
    from seq2seq.data.tokens import TokenPairs
    from seq2seq.model.transformer import Transformer
    from seq2seq.training.module import Validation
    from seq2seq.training.processes import Processes

COMMAND = Command(
    "train",
    "train a translation model",
    (
        "seq2seq-train                              # English to German dates, numbers and names; no download",
        "seq2seq-train recipe=multi30k recipe.source=en recipe.target=de model=tiny run_dir=runs/m30k",
        "seq2seq-train recipe=files recipe.source=en recipe.target=de recipe.train=corpus/train recipe.validation=corpus/val",
    ),
    ("recipe", "experiment", "model", "tokenizer", "optimizer", "schedule", "trainer", "averaging", "decoding", "logger"),
)


@dataclass(frozen=True)
class TrainJob:
    """conf/train.yaml. `recipe`, `schedule`, `decoding` and `logger` are whatever their YAML's `_target_` names."""

    recipe: Any
    tokenizer: TokenizerConfig
    model: TransformerConfig
    optimizer: Optimizer
    schedule: Any
    trainer: TrainerOptions
    averaging: Averaging
    decoding: Any
    logger: Any
    batch: BatchConfig
    filters: Filters
    noise: Noise
    shortlist: bool
    begin_from: str | None
    begin_vocabulary: Literal["keep", "anew"]
    seed: int
    run_dir: str
    resume: Literal["auto", "never", "restart"]
    tokenize: str
    strict: bool
    offline: bool

    def __post_init__(self) -> None:
        chosen = ("recipe", "schedule", "decoding", "logger")
        require(
            *((not isinstance(getattr(self, name), dict), f"{name}: choose one first, {name}=NAME") for name in chosen),
            (
                self.begin_from is None or Path(self.run_dir).resolve() not in Path(self.begin_from).resolve().parents,
                f"begin_from is in run_dir, whose bundle is written over: choose another run_dir than {self.run_dir}",
            ),
            (
                self.begin_from is not None or self.begin_vocabulary == "keep",
                "begin_vocabulary=anew is for a bundle that training begins from: set begin_from",
            ),
            (self.seed >= 0, f"seed is {self.seed}, it must not be negative"),
            (
                self.tokenizer.joint or self.model.tied_embeddings != "three-way",
                "tied_embeddings=three-way needs one joint vocabulary, but tokenizer.joint is false: set model.tied_embeddings=two-way",
            ),
        )

    @property
    def recipe_name(self) -> str:
        return type(self.recipe).__module__.rpartition(".")[2]


def main() -> None:
    COMMAND.main(TrainJob, train)


def train(job: TrainJob, config: Mapping[str, Any]) -> float:
    """Train as the job says; returns the best validation BLEU, which a sweep maximises."""
    from rich.console import Console

    from seq2seq.training.processes import joined

    folder = RunFolder(Path(job.run_dir))
    chosen_tokenizer(job.tokenize, job.recipe.target)  # said now if there is no such tokenizer
    options = job.trainer
    another, given = [sys.executable, "-m", "seq2seq.cli.train", COMPOSED], json.dumps(config).encode()
    with joined(options.devices, options.on_cpu, options.hang_after, another, given) as processes, ExitStack() as held:
        console = Console(soft_wrap=True, highlight=False, quiet=not processes.first)
        processes.agreed(lambda: held.enter_context(folder.locked()) and None)
        outcome = processes.agreed(lambda: folder.finished(config, job.resume))
        if outcome is None:
            outcome = _run(job, config, folder, console, processes)
        else:
            console.print(f"{folder.path} is already complete")
    _show_end(console, job, folder, outcome)
    return outcome.bleu


def _read(job: TrainJob, say: "_Beginning") -> "tuple[Corpus, Tokenizer]":
    """The text and its tokenizer. Nothing slow to import is needed for that, so what is wrong with the data is said soon."""
    from seq2seq.data.tokenizer import Tokenizer

    if job.offline:
        go_offline()
    splits = ("train", "validation", "test") if job.filters.decontaminate else ("train", "validation")
    corpus: Corpus = job.recipe.load(splits)
    held_out = held_out_sources(data for split, data in corpus.splits.items() if split != "train")
    corpus, remarks = filtered(corpus, job.filters, held_out)
    said = f"{job.recipe_name}, {corpus.source} to {corpus.target}: {corpus.provenance.origin}"
    say.line("recipe", said, *corpus.provenance.notes, *remarks)

    before = Tokenizer.load(Path(job.begin_from) / "tokenizer") if job.begin_from else None
    kept = before if job.begin_vocabulary == "keep" else None
    if kept:
        tokenizer = kept
        tokenizer.config = replace(kept.config, sampling=job.tokenizer.sampling)
    else:
        tags = (*before.config.tags, *asks(corpus.target, before.config.tags).split()) if before else ()
        tokenizer = Tokenizer.for_corpus(replace(job.tokenizer, tags=tuple(dict.fromkeys((*job.tokenizer.tags, *tags)))), corpus)
    tokenizer.saying(" ".join(corpus.tags))  # it must know them
    if not corpus.directions:
        # What was trained on several directions is told which one it now learns.
        tokenizer = tokenizer.saying(asks(corpus.target, tokenizer.config.tags))
    sizes = (tokenizer.source_vocab_size, tokenizer.target_vocab_size)
    fewer = [] if kept else [f"asked for {job.tokenizer.vocab_size:,} tokens, the text has no more than {max(sizes):,}"]
    said = f"{tokenizer.config.kind}, {' and '.join(f'{size:,}' for size in dict.fromkeys(sizes))} tokens"
    say.line("tokenizer", said, *(fewer if max(sizes) < job.tokenizer.vocab_size else ()))
    return corpus, tokenizer


_FEW = 1000
"""Pairs from which nobody should expect much."""


def _run(job: TrainJob, config: Mapping[str, Any], folder: RunFolder, console: "Console", processes: "Processes") -> Outcome:
    from seq2seq.data.tokens import tokenise

    say = _Beginning(console, job.strict)
    with processes.one_a_machine_first():
        corpus, tokenizer = _read(job, say)
        pairs = {split: tokenise(corpus, split, tokenizer) for split in ("train", "validation")}

    # What is imported here takes seconds; most that could be refused before has been.
    from seq2seq.bundle import Bundle, BundleConfig, Card
    from seq2seq.shortlist import learn_shortlist
    from seq2seq.training.data import DrawnPairs, SourceNoise, TranslationData, weights_of
    from seq2seq.training.module import TranslationModule, ValidationText
    from seq2seq.training.products import choose_library, choose_precision, dtype_of
    from seq2seq.training.run import check_disk, disk_forecast, fit, machine, new_model
    from seq2seq.training.screen import Example, Screen
    from seq2seq.translator import Translator
    from seq2seq.vocabulary import respelled

    loggers = job.logger.make(folder.path) if processes.first else []
    options = replace(job.trainer, sharded=job.trainer.sharded and processes.count > 1)
    sizes, train = (tokenizer.source_vocab_size, tokenizer.target_vocab_size), corpus.splits.pop("train")
    model_config = replace(job.model, source_vocab_size=sizes[0], target_vocab_size=sizes[1])
    begun = Bundle.load(job.begin_from) if job.begin_from else None
    if begun and job.begin_vocabulary == "anew":
        begun = respelled(begun, tokenizer)
    if begun:
        rates = {name: rate for name, rate in vars(job.model).items() if name.endswith("dropout")}
        model_config = replace(begun.config.model, **rates)
    model = new_model(model_config, job.seed)
    if begun:
        model.load_state_dict(begun.model.state_dict())
    anew = job.resume == "restart"
    precision = job.trainer.precision
    if precision == "auto":
        precision = processes.agreed(lambda: choose_precision(job.trainer.on_cpu, folder.chosen(_PRECISION, anew)))
    batch = processes.agreed(lambda: _batch(job, folder, model, pairs["train"], processes))
    drawn = None
    if job.tokenizer.sampling or job.noise.is_on:
        noise = SourceNoise(job.noise, tokenizer, corpus.source) if job.noise.is_on else None
        drawn = DrawnPairs(pairs["train"], train, tokenizer, job.seed, model_config.max_length, noise)
    weights = weights_of(train)
    del train  # its text, which may be long, leaves memory where nothing is drawn from it
    data = TranslationData(
        pairs["train"],
        pairs["validation"],
        batch,
        job.seed,
        job.trainer.max_steps,
        model_config.max_length,
        weights,
        drawn,
        processes,
        options.sharded,
    )
    source_padding, target_padding = data.plan.padding_share()
    say.line(
        "batches",
        f"{len(data):,} pairs in {data.plan.batches_per_epoch:,} batches an epoch of at most {batch.max_tokens:,} tokens, {batch.accumulate} an update; "
        f"padding {source_padding:.1%} of source, {target_padding:.1%} of target",
        *([f"only {len(data):,} pairs to learn from"] if len(data) < _FEW else ()),
        *(
            f"{split}: {count:,} pairs longer than {model_config.max_length} tokens left out"
            for split, count in data.left_out.items()
            if count
        ),
    )

    say.line(
        "model",
        f"{model_config.layers}+{model_config.decoder.layers} layers, {sum(p.numel() for p in model.parameters()):,} parameters, products in {precision}",
        *(
            ["trainer.sharded=true, but one process has no one to share with"]
            if job.trainer.sharded and processes.count == 1
            else ()
        ),
    )
    needed = disk_forecast(model_config, job.averaging)
    processes.agreed(lambda: check_disk(folder.path, needed))
    say.line("run", f"{folder.path}, at most {needed / 2**20:,.0f} MiB")
    console.print()

    before, own = begun.config.directions if begun else (), [(corpus.source, corpus.target)] if tokenizer.said else []
    directions = tuple(dict.fromkeys((*before, *(corpus.directions or own))))
    if job.shortlist and set(directions) - set(corpus.directions or own):
        raise ConfigProblem(
            "a shortlist is learned from this run's pairs, and the bundle knows more directions", "shortlist=false"
        )
    shortlist = learn_shortlist(pairs["train"], sizes[0], tokenizer.config.joint) if job.shortlist else None
    bundle = Bundle(BundleConfig(corpus.source, corpus.target, model_config, directions), model, tokenizer, shortlist)
    texts, sentences = [], []
    for direction, rows in by_direction(corpus.splits["validation"], (corpus.source, corpus.target)):
        few = rows[: job.trainer.validation_sentences or len(rows)]
        tokenize = chosen_tokenizer(job.tokenize, direction[1])
        texts.append(ValidationText(few["source"], few["target"], tokenize, Translator(bundle.toward(direction), job.decoding)))
        sentences += [(source, direction) for source in few["source"]]
    steps = job.trainer.max_steps
    module = TranslationModule(model, job.optimizer, job.schedule, steps, texts, job.seed, processes)
    # Three sentences from all over the validation set.
    shown = sorted({len(sentences) * eighth // 8 for eighth in (1, 4, 7)})
    screen = Screen(console, steps, [Example(sentences[i][0], i, sentences[i][1]) for i in shown])

    def card(result: "Validation") -> Card:
        return Card(job.recipe_name, result.step, result.scores, corpus.provenance.as_dict())

    dtype = dtype_of(precision)
    library = processes.agreed(lambda: choose_library(dtype, folder.chosen(_LIBRARY, anew)))
    choose_library(dtype, library)
    identity = {
        **_of_all(data.fingerprint(), processes),
        _LIBRARY: library,
        _PRECISION: precision,
        **({_ACCUMULATE: str(batch.accumulate)} if job.batch.max_tokens == "auto" else {}),
        "tokenizer": tokenizer.fingerprint(),
        **({"begun from": begun.fingerprint()} if begun else {}),
        **machine(processes.count),
        f"{MACHINE}model": "in pieces" if options.sharded else "whole",
        f"{MACHINE}layers": "compiled" if options.compiles else "as they are",
    }
    files = [asdict(record) for record in corpus.provenance.files]
    for change in processes.agreed(lambda: folder.begin(config, identity, files, anew, shlex.join(["seq2seq-train", *_asked()]))):
        screen.say(f"{change} since this run began: it goes on, but no longer exactly as it would have")
    options = replace(options, precision=precision)
    outcome = fit(module, data, bundle, card, folder, options, job.averaging, screen, loggers, processes)
    processes.agreed(lambda: folder.finish(outcome))
    return outcome


def _asked() -> list[str]:
    """The settings that ask for this run, of a sweep for this one of it."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else sys.argv[1:]


def _of_all(fingerprint: dict[str, str], processes: "Processes") -> dict[str, str]:
    """Raises DataProblem if this process works on something else than the first one."""
    if fingerprint != processes.agreed(lambda: fingerprint):
        raise DataProblem(
            f"process {processes.rank} of {processes.count} has other data than the first",
            "give every machine the same files, or a folder that all of them see",
        )
    return fingerprint


_ACCUMULATE, _LIBRARY, _PRECISION = "batches an update", "products by", "products in"
"""What is found out when a run begins, and kept when it goes on."""


def _batch(job: TrainJob, folder: RunFolder, model: "Transformer", pairs: "TokenPairs", processes: "Processes") -> BatchConfig:
    """The settings, and where they say auto, what this machine has room for; a run that goes on keeps what it began with."""
    from seq2seq.training.memory import measured

    if job.batch.max_tokens != "auto":
        return job.batch
    if (before := folder.chosen(_ACCUMULATE, anew=job.resume == "restart")) is not None:
        return replace(job.batch, max_tokens=-(-job.batch.per_update // int(before)), accumulate=int(before))
    passes = 2 if job.optimizer.r_drop else 1
    return measured(job.batch, model, pairs, job.trainer.on_cpu, passes, processes, job.trainer.sharded)


@dataclass(frozen=True)
class _Beginning:
    """The lines before training: what it will work on, with remarks on what was left out, which strict=true does not accept."""

    console: "Console"
    strict: bool

    def line(self, name: str, text: str, *remarks: str) -> None:
        self.console.print(f"[dim]{name:<10}[/] {text}")
        if remarks and self.strict:
            raise DataProblem("; ".join(remarks), "mend that, or train without strict=true")
        for remark in remarks:
            self.console.print(f"{'':<10} [yellow]{remark}[/]")


def _show_end(console: "Console", job: TrainJob, folder: RunFolder, outcome: Outcome) -> None:
    from seq2seq.training.screen import summary

    rows = [
        ("best validation BLEU", f"{outcome.bleu:.2f} at step {outcome.step:,} of {outcome.steps_done:,}"),
        ("bundle", str(folder.bundle)),
        ("metrics", str(folder.metrics)),
    ]
    # The languages are in the bundle, if it has only these; what else was said of the recipe must be said again.
    of = getattr(job.recipe, "of", job.recipe)
    left_out = r"\+*recipe\.(source|target)=" if of is job.recipe else "$"
    said = [argument for argument in _asked() if re.match(r"\+*recipe[@.]", argument) and not re.match(left_out, argument)]
    recipe = [f"recipe={job.recipe_name}", *said]
    split = "validation" if getattr(of, "test", "") is None else "test"
    decoding = search_settings(job.decoding)
    tokenize, bundle = [f"tokenize={job.tokenize}"] if job.tokenize != "auto" else [], setting("bundle", folder.bundle)
    commands = [
        shlex.join(["seq2seq-evaluate", bundle, *recipe, f"split={split}", *tokenize, *decoding]),
        shlex.join(["seq2seq-translate", bundle, *decoding]) + " < in.txt > out.txt",
    ]
    summary(console, rows, commands)


def setting(name: str, value: object) -> str:
    """As Hydra reads it, which takes text for a number, a list or more of its own unless it is quoted or plainly a word or a path."""
    text = "null" if value is None else str(value)
    if isinstance(value, str | Path) and not re.fullmatch(_PLAIN, text, re.IGNORECASE | re.ASCII):
        text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text)  # no interpolation
        text = re.sub(r"(\\+)(?='|\Z)", r"\1\1", text).replace("'", r"\'")
        text = f"'{text}'"
    return f"{name}={text}"


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

    kind = type(search).__module__.rpartition(".")[2]
    return [*([f"decoding={kind}"] if kind != "beam" else []), *unusual(search, BeamSearch(), "decoding")]


if __name__ == "__main__":
    main()
