"""The names a frame's phase can take."""

from __future__ import annotations

from typing import Literal

import numpy as np

PHASE_DTYPE = np.dtype("<U10")

Phase = Literal["ED", "ES", "inflow", "unlabelled", "unknown"]

ED: Phase = "ED"
ES: Phase = "ES"
INFLOW: Phase = "inflow"
"""Labelled, neither ED nor ES: a frame with an inflow artefact."""
UNLABELLED: Phase = "unlabelled"
"""Nobody segmented this frame; its all-zero mask says nothing."""
UNKNOWN: Phase = "unknown"
"""Labelled, but alone: with a single labelled frame there is no ED/ES pair."""
