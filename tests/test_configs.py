"""Every YAML under conf/ composes and builds. The test finds them itself."""

import shlex
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from rich.console import Console

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.cli import compare, evaluate, export, score, train, translate, typed
from seq2seq.cli.begun import as_begun
from seq2seq.data.recipe import make_corpus
from seq2seq.data.tokenizer import Tokenizer, TokenizerConfig
from seq2seq.decoding.stepper import Search
from seq2seq.errors import ConfigProblem
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.schema import build
from seq2seq.training.folder import Outcome, RunFolder
from tests.conftest import small_config

CONF = Path(__file__).parent.parent / "conf"
JOBS: dict[str, Any] = {
    "train": train.TrainJob,
    "compare": compare.CompareJob,
    "evaluate": evaluate.EvaluateJob,
    "translate": translate.TranslateJob,
    "export": export.ExportJob,
    "score": score.ScoreJob,
}
CHOICES = sorted(path.relative_to(CONF).with_suffix("").as_posix() for path in CONF.glob("*/*.yaml"))


def composed(name: str, *overrides: str) -> Any:
    with initialize_config_module("seq2seq.conf", version_base="1.3"):
        config = compose(name, overrides=list(overrides), return_hydra_config=True)
        del config._content["hydra"]
        if "run_dir" in config:
            config.run_dir = "runs/test"
        return build(JOBS[name], OmegaConf.to_container(config, resolve=True), allow_targets=True)  # type: ignore[arg-type]


def test_every_command_has_its_yaml() -> None:
    assert sorted(path.stem for path in CONF.glob("*.yaml")) == sorted(JOBS)
    for name in JOBS:
        composed(name)


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "experiment").glob("*.yaml")])
def test_an_experiment_names_the_commands_that_train_what_it_needs(name: str) -> None:
    form = ["recipe.of.form=tok", "tokenize=none"] if composed("train", f"experiment={name}").before else []
    job = composed("train", f"experiment={name}", "seed=7", *form)
    bundles = [
        job.begin_from or "",
        *(bundle for kind in ("forward", "backward", "pivot") for bundle in getattr(job.recipe, kind, ())),
    ]
    needed = {folder for bundle in bundles for folder in bundle.split("+") if folder}
    trained = {}
    for command in job.before.values():
        script, *words = (word for word in shlex.split(command) if word != "-m")
        assert script == "seq2seq-train"
        settings = dict(word.split("=", 1) for word in words)
        for seed in settings["seed"].split(","):
            one = composed("train", *(f"{key}={value}" for key, value in settings.items() if key not in ("seed", "run_dir")))
            assert one.tokenize == "none"
            assert getattr(one.recipe, "of", one.recipe).form == "tok"
            trained[settings["run_dir"].replace("${seed}", seed) + "/bundle"] = f"-{one.recipe.source}-{one.recipe.target}"
    assert set(trained) == needed
    assert all(direction in folder for folder, direction in trained.items())


@pytest.mark.parametrize("name", [path.stem for path in (CONF / "experiment").glob("*.yaml")])
def test_an_experiment_is_judged_in_its_own_languages(name: str) -> None:
    job = composed("train", f"experiment={name}")
    judged = composed("evaluate", f"recipe={job.recipe_name}", *typed.asked_of(job.recipe)).recipe
    if hasattr(job.recipe, "of"):  # else the bundle tells
        assert (judged.source, judged.target) == (job.recipe.source, job.recipe.target)
        assert getattr(judged, "directions", ()) == getattr(job.recipe, "directions", ())


def test_an_experiment_may_work_on_another_recipe() -> None:
    settings = [
        "recipe@recipe.of=files",
        "recipe.of.train=corpus/train",
        "recipe.of.validation=corpus/val",
        "before.backward=null",
    ]
    job = composed("train", "experiment=multi30k_en_de_diverse", *settings)
    assert job.before["backward"] is None
    assert "recipe.form=raw" in job.before["forward"]


def test_commands_after_a_training_search_as_it_did() -> None:
    asked = ["decoding.beam_size=5", "decoding.length_penalty.alpha=2.0"]
    assert typed.search_settings(composed("train", *asked).decoding) == asked
    assert typed.search_settings(composed("train").decoding) == []
    channel = composed(
        "train", "decoding=noisy_channel", "decoding.backward=[runs/a/bundle,'b, c']", "decoding.candidates.beam_size=30"
    ).decoding
    assert channel.backward == ("runs/a/bundle", "b, c")
    assert composed("evaluate", *typed.search_settings(channel)).decoding == channel


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["model.layers=2", "model.dropout=0.3"], "model.layers is 2, there 1"),
        (["model=small"], "model.layers is 6, there 1; model.d_model is 256, there 16; .*"),
        (["tokenizer.kind=char"], "tokenizer.kind is char, there bpe"),
        (["tokenizer.tags=['<x>']"], r"tokenizer.tags is \('<x>',\), there \(\)"),
        (["model.layers=1", "model.dropout=0.3"], ""),
        (["tokenizer.kind=char", "begin_vocabulary=anew"], ""),
    ],
)
def test_what_is_typed_against_the_bundle_is_refused(
    typed: list[str], said: str, tmp_path: Path, tokenizer: Tokenizer, random_model: Transformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = replace(random_model.config, d_model=16, heads=2, layers=1)
    Bundle(BundleConfig("en", "de", shape), Transformer(shape), tokenizer).save(tmp_path)
    monkeypatch.setattr("sys.argv", ["seq2seq-train", *typed])
    job = composed("train", f"begin_from={tmp_path}", *typed)
    config = {"model": {}, "tokenizer": {}}
    if said:
        with pytest.raises(ConfigProblem, match=f"keeps what that is made of: {said} \\(fix"):
            as_begun(job, config)
    else:
        assert as_begun(job, config)[0].model.d_model == 16


def test_a_bundle_brings_its_shape_and_the_settings_its_dropout(tmp_path: Path) -> None:
    """Also one with two vocabularies, which the settings would tie together."""
    pairs = make_corpus(("en", "de"), {"train": [(f"one {i}", f"zwei und {i}") for i in range(50)]}, "x", "none")
    tokenizer = Tokenizer.for_corpus(TokenizerConfig(vocab_size=300, joint=False), pairs)
    sizes = {"source_vocab_size": tokenizer.source_vocab_size, "target_vocab_size": tokenizer.target_vocab_size}
    assert len(set(sizes.values())) == 2
    shape = small_config(**sizes, tied_embeddings="two-way", dropout=0.1)
    begun = Transformer(shape)
    Bundle(BundleConfig("en", "de", shape), begun, tokenizer).save(tmp_path)
    job = composed("train", f"begin_from={tmp_path}", "model.dropout=0.3", "model.d_model=512", "model.heads=8")
    job, config = as_begun(job, {"model": {"d_model": 512, "dropout": 0.3}, "tokenizer": {"vocab_size": 8000}, "seed": 1})
    assert (config["seed"], config["model"]["d_model"], config["model"]["dropout"]) == (1, shape.d_model, 0.3)
    assert (config["tokenizer"]["vocab_size"], config["tokenizer"]["joint"]) == (300, False)
    bundle, model = train._model(job, tokenizer)
    assert model.config == replace(shape, dropout=0.3)
    assert bundle is not None
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), begun.parameters(), strict=True))


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1))
@example("runs/a,b=1")
@example("null")
@example("1e5")
@example("True")
@example("NaN")
@example("it's \\'mine\\\\")
@example("${oc.env:HOME}")
@example("a\\${seed}")
@example("İ")
@example("ſ/\u212a")
def test_values_in_printed_commands_are_what_hydra_reads(value: str) -> None:
    (read,) = OverridesParser.create().parse_overrides([typed.setting("bundle", value)])
    assert OmegaConf.create({"bundle": read.value()}).bundle == value


@pytest.mark.parametrize("value", [None, True, 5, 2.0, "greedy", Path("runs/1/bundle")])
def test_what_is_no_text_is_read_as_what_it_is(value: Any) -> None:
    written = typed.setting("decoding", value)
    assert "'" not in written
    (read,) = OverridesParser.create().parse_overrides([written])
    assert read.value() == (str(value) if isinstance(value, Path) else value)


def test_a_training_says_again_what_was_said_of_its_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = ["+recipe.source=en", "recipe.target=de", "recipe.form=tok", "++recipe.folder=here", "seed=3"]
    monkeypatch.setattr(typed, "asked", lambda: asked)
    console = Console(record=True, width=500, file=StringIO())
    train._show_end(console, composed("train", "recipe=multi30k"), RunFolder(tmp_path / "a,b"), Outcome(30.0, 10, 10))
    (line,) = (line for line in console.export_text().splitlines() if "seq2seq-evaluate" in line)
    settings = shlex.split(line)[1:]
    assert settings[1:] == ["recipe=multi30k", "recipe.form=tok", "++recipe.folder=here", "split=test"]
    (read,) = OverridesParser.create().parse_overrides(settings[:1])
    assert read.value() == str(tmp_path / "a,b" / "bundle")


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_composes_and_builds(choice: str) -> None:
    group, name = choice.split("/")
    if group == "engine":
        assert composed("evaluate", f"engine={name}").engine == composed("translate", f"engine={name}").engine
        return
    job = composed("train", f"{group}={name}")
    if group == "decoding":
        search: Search = composed("translate", f"decoding={name}").decoding
        assert search == job.decoding
        assert composed("evaluate", *typed.search_settings(search)).decoding == search
    if group == "recipe":
        assert composed("evaluate", f"recipe={name}").recipe == job.recipe
    if group == "model":
        with torch.device("meta"):
            Transformer(replace(job.model, source_vocab_size=1000, target_vocab_size=1000))


def test_presets_are_what_their_papers_say() -> None:
    def shape(name: str) -> tuple[int, int, int, int, int, float, str]:
        model = composed("train", "recipe=multi30k", f"model={name}").model
        return (
            model.layers,
            model.decoder.layers,
            model.d_model,
            model.d_feedforward,
            model.heads,
            model.dropout,
            model.norm_order,
        )

    # Table 3 of the paper, and section 3.1 for the norm.
    assert shape("base") == (6, 6, 512, 2048, 8, 0.1, "post")
    assert shape("big") == (6, 6, 1024, 4096, 16, 0.3, "post")
    # Wu et al., 2021: 4 layers, 128, 256, 4 heads.
    assert shape("tiny")[:5] == (4, 4, 128, 256, 4)
    assert shape("deep_shallow")[:2] == (12, 1)
    defaults, base = TransformerConfig(), composed("train", "recipe=multi30k", "model=base").model
    assert replace(defaults, max_length=base.max_length) == base


def test_the_optimizer_and_search_of_the_paper_are_the_defaults() -> None:
    job = composed("train")
    assert (job.optimizer.betas, job.optimizer.epsilon) == ((0.9, 0.98), 1e-9)  # section 5.3
    assert job.optimizer.label_smoothing == 0.1  # section 5.4
    assert (job.decoding.beam_size, job.decoding.length_penalty.alpha) == (4, 0.6)  # section 6.1
    assert job.decoding.lengths.max_offset == 50  # section 6.1: input length + 50
    assert composed("train", "schedule=noam").schedule.warmup_steps == 4000  # section 5.3


def test_every_yaml_says_what_it_is() -> None:
    for choice in CHOICES:
        lines = (CONF / f"{choice}.yaml").read_text().split("\n")
        assert any(line.startswith("# ") and not line.startswith("# @") for line in lines[:2]), (
            f"{choice} begins with no comment for --help"
        )
