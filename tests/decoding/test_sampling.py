import pytest
import torch

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.decoding.sampling import Sampling
from seq2seq.errors import ConfigProblem
from seq2seq.symbols import EOS, PAD
from tests.decoding.test_beam import Toy, find

SOURCE = torch.tensor([[4, 5, EOS], [6, EOS, PAD]])
LIMITS = LengthLimits(0, 6)


def test_the_same_seed_says_the_same_whatever_shares_the_batch() -> None:
    search = Sampling(3, seed=4, lengths=LIMITS)
    together = find(search, Toy(1), SOURCE)
    assert together == find(search, Toy(1), SOURCE)
    assert find(search, Toy(1), SOURCE[1:]) == [together[1]]
    assert together != find(Sampling(3, seed=5, lengths=LIMITS), Toy(1), SOURCE)


def test_top_k_1_is_greedy() -> None:
    for seed in range(10):
        sampled = find(Sampling(top_k=1, lengths=LIMITS), Toy(seed), SOURCE)
        greedy = find(BeamSearch(1, lengths=LIMITS), Toy(seed), SOURCE)
        assert [row[0].tokens for row in sampled] == [row[0].tokens for row in greedy]


def test_draws_follow_the_distribution() -> None:
    """First tokens of many draws against the softmax they are drawn from, at a temperature and with a nucleus."""
    model, temperature, top_p = Toy(2), 1.5, 0.9
    draws = find(Sampling(4000, temperature=temperature, top_p=top_p, lengths=LengthLimits(0, 1, 0, 1)), model, SOURCE[:1])[0]
    logits = model.logits([4, 5, EOS, 1])
    logits[:4] = float("-inf")  # neither special tokens nor, at the start, the end
    expected = (logits / temperature).softmax(0)
    ranked, order = expected.sort(descending=True)
    kept = order[(ranked.cumsum(0) - ranked) < top_p]
    expected = torch.zeros(7).index_put((kept,), expected[kept] / expected[kept].sum())
    counts = torch.bincount(torch.tensor([h.tokens[0] for h in draws]), minlength=7) / len(draws)
    torch.testing.assert_close(counts, expected, atol=0.03, rtol=0)


@pytest.mark.parametrize("wrong", [dict(temperature=0.0), dict(top_k=0), dict(top_p=0.0), dict(top_p=1.1), dict(n_best=0)])
def test_refuses_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ConfigProblem):
        Sampling(**wrong)
