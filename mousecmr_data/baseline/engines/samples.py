"""Synthetic slices that engines are calibrated on, and others that they are held to the reference on."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from mousecmr_data.baseline.randomisation import normalised
from mousecmr_data.phantom import VERSION as PHANTOM_VERSION
from mousecmr_data.phantom import plans, render

VERSION = f"1, phantom {PHANTOM_VERSION}"
"""Changes whenever the slices do."""
CALIBRATION = ("Mouse1", "Mouse2")
GATE = "Mouse6"
"""Of the phantom's test split: neither calibrated nor trained on."""


@cache
def calibration() -> Tensor:
    """Every second slice of two synthetic mice at end-diastole and end-systole: (n, 1, 256, 256) in [0, 1]."""
    return torch.cat([stacks(mouse)[:, ::2].flatten(0, 1) for mouse in CALIBRATION])


@cache
def stacks(mouse: str = GATE) -> Tensor:
    """The stacks of a synthetic mouse at end-diastole and end-systole: (2, slice, 1, 256, 256) in [0, 1]."""
    plan = plans("phantom")[mouse]
    image = render(plan).image[[plan.ed_frame, plan.es_frame]].astype(np.float32)
    return normalised(torch.from_numpy(image)[:, :, None])
