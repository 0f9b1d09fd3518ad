"""The training losses: soft Dice over the classes, and cross-entropy where a recipe adds it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

SMOOTHING = 1e-6


def soft_dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """1 − soft Dice, averaged over the classes, background included (source: the authors' recipe).

    ``logits`` (N, classes, Y, X), ``labels`` integers (N, Y, X). Sums run over batch and pixels.
    """
    probabilities = logits.float().softmax(1)
    truth = F.one_hot(labels.long(), logits.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    over = (0, 2, 3)
    both = (probabilities * truth).sum(over)
    total = probabilities.sum(over) + truth.sum(over)
    return 1.0 - ((2.0 * both + SMOOTHING) / (total + SMOOTHING)).mean()


def supervised_loss(outputs: Sequence[Tensor], labels: Tensor, cross_entropy: float = 0.0) -> Tensor:
    """The loss on every head with equal weights (their mean); ``cross_entropy`` weighs that term."""
    losses = []
    for logits in outputs:
        loss = soft_dice_loss(logits, labels)
        if cross_entropy:
            loss = loss + cross_entropy * F.cross_entropy(logits.float(), labels.long())
        losses.append(loss)
    return torch.stack(losses).mean()
