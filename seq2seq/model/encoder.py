"""The encoder (section 3.1, left half of figure 1)."""

from torch import Tensor, nn

from seq2seq.model.attention import Mask, MultiHeadAttention
from seq2seq.model.config import TransformerConfig
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.positions import Rotation
from seq2seq.model.residual import Residual, depths, make_norm


class EncoderLayer(nn.Module):
    """Self-attention, then the feed-forward network."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        stack, (scale, _) = config.encoder, depths(config)[0]
        self.self_attention = MultiHeadAttention(
            stack.d_model, stack.heads, stack.key_value_heads, stack.d_model, config.attention_dropout
        )
        self.self_attention_residual = Residual(config, stack.d_model, scale)
        self.feedforward = FeedForward(stack.d_model, stack.d_feedforward, config.activation, config.activation_dropout)
        self.feedforward_residual = Residual(config, stack.d_model, scale)

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None) -> Tensor:
        """(B, S, E) -> (B, S, E); mask (B, 1, 1, S), or `Within` for sentences end to end."""
        x = self.self_attention_residual(x, lambda x: self.self_attention(x, x, mask, rotation=rotation))
        return self.feedforward_residual(x, self.feedforward)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A stack of N layers; pre-norm stacks end with one more norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder.layers))
        self.norm = make_norm(config, config.encoder.d_model) if config.norm_order == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Mask, rotation: Rotation | None) -> Tensor:
        """Embedded source (B, S, E) -> memory (B, S, E)."""
        for layer in self.layers:
            x = layer(x, mask, rotation)
        return self.norm(x)  # type: ignore[no-any-return]
