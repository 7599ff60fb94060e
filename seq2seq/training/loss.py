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
    the gradients too, a chunk of rows at a time, and backward only scales them. A chunk's logits are gone over as seldom
    as can be (greatest, subtract, exponential, sum): the division by the sum, the target and the smoothing are the
    same for a whole row, so they are put on the narrow side of the products, where they cost next to nothing.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        """features (N, E), weight (V, E), targets (N) -> the smoothed loss and, without gradient, the plain negative
        log-likelihood; both sums in nats."""
        device = features.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        with torch.autocast(device, enabled=False):
            nll = features.new_zeros((), dtype=torch.float32)
            wide, narrow_weight = features.float(), weight.to(dtype)
            gradients = any(ctx.needs_input_grad[:2])
            by_features, by_weight = torch.empty_like(wide), torch.zeros_like(weight, dtype=torch.float32)
            logits_of_chunk = wide.new_empty(min(CHUNK, wide.size(0)), weight.size(0))
            for start in range(0, wide.size(0), CHUNK):
                chunk = slice(start, start + CHUNK)
                rows = wide[chunk]
                wanted = targets[chunk, None]
                logits = logits_of_chunk[: rows.size(0)]
                torch.mm(rows, weight.T, out=logits) if dtype == torch.float32 else logits.copy_(rows.to(dtype) @ narrow_weight.T)
                wanted_logits = logits.gather(1, wanted)
                greatest = logits.amax(dim=-1, keepdim=True)
                total = logits.sub_(greatest).exp_().sum(dim=-1, keepdim=True)
                nll += (total.log() + greatest - wanted_logits).sum()
                if gradients:
                    exponentials = logits.to(dtype)
                    by_features[chunk] = (exponentials @ narrow_weight) / total
                    if dtype == torch.float32:
                        by_weight.addmm_(exponentials.T, rows / total)
                    else:
                        by_weight += exponentials.T @ (rows / total).to(dtype)
            # What is left of softmax - q: minus (1 - smoothing) at the target, minus smoothing / V everywhere.
            weight_sum, share = weight.float().sum(dim=0), smoothing / weight.size(0)
            loss = nll.clone()
            if smoothing:
                target_logits = torch.linalg.vecdot(wide, weight[targets].float()).sum()
                loss += smoothing * target_logits - share * (wide @ weight_sum).sum()
            if gradients:
                by_features -= (1 - smoothing) * weight[targets] + share * weight_sum
                by_weight.index_add_(0, targets, wide, alpha=smoothing - 1)
                by_weight -= share * wide.sum(dim=0)
        ctx.save_for_backward(by_features.to(features.dtype), by_weight.to(weight.dtype))
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        by_features, by_weight = ctx.saved_tensors
        return by_features * gradients[0], by_weight * gradients[0], None, None


def projected_cross_entropy(features: Tensor, weight: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """See `ProjectedCrossEntropy`: the smoothed loss, and the plain negative log-likelihood for perplexity."""
    loss, nll = ProjectedCrossEntropy.apply(features, weight, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss, nll
