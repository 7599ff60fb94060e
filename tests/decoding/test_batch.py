"""Sentences come and go; what has left takes no room."""

import pytest
import torch

from seq2seq.decoding import batch
from seq2seq.decoding.beam import Beam, BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.model.cache import Cache
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import ids, small_config


def test_what_has_left_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over a hundred sentences in eight places, tokens and cache stay as long as the sentences that are there."""
    tokens, sources, nodes = [], [], []
    put, put_cache = batch.put, Cache.put

    def spying(hypotheses: Beam, places: torch.Tensor, new: Beam) -> Beam:
        hypotheses = put(hypotheses, places, new)
        tokens.append(hypotheses.tokens.size(2))
        return hypotheses

    def spying_on_the_cache(cache: Cache, places: torch.Tensor, new: Cache) -> None:
        put_cache(cache, places, new)
        sources.append(cache.memory_mask.size(3))
        nodes.append(cache.width)

    monkeypatch.setattr(batch, "put", spying)
    monkeypatch.setattr(Cache, "put", spying_on_the_cache)
    model = Transformer(small_config(norm_order="pre")).eval()
    lengths = [40 - i * 38 // 99 for i in range(100)]  # the longest first
    texts = [[*ids(1, length)[0].tolist(), EOS] for length in lengths]
    found = dict(batch.decode(BeamSearch(3, lengths=LengthLimits(0, 7)), model, texts, 8))
    assert sorted(found) == list(range(100))
    assert len(tokens) > 10
    assert max(tokens) <= 1 + 7 + 1
    assert max(nodes) <= 3 * 8
    assert sources[-1] <= 10 < max(lengths)
