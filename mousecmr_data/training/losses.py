"""Training losses: soft Dice over the classes, and cross-entropy if a recipe adds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1e-6


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes including the background (source: the authors' recipe).

    ``logits`` are (N, classes, Y, X), ``labels`` integers (N, Y, X). Sums run over batch and pixels.
    """
    probabilities = logits.float().softmax(1)
    truth = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    dims = (0, 2, 3)
    overlap = (probabilities * truth).sum(dims)
    total = probabilities.sum(dims) + truth.sum(dims)
    return 1.0 - ((2.0 * overlap + SMOOTHING) / (total + SMOOTHING)).mean()


def supervised_loss(outputs: Sequence[Tensor], labels: Tensor, cross_entropy: float = 0.0) -> Tensor:
    """Return the mean loss over all heads; ``cross_entropy`` is the weight of that term."""
    losses = []
    for logits in outputs:
        loss = soft_dice_loss(logits, labels)
        if cross_entropy:
            loss = loss + cross_entropy * F.cross_entropy(logits.float(), labels.long())
        losses.append(loss)
    return torch.stack(losses).mean()
