import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from seq2seq.data import sampler
from seq2seq.data.sampler import BatchConfig, BatchPlan
from seq2seq.data.tokens import TokenPairs, TokenRows
from seq2seq.errors import ConfigProblem
from seq2seq.symbols import BOS, EOS, PAD

LENGTHS = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200)


def plan(lengths: list[tuple[int, int]], seed: int = 1, **settings: int) -> BatchPlan:
    array = np.array(lengths, dtype=np.int32)
    return BatchPlan(array[:, 0], array[:, 1], BatchConfig(**settings), seed)


@given(LENGTHS, st.integers(40, 400), st.integers(1, 4), st.integers(0, 3))
def test_every_epoch_has_every_pair_once_within_the_budget(
    lengths: list[tuple[int, int]], max_tokens: int, width: int, epoch: int
) -> None:
    batches = plan(lengths, max_tokens=max_tokens, bucket_width=width)
    start = epoch * batches.batches_per_epoch
    seen = []
    for number in range(start, start + batches.batches_per_epoch):
        rows = batches[number]
        seen += rows.tolist()
        longest = max(max(lengths[row]) for row in rows)
        assert len(rows) * longest <= max_tokens or len(rows) == 1
    assert sorted(seen) == list(range(len(lengths)))


def test_the_order_is_a_function_of_seed_and_number_alone() -> None:
    lengths = [(1 + i % 7, 1 + i % 5) for i in range(300)]
    numbers = [0, 50, 3, 200, 3, 0]
    first, again = plan(lengths, max_tokens=60), plan(lengths, max_tokens=60)
    list(map(first.__getitem__, range(100)))  # having walked through it changes nothing
    assert all((first[n] == again[n]).all() for n in numbers)
    epoch = first.batches_per_epoch
    assert any(first[n].tolist() != first[n + epoch].tolist() for n in range(epoch))
    other = plan(lengths, seed=2, max_tokens=60)
    assert any(first[n].tolist() != other[n].tolist() for n in range(epoch))


@given(LENGTHS, st.sampled_from([(0.3, 1.0), (1.0, 2.5), (2.0, 3.7, 0.1), (0.001,)]), st.integers(20, 200))
def test_weights_say_how_often_an_epoch_takes_a_pair(
    lengths: list[tuple[int, int]], kinds: tuple[float, ...], max_tokens: int
) -> None:
    array = np.array(lengths, dtype=np.int32)
    weights = np.array([kinds[i % len(kinds)] for i in range(len(lengths))], dtype=np.float32)
    batches = BatchPlan(array[:, 0], array[:, 1], BatchConfig(max_tokens), 1, weights)
    for epoch in range(2):
        order = batches._epoch(0, epoch)[0]
        taken = np.bincount(order, minlength=len(lengths))
        for kind in kinds:
            mine = weights == np.float32(kind)
            if mine.any():
                assert abs(taken[mine].sum() - kind * mine.sum()) <= 1 + 1e-3 * mine.sum()
                assert set(taken[mine].tolist()) <= {int(kind), int(kind) + 1, 1}
        for n in range(epoch * batches.batches_per_epoch, (epoch + 1) * batches.batches_per_epoch):
            longest = max(max(lengths[row]) for row in batches[n])
            assert len(batches[n]) * longest <= max_tokens or len(batches[n]) == 1


@given(st.lists(st.floats(2**-10, 3, width=32), min_size=1, max_size=200), st.integers(0, 5))
def test_every_pair_may_have_a_weight_of_its_own(weights: list[float], epoch: int) -> None:
    """As one that tells how good it is."""
    lengths = np.full(len(weights), 5, dtype=np.int32)
    plan = BatchPlan(lengths, lengths, BatchConfig(50), 1, np.array(weights, dtype=np.float32))
    taken = np.bincount(plan._epoch(0, epoch)[0], minlength=len(weights))
    assert abs(taken.sum() - max(1, sum(weights))) <= 1
    assert plan.pairs_per_epoch == round(float(np.array(weights, dtype=np.float32).sum(dtype=np.float64)))
    assert (np.abs(taken - weights) < 1).all() or taken.sum() == 1


def test_over_epochs_every_pair_gets_its_weight() -> None:
    """Even if every pair has a length of its own."""
    lengths = np.arange(5, 45, dtype=np.int32)
    weights = np.where(np.arange(40) % 2, 0.25, 1.5).astype(np.float32)
    batches = BatchPlan(lengths, lengths, BatchConfig(50), 1, weights)
    taken = np.zeros(40)
    for n in range(400 * batches.batches_per_epoch):
        np.add.at(taken, batches[n], 1 / 400)
    assert np.abs(taken - weights).max() < 0.15


def test_little_padding_on_natural_lengths() -> None:
    draw = np.random.default_rng(0)
    source = draw.integers(3, 40, 20000)
    target = np.clip(source + draw.integers(-4, 5, 20000), 1, None)
    shares = plan(list(zip(source.tolist(), target.tolist(), strict=True)), max_tokens=2000, bucket_width=1).padding_share()
    assert max(shares) < 0.06


def test_a_batch_shifts_the_target_by_one() -> None:
    pairs = TokenPairs(TokenRows([[7, EOS], [8, 9, EOS]]), TokenRows([[5, 6, EOS], [4, EOS]]))
    made = pairs.batch([0, 1])
    assert made.source.tolist() == [[7, EOS, PAD], [8, 9, EOS]]
    assert made.target_input.tolist() == [[BOS, 5, 6], [BOS, 4, PAD]]
    assert made.target_output.tolist() == [[5, 6, EOS], [4, EOS, PAD]]
    assert (made.source_tokens, made.target_tokens) == (5, 5)
    assert made.to(torch.device("cpu")).source.dtype == torch.long


def test_a_batch_in_halves_is_the_same_pairs() -> None:
    rows = [[7, EOS], [8, 9, EOS], [6, EOS]]
    halves = TokenPairs(TokenRows(rows), TokenRows(rows)).batch([0, 1, 2]).halves()
    assert [half.source.tolist() for half in halves] == [[[7, EOS, PAD], [8, 9, EOS]], [[6, EOS, PAD]]]
    assert [(half.source_tokens, half.target_tokens) for half in halves] == [(5, 5), (2, 2)]
    assert len(halves[1].halves()) == 1


@pytest.mark.parametrize("weighted", [False, True])
def test_a_large_corpus_is_planned_in_chunks(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    """Every epoch has every pair, chunk after chunk, each chunk with pairs from all over; any batch is found without those before."""
    monkeypatch.setattr(sampler, "CHUNK", 300)
    monkeypatch.setattr(sampler, "BLOCK", 8)
    lengths = np.random.default_rng(0).integers(2, 20, (2, 1003)).astype(np.int32)
    weights = np.where(np.arange(1003) % 3 == 0, 2.0, 1.0).astype(np.float32) if weighted else None
    made = BatchPlan(lengths[0], lengths[1], BatchConfig(100), 1, weights)
    assert len(made._batches) == 4
    epochs = [[made[n].tolist() for n in range(e * made.batches_per_epoch, (e + 1) * made.batches_per_epoch)] for e in (0, 1)]
    for epoch in epochs:
        taken = [row for batch in epoch for row in batch]
        assert set(taken) == set(range(1003))
        assert weighted or len(taken) == 1003
    assert epochs[0] != epochs[1]
    first = made.batches_per_epoch // 4
    assert len({row // 100 for batch in epochs[0][:first] for row in batch}) > 9
    anew = BatchPlan(lengths[0], lengths[1], BatchConfig(100), 1, weights)
    assert anew[made.batches_per_epoch + 5].tolist() == epochs[1][5]


@pytest.mark.parametrize("weighted", [False, True])
@given(LENGTHS, st.integers(1, 40), st.integers(0, 2))
def test_what_is_too_long_is_left_out(weighted: bool, lengths: list[tuple[int, int]], max_length: int, epoch: int) -> None:
    """The plan is that of the pairs that fit, under their numbers in the whole corpus."""
    array = np.array(lengths, dtype=np.int32)
    weights = np.where(np.arange(len(array)) % 3 == 0, 2.0, 1.0).astype(np.float32) if weighted else None
    fitting = np.flatnonzero(array.max(1) <= max_length)
    whole = BatchPlan(array[:, 0], array[:, 1], BatchConfig(60), 1, weights, max_length)
    assert whole.pairs == len(fitting)
    of_these = None if weights is None else weights[fitting]
    assume(len(fitting))
    alone = BatchPlan(array[fitting, 0], array[fitting, 1], BatchConfig(60), 1, of_these)
    assert whole.batches_per_epoch == alone.batches_per_epoch
    for number in range(epoch * alone.batches_per_epoch, (epoch + 1) * alone.batches_per_epoch):
        assert whole[number].tolist() == fitting[alone[number]].tolist()


@pytest.mark.parametrize("weighted", [False, True])
def test_a_chunk_may_have_nothing_that_fits(monkeypatch: pytest.MonkeyPatch, weighted: bool) -> None:
    monkeypatch.setattr(sampler, "CHUNK", 32)
    monkeypatch.setattr(sampler, "BLOCK", 8)
    lengths = np.full(200, 9, dtype=np.int32)
    lengths[5:10] = 2
    weights = np.arange(200, dtype=np.float32) % 2 + 1 if weighted else None
    made = BatchPlan(lengths, lengths, BatchConfig(100), 1, weights, max_length=3)
    assert (made._batches == 0).any()
    assert made.pairs == 5
    taken = sorted(row for n in range(made.batches_per_epoch) for row in made[n].tolist())
    assert set(taken) == set(range(5, 10))
    assert weighted or len(taken) == 5
    assert made.padding_share() == (0, 0)


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=100), st.sampled_from([100, 1 << 20]))
def test_rows_are_found_wherever_they_begin(rows: list[list[int]], vocab_size: int) -> None:
    held = TokenRows(rows, vocab_size)
    assert [held[row].tolist() for row in range(len(held))] == rows
    assert held.lengths.tolist() == [len(row) for row in rows]


@pytest.mark.parametrize("count", [0, 3])
def test_a_plan_may_have_no_pair(count: int) -> None:
    lengths = np.full(count, 9, dtype=np.int32)
    made = BatchPlan(lengths, lengths, BatchConfig(100), 1, max_length=3)
    assert (made.pairs, made.batches_per_epoch) == (0, 0)


def test_a_row_without_tokens_is_no_batch() -> None:
    with pytest.raises(AssertionError, match="all padding"):
        TokenPairs(TokenRows([[]]), TokenRows([[EOS]])).batch([0])


def test_refuses_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigProblem, match="max_tokens"):
        BatchConfig(max_tokens=0)
