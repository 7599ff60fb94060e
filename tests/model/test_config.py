import pytest

from seq2seq.errors import ConfigProblem
from seq2seq.model.config import TransformerConfig


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(d_model=100, heads=8), "d_model 100 is not divisible by heads 8"),
        (dict(layers=0), "layers is 0"),
        (dict(dropout=1.5), "dropout is 1.5"),
        (dict(heads=8, key_value_heads=3), "heads 8 is not divisible by key_value_heads 3"),
        (dict(source_vocab_size=10, target_vocab_size=20), "one joint vocabulary"),
        (dict(decoder_d_model=256, tied_embeddings="three-way"), "one width"),
        (dict(d_model=24, heads=8, positions="rotary"), "even head width"),
    ],
)
def test_says_what_is_wrong(settings: dict, said: str) -> None:
    with pytest.raises(ConfigProblem, match=said):
        TransformerConfig(**settings)


def test_says_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigProblem) as raised:
        TransformerConfig(layers=0, dropout=2.0, max_length=-1)
    assert all(word in str(raised.value) for word in ("layers is 0", "dropout is 2.0", "max_length is -1"))
    with pytest.raises(ConfigProblem) as raised:
        TransformerConfig(d_model=10, heads=3, dropout=2.0, source_vocab_size=5)
    assert all(word in str(raised.value) for word in ("divisible", "dropout", "joint"))


def test_the_decoder_follows_the_encoder_unless_told() -> None:
    config = TransformerConfig(layers=12, decoder_layers=1, decoder_d_feedforward=100)
    assert (config.encoder.layers, config.decoder.layers) == (12, 1)
    assert config.decoder.d_model == config.encoder.d_model == 512
    assert config.decoder.d_feedforward == 100
