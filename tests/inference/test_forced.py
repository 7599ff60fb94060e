"""Given translations are scored as search scores those it finds."""

import pytest
import torch

from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits
from seq2seq.inference.engine import TorchEngine
from seq2seq.inference.forced import token_log_probabilities
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import ids, small_config


@pytest.mark.parametrize("count", [1, 2])
def test_the_score_of_a_found_translation_is_that_of_search(count: int) -> None:
    models = [Transformer(small_config(norm_order="pre")).eval() for _ in range(count)]
    sources = [[*ids(1, 1 + i % 9)[0].tolist(), EOS] for i in range(30)]
    found = [hypotheses[0] for hypotheses in TorchEngine(models).search(BeamSearch(3, lengths=LengthLimits(1.0, 6)), sources)]
    targets = [[*hypothesis.tokens, EOS] for hypothesis in found]
    for batch_tokens in (4096, 20):
        scores = token_log_probabilities(models, sources, targets, batch_tokens)
        assert [len(row) for row in scores] == [len(target) for target in targets]
        assert [sum(row) for row in scores] == pytest.approx([hypothesis.log_probability for hypothesis in found], abs=1e-4)


def test_where_memory_is_short_batches_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Transformer(small_config()).eval()
    sources = [[*ids(1, 1 + i % 5)[0].tolist(), EOS] for i in range(16)]
    expected = token_log_probabilities([model], sources, sources)
    plain, asked = model.forward, []

    def short_of_memory(source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        asked.append(len(source))
        if len(source) > 4:
            raise RuntimeError("DefaultCPUAllocator: not enough memory")
        return plain(source, target)

    monkeypatch.setattr(model, "forward", short_of_memory)
    found = token_log_probabilities([model], sources, sources)
    assert asked[:4] == [16, 8, 4, 4]
    assert [sum(row) for row in found] == pytest.approx([sum(row) for row in expected], abs=1e-5)
    monkeypatch.setattr(model, "forward", lambda *_: (_ for _ in ()).throw(RuntimeError("not enough memory")))
    with pytest.raises(RuntimeError, match="not enough memory"):
        token_log_probabilities([model], sources, sources)
