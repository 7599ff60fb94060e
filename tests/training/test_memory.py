"""batch.max_tokens=auto: what fits."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.sampler import BatchConfig
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.errors import MachineProblem
from seq2seq.model.transformer import Transformer
from seq2seq.training import memory
from seq2seq.training.memory import fitted, free_memory, left_in_groups, measured
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


@pytest.mark.parametrize("version", [1, 2])
def test_the_limits_of_all_groups_around_this_process_count(tmp_path: Path, version: int) -> None:
    """As SLURM, systemd and containers nest them."""
    top = tmp_path / "memory" if version == 1 else tmp_path
    names = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file") if version == 1 else ("max", "current", "inactive_file")
    for group, limit, used, files in (("job", 1000, 500, 100), ("job/step", 900, 700, 50), ("job/step/task", None, 10, 0)):
        folder = top / group
        folder.mkdir(parents=True)
        (folder / f"memory.{names[0]}").write_text("max\n" if limit is None else f"{limit}\n")
        (folder / f"memory.{names[1]}").write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"cache 1\n{names[2]} {files}\n")
    of_process = tmp_path / "cgroup"
    of_process.write_text("3:cpu:/other\n4:memory:/job/step/task\n" if version == 1 else "0::/job/step/task\n")
    assert sorted(left_in_groups(tmp_path, of_process)) == [250, 600]
    assert left_in_groups(tmp_path, tmp_path / "none") == []
