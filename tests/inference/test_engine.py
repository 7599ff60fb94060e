"""Engines: batches of every size and any number of processes find the same."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.sampling import Sampling
from seq2seq.decoding.stepper import Hypothesis, Search
from seq2seq.errors import ConfigProblem, MachineProblem
from seq2seq.inference.engine import Engine, TorchEngine
from seq2seq.inference.native import Native, best_precision
from seq2seq.inference.products import to_bfloat16
from seq2seq.inference.workers import Workers
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import ids, small_config

SHORT = LengthLimits(1.0, 5)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked on Linux only")


@pytest.fixture
def model() -> Transformer:
    return Transformer(small_config(positions="rotary")).eval()


@pytest.fixture
def sources() -> list[list[int]]:
    return [[*ids(1, 1 + 7 * i % 50)[0].tolist(), EOS] for i in range(90)]


@pytest.mark.parametrize("search", [BeamSearch(1, lengths=SHORT), BeamSearch(4, 2, lengths=SHORT), Sampling(2, lengths=SHORT)])
def test_batches_of_every_size_find_the_same(search: Search, model: Transformer, sources: list[list[int]]) -> None:
    some = sources[:40]
    together = TorchEngine([model], 40, 10**6).search(search, some)
    for batch_size, batch_tokens in ((1, 10**6), (7, 10**6), (32, 100)):
        found = TorchEngine([model], batch_size, batch_tokens).search(search, some)
        assert [[h.tokens for h in of_one] for of_one in found] == [[h.tokens for h in of_one] for of_one in together]


@linux_only
def test_workers_answer_where_the_machine_has_more_threads_than_workers() -> None:
    """Threads of OpenMP do not survive a fork: who waits for them waits for ever."""
    program = """
import torch
from seq2seq.decoding.beam import BeamSearch
from seq2seq.inference.engine import TorchEngine
from seq2seq.inference.workers import Workers
from seq2seq.model.transformer import Transformer
from tests.conftest import small_config
torch.set_num_threads(4)
torch.randn(1 << 20).exp_()
engine, search = TorchEngine([Transformer(small_config()).eval()], 8), BeamSearch(2, max_target_length=5)
sources = [[4 + i % 30, 5, 3] for i in range(70)]
found = Workers(engine, 2).search(search, sources)
assert [[h.tokens for h in of_one] for of_one in found] == [[h.tokens for h in of_one] for of_one in engine.search(search, sources)]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr


@linux_only
def test_more_workers_than_the_sentences_are_worth(sources: list[list[int]]) -> None:
    workers = Workers(_Echo(), 3)
    assert 2 * 32 <= len(sources) < 3 * 32
    assert [of_one[0].tokens for of_one in workers.search(BeamSearch(1), sources)] == sources
    assert workers._connections


@linux_only
def test_workers_find_the_same(model: Transformer, sources: list[list[int]]) -> None:
    engine, search = TorchEngine([model], 8), BeamSearch(3, lengths=SHORT)
    workers = Workers(engine, 2)
    found = workers.search(search, sources)
    assert workers._connections
    assert [of_one[0].tokens for of_one in found] == [of_one[0].tokens for of_one in engine.search(search, sources)]
    assert workers.search(search, sources[:3]) == engine.search(search, sources[:3])


@linux_only
def test_a_worker_that_was_killed_is_an_error(model: Transformer, sources: list[list[int]]) -> None:
    workers, search = Workers(_Names(), 2), BeamSearch(1)
    pid = workers.search(search, sources)[0][0].tokens[0]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)
    with pytest.raises(MachineProblem, match="killed"):
        workers.search(search, sources)


@linux_only
def test_what_goes_wrong_in_a_worker_is_told_here(sources: list[list[int]]) -> None:
    workers = Workers(_Broken(), 2)
    with pytest.raises(ConfigProblem, match="no such thing"):
        workers.search(BeamSearch(1), sources)


@linux_only
def test_after_an_error_the_next_search_gets_its_own_answers(sources: list[list[int]]) -> None:
    """One worker fails at once, the other answers: that answer must not be taken for one to the next question."""
    workers = Workers(_Echo(), 2)
    longest = max(range(len(sources)), key=lambda i: len(sources[i]))
    with pytest.raises(ConfigProblem, match="refused"):
        workers.search(BeamSearch(1), [[*source, -1] if i == longest else source for i, source in enumerate(sources)])
    others = [[4, *source] for source in sources]
    assert [of_one[0].tokens for of_one in workers.search(BeamSearch(1), others)] == others


def test_precision_by_machine_and_settings_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_it, precision in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has_it=has_it: has_it)
        assert best_precision(torch.device("cuda")) == precision
    assert best_precision(torch.device("cpu")) in ("int8", "float32")
    with pytest.raises(ConfigProblem):
        Native(workers=0)
    with pytest.raises(ConfigProblem, match="workers=2 is for a CPU"):
        Native(workers=2).make([], torch.device("cuda"), 64)


def test_where_memory_is_very_short_each_sentence_is_by_itself(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even begun beside another one: a sentence is given up for its own sake only."""

    def short_of_memory(search: object, stepper: object, sources: list[list[int]], *_: object) -> object:
        if len(sources) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield 0, [Hypothesis(sources[0], 0.0, 0.0)]

    monkeypatch.setattr("seq2seq.inference.engine.decode", short_of_memory)
    sources = [[4 + i, EOS] for i in range(9)]
    assert [found[0].tokens for found in TorchEngine([model]).search(BeamSearch(1), sources)] == sources


@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
def test_weights_in_bfloat16_know_as_exactly_where_tokens_stand(positions: str) -> None:
    embedding = Transformer(small_config(positions=positions)).eval().source_embedding
    places = torch.arange(5)
    _, rotation = embedding(ids(2, 5), places)
    to_bfloat16(embedding)
    x, after = embedding(ids(2, 5), places)
    assert x.dtype == torch.bfloat16
    assert rotation is None or torch.equal(after.turns, rotation.turns)


class _Names(TorchEngine):
    """Says which process it is in."""

    def __init__(self) -> None: ...

    def search(self, search: Search, sources: object, wishes: object = ()) -> object:  # type: ignore[override]
        return [[Hypothesis([os.getpid()], 0.0, 0.0)] for _ in sources]  # type: ignore[attr-defined]


class _Echo(TorchEngine):
    """Says what it is given, and refuses what ends in -1."""

    def __init__(self) -> None: ...

    def search(self, search: Search, sources: object, wishes: object = ()) -> object:  # type: ignore[override]
        if any(source[-1] == -1 for source in sources):  # type: ignore[attr-defined]
            raise ConfigProblem("refused", "ask for another")
        return [[Hypothesis(list(source), 0.0, 0.0)] for source in sources]  # type: ignore[attr-defined]


class _Broken(TorchEngine):
    def __init__(self) -> None: ...

    def search(self, search: Search, sources: object, wishes: object = ()) -> object:  # type: ignore[override]
        raise ConfigProblem("no such thing", "try another")


def accepts(engine: TorchEngine, workers: Workers) -> list[Engine]:
    """Checked by mypy: both are engines."""
    return [engine, workers]
