"""What a Transformer is made of, in plain numbers and names. No torch here: settings are checked before it loads."""

from dataclasses import dataclass, fields
from typing import Literal

from seq2seq.schema import require


@dataclass(frozen=True)
class StackConfig:
    """The shape of one stack, encoder or decoder. See `TransformerConfig`, which makes it."""

    layers: int
    d_model: int
    heads: int
    key_value_heads: int
    d_feedforward: int


@dataclass(frozen=True)
class TransformerConfig:
    """A Transformer in the words of "Attention Is All You Need" (Vaswani et al., 2017). The defaults are its base model.

    The decoder is built as the encoder unless a `decoder_…` value says otherwise; likewise `embedding_dropout`
    follows `dropout`, and `key_value_heads` follows `heads`.

    Raises:
        ConfigProblem: naming every value that cannot be, and why.
    """

    source_vocab_size: int = 37000
    """Section 5.1: about 37,000 tokens, shared by both sides."""
    target_vocab_size: int = 37000
    layers: int = 6
    """Section 3.1: N."""
    d_model: int = 512
    """Width of every sub-layer's output."""
    heads: int = 8
    """Section 3.2.2: h. Each head is d_model / heads wide."""
    key_value_heads: int | None = None
    """Fewer than `heads`: groups of query heads share keys and values (Ainslie et al., 2023)."""
    d_feedforward: int = 2048
    """Section 3.3: the inner width, d_ff."""
    decoder_layers: int | None = None
    decoder_d_model: int | None = None
    decoder_heads: int | None = None
    decoder_key_value_heads: int | None = None
    decoder_d_feedforward: int | None = None
    norm_order: Literal["post", "pre"] = "post"
    """post: LayerNorm(x + Sublayer(x)), the paper (section 3.1). pre: x + Sublayer(LayerNorm(x)), with one more norm
    at the end of each stack (Xiong et al., 2020): trains at high learning rates without care."""
    norm: Literal["layer", "rms"] = "layer"
    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    positions: Literal["sinusoidal", "learned", "rotary"] = "sinusoidal"
    """Section 3.5 (sinusoidal, learned); Su et al., 2021 (rotary)."""
    tied_embeddings: Literal["three-way", "two-way", "none"] = "three-way"
    """three-way: source embedding, target embedding and output projection are one matrix (section 3.4);
    two-way: the last two are."""
    max_length: int = 1024
    """The longest sequence, in tokens, that the model may be given on either side."""
    dropout: float = 0.1
    """Section 5.4: on the output of each sub-layer, before it is added to its input."""
    embedding_dropout: float | None = None
    """Section 5.4: on the sums of embeddings and positions."""
    attention_dropout: float = 0.0
    """On the attention weights."""
    activation_dropout: float = 0.0
    """On the inner activations of the feed-forward network."""

    def __post_init__(self) -> None:
        counts = [f.name for f in fields(self) if f.type in ("int", "int | None", int, int | None)]
        require(*((value is None or value >= 1, f"{name} is {value}, it must be at least 1") for name in counts if (value := getattr(self, name)) is not None))
        rates = ("dropout", "embedding_dropout", "attention_dropout", "activation_dropout")
        require(
            *((0.0 <= value < 1.0, f"{name} is {value}, it must be at least 0 and below 1") for name in rates if (value := getattr(self, name)) is not None),
            *_shape_checks("", self.encoder),
            *_shape_checks("decoder_", self.decoder),
            (
                self.positions != "rotary" or all((s.d_model // s.heads) % 2 == 0 for s in (self.encoder, self.decoder)),
                "rotary positions need an even head width (d_model / heads)",
            ),
            (
                self.positions != "sinusoidal" or all(s.d_model % 2 == 0 for s in (self.encoder, self.decoder)),
                "sinusoidal positions need an even d_model",
            ),
            (
                self.tied_embeddings != "three-way" or self.source_vocab_size == self.target_vocab_size,
                "tied_embeddings=three-way needs one joint vocabulary, but the source has "
                f"{self.source_vocab_size} tokens and the target {self.target_vocab_size}: use a joint tokenizer or tied_embeddings=two-way",
            ),
            (
                self.tied_embeddings != "three-way" or self.encoder.d_model == self.decoder.d_model,
                "tied_embeddings=three-way needs encoder and decoder of one width; use two-way",
            ),
        )

    @property
    def encoder(self) -> StackConfig:
        return StackConfig(self.layers, self.d_model, self.heads, self.key_value_heads or self.heads, self.d_feedforward)

    @property
    def decoder(self) -> StackConfig:
        heads = self.decoder_heads or self.heads
        key_value_heads = self.decoder_key_value_heads or (heads if self.decoder_heads else self.key_value_heads) or heads
        return StackConfig(
            self.decoder_layers or self.layers,
            self.decoder_d_model or self.d_model,
            heads,
            key_value_heads,
            self.decoder_d_feedforward or self.d_feedforward,
        )


def _shape_checks(prefix: str, stack: StackConfig) -> tuple[tuple[bool, str], ...]:
    return (
        (stack.d_model % stack.heads == 0, f"{prefix}d_model {stack.d_model} is not divisible by {prefix}heads {stack.heads}"),
        (
            stack.heads % stack.key_value_heads == 0,
            f"{prefix}heads {stack.heads} is not divisible by {prefix}key_value_heads {stack.key_value_heads}",
        ),
    )
