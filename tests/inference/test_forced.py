"""Given translations are scored as search scores those it finds."""

import pytest

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.inference.engine import TorchEngine
from seq2seq.inference.forced import token_log_probabilities
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import ids, small_config


def test_the_score_of_a_found_translation_is_that_of_search() -> None:
    model = Transformer(small_config(norm_order="pre")).eval()
    sources = [[*ids(1, 1 + i % 9)[0].tolist(), EOS] for i in range(30)]
    found = [hypotheses[0] for hypotheses in TorchEngine([model]).search(BeamSearch(3, lengths=LengthLimits(1.0, 6)), sources)]
    targets = [[*hypothesis.tokens, EOS] for hypothesis in found]
    for batch_tokens in (4096, 20):
        scores = token_log_probabilities(model, sources, targets, batch_tokens)
        assert [len(row) for row in scores] == [len(target) for target in targets]
        assert [sum(row) for row in scores] == pytest.approx([hypothesis.log_probability for hypothesis in found], abs=1e-4)
