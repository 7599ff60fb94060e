"""The Transformer of "Attention Is All You Need" (Vaswani et al., 2017, arXiv:1706.03762).

Read the folder in the paper's order: `config` (table 3), `attention` and `masks` (3.2), `feedforward` (3.3),
`embedding` (3.4), `positions` (3.5), `residual` (3.1), `encoder` and `decoder` (figure 1), then this file, which
joins them. `cache` is what decoding step by step keeps. Shapes use the letters of `seq2seq/symbols.py`.
"""

import torch
from torch import Tensor, nn

from seq2seq.model.attention import MultiHeadAttention
from seq2seq.model.cache import Cache
from seq2seq.model.config import TransformerConfig
from seq2seq.model.decoder import Decoder
from seq2seq.model.embedding import Embedding
from seq2seq.model.encoder import Encoder
from seq2seq.model.feedforward import FeedForward
from seq2seq.model.masks import padding_mask
from seq2seq.model.residual import depths
from seq2seq.model.segments import ROUND, Segments, Within, filled_up
from seq2seq.symbols import PAD

_WIDENING = {MultiHeadAttention: ("value", "output"), FeedForward: ("inner", "gate", "outer")}
"""Products that decide how much a sub-layer adds."""


class Transformer(nn.Module):
    """Source ids and target ids -> scores (logits) of the next target token.

    `forward` is teacher forcing, for training. `start` and `step` decode one token at a time and are all that search
    knows of the model (see `seq2seq/decoding/stepper.py`).
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = Embedding(config, config.encoder, config.source_vocab_size)
        self.target_embedding = Embedding(config, config.decoder, config.target_vocab_size)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.output = nn.Linear(config.decoder.d_model, config.target_vocab_size, bias=False)
        self._initialise()
        if config.tied_embeddings != "none":
            self.output.weight = self.target_embedding.tokens.weight
        if config.tied_embeddings == "three-way":
            self.source_embedding.tokens.weight = self.target_embedding.tokens.weight

    def _initialise(self) -> None:
        """Glorot uniform for products; embeddings so that their scaled values and the logits both start near unit size."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
        nn.init.normal_(self.output.weight, std=self.output.in_features**-0.5)
        for stack, depth in zip((self.encoder, self.decoder), depths(self.config), strict=True):
            for module in stack.modules():
                for name in _WIDENING.get(type(module), ()):
                    if (product := getattr(module, name)) is not None:
                        product.weight.data.mul_(depth.gain)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """source (B, S) and target (B, T), which begins with BOS -> logits (B, T, V) of the token after each position."""
        return self.output(self.features(source, target))  # type: ignore[no-any-return]

    def features(self, source: Tensor, target: Tensor) -> Tensor:
        """As `forward`, up to the last layer: (B, T, E), so that a loss may project only what it needs."""
        memory = self.encode(source)
        x, rotation = self.target_embedding(target, self._positions(target))
        return self.decoder(x, memory, padding_mask(source), rotation)  # type: ignore[no-any-return]

    def joined_features(self, source: Tensor, target: Tensor) -> Tensor:
        """The features of the positions of `target` that are not padding, one below the other: (N, E). As `features`, its slow twin, but
        sentences lie end to end, so that nothing is made for padding."""
        tokens = int((target != PAD).sum())
        if self.config.max_length >= ROUND:
            source, target = filled_up(source), filled_up(target)
        of_source, of_target = Segments.of(source), Segments.of(target)
        x, rotation = self.source_embedding(of_source.joined(source), of_source.positions)
        memory = self.encoder(x, Within(of_source, of_source), rotation)
        x, rotation = self.target_embedding(of_target.joined(target), of_target.positions)
        features = self.decoder(x, memory, Within(of_target, of_source), rotation, Within(of_target, of_target))
        return features[0, :tokens]  # type: ignore[no-any-return]

    def encode(self, source: Tensor) -> Tensor:
        """source (B, S), each row with at least one token -> memory (B, S, E)."""
        x, rotation = self.source_embedding(source, self._positions(source))
        return self.encoder(x, padding_mask(source), rotation)  # type: ignore[no-any-return]

    def start(self, source: Tensor) -> Cache:
        """source (B, S) -> the cache of its decoding, one hypothesis a sentence, of which there may be more."""
        return self.decoder.start(self.encode(source), padding_mask(source))

    def step(self, tokens: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        """tokens (B, K), the newest of each hypothesis -> logits (B, K, V) of the next, and the cache that knows them.

        The cache is passed and returned; the model keeps nothing. It is written to in place.
        """
        return self.output(self.step_features(tokens, cache)), cache

    def step_features(self, tokens: Tensor, cache: Cache) -> Tensor:
        """As `step`, up to the last layer: (B, K, E)."""
        # A sentence that is done may be carried on, for nothing, until another takes its place: never beyond the last position.
        positions = cache.lengths.clamp(max=self.config.max_length - 1)
        x, rotation = self.target_embedding(tokens, positions)
        return self.decoder.step(x, cache, rotation)  # type: ignore[no-any-return]

    @staticmethod
    def _positions(ids: Tensor) -> Tensor:
        return torch.arange(ids.size(1), device=ids.device)
