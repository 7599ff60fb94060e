"""A bundle as a CTranslate2 model: the same network laid out for its engine.

Their layers are told by a specification that we fill with our weights; queries, keys and values become one product there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from seq2seq.bundle import Bundle
from seq2seq.errors import ConfigProblem, missing_extra
from seq2seq.export import Quantization
from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.config import TransformerConfig
from seq2seq.model.embedding import Embedding
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import BOS, EOS, UNK


def specs() -> Any:
    """Their package of specifications.

    Raises:
        MachineProblem: the extra is not installed.
    """
    try:
        import ctranslate2.specs  # type: ignore[import-untyped]
    except ImportError:
        raise missing_extra("ctranslate2", "ctranslate2", "CTranslate2") from None
    return ctranslate2.specs


def export(bundle: Bundle, folder: Path, quantization: Quantization = "float32") -> None:
    """Write the model to an existing empty folder: `model.bin`, `config.json` and the vocabulary.

    Raises:
        ConfigProblem: naming what of this model the format cannot express.
        MachineProblem: the extra is not installed.
    """
    _check(bundle.model.config)
    spec = _specification(bundle)
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))


def _check(config: TransformerConfig) -> None:
    encoder, decoder = config.encoder, config.decoder
    inexpressible = {
        "key_value_heads (keys and values shared by groups of heads)": encoder.heads != encoder.key_value_heads
        or decoder.heads != decoder.key_value_heads,
        f"norm_order={config.norm_order} (a residual that is scaled)": config.norm_order in ("deep", "admin"),
        "decoder_d_model (a decoder of another width)": encoder.d_model != decoder.d_model,
    }
    if named := [what for what, is_so in inexpressible.items() if is_so]:
        raise ConfigProblem(
            f"CTranslate2 cannot express this model's {' and '.join(named)}", "translate without engine=ctranslate2"
        )


def _specification(bundle: Bundle) -> Any:
    transformer = specs().transformer_spec
    model, config = bundle.model, bundle.model.config
    choices = {
        "pre_norm": config.norm_order == "pre",
        "activation": getattr(
            specs().common_spec.Activation, {"relu": "RELU", "gelu": "GELU", "swiglu": "SWISH"}[config.activation]
        ),
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm == "rms",
        "rotary_dim": 0 if config.positions == "rotary" else None,  # 0: all features of a head
    }
    spec = transformer.TransformerSpec(
        transformer.TransformerEncoderSpec(config.encoder.layers, config.encoder.heads, **choices),
        transformer.TransformerDecoderSpec(config.decoder.layers, config.decoder.heads, **choices),
    )
    _embedding(spec.encoder.embeddings[0], spec.encoder, model.source_embedding)
    _embedding(spec.decoder.embeddings, spec.decoder, model.target_embedding)
    spec.decoder.projection.weight = _array(model.output.weight)
    _layers(spec, model)
    for stack, norm in ((spec.encoder, model.encoder.norm), (spec.decoder, model.decoder.norm)):
        if config.norm_order == "pre":
            _norm(stack.layer_norm, norm)
    spec.register_source_vocabulary(bundle.tokenizer.source_pieces())
    spec.register_target_vocabulary(bundle.tokenizer.target_pieces())
    pieces = bundle.tokenizer.target_pieces()
    spec.config.bos_token = spec.config.decoder_start_token = pieces[BOS]
    spec.config.eos_token, spec.config.unk_token = pieces[EOS], pieces[UNK]
    spec.config.layer_norm_epsilon = 1e-6 if config.norm == "rms" else 1e-5
    return spec


def _layers(spec: Any, model: Transformer) -> None:
    for theirs, ours in _pairs(spec.encoder.layer, model.encoder.layers):
        _self_attention(theirs.self_attention, ours.self_attention, ours.self_attention_residual.norm)
        _feedforward(theirs.ffn, ours.feedforward, ours.feedforward_residual.norm)
    for theirs, ours in _pairs(spec.decoder.layer, model.decoder.layers):
        _self_attention(theirs.self_attention, ours.self_attention, ours.self_attention_residual.norm)
        _cross_attention(theirs.attention, ours.cross_attention, ours.cross_attention_residual.norm)
        _feedforward(theirs.ffn, ours.feedforward, ours.feedforward_residual.norm)


def _pairs(theirs: Any, ours: Any) -> Iterator[tuple[Any, Any]]:
    return zip(theirs, ours, strict=True)


def _embedding(embeddings: Any, stack: Any, embedding: Embedding) -> None:
    embeddings.weight = _array(embedding.tokens.weight)
    if embedding.positions is not None:
        stack.position_encodings.encodings = _array(embedding.positions.table)
    elif hasattr(stack, "position_encodings"):
        delattr(stack, "position_encodings")


def _self_attention(spec: Any, attention: MultiHeadAttention, norm: nn.Module) -> None:
    _linear(spec.linear[0], attention.query, attention.key, attention.value)
    _linear(spec.linear[1], attention.output)
    _norm(spec.layer_norm, norm)


def _cross_attention(spec: Any, attention: MultiHeadAttention, norm: nn.Module) -> None:
    _linear(spec.linear[0], attention.query)
    _linear(spec.linear[1], attention.key, attention.value)
    _linear(spec.linear[2], attention.output)
    _norm(spec.layer_norm, norm)


def _feedforward(spec: Any, feedforward: FeedForward, norm: nn.Module) -> None:
    if feedforward.gate is None:
        _linear(spec.linear_0, feedforward.inner)
    else:  # theirs puts the activation on linear_0 and multiplies with linear_0_noact
        _linear(spec.linear_0, feedforward.gate)
        _linear(spec.linear_0_noact, feedforward.inner)
    _linear(spec.linear_1, feedforward.outer)
    _norm(spec.layer_norm, norm)


def _norm(spec: Any, norm: Any) -> None:
    spec.gamma = _array(norm.weight)
    if isinstance(norm, nn.LayerNorm):
        spec.beta = _array(norm.bias)


def _linear(spec: Any, *products: Any) -> None:
    """One product, or several of the same input side by side."""
    spec.weight = np.concatenate([_array(product.weight) for product in products])
    spec.bias = np.concatenate([_array(product.bias) for product in products])


def _array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().float().numpy()
