"""seq2seq-train: recipe -> corpus -> tokenizer -> batches -> model -> bundle."""

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seq2seq.cli.beginning import Beginning
from seq2seq.cli.begun import as_begun
from seq2seq.cli.command import COMPOSED, Command
from seq2seq.cli.typed import asked, asked_of, search_settings, setting
from seq2seq.data.directions import ONE_DIRECTION, asks, by_direction, parsed, rows_by_direction, written
from seq2seq.data.download import go_offline
from seq2seq.data.filters import Filters, loaded_filtered
from seq2seq.data.noise import Noise
from seq2seq.data.recipe import base_of, name_of
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import TokenizerConfig
from seq2seq.errors import ConfigProblem, DataProblem, MissingProblem
from seq2seq.evaluation import chosen_tokenizer
from seq2seq.model.config import TransformerConfig
from seq2seq.schema import require
from seq2seq.training.folder import MACHINE, Outcome, RunFolder
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions

if TYPE_CHECKING:
    from rich.console import Console

    from seq2seq.bundle import Bundle
    from seq2seq.data.recipe import Corpus
    from seq2seq.data.tokenizer import Tokenizer
    from seq2seq.data.tokens import TokenPairs
    from seq2seq.model.transformer import Transformer
    from seq2seq.training.data import DrawnPairs, TranslationData
    from seq2seq.training.module import Validation, ValidationText
    from seq2seq.training.processes import Processes
    from seq2seq.training.screen import Example

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
    runs: str
    before: dict[str, str | None]
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
            (0 <= self.seed < 2**63, f"seed is {self.seed}, it must be from 0 to 2^63 - 1"),
            (
                self.begin_from is not None or self.tokenizer.joint or self.model.tied_embeddings != "three-way",
                "tied_embeddings=three-way needs one joint vocabulary, but tokenizer.joint is false: set model.tied_embeddings=two-way",
            ),
        )

    @property
    def recipe_name(self) -> str:
        return name_of(self.recipe)


def main() -> None:
    COMMAND.main(TrainJob, train)


def train(job: TrainJob, config: Mapping[str, Any]) -> float:
    """Train as the job says; returns the best validation BLEU, which a sweep maximises."""
    from rich.console import Console

    from seq2seq.training.processes import joined

    folder = RunFolder(Path(job.run_dir))
    chosen_tokenizer(job.tokenize, job.recipe.target)  # said now if there is no such tokenizer
    job.logger.check()
    options = job.trainer
    another, given = [sys.executable, "-m", "seq2seq.cli.train", COMPOSED], json.dumps(config).encode()
    with joined(options.devices, options.on_cpu, options.hang_after, another, given) as processes, ExitStack() as held:
        console = Console(soft_wrap=True, highlight=False, quiet=not processes.first)
        processes.agreed(lambda: held.enter_context(folder.locked()) and None)
        outcome = processes.agreed(lambda: folder.finished(config, job.resume))
        if outcome is None:
            outcome = _run(job, config, folder, console, processes)
        else:
            early = f"; its patience of {options.patience} validations ended at step {outcome.steps_done:,}"
            said = f"{folder.path} is already complete{early if outcome.steps_done < options.max_steps else ''}"
            console.print(said, markup=False)
    _show_end(console, job, folder, outcome)
    return outcome.bleu


def _corpus(job: TrainJob, say: Beginning) -> "Corpus":
    """The text. Nothing slow to import is needed for that, so what is wrong with the data is said soon."""
    if job.offline:
        go_offline()
    splits = ("train", "validation", "test") if job.filters.decontaminate else ("train", "validation")
    corpus, remarks = loaded_filtered(job.recipe, job.filters, splits)
    spoken = [direction for direction, _ in rows_by_direction(corpus.splits["train"], ONE_DIRECTION)]
    if all(source == target for source, target in spoken) and not job.noise.is_on:
        remarks.append("train: every pair is a text and itself, from which a model learns to copy; noise={drop: 0.1, shuffle: 3}")
    said = f"{job.recipe_name}, {corpus.source} to {corpus.target}: {corpus.provenance.origin}"
    say.line("recipe", said, *corpus.provenance.notes, *remarks)
    return corpus


def tokenizer_of(job: TrainJob, corpus: "Corpus") -> "Tokenizer":
    """That of the bundle that training begins from, or one learned from the training text."""
    from seq2seq.data.tokenizer import Tokenizer

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
    return tokenizer


def fewer_tokens(job: TrainJob, tokenizer: "Tokenizer") -> str:
    """What to say of a vocabulary that came out smaller than it was asked for."""
    wanted, there = job.tokenizer.vocab_size, max(tokenizer.source_vocab_size, tokenizer.target_vocab_size)
    kept = job.begin_from and job.begin_vocabulary == "keep"
    return f"asked for {wanted:,} tokens, the text has no more than {there:,}" if there < wanted and not kept else ""


def _run(job: TrainJob, config: Mapping[str, Any], folder: RunFolder, console: "Console", processes: "Processes") -> Outcome:
    from seq2seq.data.tokens import tokenise

    say, anew = Beginning(console, job.strict), job.resume == "restart"
    with processes.one_a_machine_first(), needing(job):
        job, config = as_begun(job, config)
        corpus = _corpus(job, say)
        tokenizer = tokenizer_of(job, corpus)
        sizes = dict.fromkeys((tokenizer.source_vocab_size, tokenizer.target_vocab_size))
        said = f"{tokenizer.config.kind}, {' and '.join(f'{size:,}' for size in sizes)} tokens"
        say.line("tokenizer", said, *filter(None, [fewer_tokens(job, tokenizer)]))
        pairs = {split: tokenise(corpus, split, tokenizer) for split in ("train", "validation")}

    # What is imported here takes seconds; most that could be refused before has been.
    from seq2seq.bundle import Card
    from seq2seq.kernels import training_kernels
    from seq2seq.training.data import TranslationData, weights_of
    from seq2seq.training.module import TranslationModule
    from seq2seq.training.run import check_disk, disk_forecast, fit
    from seq2seq.training.screen import Screen
    from seq2seq.training.settled import settle

    loggers = job.logger.make(folder.path) if processes.first else []
    options = replace(job.trainer, sharded=job.trainer.sharded and processes.count > 1)
    begun, model = _model(job, tokenizer)
    passes = 2 if job.optimizer.r_drop else 1
    settled = settle(job.batch, passes, options, model, pairs["train"], folder, anew, processes)
    options = replace(options, precision=settled.precision)
    steps, max_length, train = options.max_steps, model.config.max_length, corpus.splits.pop("train")
    drawn = _drawn(job, train, corpus.source, pairs["train"], tokenizer, max_length)
    both, weights = (pairs["train"], pairs["validation"]), weights_of(train)
    del train  # its text, which may be long, leaves memory where nothing is drawn from it
    data = TranslationData(*both, settled.batch, job.seed, steps, max_length, weights, drawn, processes, options.sharded)
    say.batches(data, settled.batch, max_length)
    plain = options.on_cpu and training_kernels() is None
    say.model(model, settled.precision, alone=job.trainer.sharded and not options.sharded, plain=plain)
    say.rate(job.schedule, model.config.d_model, steps, model.config.norm_order)
    needed = disk_forecast(model.config, job.averaging)
    processes.agreed(lambda: check_disk(folder.path, needed))
    say.line("run", f"{folder.path}, at most {needed / 2**20:,.0f} MiB")
    console.print()

    bundle = _bundle(job, corpus, tokenizer, begun, model, pairs["train"])
    validated, examples = _validation(job, corpus, bundle)
    module = TranslationModule(model, job.optimizer, job.schedule, steps, validated, job.seed, processes)
    screen = Screen(console, steps, examples)
    identity = _identity(data, tokenizer, begun, options, processes) | settled.identity
    longer = _otherwise_scheduled(job, folder.steps_asked(anew), model.config.d_model)
    files = [asdict(record) for record in corpus.provenance.files]
    command = shlex.join(["seq2seq-train", *asked()])
    for change in processes.agreed(lambda: folder.begin(config, identity, files, anew, command)):
        screen.say(f"{change} since this run began: it goes on, but no longer exactly as it would have")

    if longer:
        screen.say(longer)

    def card(result: "Validation") -> Card:
        return Card(
            job.recipe_name, result.step, result.scores, tuple(search_settings(job.decoding)), corpus.provenance.as_dict()
        )

    outcome = fit(module, data, bundle, card, folder, options, job.averaging, screen, loggers, processes)
    processes.agreed(lambda: folder.finish(outcome))
    return outcome


@contextmanager
def needing(job: TrainJob) -> Iterator[None]:
    """The bundle that training begins from, and those that validation asks, are looked at before anything is read, or made for hours. Where one is
    missing that a command of `before` trains, these commands are the way to mend it."""
    text = f" experiment={name_of(base_of(job.recipe))}_"  # for other text they would be wrong
    commands = [command for command in job.before.values() if command and text in command]
    trained = [command.partition("run_dir=")[2].strip("'").partition("$")[0] for command in commands]
    try:
        from seq2seq.bundle import check_bundle
        from seq2seq.choosing import Choosing

        if job.begin_from:
            check_bundle(Path(job.begin_from))
        if isinstance(job.decoding, Choosing):
            directions = getattr(job.recipe, "directions", ()) or [written((job.recipe.source, job.recipe.target))]
            for direction in map(parsed, directions):
                job.decoding.check_knows(*direction)
        yield
    except MissingProblem as problem:
        if not any(folder and problem.folder.startswith(folder) for folder in trained):
            raise
        how = "these commands train what this run needs; what is done ends at once, and what lacks something itself says so, too"
        raise MissingProblem(problem.message, "\n  ".join([how, *commands]), problem.folder) from None


def _model(job: TrainJob, tokenizer: "Tokenizer") -> "tuple[Bundle | None, Transformer]":
    """The bundle that training begins from, if there is one, and the model that is trained."""
    from seq2seq.bundle import Bundle
    from seq2seq.training.run import new_model
    from seq2seq.vocabulary import respelled

    source, target = tokenizer.source_vocab_size, tokenizer.target_vocab_size
    model = new_model(replace(job.model, source_vocab_size=source, target_vocab_size=target), job.seed)
    if job.begin_from is None:
        return None, model
    begun = Bundle.load(job.begin_from)
    if job.begin_vocabulary == "anew":
        begun = respelled(begun, tokenizer)
    model.load_state_dict(begun.model.state_dict())
    return begun, model


def _drawn(
    job: TrainJob, train: Any, language: str, pairs: "TokenPairs", tokenizer: "Tokenizer", max_length: int
) -> "DrawnPairs | None":
    """Training batches that differ each time, if that is asked for.

    Args:
        train: the text of the training pairs.
        language: of sources whose direction is not said.
    """
    from seq2seq.training.data import DrawnPairs, SourceNoise

    if not (job.tokenizer.sampling or job.noise.is_on):
        return None
    noise = SourceNoise(job.noise, tokenizer, language) if job.noise.is_on else None
    return DrawnPairs(pairs, train, tokenizer, job.seed, max_length, noise)


def _bundle(
    job: TrainJob, corpus: "Corpus", tokenizer: "Tokenizer", begun: "Bundle | None", model: "Transformer", train: "TokenPairs"
) -> "Bundle":
    """What is written at each best validation.

    Raises:
        ConfigProblem: a shortlist is asked for directions that this run does not see.
    """
    from seq2seq.bundle import Bundle, BundleConfig
    from seq2seq.shortlist import learn_shortlist

    own = corpus.directions or ([(corpus.source, corpus.target)] if tokenizer.said else [])
    directions = tuple(dict.fromkeys((*(begun.config.directions if begun else ()), *own)))
    if job.shortlist and set(directions) - set(own):
        raise ConfigProblem(
            "a shortlist is learned from this run's pairs, and the bundle knows more directions", "shortlist=false"
        )
    shortlist = learn_shortlist(train, tokenizer.source_vocab_size, tokenizer.config.joint) if job.shortlist else None
    return Bundle(BundleConfig(corpus.source, corpus.target, model.config, directions), model, tokenizer, shortlist)


def _validation(job: TrainJob, corpus: "Corpus", bundle: "Bundle") -> "tuple[list[ValidationText], list[Example]]":
    """What is translated at each validation, and three sentences from all over it that are shown."""
    from seq2seq.training.module import ValidationText
    from seq2seq.training.screen import Example
    from seq2seq.translator import Translator

    texts, sentences = [], []
    for direction, rows in by_direction(corpus.splits["validation"], (corpus.source, corpus.target)):
        few = rows[: job.trainer.validation_sentences or len(rows)]
        tokenize = chosen_tokenizer(job.tokenize, direction[1])
        texts.append(ValidationText(few["source"], few["target"], tokenize, Translator(bundle.toward(direction), job.decoding)))
        sentences += [(source, direction) for source in few["source"]]
    shown = sorted({len(sentences) * eighth // 8 for eighth in (1, 4, 7)})
    return texts, [Example(sentences[i][0], i, sentences[i][1]) for i in shown]


def _otherwise_scheduled(job: TrainJob, before: int | None, d_model: int) -> str:
    """What another number of steps than a run was to have `before` does to its learning rate; nothing, if it is the same."""
    now = job.trainer.max_steps
    step = min(before or now, now)
    was, is_ = (job.schedule(step, d_model, steps) for steps in (before or now, now))
    if was == is_:
        return ""
    return f"trainer.max_steps was {before:,}, is {now:,}: the learning rate of step {step:,} was {was:.2g}, is {is_:.2g}"


def _identity(
    data: "TranslationData", tokenizer: "Tokenizer", begun: "Bundle | None", options: TrainerOptions, processes: "Processes"
) -> dict[str, str]:
    """What makes this run the run it is.

    Raises:
        DataProblem: this process works on something else than the first one.
    """
    from seq2seq.training.run import machine

    fingerprint = data.fingerprint()
    if fingerprint != processes.agreed(lambda: fingerprint):
        raise DataProblem(
            f"process {processes.rank} of {processes.count} has other data than the first",
            "give every machine the same files, or a folder that all of them see",
        )
    return {
        **fingerprint,
        "tokenizer": tokenizer.fingerprint(),
        **({"begun from": begun.fingerprint()} if begun else {}),
        **machine(processes.count),
        f"{MACHINE}model": "in pieces" if options.sharded else "whole",
        f"{MACHINE}layers": "compiled" if options.compiles else "as they are",
    }


def _show_end(console: "Console", job: TrainJob, folder: RunFolder, outcome: Outcome) -> None:
    from seq2seq.training.screen import summary

    rows = [
        ("best validation BLEU", f"{outcome.bleu:.2f} at step {outcome.step:,} of {outcome.steps_done:,}"),
        ("bundle", str(folder.bundle)),
        ("metrics", str(folder.metrics)),
    ]
    bundle, decoding = setting("bundle", folder.bundle), search_settings(job.decoding)
    recipe = [f"recipe={job.recipe_name}", *asked_of(job.recipe)]
    split = "validation" if getattr(base_of(job.recipe), "test", "") is None else "test"
    directions = getattr(job.recipe, "directions", ())
    each = ["-m", f"direction={','.join(directions)}"] if directions else []
    tokenize = [f"tokenize={job.tokenize}"] if job.tokenize != "auto" else []
    commands = [
        shlex.join(["seq2seq-evaluate", *each, bundle, *recipe, f"split={split}", *tokenize, *decoding]),
        shlex.join(["seq2seq-translate", bundle, *decoding]) + " < in.txt > out.txt",
    ]
    summary(console, rows, commands)


if __name__ == "__main__":
    main()
