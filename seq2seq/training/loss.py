"""Cross-entropy with label smoothing (section 5.4; Szegedy et al., 2016), twice: as its formula, and fast."""

from typing import Any

import torch
from torch import Tensor

CHUNK = 256
"""Rows of logits that exist at a time in the fast path. More fall out of the processor's cache."""


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """- sum over rows of q · log softmax(logits), where q puts 1 - smoothing on the target and spreads the rest evenly
    over the vocabulary: logits (N, V), targets (N) -> a sum in nats."""
    log_probs = logits.log_softmax(dim=-1)
    wanted = log_probs.gather(1, targets[:, None]).squeeze(1)
    return -((1 - smoothing) * wanted + smoothing * log_probs.mean(dim=-1)).sum()


class ProjectedCrossEntropy(torch.autograd.Function):
    """The same of logits = features · weight^T, without the logits ever being whole.

    The gradient of the loss by a row of logits is softmax - q, which is at hand while the row is; so forward computes
    the gradients too, a chunk of rows at a time, and backward only scales them.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """features (N, E), weight (V, E), targets (N) -> the smoothed loss and, without gradient, the plain negative
        log-likelihood; both sums in nats."""
        autocast = torch.is_autocast_enabled(features.device.type)
        dtype = torch.get_autocast_dtype(features.device.type) if autocast else features.dtype
        with torch.autocast(features.device.type, enabled=False):
            features, cast_weight = features.to(dtype), weight.to(dtype)
            gradients = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
            by_features = torch.empty_like(features) if gradients else None
            by_weight = torch.zeros_like(weight, dtype=torch.float32) if gradients else None
            loss = features.new_zeros((), dtype=torch.float32)
            nll = features.new_zeros((), dtype=torch.float32)
            vocabulary = weight.size(0)
            for start in range(0, features.size(0), CHUNK):
                rows = features[start : start + CHUNK]
                wanted = targets[start : start + CHUNK, None]
                logits = (rows @ cast_weight.T).float()
                log_total = logits.logsumexp(dim=-1, keepdim=True)
                row_nll = (log_total - logits.gather(1, wanted)).sum()
                nll += row_nll
                loss += (1 - smoothing) * row_nll
                if smoothing:
                    loss += smoothing * (log_total.sum() - logits.sum() / vocabulary)
                if by_features is not None and by_weight is not None:
                    by_logits = logits.sub_(log_total).exp_()
                    if smoothing:
                        by_logits.sub_(smoothing / vocabulary)
                    by_logits.scatter_add_(1, wanted, by_logits.new_full(wanted.shape, smoothing - 1))
                    narrow = by_logits.to(dtype)
                    torch.mm(narrow, cast_weight, out=by_features[start : start + CHUNK])
                    if dtype == torch.float32:
                        by_weight.addmm_(narrow.T, rows)
                    else:
                        by_weight += narrow.T @ rows
        ctx.save_for_backward(by_features, by_weight)
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        by_features, by_weight = ctx.saved_tensors
        return by_features * gradients[0], by_weight * gradients[0], None, None


def projected_cross_entropy(features: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """See `ProjectedCrossEntropy`: the smoothed loss, and the plain negative log-likelihood for perplexity."""
    loss, nll = ProjectedCrossEntropy.apply(features, weight, targets, smoothing)
    return loss, nll
