"""Embeddings (section 3.4) with positions (section 3.5)."""

import math

from torch import Tensor, nn

from seq2seq.model.config import StackConfig, TransformerConfig
from seq2seq.model.dropout import Dropout, drop_tokens
from seq2seq.model.positions import AddedPositions, RotaryPositions, Rotation


class Embedding(nn.Module):
    """Token ids -> vectors: the embedding times sqrt(d_model), plus the position, then dropout (section 5.4)."""

    def __init__(self, config: TransformerConfig, stack: StackConfig, vocab_size: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, stack.d_model)
        self.scale = math.sqrt(stack.d_model)
        rotary = config.positions == "rotary"
        self.positions = None if rotary else AddedPositions(config.positions, config.max_length, stack.d_model)
        self.rotary = RotaryPositions(config.max_length, stack.d_model // stack.heads) if rotary else None
        self.token_dropout = config.token_dropout
        self.dropout = Dropout(config.dropout if config.embedding_dropout is None else config.embedding_dropout)

    def forward(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, Rotation | None]:
        """ids (B, L) at positions (L) or (B, L) -> vectors (B, L, E), and the rotation self-attention is to use."""
        x = self.tokens(ids) * self.scale
        if self.training and self.token_dropout:
            x = drop_tokens(x, self.token_dropout)
        if self.positions is not None:
            x = self.positions(x, positions)
        return self.dropout(x), self.rotary(positions) if self.rotary is not None else None
