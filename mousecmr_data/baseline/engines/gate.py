"""The gate: how far an engine's answer may be from the reference's, and how far it is.

Measured as the answer is used: labels, Dice, ejection fraction (EF), on stacks at end-diastole and
end-systole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.baseline.engines.engine import Engine
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.schema.labels import Label

Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class Limits:
    """What is allowed."""

    same_pixels: float = 0.0
    """Smallest share of pixels with the same label."""
    dice: float = 0.0
    """Smallest Dice of a class in a stack."""
    ef_points: float = float("inf")
    """Largest difference in EF, percentage points."""
    logit: float = float("inf")
    """Largest difference in a logit."""


EXACT = Limits(same_pixels=0.99999, logit=1e-3)
REDUCED = Limits(same_pixels=0.999, dice=0.998, ef_points=0.5)
COARSE = Limits(dice=0.99, ef_points=1.0)
LIMITS = {
    "eager": EXACT,
    "exact": EXACT,
    "compiled": EXACT,
    "onnx": EXACT,
    "openvino": REDUCED,
    "cuda": REDUCED,
    "openvino-int8": COARSE,
}


@dataclass(frozen=True)
class Agreement:
    """What was measured, of an engine against the reference."""

    same_pixels: float
    dice: float
    """The smallest of classes and stacks."""
    ef_points: float
    """NaN where there are no two stacks."""
    logit: float

    def within(self, limits: Limits) -> bool:
        """Whether nothing is beyond its limit."""
        return (
            self.same_pixels >= limits.same_pixels
            and self.dice >= limits.dice
            and not self.ef_points > limits.ef_points
            and self.logit <= limits.logit
        )

    def __str__(self) -> str:
        ef = "" if np.isnan(self.ef_points) else f", EF {self.ef_points:.2f} points"
        return f"{100 * self.same_pixels:.4f} % of pixels, Dice {self.dice:.4f}{ef}, logit {self.logit:.1e}"


def agreement(engine: Engine, reference: Engine, stacks: Tensor) -> Agreement:
    """Both engines on ``stacks`` (stack, slice, 1, Y, X): end-diastole, end-systole; or one stack, without EF."""
    return compared(answers(engine, stacks), answers(reference, stacks))


def compared(logits: Tensor, reference: Tensor) -> Agreement:
    """Two answers (stack, slice, classes, Y, X) to the same stacks."""
    ours, theirs = (x.argmax(2).to(torch.uint8).numpy() for x in (logits, reference))
    smallest = min(min(dice_by_class(a, b).values()) for a, b in zip(ours, theirs, strict=True))
    ef = [_ejection_fraction(x) for x in (ours, theirs)]
    return Agreement(
        float((ours == theirs).mean()),
        smallest,
        abs(ef[0] - ef[1]) if ef[0] != ef[1] else 0.0,
        float((logits - reference).abs().max()),
    )


def answers(engine: Engine, stacks: Tensor) -> Tensor:
    """Logits (stack, slice, classes, Y, X) of stacks (stack, slice, 1, Y, X), a stack a batch."""
    return torch.stack([engine(stack).cpu() for stack in stacks])


def _ejection_fraction(stacks: Labels) -> float:
    """Percent, after the paper's post-processing; NaN where it has no meaning."""
    if len(stacks) != 2:
        return float("nan")
    end_diastole, end_systole = (np.count_nonzero(postprocess(s) == Label.BLOOD_POOL) for s in stacks)
    return 100.0 * (end_diastole - end_systole) / end_diastole if end_diastole else float("nan")
