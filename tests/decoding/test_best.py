"""The grouped search for the best continuations, against sorting."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seq2seq.decoding.best import best_continuations


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sentences=st.integers(1, 3),
    slots=st.integers(1, 4),
    vocabulary=st.integers(4, 700),
    count=st.integers(1, 8),
)
def test_equals_sorting(seed: int, sentences: int, slots: int, vocabulary: int, count: int) -> None:
    torch.manual_seed(seed)
    count = min(count, slots * vocabulary)
    log_probs, scores = torch.randn(sentences, slots, vocabulary), torch.randn(sentences, slots)
    log_probs[torch.rand(log_probs.shape) < 0.2] = float("-inf")
    expected = (scores[:, :, None] + log_probs).flatten(1).sort(dim=1, descending=True).values[:, :count]
    best, tokens, of_slots = best_continuations(log_probs, scores, count)
    torch.testing.assert_close(best, expected)
    rows = torch.arange(sentences)[:, None]
    torch.testing.assert_close(scores[rows, of_slots] + log_probs[rows, of_slots, tokens], best)
    for sentence in (of_slots * vocabulary + tokens).masked_fill(best == float("-inf"), -1).tolist():
        real = [place for place in sentence if place >= 0]
        assert len(set(real)) == len(real)
