"""Bundles that are damaged or made to do harm: none is taken as good, and none runs anything."""

import errno
import io
import json
import os
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seq2seq.atomic import _sealed, write_manifest
from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.download import open_member
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.errors import BundleProblem, DataProblem
from seq2seq.model.transformer import Transformer
from seq2seq.training.state import States
from tests.promises.children import SOAK


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, random_model: Transformer) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "bundle"
    Bundle(BundleConfig("en", "de", random_model.config), random_model, tokenizer).save(folder)
    return folder


def damage(folder: Path, draw: random.Random) -> str:
    """One random damage."""
    path = draw.choice([path for path in sorted(folder.rglob("*")) if path.is_file()])
    data = bytearray(path.read_bytes())
    place = draw.randrange(len(data))
    kind = draw.choice(("bit", "byte", "cut", "zeros", "grow", "lose", "swap"))
    if kind == "bit":
        data[place] ^= 1 << draw.randrange(8)
    elif kind == "byte":
        data[place] = (data[place] + draw.randrange(1, 256)) % 256
    elif kind == "cut":
        del data[place:]
    elif kind == "zeros":
        length = len(data) - place
        data[place:] = bytes(length) if any(data[place:]) else b"\x01" * length
    elif kind == "grow":
        data[place:place] = draw.randbytes(draw.randrange(1, 9))
    elif kind == "swap":
        other = draw.choice([p for p in sorted(folder.rglob("*")) if p.is_file() and p.read_bytes() != bytes(data)])
        data = bytearray(other.read_bytes())
    path.write_bytes(data)
    if kind == "lose":
        path.unlink()
    return f"{kind} at {place} of {path.name}"


def test_no_damage_is_taken_as_good(whole: Path, tmp_path: Path) -> None:
    wanted, accepted = (1000 if SOAK else 60), []
    for seed in range(wanted):
        folder = tmp_path / "bundle"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        done = damage(folder, random.Random(seed))
        try:
            Bundle.load(folder)
        except BundleProblem:
            continue
        accepted.append(done)
    assert accepted == []
    print(f"\n{wanted:,} random damages to a bundle: {len(accepted)} accepted")


class Harm:
    """Pickled, it makes a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


def _config(changes: dict[str, object]) -> Callable[[Path, Path], None]:
    def plant(folder: Path, mark: Path) -> None:
        path = folder / "config.json"
        content = json.loads(path.read_text())
        for dotted, value in changes.items():
            place = content
            *parents, last = dotted.split(".")
            for parent in parents:
                place = place[parent]
            place[last] = json.loads(json.dumps(value).replace("MARK", str(mark)))
        path.write_text(json.dumps(content))

    return plant


def _file(name: str, data: Callable[[Path], bytes]) -> Callable[[Path, Path], None]:
    def plant(folder: Path, mark: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data(mark))

    return plant


def _pickled(mark: Path) -> bytes:
    return pickle.dumps(Harm(mark))


def _torch_saved(mark: Path) -> bytes:
    stream = io.BytesIO()
    torch.save({"weights": Harm(mark)}, stream)
    return stream.getvalue()


TARGET = {"_target_": "os.mkdir", "path": "MARK"}
PROBES: dict[str, Callable[[Path, Path], None]] = {
    "pickled weights": _file("weights.safetensors", _pickled),
    "torch.save as weights": _file("weights.safetensors", _torch_saved),
    "pickled tokenizer": _file("tokenizer/joint.model", _pickled),
    "pickled tokenizer settings": _file("tokenizer/tokenizer.json", _pickled),
    "pickled config": _file("config.json", _pickled),
    "a pickle beside": _file("pytorch_model.bin", _torch_saved),
    "python beside": _file("sitecustomize.py", lambda mark: f"import os; os.mkdir({str(mark)!r})".encode()),
    "python in the tokenizer": _file("tokenizer/__init__.py", lambda mark: f"import os; os.mkdir({str(mark)!r})".encode()),
    "yaml for json": _file("config.json", lambda mark: f"!!python/object/apply:os.mkdir ['{mark}']".encode()),
    "target at the top": _config({"_target_": "os.mkdir", "path": "MARK"}),
    "target for the model": _config({"model": TARGET}),
    "target in the model": _config({"model._target_": "os.mkdir"}),
    "target for a language": _config({"source": TARGET}),
    "target for a number": _config({"model.layers": TARGET}),
    "target in a list": _config({"model.layers": [TARGET]}),
    "partial": _config({"model._partial_": True, "model._target_": "os.mkdir"}),
    "interpolation of the environment": _config({"source": "${oc.env:HOME}", "extra": "${oc.env:HOME}"}),
    "interpolation of a decoder": _config({"model.positions": "${oc.decode:MARK}"}),
    "evaluated text": _config({"model.dropout": "__import__('os').mkdir('MARK')"}),
    "format string": _config({"model.norm": "{0.__class__.__init__.__globals__}"}),
    "remote code": _config({"trust_remote_code": True, "auto_map": {"AutoModel": "model.Model"}}),
    "a path out": _config({"model.tied_embeddings": "../../../etc/passwd"}),
    "a huge model": _config({"model.d_model": 10**9, "model.heads": 1, "model.layers": 1}),
    "a deep model": _config({"model.layers": 10**9}),
}


@pytest.mark.parametrize("name", PROBES)
def test_nothing_in_a_bundle_is_run(whole: Path, tmp_path: Path, name: str) -> None:
    """The manifest agrees with what was planted, as somebody who means harm would have it."""
    folder, mark = tmp_path / "bundle", tmp_path / "harm"
    shutil.copytree(whole, folder)
    PROBES[name](folder, mark)
    (folder / "manifest.json").unlink()
    write_manifest(folder, "seq2seq bundle", 1, "seq2seq by hand")
    if name in ("a pickle beside", "python beside", "python in the tokenizer"):  # what is not read may lie there
        Bundle.load(folder)
    else:
        with pytest.raises(BundleProblem):
            Bundle.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "tokenizer/../../outside", "link"])
def test_no_path_leads_out_of_a_bundle(whole: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(whole, folder)
    (tmp_path / "outside").write_text("secret")
    if name == "link":
        (folder / "link").symlink_to(tmp_path / "outside")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": "0" * 64}
    (folder / "manifest.json").write_text(_sealed({key: value for key, value in manifest.items() if key != "seal"}))
    with pytest.raises(BundleProblem, match="outside"):
        Bundle.load(folder)


def test_a_state_is_not_unpickled(tmp_path: Path) -> None:
    state, mark = tmp_path / "states" / "step-00000001", tmp_path / "harm"
    state.mkdir(parents=True)
    (state / "tensors.safetensors").write_bytes(_torch_saved(mark))
    (state / "numbers.json").write_text("{}")
    write_manifest(state, "seq2seq training state", 1, "seq2seq by hand")
    states = States(tmp_path / "states")
    with pytest.raises(BundleProblem, match="no state to go on from"):
        states.newest()
    assert not mark.exists()


def test_a_damaged_member_of_an_archive_is_named(tmp_path: Path) -> None:
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("a.en", "".join(f"sentence {i}\n" for i in range(1000)))
    whole = archive.read_bytes()
    with pytest.raises(OSError, match="No space left"), open_member(archive, ".en"):
        raise OSError(errno.ENOSPC, "No space left on device")  # no fault of the archive
    seen = 0
    for place in range(len(whole)):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            with open_member(archive, ".en") as stream:
                stream.read()
        except DataProblem as problem:
            seen += "damaged" in problem.message
    assert seen > 0.8 * len(whole)  # others are not needed to read it, or it is no archive any more


def test_archives_unpack_nothing(tmp_path: Path) -> None:
    evil = tmp_path / "a" / "evil.zip"
    evil.parent.mkdir()
    with zipfile.ZipFile(evil, "w") as packed:
        packed.writestr("../harm.en", "x")
        packed.writestr("/harm.en", "x")
    with open_member(evil, ".en") as stream:
        assert stream.read() == b"x"
    tar = tmp_path / "a" / "evil.tar"
    with tarfile.open(tar, "w") as archive:
        entry = tarfile.TarInfo("../harm")
        archive.addfile(entry, io.BytesIO(b""))
    with pytest.raises(DataProblem, match="not a whole zip"), open_member(tar, ".en"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]
    print(f"\n{len(PROBES) + 4 + 3} probes: nothing was run or reached")
