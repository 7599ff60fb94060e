"""What a run finds out about its machine, it keeps."""

import json
from pathlib import Path

import pytest

from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.model.transformer import Transformer
from seq2seq.training import memory, settled
from seq2seq.training.folder import RunFolder
from seq2seq.training.options import TrainerOptions
from seq2seq.training.processes import ALONE
from seq2seq.training.settled import Settled
from tests.conftest import small_config


def settle(folder: Path, batch: BatchConfig, anew: bool = False) -> Settled:
    rows = TokenRows([[4 + i % 30] * (1 + i % 20) + [2] for i in range(400)])
    options = TrainerOptions(accelerator="cpu", precision="auto")
    return settled.settle(batch, 1, options, Transformer(small_config()), TokenPairs(rows, rows), RunFolder(folder), anew, ALONE)


def go_on(folder: Path, identity: dict[str, str]) -> None:
    (folder / "states" / "step-1").mkdir(parents=True)
    RunFolder(folder).identity.write_text(json.dumps({"run": identity, "files": []}))


def test_a_run_that_goes_on_keeps_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were they measured anew, a run would depend on what else runs when it is taken up again."""
    auto = BatchConfig("auto", per_update=5000)
    monkeypatch.setattr(memory, "free_memory", lambda on_cpu: 8 << 20)
    first = settle(tmp_path, auto)
    assert first.batch.accumulate > 1
    go_on(tmp_path, first.identity)
    monkeypatch.setattr(memory, "free_memory", lambda on_cpu: 1 << 40)
    assert settle(tmp_path, auto) == first
    assert settle(tmp_path, auto, anew=True).batch.accumulate == 1
    given = BatchConfig(300, 2)
    assert settle(tmp_path, given).batch is given


def test_a_run_that_goes_on_keeps_its_products(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two libraries, and two precisions, differ in the last bits."""
    chosen = []
    monkeypatch.setattr(settled, "choose_precision", lambda on_cpu, before=None: before or "float32")
    monkeypatch.setattr(
        settled, "choose_library", lambda dtype, before=None: chosen.append((dtype, before)) or before or "torch's"
    )
    first = settle(tmp_path, BatchConfig(300, 2))
    assert [before for _, before in chosen] == [None, "torch's"], "what was chosen is put in place"
    assert (first.precision, first.identity["products by"]) == ("float32", "torch's")
    go_on(tmp_path, first.identity | {"products by": "oneDNN", "products in": "bfloat16"})
    again = settle(tmp_path, BatchConfig(300, 2))
    assert (again.precision, again.identity["products by"]) == ("bfloat16", "oneDNN")
    assert chosen[-1] == (settled.dtype_of("bfloat16"), "oneDNN")
    assert settle(tmp_path, BatchConfig(300, 2), anew=True) == first
