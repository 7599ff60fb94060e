import json
from pathlib import Path

import pytest
import torch

from seq2seq.atomic import write_manifest
from seq2seq.bundle import Bundle, BundleConfig, Card
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.errors import BundleProblem
from seq2seq.model.transformer import Transformer
from seq2seq.translator import Translator
from tests.conftest import small_config


@pytest.fixture
def folder(tmp_path: Path, random_model: Transformer, tokenizer: Tokenizer) -> Path:
    bundle = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    bundle.save(
        tmp_path / "bundle",
        Card("cldr", 7, ("BLEU 1.00 (sig)",), ("decoding.beam_size=5",), {"origin": "made up", "licence": "MIT"}),
    )
    return tmp_path / "bundle"


def reseal(folder: Path) -> None:
    """Make the manifest agree with the files again, as someone who tampers would."""
    (folder / "manifest.json").unlink()
    write_manifest(folder, "seq2seq bundle", 1, "seq2seq by hand")


def seal(folder: Path, manifest: dict) -> None:
    """Write a manifest with a right seal."""
    from seq2seq.atomic import _sealed

    (folder / "manifest.json").write_text(_sealed({key: value for key, value in manifest.items() if key != "seal"}))


def test_loads_what_was_saved(folder: Path, random_model: Transformer, tokenizer: Tokenizer) -> None:
    loaded = Bundle.load(folder)
    assert loaded.config == BundleConfig("en", "de", random_model.config)
    assert not loaded.model.training
    for (name, ours), theirs in zip(random_model.state_dict().items(), loaded.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    assert loaded.tokenizer.encode_source(["one two"]) == tokenizer.encode_source(["one two"])
    card = (folder / "README.md").read_text()
    assert all(
        said in card
        for said in ("en to de", "cldr", "7 steps", "BLEU 1.00 (sig)", "made up", "MIT", "bundle=. decoding.beam_size=5 <")
    )


@pytest.mark.parametrize("tied", ["three-way", "two-way", "none"])
def test_tied_matrices_are_stored_once_and_stay_tied(tmp_path: Path, tokenizer: Tokenizer, tied: str) -> None:
    size = tokenizer.source_vocab_size
    model = Transformer(small_config(source_vocab_size=size, target_vocab_size=size, tied_embeddings=tied))
    Bundle(BundleConfig("en", "de", model.config), model, tokenizer).save(tmp_path / "b")
    loaded = Bundle.load(tmp_path / "b").model
    assert (loaded.output.weight is loaded.target_embedding.tokens.weight) == (tied != "none")
    source = torch.tensor([[5, 6, 2]])
    assert torch.equal(loaded(source, source), model.eval()(source, source))


def test_every_damaged_byte_of_every_file_is_noticed(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != "manifest.json":
            whole = path.read_bytes()
            flipped = bytearray(whole)
            flipped[len(whole) // 2] ^= 1
            for damaged in (bytes(flipped), whole[:-1], b""):
                path.write_bytes(damaged)
                with pytest.raises(BundleProblem, match="damaged"):
                    Bundle.load(folder)
            path.write_bytes(whole)
            path.rename(folder / "away")
            with pytest.raises(BundleProblem, match="missing"):
                Bundle.load(folder)
            (folder / "away").rename(path)
    Bundle.load(folder)


def edit(path: Path, **changes: object) -> None:
    content = json.loads(path.read_text())
    for dotted, value in changes.items():
        place = content
        *parents, last = dotted.split("__")
        for parent in parents:
            place = place[parent]
        place[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (dict(model__layers=3), "tensors"),
        (dict(model__d_feedforward=33), "shape"),
        (dict(model__source_vocab_size=41, model__target_vocab_size=41), "the tokenizer has"),
        (dict(model__layrs=3), "did you mean 'model.layers'"),
        (dict(model__layers="two"), "whole number"),
        (dict(model___target_="os.system"), "no such setting"),
        (dict(source=False), "quote it"),
        (dict(directions=[["en", "fr"]]), "none of the directions"),
        (dict(directions=[["en", "de"], ["de", "en"]]), "has no <2de>"),
    ],
)
def test_parts_that_do_not_fit_are_refused(folder: Path, changes: dict, said: str) -> None:
    edit(folder / "config.json", **changes)
    reseal(folder)
    with pytest.raises(BundleProblem, match=said):
        Bundle.load(folder)


def test_a_bundle_from_the_future_is_refused(folder: Path) -> None:
    edit(folder / "manifest.json", format_version=99)
    with pytest.raises(BundleProblem, match="format 99"):
        Bundle.load(folder)


def test_a_manifest_cannot_point_outside(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../secret"] = {"bytes": 1, "sha256": "0"}
    seal(folder, manifest)
    with pytest.raises(BundleProblem, match="outside"):
        Bundle.load(folder)


@pytest.mark.parametrize("entry", [3, {"bytes": 1}, {"bytes": "x", "sha256": "y"}, None])
def test_a_damaged_manifest_is_refused(folder: Path, entry: object) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.json"] = entry
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleProblem, match="cannot be read"):
        Bundle.load(folder)


def test_a_tokenizer_file_that_nobody_vouches_for_is_refused(folder: Path) -> None:
    (folder / "tokenizer" / "source.model").write_bytes(b"x")
    with pytest.raises(BundleProblem, match="not in manifest"):
        Bundle.load(folder)


def test_what_is_no_bundle_says_so(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(BundleProblem, match="not a bundle"):
        Bundle.load(tmp_path / "nothing")
    with pytest.raises(BundleProblem, match="did you mean"):
        Bundle.load(folder.parent)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(BundleProblem, match="cannot be read"):
        Bundle.load(folder)


def test_saving_takes_nothing_away_that_is_not_ours(
    folder: Path, random_model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer)
    thesis = folder.parent / "thesis"
    thesis.mkdir()
    (thesis / "chapter1.tex").write_text("precious")
    with pytest.raises(BundleProblem, match="is there, and is no bundle"):
        bundle.save(thesis)
    (thesis / "manifest.json").write_text('{"name": "an app of somebody"}')
    with pytest.raises(BundleProblem, match="is there, and is no bundle"):
        bundle.save(thesis)
    (folder / "ct2").mkdir()
    (folder / "ct2" / "model.bin").write_text("exported")
    (folder / "link").symlink_to("nowhere")
    (folder.parent / f"{folder.name}.old").mkdir()
    monkeypatch.setattr("seq2seq.atomic.ctypes.CDLL", lambda *_, **__: object())  # a file system that cannot swap names
    bundle.save(folder)
    assert (folder / "ct2" / "model.bin").read_text() == "exported"
    assert (folder / "link").is_symlink()
    assert Bundle.load(folder).config.target == "de"
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.name, f"{folder.name}.old", "thesis"])


def test_saving_over_a_bundle_leaves_no_litter(folder: Path, random_model: Transformer, tokenizer: Tokenizer) -> None:
    (folder / "notes.txt").write_text("of somebody")
    Bundle(BundleConfig("en", "fr", random_model.config), random_model, tokenizer).save(folder)
    assert Bundle.load(folder).config.target == "fr"
    assert sorted(p.name for p in folder.iterdir()) == [
        "README.md",
        "config.json",
        "manifest.json",
        "notes.txt",
        "tokenizer",
        "weights.safetensors",
    ]
    assert [p.name for p in folder.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("release", sorted(Path(__file__).parent.joinpath("frozen").iterdir()), ids=lambda path: path.name)
def test_bundles_of_earlier_releases_are_read_and_say_the_same(release: Path) -> None:
    """Made with tools/freeze.py. Formats that were once released are read for ever."""
    expected = json.loads((release / "expected.json").read_text())
    translator = Translator(Bundle.load(release / "bundle"), BeamSearch(4))
    assert translator.translate(list(expected)) == list(expected.values())
