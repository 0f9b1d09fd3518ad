"""Measure how long a network takes: per 2D image, for ED and ES, for a whole cine; beside the published times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pandas as pd

from mousecmr_data.schema.manifest import Published

Result = TypeVar("Result")

PUBLISHED_TIMES = {"one 2D image": "image", "ED and ES": "pair", "full cine (about 200 images)": "cine"}
"""Names of the published times, and of ours."""

TIMES_NOTE = (
    "Network with resampling and normalisation, images already in memory, no post-processing. One 2D image: the cine's "
    "time divided by its number of images. The published times are from the authors' machine; they do not count in the "
    "verdict."
)


@dataclass
class Stopwatch:
    """Measured seconds by name."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def time(self, name: str, work: Callable[[], Result]) -> Result:
        """Call ``work``, add its time and return its result."""
        begin = time.perf_counter()
        result = work()
        self.add(name, time.perf_counter() - begin)
        return result

    def add(self, name: str, seconds: float) -> None:
        """Add a time that was measured or derived elsewhere."""
        self.seconds.setdefault(name, []).append(seconds)


def tabulate_times(watch: Stopwatch, published: Published | None) -> pd.DataFrame:
    """Return one row per published time: what, published_ms, published_sd_ms, measured_ms, measured_sd_ms, n."""
    rows = []
    for t in published.times if published else ():
        values = np.array(watch.seconds.get(PUBLISHED_TIMES.get(t.what, ""), []), float) * 1000
        mean = float(values.mean()) if values.size else np.nan
        sd = float(values.std(ddof=1)) if values.size > 1 else np.nan
        rows.append((t.what, t.milliseconds, np.nan if t.sd is None else t.sd, mean, sd, values.size))
    columns = ["what", "published_ms", "published_sd_ms", "measured_ms", "measured_sd_ms", "n"]
    return pd.DataFrame(rows, columns=columns)
