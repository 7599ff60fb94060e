"""What a model makes of translations that are given to it ("forced decoding"): how probable it finds each token, and where it looks."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from seq2seq.data.batch import make_batch
from seq2seq.errors import is_out_of_memory
from seq2seq.model.attention import MultiHeadAttention, scaled_dot_product_attention
from seq2seq.model.dropout import evaluating
from seq2seq.model.transformer import Transformer


@dataclass(frozen=True)
class Forced:
    """One given translation of T tokens, the last of which is EOS.

    Attributes:
        log_probabilities: (T), in nats, given the source and the tokens before.
        attention: (T, S), how much of its attention each source token gets while each target token is being chosen: the mean over
            the heads of cross-attention in the upper half of the decoder. None if not asked for.
    """

    log_probabilities: list[float]
    attention: Tensor | None = None


def force(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    batch_tokens: int = 4096,
    attention: bool = False,
) -> list[Forced]:
    """Forced decoding of each target, given its source.

    Args:
        sources: ids of each sentence, EOS at the end.
        targets: ids of each translation, EOS at the end.
        batch_tokens: at most about this many tokens of a side at a time, padding counted; half as many where memory is short.
    """
    found: list[Forced] = [Forced([])] * len(sources)
    by_length = sorted(range(len(sources)), key=lambda i: -max(len(sources[i]), len(targets[i])))
    start = 0
    while start < len(by_length):
        longest = max(len(side[by_length[start]]) for side in (sources, targets))
        numbers = by_length[start : start + max(1, batch_tokens // longest)]
        try:
            with evaluating([model]):
                together = _forced(model, [sources[i] for i in numbers], [targets[i] for i in numbers], attention)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(numbers) == 1:
                raise
            batch_tokens = len(numbers) // 2 * longest
            continue
        start += len(numbers)
        for i, forced in zip(numbers, together, strict=True):
            found[i] = forced
    return found


def _forced(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], attention: bool
) -> list[Forced]:
    """All in one batch."""
    batch = make_batch(sources, targets).to(next(model.parameters()).device)
    with torch.inference_mode(), _watching(model, attention) as weights:
        logits = model(batch.source, batch.target_input)
        log_probs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
        wanted = log_probs.gather(2, batch.target_output[:, :, None]).squeeze(2).tolist()
        seen = torch.stack(weights).mean(dim=0) if attention else logits
    return [
        Forced(of_one[: len(target)], seen[row, : len(target), : len(source)] if attention else None)
        for row, (of_one, source, target) in enumerate(zip(wanted, sources, targets, strict=True))
    ]


def as_one(of_models: Sequence[Forced]) -> Tensor:
    """(T): of one translation, the log of the mean of the probabilities which several models give each token."""
    by_model = torch.tensor([forced.log_probabilities for forced in of_models], dtype=torch.float64)
    return by_model.logsumexp(dim=0) - math.log(len(of_models))


def mean_attention(of_models: Sequence[Forced]) -> Tensor:
    """(T, S): of one translation, asked of several models."""
    return torch.stack([forced.attention for forced in of_models if forced.attention is not None]).mean(dim=0)


def token_log_probabilities(
    models: Sequence[Transformer], sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], batch_tokens: int = 4096
) -> list[list[float]]:
    """Of each translation the log-probability of each of its tokens, given by models as one. See `force` and `as_one`."""
    by_model = [force(model, sources, targets, batch_tokens) for model in models]
    return [as_one(of_one).tolist() for of_one in zip(*by_model, strict=True)]


@contextmanager
def _watching(model: Transformer, attention: bool) -> Iterator[list[Tensor]]:
    """A list that receives the weights (B, T, S) of cross-attention of every layer in the upper half of the decoder."""
    weights: list[Tensor] = []

    def watch(layer: MultiHeadAttention, arguments: tuple[Tensor, Tensor, Tensor], _: Tensor) -> None:
        x, memory, mask = arguments
        keys, values = layer.keys_and_values(memory)
        keys, values = (kept.repeat_interleave(layer.heads // layer.key_value_heads, dim=1) for kept in (keys, values))
        weights.append(scaled_dot_product_attention(layer.queries(x), keys, values, mask)[1].mean(dim=1))

    layers = list(model.decoder.layers)
    watched = layers[len(layers) // 2 :] if attention else []
    handles = [layer.cross_attention.register_forward_hook(watch) for layer in watched]  # type: ignore[operator, union-attr]
    try:
        yield weights
    finally:
        for handle in handles:
            handle.remove()
