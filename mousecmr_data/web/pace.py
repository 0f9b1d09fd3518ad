"""How long a job will take: a first guess, then what the jobs before it took."""

from __future__ import annotations

import threading

FIRST = {"mousecmr-9.4T-unet3plus": 0.08, "phantom-small": 0.02}
"""Seconds a 2D slice on two processor cores, most in a window; measured on a shared machine, rounded up."""
OTHER = 0.08
LOADING = {"mousecmr-9.4T-unet3plus": 12.0, "phantom-small": 5.0}
"""Seconds until the weights are loaded and the first slice is done, once after the start."""
WRITING = 0.01
"""Seconds a slice for pictures and files."""
NEWEST = 0.5
"""The newest job's share in the mean."""


class Pace:
    """Seconds a slice by weights; learns from every job."""

    def __init__(self) -> None:
        self._learnt: dict[str, float] = {}
        self._lock = threading.Lock()

    def learn(self, weights: str, slices: int, seconds: float) -> None:
        """A job of ``slices`` 2D slices took ``seconds``, without the loading of weights."""
        if slices <= 0:
            return
        with self._lock:
            before = self._learnt.get(weights, seconds / slices)
            self._learnt[weights] = (1 - NEWEST) * before + NEWEST * seconds / slices

    def expected(self, weights: str, slices: int) -> tuple[float, bool]:
        """Seconds for ``slices``, and whether that is more than a guess."""
        if weights in self._learnt:
            return self._learnt[weights] * slices, True
        return (FIRST.get(weights, OTHER) + WRITING) * slices + LOADING.get(weights, LOADING["phantom-small"]), False


def spoken(seconds: float) -> str:
    """Seconds as people say them: 8 s, 40 s, 3 min."""
    if seconds < 20:
        return f"{max(1, round(seconds))} s"
    if seconds < 90:
        return f"{10 * round(seconds / 10)} s"
    return f"{max(2, round(seconds / 60))} min"
