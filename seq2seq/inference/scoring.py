"""How probable a model finds translations that are given to it ("forced decoding")."""

from collections.abc import Sequence

import torch

from seq2seq.data.batch import pad
from seq2seq.model.transformer import Transformer
from seq2seq.symbols import BOS


def token_log_probabilities(
    model: Transformer, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], batch_tokens: int = 4096
) -> list[list[float]]:
    """The log-probability of each token of each translation, in nats, given the source and the tokens before it.

    Args:
        sources: ids of each sentence, EOS at the end.
        targets: ids of each translation, EOS at the end.
        batch_tokens: at most about this many target tokens at a time, padding counted.
    """
    device = next(model.parameters()).device
    found: list[list[float]] = [[] for _ in sources]
    by_length = sorted(range(len(sources)), key=lambda i: (-len(targets[i]), -len(sources[i])))
    start = 0
    was_training = model.training
    model.eval()
    while start < len(by_length):
        longest = max(len(targets[by_length[start]]), max(len(sources[i]) for i in by_length[start : start + 64]))
        batch = by_length[start : start + max(1, batch_tokens // longest)]
        start += len(batch)
        target = pad([targets[i] for i in batch]).to(device)
        with torch.inference_mode():
            logits = model(
                pad([sources[i] for i in batch]).to(device), torch.nn.functional.pad(target[:, :-1], (1, 0), value=BOS)
            )
            log_probs = torch.log_softmax(logits if logits.dtype == torch.float64 else logits.float(), dim=-1)
            wanted = log_probs.gather(2, target[:, :, None]).squeeze(2).tolist()
        for i, row in zip(batch, wanted, strict=True):
            found[i] = row[: len(targets[i])]
    model.train(was_training)
    return found
