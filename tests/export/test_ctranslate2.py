"""A bundle through CTranslate2: another implementation of the same network and search says the same."""

from pathlib import Path

import pytest
import torch

from seq2seq.bundle import Bundle, BundleConfig
from seq2seq.data.tokenizer import Tokenizer
from seq2seq.decoding.beam import BeamSearch
from seq2seq.decoding.penalties import LengthLimits, LengthPenalty
from seq2seq.decoding.sampling import Sampling
from seq2seq.errors import ConfigProblem
from seq2seq.export.ctranslate2 import export
from seq2seq.export.ctranslate2_engine import CTranslate2
from seq2seq.inference.engine import TorchEngine
from seq2seq.model.config import TransformerConfig
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import EOS
from tests.conftest import counting_pairs

VARIANTS = [
    dict(),
    dict(norm_order="pre"),
    dict(norm_order="pre", positions="rotary", activation="gelu"),
    dict(norm="rms", norm_order="pre", activation="swiglu", tied_embeddings="two-way"),
    dict(positions="learned", decoder_layers=1, tied_embeddings="none"),
]


def bundle_of(tokenizer: Tokenizer, **changes: object) -> Bundle:
    sizes = dict(source_vocab_size=tokenizer.source_vocab_size, target_vocab_size=tokenizer.target_vocab_size)
    settings = sizes | dict(layers=2, d_model=32, heads=4, d_feedforward=64, max_length=64, dropout=0.0) | changes
    config = TransformerConfig(**settings)  # type: ignore[arg-type]
    model = Transformer(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # far from the symmetric start: biases and norms must matter
            parameter.add_(torch.randn_like(parameter) * 0.2)
        last = model.decoder.norm if config.norm_order == "pre" else model.decoder.layers[-1].feedforward_residual.norm
        if config.norm == "layer":  # let sentences end now and then
            towards_the_end = torch.randn_like(last.bias) * 0.5
            last.bias.add_(towards_the_end)
            model.output.weight[EOS].add_(towards_the_end * 2)
    return Bundle(BundleConfig("en", "de", config), model, tokenizer)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("beam", [1, 4])
def test_finds_the_same_hypotheses(variant: dict, beam: int, tokenizer: Tokenizer) -> None:
    bundle = bundle_of(tokenizer, **variant)
    sources = tokenizer.encode_source([source for source, _ in counting_pairs(30)])
    search = BeamSearch(beam, beam, LengthPenalty(), LengthLimits(1.0, 20), max_target_length=63)
    ended = 0
    answers = CTranslate2().make([bundle], torch.device("cpu"), 8).search(search, sources)
    for ours, found in zip(TorchEngine([bundle.model]).search(search, sources), answers, strict=True):
        # Theirs does not ask how probable an end is that the limit forces, nor do its scores count what is forbidden.
        if beam == 1 or not any(hypothesis.capped for hypothesis in (*ours, *found)):
            ended += not ours[0].capped
            assert ours[0].tokens == found[0].tokens
            assert found[0].score >= ours[0].score - 1e-4
    assert ended >= 10 or bundle.config.model.norm == "rms"


@pytest.mark.parametrize(
    "changes", [dict(key_value_heads=2), dict(norm_order="deep"), dict(decoder_d_model=16, tied_embeddings="two-way")]
)
def test_what_the_format_cannot_express_is_refused_by_name(changes: dict, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match=next(iter(changes))):
        export(bundle_of(tokenizer, **changes), tmp_path)


def test_a_search_that_is_not_theirs_is_refused(tokenizer: Tokenizer) -> None:
    engine = CTranslate2().make([bundle_of(tokenizer)], torch.device("cpu"), 8)
    with pytest.raises(ConfigProblem, match="Sampling"):
        engine.search(Sampling(), [[5, 2]])
