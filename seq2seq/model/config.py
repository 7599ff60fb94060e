"""What a Transformer is made of, in plain numbers and names. No torch here: settings are checked before it loads."""

from dataclasses import dataclass
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
    norm_order: Literal["post", "pre", "deep", "admin"] = "post"
    """post: LayerNorm(x + Sublayer(x)), the paper (section 3.1). pre: x + Sublayer(LayerNorm(x)), with one more norm
    at the end of each stack (Xiong et al., 2020): trains at high learning rates without care. deep: LayerNorm(a x + Sublayer(x)), and
    sub-layers that begin smaller (DeepNet; Wang et al., 2022): post-norm for stacks of any height. admin: the same with scales that are learned, and begin
    so that no sub-layer weighs too much (Liu et al., 2020)."""
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
    token_dropout: float = 0.0
    """On whole embeddings: a token is there with its position alone (Gal and Ghahramani, 2016)."""
    attention_dropout: float = 0.0
    """On the attention weights."""
    activation_dropout: float = 0.0
    """On the inner activations of the feed-forward network."""

    def __post_init__(self) -> None:
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        rates = {name: value for name, value in vars(self).items() if name.endswith("dropout") and value is not None}
        counts_are_right = all(count >= 1 for count in counts.values())
        require(
            *((count >= 1, f"{name} is {count}, it must be at least 1") for name, count in counts.items()),
            *((0.0 <= rate < 1.0, f"{name} is {rate}, it must be at least 0 and below 1") for name, rate in rates.items()),
            *(self._shape_checks() if counts_are_right else ()),
        )

    def _shape_checks(self) -> tuple[tuple[bool, str], ...]:
        encoder, decoder = self.encoder, self.decoder
        return (
            *_divisibility(encoder, ""),
            *(_divisibility(decoder, "decoder_") if decoder != encoder else ()),
            (
                self.positions != "rotary" or all(stack.d_model // stack.heads % 2 == 0 for stack in (encoder, decoder)),
                "rotary positions need an even head width (d_model / heads)",
            ),
            (
                self.positions != "sinusoidal" or encoder.d_model % 2 == decoder.d_model % 2 == 0,
                "sinusoidal positions need an even d_model",
            ),
            (
                self.tied_embeddings != "three-way" or self.source_vocab_size == self.target_vocab_size,
                f"tied_embeddings=three-way needs one joint vocabulary, but the source has {self.source_vocab_size} tokens and "
                f"the target {self.target_vocab_size}: use a joint tokenizer or tied_embeddings=two-way",
            ),
            (
                self.tied_embeddings != "three-way" or encoder.d_model == decoder.d_model,
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


def _divisibility(stack: StackConfig, prefix: str) -> tuple[tuple[bool, str], ...]:
    return (
        (stack.d_model % stack.heads == 0, f"{prefix}d_model {stack.d_model} is not divisible by {prefix}heads {stack.heads}"),
        (
            stack.heads % stack.key_value_heads == 0,
            f"{prefix}heads {stack.heads} is not divisible by {prefix}key_value_heads {stack.key_value_heads}",
        ),
    )
