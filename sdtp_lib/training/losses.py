"""The terms of the pruner's training objective (Eq. 4 to 8), as pure functions of tensors.

`scores` are keep logits (batch, stages, tokens), `mask` (batch, tokens) is True where a token is scored. Terms read at
every stage come back as one value per stage, (stages,); every prompt weighs the same, however long it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .step_noise import RowDraws, uniform

SMALLEST_SALIENCY = 1e-8  # relative to a layer's largest: what float32 gradients cannot tell from 0


def saliency_targets(saliency: Tensor, mask: Tensor, keep_ratio: float | Sequence[float]) -> Tensor:
    """What Eq. 4 pulls keep logits to: log-saliency, standardised per prompt and layer, raised by logit(keep_ratio).

    Saliency spans orders of magnitude, so its logarithm is taken. The drop logit being 0, the raise makes the Gumbel
    mask keep about as many tokens as a stage of the schedule does.

    Args:
        saliency: (batch, stages, tokens), 0 or more.
        mask: (batch, tokens) bool.
        keep_ratio: in (0, 1], of every stage or of each.

    Returns:
        (batch, stages, tokens), 0 outside the mask.
    """
    here = mask[:, None]
    largest = saliency.masked_fill(~here, 0.0).amax(-1, keepdim=True)
    floor = (largest * SMALLEST_SALIENCY).clamp_min(torch.finfo(saliency.dtype).tiny)
    logs = saliency.clamp_min(floor).log()
    centred = logs - _row_mean(logs, here).unsqueeze(-1)
    deviation = _row_mean(centred.square(), here).unsqueeze(-1).sqrt().clamp_min(1e-6)
    ratios = keep_ratio if isinstance(keep_ratio, Sequence) else [keep_ratio]
    raised = torch.tensor([ratio_logit(ratio) for ratio in ratios], device=saliency.device)[:, None]
    return (centred / deviation + raised).masked_fill(~here, 0.0)


def ratio_logit(keep_ratio: float) -> float:
    """The keep logit at which a token is kept with probability `keep_ratio`, which may be 1."""
    return math.log(keep_ratio / max(1 - keep_ratio, 1e-3))


def mse_loss(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Mean squared difference of scores and targets, both (batch, stages, tokens) (Eq. 4): (stages,)."""
    return _row_mean((scores - targets).square(), mask[:, None]).mean(0)


def ranking_loss(scores: Tensor, targets: Tensor, mask: Tensor, pairs: Tensor | None = None) -> Tensor:
    """Mean over pairs of tokens of log(1 + exp(-(score_i - score_j) sign(target_i - target_j))) (Eq. 6): (stages,).

    The mean instead of the paper's sum, or long prompts would outweigh all else. Equal targets count log 2.

    Args:
        scores, targets: (batch, stages, tokens).
        mask: (batch, tokens) bool.
        pairs: (batch, pairs, 2) token indices inside the mask, see `sample_pairs`; None takes all pairs, with memory
            for (batch, stages, tokens, tokens).
    """
    if pairs is None:
        ahead = scores[..., :, None] - scores[..., None, :]
        sign = (targets[..., :, None] - targets[..., None, :]).sign()
        counted = (mask[:, :, None] & mask[:, None, :]).triu(1)[:, None].flatten(2)
        return _row_mean(F.softplus(-ahead * sign).flatten(2), counted).mean(0)
    stages = scores.shape[1]
    first, second = (pairs[:, None, :, side].expand(-1, stages, -1) for side in (0, 1))
    sign = (targets.gather(2, first) - targets.gather(2, second)).sign()
    return F.softplus(-(scores.gather(2, first) - scores.gather(2, second)) * sign).mean((0, 2))


def sample_pairs(mask: Tensor, pairs: int, generator: torch.Generator | RowDraws) -> Tensor:
    """`pairs` random pairs of two different tokens for every row of `mask` (batch, tokens): (batch, pairs, 2) indices.

    Raises:
        ValueError: if a row has fewer than two tokens.
    """
    count = mask.sum(1, keepdim=True).cpu()
    if count.min() < 2:
        raise ValueError("ranking needs prompts of at least two tokens")
    first, step = uniform((2, len(mask), pairs), generator)
    first = (first * count).long().clamp(max=count - 1)  # float32 may round up to the count itself
    second = (first + 1 + (step * (count - 1)).long().clamp(max=count - 2)) % count
    columns = mask.int().argsort(dim=1, descending=True, stable=True)  # the real tokens' columns, ascending, come first
    chosen = torch.stack([first, second], dim=2).to(mask.device)
    return columns[:, :, None].expand(-1, -1, 2).gather(1, chosen)


def rate_loss(alive: Tensor, mask: Tensor, ratio: Tensor) -> Tensor:
    """Squared difference of the share of tokens kept and the wanted one, as in DynamicViT: (stages,).

    Args:
        alive: (batch, stages, tokens), 1 for a token still kept at a stage, else 0; carries the gradient.
        mask: (batch, tokens) bool.
        ratio: (batch, stages) share of the prompt that the schedule leaves at each stage.
    """
    return (_row_mean(alive, mask[:, None]) - ratio).square().mean(0)


def answer_loss(logits: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of the pruned model over the answers' tokens (Eq. 7), a scalar.

    Args:
        logits: (batch, tokens, vocabulary).
        labels: (batch, tokens) token ids.
        wanted: (batch, tokens) bool, the answers.
    """
    return F.cross_entropy(logits[wanted].float(), labels[wanted])


def distillation_loss(logits: Tensor, full_logits: Tensor, wanted: Tensor) -> Tensor:
    """KL divergence of the pruned from the full model's next-token distributions over the answers' tokens, a scalar.

    Args:
        logits, full_logits: (batch, tokens, vocabulary) of the pruned and of the full model.
        wanted: (batch, tokens) bool, the answers.
    """
    student, teacher = (x[wanted].float().log_softmax(-1) for x in (logits, full_logits))
    return F.kl_div(student, teacher, log_target=True, reduction="batchmean")


def rank_correlation(scores: Tensor, saliency: Tensor, mask: Tensor) -> Tensor:
    """Spearman's rank correlation of scores and saliency over a prompt's tokens.

    Args:
        scores, saliency: (batch, stages, tokens).
        mask: (batch, tokens) bool.

    Returns:
        (batch, stages) from -1 to 1; 0 where all scores or all saliencies are equal.
    """
    rows = [
        F.cosine_similarity(*(_centred_ranks(x[row][:, mask[row]]) for x in (scores, saliency)), dim=-1)
        for row in range(len(scores))
    ]
    return torch.stack(rows)


def _centred_ranks(values: Tensor) -> Tensor:
    """Ranks of values (stages, tokens) less their mean; equal values share the mean of their ranks."""
    order = values.sort(dim=-1).values
    below = torch.searchsorted(order, values.contiguous())
    not_above = torch.searchsorted(order, values.contiguous(), right=True)
    return (below + not_above - values.shape[-1]).double() / 2


def _row_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of values (batch, stages, n) where mask (batch, 1, n) holds: (batch, stages)."""
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)
