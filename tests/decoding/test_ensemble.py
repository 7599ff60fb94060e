"""Several toys as one, against search by brute force over the mean of their probabilities."""

from dataclasses import dataclass

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.ensemble import Ensemble, log_of_sum
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
from seq2seq.symbols import EOS, PAD
from tests.decoding.test_beam import Toy, all_translations, find

SOURCE = torch.tensor([[4, 5, EOS], [6, EOS, PAD]])


@dataclass
class Mean(Toy):
    """A toy whose probabilities are the mean of those of two."""

    def logits(self, seen: list[int]) -> torch.Tensor:
        both = torch.stack([Toy(self.seed + i).logits(seen).softmax(0) for i in range(2)])
        return both.mean(dim=0).log()


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6))
def test_a_wide_beam_is_exhaustive_search_over_the_mean(seed: int) -> None:
    search = BeamSearch(120, 3, LengthPenalty(), LengthLimits(0, 3))
    found = find(search, Ensemble([Toy(seed), Toy(seed + 1)]), SOURCE, places=1)
    for row, hypotheses in zip(SOURCE.tolist(), found, strict=True):
        expected = all_translations(Mean(seed), row, search.length_penalty, longest=3)[:3]
        assert [tuple(h.tokens) for h in hypotheses] == [tokens for _, tokens in expected]


def test_what_is_next_to_impossible_is_told_from_what_is_impossible() -> None:
    logits = torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(1))
    expected = logits.double().softmax(-1).sum(0).log()
    torch.testing.assert_close(log_of_sum(list(logits)), expected.float())
    logits[:, 0, :2] = torch.tensor([-200.0, -torch.inf])
    expected = logits.double().softmax(-1).sum(0).log()
    assert expected[0, 0] < -200
    torch.testing.assert_close(log_of_sum(list(logits)), expected.float())


def test_of_one_model_is_that_model() -> None:
    search = BeamSearch(3, 3, lengths=LengthLimits(0, 6))
    alone, together = find(search, Toy(3), SOURCE), find(search, Ensemble([Toy(3)]), SOURCE)
    assert [[h.tokens for h in of_one] for of_one in alone] == [[h.tokens for h in of_one] for of_one in together]
