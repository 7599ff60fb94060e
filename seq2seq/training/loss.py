"""Cross-entropy with label smoothing (section 5.4; Szegedy et al., 2016) and R-Drop (Liang et al., 2021), twice: as formulas, and fast."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from seq2seq.kernels import runs_training_kernels, training_kernels
from seq2seq.model.segments import ROUND
from seq2seq.training.products import linear

CHUNK = 512
"""Rows of logits that exist at a time in the fast path. More fall out of the processor's cache."""
_GPU_CHUNK = 2048
"""Of a GPU, which is idle between small products."""


def smoothed_cross_entropy(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """- sum over rows of q · log softmax(logits), where q puts 1 - smoothing on the target and spreads the rest evenly
    over the vocabulary: logits (N, V), targets (N) -> a sum in nats."""
    log_probs = logits.log_softmax(dim=-1)
    wanted = log_probs.gather(1, targets[:, None]).squeeze(1)
    return -((1 - smoothing) * wanted + smoothing * log_probs.mean(dim=-1)).sum()


def divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(p, q) + KL(q, p) of the distributions of two sets of logits (N, V), summed over rows, in nats."""
    log_p, log_q = logits.log_softmax(dim=-1), others.log_softmax(dim=-1)
    return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()


class ProjectedCrossEntropy(torch.autograd.Function):
    """Of logits = features · weight^T, without the logits ever being whole.

    The gradient of the loss by a row of logits is softmax - q, which is at hand while the row is; so forward computes
    the gradients too, a chunk of rows at a time, and backward only scales them. A chunk's logits are gone over as seldom
    as can be: the division by the sum, the target and the smoothing are the same for a whole row, so they are put on the narrow side of
    the products, where they cost next to nothing.
    """

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        targets: Tensor,
        smoothing: float,
        r_drop: float,
        dtype: torch.dtype,
        gradients: bool,
    ) -> tuple[Tensor, Tensor]:
        """features (P, N, E) of P passes, weight (V, E), targets (N) -> the loss and, without gradient, the plain negative
        log-likelihood; both in nats, sums over targets and means over passes. Products are made in `dtype`. Whether `gradients` are
        wanted is not to be seen in here, where torch has always turned them off."""
        with torch.autocast(features.device.type, enabled=False):
            loss, nll = features.new_zeros(2, dtype=torch.float32)
            wide, narrow_weight = features.float(), weight.to(dtype)
            passes = len(features)
            kept = slice(None if gradients else 0)
            by_features, by_weight = torch.empty_like(wide[kept]), torch.zeros_like(weight[kept], dtype=torch.float32)
            at_a_time = (CHUNK if features.device.type == "cpu" else _GPU_CHUNK) // passes
            for start in range(0, wide.size(1), at_a_time):
                chunk = slice(start, start + at_a_time)
                wanted = targets[chunk]
                count = len(wanted)
                rows = F.pad(wide[:, chunk], (0, 0, 0, -count % ROUND)).flatten(0, 1)
                logits = linear(rows.to(dtype), narrow_weight)
                by_pass = logits.view(passes, -1, logits.size(1))[:, :count]
                nll -= by_pass.gather(2, wanted.expand(passes, -1)[..., None]).float().sum()
                if passes == 1:
                    by_logits, greatest, total = exponentials_of_rows(logits)
                    nll += (total.log() + greatest)[:count].sum()
                    shares = rows / total
                else:
                    by_logits, normalizers, divergences = agreement_of_rows(logits, r_drop / 2)
                    nll += normalizers.view(2, -1)[:, :count].sum()
                    loss += r_drop / 2 * divergences[:count].sum()
                    total, shares = normalizers.new_ones(()), rows
                if gradients:
                    by_rows = linear(by_logits, narrow_weight.T) / total
                    by_features[:, chunk] = by_rows.view(passes, -1, wide.size(2))[:, :count]
                    if dtype == torch.float32:
                        by_weight.addmm_(by_logits.T, shares)
                    else:
                        by_weight += by_logits.T @ shares.to(dtype)
            # What is left of softmax - q: minus (1 - smoothing) at the target, minus smoothing / V everywhere.
            weight_sum, share = weight.float().sum(dim=0), smoothing / weight.size(0)
            loss += nll
            if smoothing:
                target_logits = torch.linalg.vecdot(wide, weight[targets].float()).sum()
                loss += smoothing * target_logits - share * (wide @ weight_sum).sum()
            if gradients:
                by_features -= (1 - smoothing) * weight[targets] + share * weight_sum
                by_weight.index_add_(0, targets, wide.sum(dim=0), alpha=smoothing - 1)
                by_weight -= share * wide.sum(dim=(0, 1))
        ctx.save_for_backward(by_features.to(features.dtype), by_weight.to(weight.dtype))
        ctx.passes = passes
        loss, nll = loss / passes, nll / passes
        ctx.mark_non_differentiable(nll)
        return loss, nll

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_features, by_weight = ctx.saved_tensors
        share = gradients[0] / ctx.passes
        return by_features * share, by_weight * share, None, None, None, None, None


def exponentials_of_rows(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits (N, V), which are written over -> e^(logit - greatest), the greatest of each row and their sums, both (N, 1) in float32."""
    library = training_kernels() if runs_training_kernels(logits) and logits.is_contiguous() else None
    if library is None:
        wide = logits.float()
        greatest = wide.amax(dim=-1, keepdim=True)
        wide = wide.sub_(greatest).exp_()
        return wide.to(logits.dtype), greatest, wide.sum(dim=-1, keepdim=True)
    kernel = library.exponentials_of_rows if logits.dtype == torch.float32 else library.exponentials_of_bfloat16_rows
    greatest, total = logits.new_empty(2, logits.size(0), 1, dtype=torch.float32)
    kernel(logits.data_ptr(), *logits.shape, greatest.data_ptr(), total.data_ptr(), torch.get_num_threads())
    return logits, greatest, total


def agreement_of_rows(logits: Tensor, weight: float) -> tuple[Tensor, Tensor, Tensor]:
    """logits (2 N, V) of N rows under two dropouts, which are written over -> what R-Drop with this weight makes of them.

    Returns:
        The gradient by the logits of their log sum exp and `weight` times the divergence, (2 N, V); log sum exp (2 N) and divergences (N)
        in float32.
    """
    pairs = len(logits) // 2
    library = training_kernels() if runs_training_kernels(logits) and logits.is_contiguous() else None
    if library is None:
        log_p, log_q = logits.float().view(2, pairs, -1).log_softmax(dim=-1)
        p, q, log_ratio = log_p.exp(), log_q.exp(), log_p - log_q
        by_p, by_q = (p * log_ratio).sum(dim=-1, keepdim=True), -(q * log_ratio).sum(dim=-1, keepdim=True)
        gradient = torch.cat((p + weight * (p * (log_ratio - by_p + 1) - q), q + weight * (q * (1 - log_ratio - by_q) - p)))
        return gradient.to(logits.dtype), logits.float().logsumexp(dim=-1), (by_p + by_q).squeeze(1)
    kernel = library.agreement_of_rows if logits.dtype == torch.float32 else library.agreement_of_bfloat16_rows
    normalizers, divergences = (logits.new_empty(size, dtype=torch.float32) for size in (2 * pairs, pairs))
    pointers = normalizers.data_ptr(), divergences.data_ptr()
    kernel(logits.data_ptr(), pairs, logits.size(1), weight, *pointers, torch.get_num_threads())
    return logits, normalizers, divergences


def projected_cross_entropy(
    features: Tensor, weight: Tensor, targets: Tensor, smoothing: float, r_drop: float = 0.0, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """`smoothed_cross_entropy` of features (N, E) times weight (V, E), and the plain negative log-likelihood for perplexity; both sums in nats.

    With R-Drop features are (2 N, E), those of the same positions under two dropouts one below the other: the loss is the mean of both, and
    `r_drop` / 4 times their `divergence` (half of the paper's sum, so that it is as large as without).
    """
    by_pass = features.view(2 if r_drop else 1, -1, features.size(1))
    loss, nll = ProjectedCrossEntropy.apply(by_pass, weight, targets, smoothing, r_drop, dtype, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return loss, nll
