"""batch.max_tokens=auto: what fits, and that a run keeps what it began with."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.cli.train import _ACCUMULATE, _batch
from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.errors import MachineProblem
from seq2seq.model.transformer import Transformer
from seq2seq.training import memory
from seq2seq.training.folder import RunFolder
from seq2seq.training.memory import fitted, free_memory, measured
from seq2seq.training.options import Optimizer, TrainerOptions
from seq2seq.training.processes import ALONE
from tests.conftest import small_config


@given(st.integers(1, 60_000), st.floats(1, 1e6), st.floats(1, 1e12))
def test_an_update_is_parted_into_as_few_batches_as_fit(per_update: int, bytes_a_token: float, free: float) -> None:
    if free < bytes_a_token:
        with pytest.raises(MachineProblem):
            fitted(BatchConfig("auto", per_update=per_update), bytes_a_token, free)
        return
    found = fitted(BatchConfig("auto", per_update=per_update), bytes_a_token, free)
    assert isinstance(found.max_tokens, int)
    assert found.max_tokens * bytes_a_token <= free * (1 + 1e-9)
    assert per_update <= found.max_tokens * found.accumulate < per_update + found.accumulate
    assert found.accumulate == 1 or per_update * bytes_a_token / (found.accumulate - 1) > free - bytes_a_token


def pairs(count: int) -> TokenPairs:
    rows = [[4 + i % 30] * (1 + i % 20) + [2] for i in range(count)]
    return TokenPairs(TokenRows(rows), TokenRows(rows))


def test_more_memory_larger_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Transformer(small_config())
    found = []
    for free in (2, 4, 8, 10_000):
        monkeypatch.setattr(memory, "free_memory", lambda on_cpu, free=free: free << 20)
        found.append(measured(BatchConfig("auto", per_update=5000), model, pairs(400)))
    assert [b.accumulate for b in found] == sorted({b.accumulate for b in found}, reverse=True)
    assert found[-1] == BatchConfig(5000, 1, 5000)
    assert model.training


def test_a_wider_model_keeps_more_of_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda on_cpu: 16 << 20)
    narrow, wide = (measured(BatchConfig("auto"), Transformer(small_config(d_model=d)), pairs(400)).accumulate for d in (16, 64))
    assert narrow < wide < 8 * narrow


def test_there_is_memory_here() -> None:
    assert 1 << 20 < free_memory() < 1 << 50


def test_a_run_that_goes_on_keeps_its_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were they measured anew, a run would depend on what else runs when it is taken up again."""
    model, folder = Transformer(small_config()), RunFolder(tmp_path)
    monkeypatch.setattr(memory, "free_memory", lambda on_cpu: 8 << 20)
    job = SimpleNamespace(
        batch=BatchConfig("auto", per_update=5000),
        resume="auto",
        trainer=TrainerOptions(accelerator="cpu"),
        optimizer=Optimizer(),
    )
    first = _batch(job, folder, model, pairs(400), ALONE)  # type: ignore[arg-type]
    assert first.accumulate > 1
    (tmp_path / "states" / "step-1").mkdir(parents=True)
    folder.identity.write_text(json.dumps({"run": {_ACCUMULATE: str(first.accumulate)}, "files": []}))
    monkeypatch.setattr(memory, "free_memory", lambda on_cpu: 1 << 40)
    assert _batch(job, folder, model, pairs(400), ALONE) == first  # type: ignore[arg-type]
    job.resume = "restart"
    assert _batch(job, folder, model, pairs(400), ALONE).accumulate == 1  # type: ignore[arg-type]
    job.batch = BatchConfig(300, 2)
    assert _batch(job, folder, model, pairs(400), ALONE) is job.batch  # type: ignore[arg-type]
