"""seq2seq-train: recipe -> corpus -> tokenizer -> batches -> model -> bundle."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from seq2seq.cli.command import Command
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokenizer import TokenizerConfig
from seq2seq.errors import ConfigProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.training.options import Averaging, Optimizer, TrainerOptions

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

HARMLESS = {"run_dir", "resume", "logger", "trainer.max_steps", "trainer.validate_every", "trainer.patience", "trainer.log_every"}
"""Settings that may change when a run goes on."""


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
    seed: int
    run_dir: str
    resume: Literal["auto", "never", "restart"]
    tokenize: str


def main() -> None:
    COMMAND.main(TrainJob, train)


def train(job: TrainJob, config: Mapping[str, Any]) -> float:
    """Train as the job says; returns the best validation BLEU, which a sweep maximises."""
    from rich.console import Console

    from seq2seq.evaluation import check_tokenizer, tokenizer_for
    from seq2seq.training.run import Outcome, RunFolder

    console = Console()
    folder = RunFolder(Path(job.run_dir))
    tokenize = tokenizer_for(job.recipe.target) if job.tokenize == "auto" else job.tokenize
    check_tokenizer(tokenize)
    if (done := _prepare(folder, job, config)) is not None:
        console.print(f"{folder.path} is already complete: {done['steps_done']:,} steps", highlight=False)
        outcome = Outcome(**done)
        _say_how_to_go_on(console, job, folder, outcome, [])
        return outcome.bleu

    from seq2seq.bundle import Bundle, BundleConfig, Card
    from seq2seq.data.tokenizer import Tokenizer
    from seq2seq.training.data import TranslationData, tokenise, within
    from seq2seq.training.module import TranslationModule
    from seq2seq.training.run import fit, new_model
    from seq2seq.training.screen import Example, Screen
    from seq2seq.translator import Translator

    corpus = job.recipe.load(("train", "validation"))
    console.print(f"recipe     {_name(job.recipe)}, {corpus.source} to {corpus.target}: {corpus.provenance.origin}", highlight=False)
    for note in corpus.provenance.notes:
        console.print(f"           [yellow]{note}[/]", highlight=False)
    tokenizer = Tokenizer.for_corpus(job.tokenizer, corpus.splits["train"]["source"], corpus.splits["train"]["target"])
    model_config = replace(job.model, source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    console.print(f"tokenizer  {job.tokenizer.kind}, {_sizes(tokenizer)} tokens", highlight=False)

    pairs = tokenise(corpus, "train", tokenizer)
    train_pairs = within(pairs, model_config.max_length)
    validation_pairs = within(tokenise(corpus, "validation", tokenizer), model_config.max_length)
    data = TranslationData(train_pairs, validation_pairs, job.batch, job.seed, job.trainer.max_steps)
    source_padding, target_padding = data.plan.padding_share()
    console.print(
        f"batches    {len(train_pairs):,} pairs in {data.plan.batches_per_epoch:,} batches an epoch; "
        f"padding {source_padding:.1%} of source, {target_padding:.1%} of target",
        highlight=False,
    )
    if len(train_pairs) < len(pairs):
        console.print(f"           [yellow]{len(pairs) - len(train_pairs):,} pairs longer than {model_config.max_length} tokens left out[/]", highlight=False)

    model = new_model(model_config, job.seed)
    console.print(f"model      {model_config.layers}+{model_config.decoder.layers} layers, {sum(p.numel() for p in model.parameters()):,} parameters", highlight=False)
    console.print(f"run        {folder.path}\n", highlight=False)

    text = _validation_text(corpus, job.trainer.validation_sentences, tokenize)
    translator = Translator(model, tokenizer, corpus.target, job.decoding)
    module = TranslationModule(model, job.optimizer, job.schedule, translator, text, job.seed)
    bundle = Bundle(BundleConfig(corpus.source, corpus.target, model_config), model, tokenizer)
    examples = [Example(text.sources[i], text.references[i], i) for i in _example_indices(len(text.sources))]
    screen = Screen(console, job.trainer.max_steps, (corpus.source, corpus.target), examples)
    outcome = fit(
        module,
        data,
        job.trainer,
        job.averaging,
        job.batch.accumulate,
        folder,
        bundle,
        lambda result: Card(_name(job.recipe), result.step, result.scores, corpus.provenance.as_dict()),
        screen,
        job.logger.make(folder.path),
    )
    from seq2seq.atomic import write_text

    write_text(folder.result, json.dumps(asdict(outcome), indent=2) + "\n")
    _say_how_to_go_on(console, job, folder, outcome, [("parameters", f"{sum(p.numel() for p in model.parameters()):,}")])
    return outcome.bleu


def _prepare(folder: Any, job: TrainJob, config: Mapping[str, Any]) -> dict[str, Any] | None:
    """See that the run folder fits the job and holds its config; returns the result of a run that is complete."""
    import yaml

    from seq2seq.atomic import write_text

    if job.resume == "restart":
        for path in (folder.config, folder.metrics, folder.result, folder.checkpoint):
            path.unlink(missing_ok=True)
    if folder.checkpoint.is_file() and job.resume == "never":
        raise ConfigProblem(f"{folder.path} holds a run already", "choose another run_dir, or go on with resume=auto")
    if folder.config.is_file() and folder.checkpoint.is_file():
        before = yaml.safe_load(folder.config.read_text(encoding="utf-8"))
        if differing := _differences(before, dict(config)):
            raise ConfigProblem(
                f"{folder.path} holds a run with other settings: {'; '.join(differing)}",
                "choose another run_dir, or begin this one anew with resume=restart",
            )
        if folder.result.is_file():
            result = json.loads(folder.result.read_text(encoding="utf-8"))
            if result["steps_done"] >= job.trainer.max_steps or before["trainer"]["max_steps"] >= job.trainer.max_steps:
                return dict(result)
    write_text(folder.config, yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return None


def _differences(before: Any, now: Any, name: str = "") -> list[str]:
    """What differs between two configs, but for what may."""
    if name in HARMLESS:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = list(dict.fromkeys([*before, *now]))
        return [text for key in keys for text in _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)]
    return [] if before == now else [f"{name} was {before}, is {now}"]


def _validation_text(corpus: Any, limit: int | None, tokenize: str) -> Any:
    from seq2seq.training.module import ValidationText

    validation = corpus.splits["validation"]
    rows = validation[: limit or len(validation)]
    return ValidationText(list(rows["source"]), list(rows["target"]), tokenize)


def _example_indices(count: int) -> list[int]:
    """Three sentences from all over the validation set."""
    return sorted({count * part // 8 for part in (1, 4, 7)})


def _name(recipe: Any) -> str:
    return type(recipe).__module__.rpartition(".")[2]


def _sizes(tokenizer: Any) -> str:
    sizes = {tokenizer.source_vocab_size, tokenizer.target_vocab_size}
    return " and ".join(f"{size:,}" for size in sorted(sizes))


def _say_how_to_go_on(console: Any, job: TrainJob, folder: Any, outcome: Any, rows: list[tuple[str, str]]) -> None:
    from seq2seq.training.screen import summary

    recipe = f"recipe={_name(job.recipe)}"
    rows = [
        ("best validation BLEU", f"{outcome.bleu:.2f} at step {outcome.step:,} of {outcome.steps_done:,}"),
        *rows,
        ("bundle", str(folder.bundle)),
        ("metrics", str(folder.metrics)),
    ]
    commands = [
        f"seq2seq-evaluate bundle={folder.bundle} {recipe} split=test",
        f"seq2seq-translate bundle={folder.bundle} < in.txt > out.txt",
    ]
    summary(console, rows, commands)
