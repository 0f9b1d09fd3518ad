"""Names of the phases of a frame."""

from __future__ import annotations

from typing import Literal

import numpy as np

PHASE_DTYPE = np.dtype("<U10")

Phase = Literal["ED", "ES", "inflow", "unlabelled", "unknown"]

ED: Phase = "ED"
ES: Phase = "ES"
INFLOW: Phase = "inflow"
"""Labelled, but neither ED nor ES: a frame with an inflow artefact."""
UNLABELLED: Phase = "unlabelled"
"""Not segmented; the all-zero mask of this frame has no meaning."""
UNKNOWN: Phase = "unknown"
"""The only labelled frame of a mouse, so there is no ED/ES pair."""
