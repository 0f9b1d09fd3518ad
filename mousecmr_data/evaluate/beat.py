"""A mouse's volume over the heart beat: heart rate, peak ejection rate, peak filling rate.

Definitions: the peak ejection rate is the steepest fall of the volume between end-diastole and end-systole, the
peak filling rate its steepest rise after end-systole, both in µL/s, and divided by EDV in EDV/s (Bonow et al.,
Circulation 1981;64:315-323; on CMR: Maceira et al., J Cardiovasc Magn Reson 2006;8:417-426). The slope is that of
a parabola fitted to five frames by least squares (Savitzky & Golay, Anal Chem 1964;36:1627-1639). End-diastole and
end-systole are the curve's maximum and minimum. The heart rate takes the cine for one whole beat: with prospective
triggering the end of diastole may be missing, and the true rate is then lower.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import savgol_filter

FRAMES_FITTED = 5


@dataclass(frozen=True)
class Curve:
    """The blood pool's volume over a cine, and what follows from it; NaN is missing."""

    time_ms: tuple[float, ...]
    blood_pool_ul: tuple[float, ...]
    heart_rate_bpm: float
    edv_ul: float
    esv_ul: float
    ed_frame: int
    es_frame: int
    peak_ejection_rate_ul_s: float
    """Positive."""
    peak_filling_rate_ul_s: float
    peak_ejection_rate_edv_s: float
    peak_filling_rate_edv_s: float


def curve(volumes_ul: Sequence[float] | NDArray[np.float64], frame_time_ms: float) -> Curve:
    """The curve of volumes (frame,) in µL, a frame every ``frame_time_ms``. Rates need five frames or more."""
    volumes = np.asarray(volumes_ul, float)
    ed, es = int(np.argmax(volumes)), int(np.argmin(volumes))
    ejection = filling = np.nan
    if volumes.size >= FRAMES_FITTED:
        slope = savgol_filter(volumes, FRAMES_FITTED, 2, deriv=1, delta=frame_time_ms / 1000)
        falling = slope[ed : es + 1] if ed < es else slope  # a cine that begins in systole: search it all
        rising = slope[es:] if ed < es else slope
        ejection, filling = max(0.0, float(-falling.min())), max(0.0, float(rising.max()))
    edv = float(volumes[ed])
    return Curve(
        tuple(float(k * frame_time_ms) for k in range(volumes.size)),
        tuple(volumes.tolist()),
        60_000.0 / (volumes.size * frame_time_ms) if volumes.size > 1 else np.nan,
        edv,
        float(volumes[es]),
        ed,
        es,
        ejection,
        filling,
        ejection / edv if edv else np.nan,
        filling / edv if edv else np.nan,
    )
