import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seq2seq.data.batch import TokenPairs, TokenRows
from seq2seq.data.sampler import BatchConfig, BatchPlan
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


def test_the_normalizer_is_the_mean_of_an_update() -> None:
    lengths = [(3, 1 + i % 5) for i in range(100)]
    batches = plan(lengths, max_tokens=20, accumulate=4)
    for first in (0, 4, 4 * batches.batches_per_epoch):
        tokens = [sum(lengths[row][1] for row in batches[n]) for n in range(first, first + 4)]
        assert {batches.normalizer(n) for n in range(first, first + 4)} == {sum(tokens) / 4}


def test_little_padding_on_natural_lengths() -> None:
    draw = np.random.default_rng(0)
    source = draw.integers(3, 40, 20000)
    target = np.clip(source + draw.integers(-4, 5, 20000), 1, None)
    shares = plan(list(zip(source.tolist(), target.tolist(), strict=True)), max_tokens=2000, bucket_width=1).padding_share()
    assert max(shares) < 0.06


def test_a_batch_shifts_the_target_by_one() -> None:
    pairs = TokenPairs(TokenRows([[7, EOS], [8, 9, EOS]]), TokenRows([[5, 6, EOS], [4, EOS]]))
    batch = pairs.batch([0, 1])
    assert batch.source.tolist() == [[7, EOS, PAD], [8, 9, EOS]]
    assert batch.target_input.tolist() == [[BOS, 5, 6], [BOS, 4, PAD]]
    assert batch.target_output.tolist() == [[5, 6, EOS], [4, EOS, PAD]]
    assert (batch.source_tokens, batch.target_tokens, batch.normalizer) == (5, 5, 5.0)
    assert batch.to("cpu").source.dtype == torch.long


def test_refuses_settings_that_cannot_be() -> None:
    with pytest.raises(ConfigProblem, match="max_tokens"):
        BatchConfig(max_tokens=0)
