"""The decoder (section 3.1, right half of figure 1): once over whole sentences, once step by step on a cache."""

from torch import Tensor, nn

from seq2seq.model.attention import Mask, MultiHeadAttention
from seq2seq.model.cache import Cache, LayerCache, Newest
from seq2seq.model.config import TransformerConfig
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.positions import Rotation
from seq2seq.model.residual import Residual, depths, make_norm


class DecoderLayer(nn.Module):
    """Masked self-attention, cross-attention to the encoder's output, then the feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        stack, dropout, (scale, _) = config.decoder, config.attention_dropout, depths(config)[1]
        self.self_attention = MultiHeadAttention(stack.d_model, stack.heads, stack.key_value_heads, stack.d_model, dropout)
        self.self_attention_residual = Residual(config, stack.d_model, scale)
        self.cross_attention = MultiHeadAttention(
            stack.d_model, stack.heads, stack.key_value_heads, config.encoder.d_model, dropout
        )
        self.cross_attention_residual = Residual(config, stack.d_model, scale)
        self.feedforward = FeedForward(stack.d_model, stack.d_feedforward, config.activation, config.activation_dropout)
        self.feedforward_residual = Residual(config, stack.d_model, scale)

    def forward(
        self, x: Tensor, memory: Tensor, memory_mask: Mask, rotation: Rotation | None, own_mask: Mask | None = None
    ) -> Tensor:
        """x (B, T, E), memory (B, S, E), memory_mask (B, 1, 1, S) -> (B, T, E).

        Padding stands behind a sentence's end, so the causal mask alone keeps real positions from seeing it. Sentences that lie end
        to end need `own_mask`.
        """
        x = self.self_attention_residual(x, lambda x: self.self_attention(x, x, own_mask, causal=True, rotation=rotation))
        x = self.cross_attention_residual(x, lambda x: self.cross_attention(x, memory, memory_mask))
        return self.feedforward_residual(x, self.feedforward)  # type: ignore[no-any-return]

    def step(self, x: Tensor, kept: LayerCache, newest: Newest) -> Tensor:
        """The newest position of every hypothesis: x (B, K, E) -> (B, K, E).

        The K hypotheses of a sentence stand where `forward` has its T positions.
        """
        x = self.self_attention_residual(x, lambda x: self.self_attention.attend_to_past(x, kept, newest))
        x = self.cross_attention_residual(x, lambda x: self.cross_attention.attend_to_source(x, kept, newest))
        return self.feedforward_residual(x, self.feedforward)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A stack of N layers; pre-norm stacks end with one more norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder.layers))
        self.norm = make_norm(config, config.decoder.d_model) if config.norm_order == "pre" else nn.Identity()

    def forward(
        self, x: Tensor, memory: Tensor, memory_mask: Mask, rotation: Rotation | None, own_mask: Mask | None = None
    ) -> Tensor:
        """Embedded target (B, T, E) -> features (B, T, E)."""
        for layer in self.layers:
            x = layer(x, memory, memory_mask, rotation, own_mask)
        return self.norm(x)  # type: ignore[no-any-return]

    def start(self, memory: Tensor, memory_mask: Tensor) -> Cache:
        """An empty cache, one hypothesis a sentence, with the memory's keys and values computed once."""
        kept = []
        for layer in self.layers:
            keys, values = layer.cross_attention.keys_and_values(memory)  # type: ignore[operator, union-attr]
            kept.append((keys.contiguous(), values.contiguous()))
        return Cache.empty(kept, memory_mask)

    def step(self, x: Tensor, cache: Cache, rotation: Rotation | None) -> Tensor:
        """Embedded newest tokens (B, K, E) -> features (B, K, E). The cache takes them in."""
        nodes, may_attend = cache.grow()
        newest = Newest(nodes, rotation, may_attend, cache.memory_mask)
        for layer, kept in zip(self.layers, cache.layers, strict=True):
            x = layer.step(x, kept, newest)  # type: ignore[operator]
        return self.norm(x)  # type: ignore[no-any-return]
