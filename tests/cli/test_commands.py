"""What the commands do, from what is typed to what is there afterwards."""

import csv
import gzip
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.model.transformer import Transformer
from tests.cli.commands import BIN, SMALL, command
from tests.conftest import counting_pairs, write_corpus


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a small model was trained on files, with corpus/ and runs/mine/."""
    folder = tmp_path_factory.mktemp("work")
    for name, count in (("train", 80), ("val", 8), ("test", 9)):
        write_corpus(folder / "corpus", name, counting_pairs(count, seed=count))
    done = command(
        "train", "recipe=files", "recipe.source=en", "recipe.target=de", "recipe.train=corpus/train", "recipe.validation=corpus/val",
        "run_dir=runs/mine", *SMALL, folder=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "seq2seq-translate bundle=runs/mine/bundle" in said
    assert said.count("BLEU") >= 3
    return folder


def test_train_leaves_config_metrics_checkpoint_and_bundle(trained: Path) -> None:
    run = trained / "runs" / "mine"
    assert {"config.yaml", "metrics.csv", "states", "bundle", "result.json"} <= {path.name for path in run.iterdir()}
    assert Bundle.load(run / "bundle").config.source == "en"
    card = (run / "bundle" / "README.md").read_text()
    assert "SHA-256" in card
    assert "seq2seq-translate bundle=. decoding.beam_size=2 <" in card  # searches as validation did
    assert not (trained / "outputs").exists()


def test_training_again_goes_on_or_is_complete_or_says_what_differs(trained: Path) -> None:
    same = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", "run_dir=runs/mine", *SMALL]
    again = command("train", *same, folder=trained)
    assert again.returncode == 0
    assert b"already complete" in again.stdout
    longer = command("train", *same, "trainer.max_steps=9", folder=trained)
    assert longer.returncode == 0, longer.stderr.decode()
    assert b"step       9" in longer.stdout
    assert b"step       3" not in longer.stdout
    other = command("train", *same, "model.d_feedforward=32", "seed=2", folder=trained)
    assert other.returncode == 2
    assert b"model.d_feedforward was 16, is 32" in other.stderr
    assert b"seed was 1, is 2" in other.stderr
    never = command("train", *same, "resume=never", folder=trained)
    assert never.returncode == 2


@pytest.mark.parametrize(
    "text", [b"", b"one two\n", b"one\n\n \ntwo three", "one\r\ntwo\u2028three\n\n".encode(), b"one\xfftwo\nthree\n"]
)
def test_translate_is_a_filter_of_lines(trained: Path, text: bytes) -> None:
    done = command("translate", "bundle=runs/mine/bundle", folder=trained, given=text)
    assert done.returncode == 0, done.stderr.decode()
    lines = text.count(b"\n") + (not text.endswith(b"\n") and text != b"")
    assert done.stdout.count(b"\n") == lines
    for given, answer in zip(text.split(b"\n"), done.stdout.split(b"\n"), strict=False):
        assert bool(given.strip()) == bool(answer), (given, answer)


def test_translate_from_file_to_file_packed_and_back(trained: Path) -> None:
    (trained / "in.txt.gz").write_bytes(gzip.compress((trained / "corpus" / "test.en").read_bytes()))
    plain = command(
        "translate", "bundle=runs/mine/bundle", folder=trained, given=(trained / "corpus" / "test.en").read_bytes()
    ).stdout
    arguments = ["bundle=runs/mine/bundle", "input=in.txt.gz", "output=out.txt.gz", "decoding=beam", "decoding.beam_size=4"]
    done = command("translate", *arguments, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert gzip.decompress((trained / "out.txt.gz").read_bytes()) == plain
    again = command("translate", *arguments, folder=trained)
    assert again.returncode == 2
    assert b"overwrite=true" in again.stderr
    assert command("translate", *arguments, "overwrite=true", folder=trained).returncode == 0
    same = command(
        "translate", "bundle=runs/mine/bundle", "input=in.txt.gz", "output=in.txt.gz", "overwrite=true", folder=trained
    )
    assert same.returncode == 2
    assert b"same file" in same.stderr


def test_a_stream_may_be_the_input_and_nothing_else(trained: Path) -> None:
    """As `<(zcat in.gz)` of a shell: it can be read only once."""
    lines = (trained / "corpus" / "test.en").read_bytes()
    plain = command("translate", "bundle=runs/mine/bundle", folder=trained, given=lines).stdout
    arguments = ["bundle=runs/mine/bundle", "input=/dev/stdin", "output=streamed.txt"]
    done = command("translate", *arguments, folder=trained, given=lines)
    assert done.returncode == 0, done.stderr.decode()
    assert (trained / "streamed.txt").read_bytes() == plain
    done = command("translate", *arguments[:1], "prefix=/dev/stdin", "input=corpus/test.en", folder=trained, given=lines)
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"a stream, which can be read only once" in done.stderr
    done = command("score", "bundle=runs/mine/bundle", "source=/dev/stdin", "target=corpus/test.de", folder=trained, given=lines)
    assert (done.returncode, done.stdout) == (3, b"")


@pytest.mark.parametrize(
    ("closed", "code", "said"),
    [
        ("2>&-", 0, b""),
        (">&-", 2, b"error: standard output is closed\nfix: output=FILE\n"),
        ("<&-", 2, b"error: standard input is closed\nfix: input=FILE\n"),
    ],
)
def test_closed_streams(trained: Path, closed: str, code: int, said: bytes) -> None:
    given = b"one two\r\nthree\r\n"  # which is remarked on
    program = f"{BIN}/seq2seq-translate bundle=runs/mine/bundle {closed}"
    done = subprocess.run(["bash", "-c", program], cwd=trained, input=given, capture_output=True, check=False)
    assert done.returncode == code
    assert done.stderr == said
    assert done.stdout.count(b"\n") == (2 if code == 0 else 0)


def test_translate_gives_n_best_as_tsv_and_jsonl(trained: Path) -> None:
    given = b"one two\n\nthree\n"
    tsv = command(
        "translate", "bundle=runs/mine/bundle", "format=tsv", "decoding.n_best=3", folder=trained, given=given
    ).stdout.decode()
    rows = [line.split("\t") for line in tsv.rstrip("\n").split("\n")]
    assert [(row[0], row[1]) for row in rows] == [
        ("1", "1"),
        ("1", "2"),
        ("1", "3"),
        ("2", "1"),
        ("3", "1"),
        ("3", "2"),
        ("3", "3"),
    ]
    jsonl = command(
        "translate", "bundle=runs/mine/bundle", "format=jsonl", "decoding.n_best=3", folder=trained, given=given
    ).stdout.decode()
    records = [json.loads(line) for line in jsonl.rstrip("\n").split("\n")]
    assert [record["line"] for record in records] == [1, 2, 3]
    assert records[1]["codes"] == ["BLANK"]
    assert [c["text"] for c in records[0]["candidates"]] == [row[3] for row in rows[:3]]


def test_engines_and_models_as_one_say_the_same(trained: Path) -> None:
    """CTranslate2 with the same weights, a model with itself, one process and several, in float32."""
    given = "".join(f"{source}\n" for source, _ in counting_pairs(80)).encode()
    greedy = ["decoding=greedy", "decoding.lengths.max_offset=5"]
    alone = command("translate", "bundle=runs/mine/bundle", "engine.workers=1", *greedy, folder=trained, given=given)
    assert alone.returncode == 0, alone.stderr.decode()
    for choice in (
        ["bundle=runs/mine/bundle", "engine.workers=2"],
        ["bundle=runs/mine/bundle", "engine=ctranslate2"],
        ["bundle=[runs/mine/bundle,runs/mine/bundle]"],
    ):
        said = command("translate", *choice, *greedy, folder=trained, given=given)
        assert said.returncode == 0, said.stderr.decode()
        assert said.stdout == alone.stdout, choice


def test_wishes_in_files(trained: Path) -> None:
    """A glossary, beginnings and bans hold in a model that would say other things; explanations come with them."""
    folder = trained / "wishes"
    folder.mkdir()
    (folder / "in.txt").write_text("one two\n\nthree\n")
    (folder / "terms.tsv").write_text("one\tsieben acht\nnine\tzehn\n")
    (folder / "begin.txt").write_text("\n\nvier\n")
    (folder / "short.txt").write_text("vier\n")
    (folder / "plain.txt").write_text("three\n")  # no term in it
    (folder / "never.txt").write_text("drei\n\nzwei\n")
    wishes = ("bundle=../runs/mine/bundle", "input=in.txt", "glossary=terms.tsv", "banned=never.txt")
    done = command("translate", *wishes, "prefix=begin.txt", "output=out.jsonl", "format=jsonl", "explain=true", folder=folder)
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert "sieben acht" in lines[0]["translation"]
    assert lines[1]["translation"] == ""
    assert lines[2]["translation"].startswith("vier")
    for line in lines:
        assert not {"zwei", "drei"} & set(line["translation"].split())
        assert len(line["alignment"]) == len(line["target_words"])
        assert line["confidence"] is None or 0 <= line["confidence"] <= 1
    assert lines[0]["source_words"] == ["one", "two"]
    again = command("translate", *wishes, "output=out.jsonl", "format=jsonl", "overwrite=true", folder=folder)
    assert again.returncode == 0
    assert "confidence" not in (folder / "out.jsonl").read_text()
    for arguments, code, said in (
        (("prefix=short.txt",), 3, "has 1 lines, the input 3"),
        (("output=never.txt", "overwrite=true"), 2, "banned and output are the same file"),
        (("glossary=in.txt",), 3, "line 1 is not a pair of terms"),
        (("explain=true",), 2, "needs format=jsonl"),
        (("input=plain.txt", "decoding=sampling"), 2, "decoding=beam for a glossary"),
        (("input=plain.txt", "engine=ctranslate2"), 2, "engine=native"),
        (("input=plain.txt", "engine=ctranslate2", "engine.quantization=float16"), 2, "has no float16 here"),
        (("decoding.groups=3",), 2, "cannot be parted into 3 groups"),
    ):
        done = command("translate", *wishes, *arguments, folder=folder)
        assert done.returncode == code, done.stderr.decode()
        assert said in done.stderr.decode()


def test_what_the_machine_does_best_is_said(trained: Path) -> None:
    said = command("translate", "bundle=runs/mine/bundle", "engine.precision=auto", folder=trained, given=b"one two\n")
    assert said.returncode == 0
    assert re.search(r"engine\.precision=(int8|float32|bfloat16)", said.stderr.decode())


def test_score(trained: Path) -> None:
    pair = ["bundle=runs/mine/bundle", "source=corpus/test.en", "target=corpus/test.de"]
    found = command("score", *pair, folder=trained)
    assert found.returncode == 0, found.stderr.decode()
    again = [float(line) for line in found.stdout.decode().split()]
    assert len(again) == 9
    by_token = command("score", *pair, "format=jsonl", "output=scores.jsonl", folder=trained)
    assert by_token.returncode == 0, by_token.stderr.decode()
    for line, score in zip((trained / "scores.jsonl").read_text().splitlines(), again, strict=True):
        record = json.loads(line)
        assert sum(value for _, value in record["tokens"]) == pytest.approx(record["score"], abs=1e-3)
        assert record["score"] == pytest.approx(score, abs=1e-4)
        assert record["tokens"][-1][0] == "</s>"
    twice = command("score", "bundle=[runs/mine/bundle,runs/mine/bundle]", *pair[1:], folder=trained)
    assert [float(line) for line in twice.stdout.decode().split()] == pytest.approx(again, abs=1e-5)
    assert command("score", *pair, "output=scores.jsonl", folder=trained).returncode == 2
    (trained / "short.de").write_text("eins\n")
    assert command("score", pair[0], pair[1], "target=short.de", folder=trained).returncode == 3


def test_export(trained: Path) -> None:
    done = command("export", "bundle=runs/mine/bundle", "output=exported", "quantization=int8", folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert {path.name for path in (trained / "exported").iterdir()} >= {"model.bin", "config.json", "tokenizer"}
    again = command("export", "bundle=runs/mine/bundle", "output=exported", folder=trained)
    assert again.returncode == 2
    assert b"exported exists" in again.stderr


def test_evaluate_a_split_files_and_translations_made_elsewhere(trained: Path) -> None:
    split = command(
        "evaluate",
        "bundle=runs/mine/bundle",
        "recipe=files",
        "recipe.test=corpus/test",
        "split=test",
        "bootstrap=50",
        folder=trained,
    )
    assert split.returncode == 0, split.stderr.decode()
    (found,) = (trained / "runs/mine/results").glob("files-test-en-to-de-*.json")
    results = json.loads(found.read_text())
    assert [score["metric"] for score in results["scores"]] == ["BLEU", "chrF++", "TER"]
    assert all("version" in score["signature"] and score["low"] <= score["high"] for score in results["scores"])
    files = command(
        "evaluate",
        "bundle=runs/mine/bundle",
        "source=corpus/test.en",
        "reference=corpus/test.de",
        "output=r.json",
        folder=trained,
    )
    assert files.returncode == 0, files.stderr.decode()
    assert [s["value"] for s in json.loads((trained / "r.json").read_text())["scores"]] == [s["value"] for s in results["scores"]]
    perfect = command(
        "evaluate", "hypothesis=corpus/test.de", "reference=corpus/test.de", "bootstrap=0", "output=p.json", folder=trained
    )
    assert perfect.returncode == 0, perfect.stderr.decode()
    assert json.loads((trained / "p.json").read_text())["scores"][0]["value"] == pytest.approx(100.0)


def test_training_begins_from_a_bundle(trained: Path) -> None:
    """Its weights, tokenizer and shape, whatever is composed of them; the first validation is already as good."""
    mine = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", "begin_from=runs/mine/bundle"]
    settings = [
        "run_dir=runs/more",
        "trainer.max_steps=1",
        "trainer.validate_every=1",
        "schedule.learning_rate=1e-9",
        "averaging=none",
    ]
    done = command("train", *mine, *settings, "model.dropout=0.3", "logger=csv", folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    before, after = (Bundle.load(trained / "runs" / name / "bundle") for name in ("mine", "more"))
    assert after.tokenizer.fingerprint() == before.tokenizer.fingerprint()
    assert after.config.model.d_model == 16
    assert after.config.model.dropout == 0.3
    written = yaml.safe_load((trained / "runs" / "more" / "config.yaml").read_text())
    assert (written["model"]["d_model"], written["model"]["dropout"], written["tokenizer"]["vocab_size"]) == (16, 0.3, 330)
    bundle = trained / "runs" / "mine" / "bundle"
    bundle.rename(bundle.with_name("away"))
    again = command("train", *mine, *settings, "model.dropout=0.3", "logger=csv", folder=trained)
    bundle.with_name("away").rename(bundle)
    assert b"already complete" in again.stdout  # what it began from is not needed any more
    for ours, theirs in zip(after.model.parameters(), before.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_what_training_begins_from_is_looked_at_first(trained: Path) -> None:
    """Before the recipe makes its pairs, which may take hours."""
    nowhere = ["recipe=files", "recipe.train=nowhere", "recipe.validation=nowhere", "run_dir=runs/never"]
    done = command("train", *nowhere, "begin_from=runs/mine", folder=trained)
    assert done.returncode == 4
    assert b"did you mean runs/mine/bundle?" in done.stderr


@pytest.mark.slow
def test_training_begins_from_a_bundle_with_words_it_never_saw(trained: Path) -> None:
    """With a vocabulary learned anew of old and new text; what it knew it still knows before a step is made."""
    (trained / "new.en").write_text("eleven twelve thirteen\n" * 30)
    (trained / "new.de").write_text("elf zwölf dreizehn\n" * 30)
    mine = ["recipe=files", "recipe.train=[corpus/train,new]", "recipe.validation=corpus/val", "begin_from=runs/mine/bundle"]
    anew = ["begin_vocabulary=anew", "tokenizer.vocab_size=350", "run_dir=runs/anew", "logger=csv", "averaging=none"]
    steps = ["trainer.max_steps=1", "trainer.validate_every=1", "schedule.learning_rate=1e-9"]
    two = command("train", *mine, *anew, *steps, "tokenizer.joint=false", folder=trained)
    assert two.returncode == 2
    assert b"needs one joint vocabulary" in two.stderr
    assert b"tokenizer.joint=true" in two.stderr
    done = command("train", *mine, *anew, *steps, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    before, after = (Bundle.load(trained / "runs" / name / "bundle") for name in ("mine", "anew"))
    assert after.tokenizer.target_vocab_size > before.tokenizer.target_vocab_size
    pieces, known = after.tokenizer.target_pieces(), before.tokenizer.target_pieces()
    vectors, old = after.model.output.weight, before.model.output.weight
    shared = set(pieces) & set(known)
    assert len(shared) > 300
    for piece in shared:
        torch.testing.assert_close(vectors[pieces.index(piece)], old[known.index(piece)], atol=1e-6, rtol=0)
    new = next(piece for piece in pieces if piece not in shared and len(piece) > 3 and piece[0] == "\u2581")
    parts = before.tokenizer.encode_target([new.replace("\u2581", " ")])[0][:-1]
    torch.testing.assert_close(vectors[pieces.index(new)], old[parts].mean(dim=0), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_one_model_for_two_directions(trained: Path) -> None:
    """Trained, judged, asked for each; then one of its directions goes on alone."""
    of = [
        "recipe@recipe.of=files",
        "recipe.of.train=corpus/train",
        "recipe.of.validation=corpus/val",
        "recipe.of.test=corpus/test",
    ]
    both = ["recipe=directions", *of, "recipe.source=en", "recipe.target=de", "run_dir=runs/both", *SMALL]
    done = command("train", *both, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    assert re.search(r"en to de [\d.]+   de to en [\d.]+", done.stdout.decode())
    bundle = Bundle.load(trained / "runs/both/bundle")
    assert bundle.config.directions == (("en", "de"), ("de", "en"))
    to_go_on = next(line for line in done.stdout.decode().splitlines() if "seq2seq-evaluate" in line)
    asked = shlex.split(to_go_on)[1:]
    assert asked[:2] == ["-m", "direction=en-de,de-en"]
    judged = command("evaluate", *asked, "bootstrap=0", folder=trained)
    assert judged.returncode == 0, judged.stderr.decode()
    assert "files test, de to en, 9 sentences" in judged.stdout.decode()
    written = sorted(path.name[:19] for path in (trained / "runs/both/results").iterdir())
    assert written == ["files-test-de-to-en", "files-test-en-to-de"]
    with (trained / "runs/both/metrics.csv").open() as file:
        validations = [json.loads(row["bleu_of_each"]) for row in csv.DictReader(file) if row["bleu"]]
    assert [list(of_each) for of_each in validations] == [["en to de", "de to en"]] * len(validations)
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "results.py"))
    tool["collect"](trained / "runs/both", trained / "README.md")
    best = json.loads((trained / "runs/both/result.json").read_text())["bleu"]
    rows = [json.loads(path.read_text()) for path in sorted((trained / "results").glob("*-to-*.json"))]
    assert sum(row["validation"] for row in rows) / 2 == pytest.approx(best, abs=1e-3)
    for direction in ("en-de", "de-en"):
        asked = command("translate", "bundle=runs/both/bundle", f"direction={direction}", folder=trained, given=b"one\n\n")
        assert asked.stdout.endswith(b"\n\n"), asked.stderr.decode()
    unknown = command("translate", "bundle=runs/both/bundle", "direction=de-fr", folder=trained, given=b"one\n")
    assert unknown.returncode == 2
    assert "it was trained on en to de, de to en" in unknown.stderr.decode()
    unseen = command("translate", "bundle=runs/both/bundle", "direction=en-en", folder=trained, given=b"one\n")
    assert "never trained on en to en" in unseen.stderr.decode()
    alone = ["recipe=files", "recipe.source=de", "recipe.target=en", "recipe.train=corpus/train", "recipe.validation=corpus/val"]
    gone_on = command("train", *alone, "begin_from=runs/both/bundle", "run_dir=runs/alone", *SMALL, folder=trained)
    assert gone_on.returncode == 0, gone_on.stderr.decode()
    after = Bundle.load(trained / "runs/alone/bundle")
    assert (after.config.source, after.config.target, after.tokenizer.said) == ("de", "en", "<2en>")
    assert after.config.directions == bundle.config.directions


@pytest.mark.slow
def test_bundles_make_more_pairs(trained: Path) -> None:
    """Forward by an ensemble, backward by a model of the other direction, of text of its own; then in place of the real pairs."""
    of = ["recipe@recipe.of=files", "recipe.of.train=corpus/train", "recipe.of.validation=corpus/val", "recipe.source=en"]
    recipe = ["recipe=synthetic", *of, "recipe.target=de", "recipe.forward=[runs/mine/bundle+runs/mine/bundle]", *SMALL]
    none = command("train", *recipe, "recipe.forward=[]", "run_dir=runs/none", folder=trained)
    assert none.returncode == 2
    assert "no bundle makes pairs" in none.stderr.decode()
    files = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", "run_dir=runs/back", *SMALL]
    back = command("train", *files, "recipe.source=de", "recipe.target=en", folder=trained)
    assert back.returncode == 0, back.stderr.decode()
    channel = ["bundle=runs/mine/bundle", "decoding=noisy_channel", "decoding.backward=[runs/back/bundle]"]
    chosen = command("translate", *channel, folder=trained, given=b"one\n\ntwo\n")
    assert chosen.returncode == 0, chosen.stderr.decode()
    assert chosen.stdout.split(b"\n")[1] == b""
    assert len(chosen.stdout.split(b"\n")) == 4
    unnamed = command("translate", *channel[:2], folder=trained, given=b"one\n")
    assert unnamed.returncode == 2
    assert "needs a model that translates back, de to en" in unnamed.stderr.decode()
    cached = Path(os.environ["SEQ2SEQ_CACHE"]) / "synthetic"
    before = set(cached.glob("*/translations.txt"))
    (trained / "mono.de").write_text("eins zwei\ndrei\nvier\n")
    more = ["recipe.backward=[runs/back/bundle]", "recipe.monolingual=mono.de", "recipe.mark=bt", "recipe.weight=2"]
    done = command("train", *recipe, *more, "run_dir=runs/made", folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    pairs = len((trained / "corpus/train.en").read_text().splitlines())
    kept = set(cached.glob("*/translations.txt"))
    assert {len(path.read_text().splitlines()) for path in kept - before} == {pairs, 3}
    assert f"{2 * pairs + 3:,} pairs, by their weights about {pairs + 2 * (pairs + 3):,} an epoch, in" in done.stdout.decode()
    tokenizer = Bundle.load(trained / "runs/made/bundle").tokenizer
    assert tokenizer.config.tags == ("<bt>",)
    again = command("train", *recipe, "recipe.keep=false", "run_dir=runs/distilled", folder=trained)
    assert again.returncode == 0, again.stderr.decode()
    assert set(cached.glob("*/translations.txt")) == kept
    wrong = command("train", *recipe, "recipe.forward=[runs/back/bundle]", "run_dir=runs/wrong", folder=trained)
    assert "runs/back/bundle does not know en to de" in wrong.stderr.decode()


@pytest.mark.slow
def test_denoising_comes_before_translating(trained: Path) -> None:
    of = ["recipe@recipe.of=files", "recipe.of.train=corpus/train", "recipe.of.validation=corpus/val"]
    noise = ["noise.drop=0.1", "noise.blank=0.2", "noise.shuffle=3"]
    before = ["recipe=denoising", *of, "recipe.source=en", "recipe.target=de", *noise, "run_dir=runs/before", *SMALL]
    done = command("train", *before, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    after = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", "begin_from=runs/before/bundle"]
    done = command("train", *after, "run_dir=runs/after", *SMALL, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    bundle = Bundle.load(trained / "runs/after/bundle")
    assert (bundle.tokenizer.said, bundle.config.directions) == ("<2de>", (("en", "en"), ("de", "de"), ("en", "de")))


def test_a_sweep_leaves_a_table(trained: Path) -> None:
    mine = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", *SMALL]
    done = command("train", "-m", "seed=1,2", "run_dir=runs/sweep${seed}", "hydra.sweep.dir=sweep", *mine, folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    rows = (trained / "sweep" / "sweep.csv").read_text().splitlines()
    assert rows[0] == "seed,run_dir,bleu"
    assert sorted(row.split(",")[:2] for row in rows[1:]) == [["1", "runs/sweep1"], ["2", "runs/sweep2"]]
    page = (trained / "sweep" / "sweep.md").read_text()
    assert page in done.stdout.decode()
    scores = [float(row.split(",")[2]) for row in rows[1:]]
    mean, spread = re.search(r"\| seeds \| bleu \|\n\| --- \| --- \|\n\| 2 \| ([\d.]+) ± ([\d.]+) \|\n", page).groups()
    assert float(mean) == pytest.approx(sum(scores) / 2, abs=0.011)
    assert float(spread) == pytest.approx((scores[0] - scores[1]) / 2, abs=0.011)


def test_a_job_that_fails_ends_no_sweep(trained: Path) -> None:
    mine = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", *SMALL]
    failing = ["hydra.sweep.dir=failing", "run_dir=runs/failing${trainer.max_steps}", "trainer.max_steps=-1,1"]
    done = command("train", "-m", *mine, *failing, folder=trained)
    assert done.returncode == 2
    assert b"max_steps" in done.stderr
    rows = (trained / "failing" / "sweep.csv").read_text().splitlines()
    assert rows[1].startswith("1,runs/failing1,")
    assert rows[2] == "-1,runs/failing-1,failed"


@pytest.mark.slow
def test_the_table_of_results_is_made_of_run_folders(trained: Path) -> None:
    tool = runpy.run_path(str(Path(__file__).parents[2] / "tools" / "results.py"))
    page = trained / "page" / "README.md"
    page.parent.mkdir()
    page.write_text(f"before\n{tool['BEGIN']}\nold\n{tool['END']}\nafter\n")
    mine, scores = ["recipe=files", "recipe.train=corpus/train", "recipe.validation=corpus/val", *SMALL], []
    for seed in (1, 2):
        assert (
            command("train", *mine, f"seed={seed}", f"run_dir=runs/r{seed}", f"runs=runs/of{seed}", folder=trained).returncode
            == 0
        )
        judged = ["recipe=files", "recipe.test=corpus/test", f"bundle=runs/r{seed}/bundle", "bootstrap=0", "decoding.beam_size=2"]
        assert command("evaluate", *judged, folder=trained).returncode == 0
        (only,) = (trained / f"runs/r{seed}/results").iterdir()
        scores.append(json.loads(only.read_text())["scores"][0]["value"])
    both = ["recipe=files", "recipe.test=corpus/test", "bundle=[runs/r1/bundle,runs/r2/bundle]", "bootstrap=0"]
    assert command("evaluate", *both, folder=trained).returncode == 0
    assert len(list((trained / "runs/r1/results").glob("*-by-2-models-*.json"))) == 1  # and the table does not take it for r1's
    results = (trained / "runs/r2/bundle" / "..").resolve() / "results"
    for way in (["decoding.n_best=2"], ["tokenize=none"], ["lowercase=true"], ["engine.precision=int8"]):
        before = {path: path.read_bytes() for path in results.iterdir()}
        other = ["recipe=files", "recipe.test=../../../corpus/test", "bundle=.", "decoding.beam_size=2", "bootstrap=0", *way]
        assert command("evaluate", *other, folder=trained / "runs/r2/bundle").returncode == 0
        assert (
            len(list(results.iterdir())) == len(before) + 1
        )  # nor what was searched or compared in another way, which stands beside
        assert all(path.read_bytes() == text for path, text in before.items())
    tool["main"]([str(trained / "runs/r1"), str(trained / "runs/r2")], page)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    (row,) = (line for line in text.splitlines() if "seq2seq-train" in line)
    assert row.startswith("| files test, en to de | 0.0")
    assert " | 2 | " in row
    assert f"| {sum(scores) / 2:.2f} ± " in row
    assert row.endswith(f"`seq2seq-train {' '.join(mine)}` |")
    with pytest.raises(SystemExit, match=r"has no config.yaml"):
        tool["main"]([str(trained / "corpus")], page)


def test_compare_bundles_and_translations_made_elsewhere(trained: Path) -> None:
    systems = "systems=[runs/mine/bundle,corpus/test.de,runs/mine/bundle]"
    files = ["source=corpus/test.en", "reference=corpus/test.de", "samples=50"]
    done = command("compare", systems, *files, "names=[mine,perfect,again]", folder=trained)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "perfect: 9 sentences better, 0 the same, 0 worse than mine" in said
    assert "again: 0 sentences better, 9 the same, 0 worse than mine" in said
    assert re.search(r"perfect +BLEU +100.00", said)
    page = (trained / "comparison.html").read_text()
    assert page.count("<polyline") == 2
    assert "perfect" in page


@pytest.mark.parametrize(
    ("name", "arguments", "code", "said"),
    [
        ("train", ["modle.d_model=256"], 2, "did you mean 'model.d_model'"),
        ("train", ["model=tinny"], 2, "did you mean 'tiny'"),
        ("train", ["recipe=mulit30k"], 2, "did you mean 'multi30k'"),
        ("train", ["+model.dmodel=3"], 2, "did you mean 'model.d_model'"),
        ("train", ["+modle.x=3"], 2, "modle"),
        ("train", ["trainer.max_steps=lots", "model.dropout=1.5"], 2, "max_steps: expected a whole number"),
        ("train", ["model.heads=7"], 2, "not divisible"),
        ("train", ["experiment=multi30k_en_de", "schedule=noam"], 2, "schedule.learning_rate: there is no such setting"),
        ("train", ["experiment=multi30k_en_de", "schedule=noam"], 2, "~NAME takes out what an experiment sets"),
        (
            "train",
            ["experiment=multi30k_en_de_after_fr"],
            4,
            "tokenize=auto runs=runs/raw run_dir=runs/raw/multi30k-en-fr-diverse/1",
        ),
        ("train", ["tiny"], 2, "write name=value"),
        ("train", ["recipe=multi30k", "recipe.source=xx"], 2, "Multi30k has en, de, fr and cs"),
        (
            "train",
            ["recipe=files", "recipe.train=nowhere/train", "recipe.validation=nowhere/val"],
            3,
            "there is no file nowhere/train.en",
        ),
        ("train", ["tokenizer.joint=false"], 2, "joint vocabulary"),
        ("train", ["seed=-1"], 2, "must be from 0 to"),
        ("train", ["tokenize=inlt"], 2, "did you mean 'intl'"),
        ("train", ["trainer.accelerator=gpu"], 5, "there is none"),
        ("train", ["run_dir=runs/a=b"], 2, "cannot be read"),
        ("translate", [], 2, "bundle= is not set"),
        ("translate", ["bundle=nowhere"], 4, "not a bundle"),
        ("translate", ["bundle=nowhere", "decoding.beam_size=0"], 2, "beam_size is 0"),
        ("translate", ["bundle=nowhere", "format=xml"], 2, "not one of text, tsv, jsonl"),
        ("translate", ["bundle=x", "input=missing.txt"], 3, "there is no file missing.txt"),
        ("evaluate", ["bundle=x", "recipe.target=ja"], 2, "choose one first: recipe=cldr"),
        ("evaluate", ["recipe=cldr"], 2, "either bundle= or hypothesis="),
        ("compare", ["systems=[a]", "recipe=cldr"], 2, "there are 1 systems"),
        ("compare", ["systems=[a,b]"], 2, "either recipe= and split=, or reference="),
        ("compare", ["systems=[a,b]", "recipe=cldr"], 3, "there is no a"),
        ("compare", ["systems=[a,b]", "reference=b", "output=b"], 2, "output would take the place of b"),
        ("compare", ["systems=[a,b]", "names=[a]", "recipe=cldr"], 2, "names: as many"),
        ("evaluate", ["bundle=nowhere", "recipe=cldr"], 4, "not a bundle"),
    ],
)
def test_what_cannot_be_done_is_said_in_two_lines(tmp_path: Path, name: str, arguments: list[str], code: int, said: str) -> None:
    done = command(name, *arguments, folder=tmp_path, environment={"COLUMNS": "200"})
    error = done.stderr.decode()
    assert done.returncode == code, error
    assert said in error
    assert error.startswith("error: ")
    assert "fix: " in error
    assert "Traceback" not in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train", "evaluate", "translate"])
def test_help_shows_examples_and_choices_without_torch(tmp_path: Path, name: str) -> None:
    probe = f"import sys; sys.argv = ['seq2seq-{name}', '--help']; from seq2seq.cli.{name} import main; main(); assert not {{'torch', 'lightning', 'datasets', 'hydra'}} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.count(f"  seq2seq-{name} ") >= 3
    for choice in ("beam", "greedy", "sampling"):
        assert choice in done.stdout


@pytest.mark.parametrize("arguments", [["modle.d_model=256"], ["model=tinny"], ["model.d_modle=256"]])
def test_a_typo_is_answered_without_torch(tmp_path: Path, arguments: list[str]) -> None:
    probe = f"""
import sys
sys.argv = ['seq2seq-train', *{arguments!r}]
from seq2seq.cli.train import main
try:
    main()
except SystemExit as end:
    assert end.code == 2
assert not {{'torch', 'lightning', 'datasets'}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, capture_output=True, text=True, check=True)


def test_importing_the_package_imports_nothing_heavy(tmp_path: Path) -> None:
    probe = "import sys, seq2seq; assert not {'torch', 'numpy', 'lightning', 'sentencepiece'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, check=True)


@pytest.mark.parametrize("name", ["train", "doctor"])
def test_any_locale_and_time_zone_will_do(trained: Path, tmp_path: Path, name: str) -> None:
    """Umlauts in data, on the screen and in the bundle."""
    environment = {"LC_ALL": "C", "TZ": "Pacific/Apia", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    corpus = trained / "corpus"
    arguments = ["recipe=files", f"recipe.train={corpus}/train", f"recipe.validation={corpus}/val", "run_dir=runs/x", *SMALL]
    done = command(name, *arguments, folder=tmp_path, environment=environment, from_nothing=True)
    assert done.returncode == 0, done.stderr.decode()
    if name == "train":
        here = Bundle.load(tmp_path / "runs" / "x" / "bundle").model.state_dict()
        there = Bundle.load(trained / "runs" / "mine" / "bundle").model.state_dict()
        assert here.keys() == there.keys()


def test_offline_asks_nothing_of_the_network(tmp_path: Path) -> None:
    done = command("train", "recipe=multi30k", "offline=true", folder=tmp_path)
    assert done.returncode == 5
    assert b"offline=true" in done.stderr


@pytest.mark.slow
def test_a_million_lines_in_little_memory(tmp_path: Path, tokenizer: Tokenizer, random_model: Transformer) -> None:
    """As many lines out as in, and not more memory for a million lines than for a tenth of them."""
    Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer).save(tmp_path / "bundle")
    peaks = []
    for count in (100_000, 1_000_000):
        with (tmp_path / "in.txt").open("w") as file:
            for i in range(count):
                file.write("one two\n" if i % 3 else "\n" if i % 2 else "three\n")
        measure = "import resource, runpy, sys; sys.argv[0] = 'seq2seq-translate'; from seq2seq.cli.translate import main; main(); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
        arguments = [
            "bundle=bundle",
            "input=in.txt",
            "output=out.txt",
            "overwrite=true",
            "decoding=greedy",
            "batch_size=512",
            "decoding.lengths.max_factor=0.0",
            "decoding.lengths.max_offset=1",
        ]
        done = subprocess.run(
            [sys.executable, "-c", measure, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stderr.split()[-1]))
        with (tmp_path / "in.txt").open() as given, (tmp_path / "out.txt").open() as answers:
            lines = 0
            for line, answer in zip(given, answers, strict=True):
                assert bool(line.strip()) == bool(answer.strip())
                lines += 1
        assert lines == count
    assert peaks[1] < peaks[0] * 1.1, peaks
