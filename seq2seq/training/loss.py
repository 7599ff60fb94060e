"""Cross-entropy with label smoothing (section 5.4; Szegedy et al., 2016), twice: as its formula, and fast."""

from typing import Any

import torch
from torch import Tensor

from seq2seq.kernels import training_kernels
from seq2seq.training.products import linear

CHUNK = 512
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
    as can be: the division by the sum, the target and the smoothing are the same for a whole row, so they are put on the narrow side of
    the products, where they cost next to nothing.
    """

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, targets: Tensor, smoothing: float, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """features (N, E), weight (V, E), targets (N) -> the smoothed loss and, without gradient, the plain negative
        log-likelihood; both sums in nats. Products are made in `dtype`."""
        with torch.autocast(features.device.type, enabled=False):
            nll = features.new_zeros((), dtype=torch.float32)
            wide, narrow_weight = features.float(), weight.to(dtype)
            gradients = any(ctx.needs_input_grad[:2])
            by_features, by_weight = torch.empty_like(wide), torch.zeros_like(weight, dtype=torch.float32)
            for start in range(0, wide.size(0), CHUNK):
                chunk = slice(start, start + CHUNK)
                rows, wanted = wide[chunk], targets[chunk, None]
                logits = linear(rows.to(dtype), narrow_weight)
                wanted_logits = logits.gather(1, wanted).float()
                exponentials, greatest, total = exponentials_of_rows(logits)
                nll += (total.log() + greatest - wanted_logits).sum()
                if gradients:
                    by_features[chunk] = linear(exponentials, narrow_weight.T) / total
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
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        by_features, by_weight = ctx.saved_tensors
        return by_features * gradients[0], by_weight * gradients[0], None, None, None


def exponentials_of_rows(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits (N, V), which are written over -> e^(logit - greatest), the greatest of each row and their sums, both (N, 1) in float32."""
    library = training_kernels() if logits.device.type == "cpu" and logits.is_contiguous() else None
    if library is None:
        wide = logits.float()
        greatest = wide.amax(dim=-1, keepdim=True)
        wide = wide.sub_(greatest).exp_()
        return wide.to(logits.dtype), greatest, wide.sum(dim=-1, keepdim=True)
    kernel = library.exponentials_of_rows if logits.dtype == torch.float32 else library.exponentials_of_bfloat16_rows
    greatest, total = logits.new_empty(2, logits.size(0), 1, dtype=torch.float32)
    kernel(logits.data_ptr(), *logits.shape, greatest.data_ptr(), total.data_ptr(), torch.get_num_threads())
    return logits, greatest, total


def projected_cross_entropy(
    features: Tensor, weight: Tensor, targets: Tensor, smoothing: float, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """See `ProjectedCrossEntropy`: the smoothed loss, and the plain negative log-likelihood for perplexity."""
    loss, nll = ProjectedCrossEntropy.apply(features, weight, targets, smoothing, dtype)  # type: ignore[no-untyped-call]
    return loss, nll
