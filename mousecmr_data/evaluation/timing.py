"""How long a network takes: per 2D image, for ED and ES, for a whole cine; beside the published times."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from mousecmr_data.schema.manifest import Published

Result = TypeVar("Result")

PUBLISHED_TIMES = {"one 2D image": "image", "ED and ES": "pair", "full cine (about 200 images)": "cine"}
"""The published times' names, and ours."""

TIMES_NOTE = (
    "Network with resampling and normalisation, images already in memory, no post-processing. One 2D image: the cine's "
    "time through its number of images. The published times are of the authors' machine; they judge nothing here."
)


@dataclass
class Stopwatch:
    """Seconds by what was timed."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def time(self, what: str, work: Callable[[], Result]) -> Result:
        """The result of ``work``; its time is kept."""
        begin = time.perf_counter()
        result = work()
        self.seconds.setdefault(what, []).append(time.perf_counter() - begin)
        return result

    def add(self, what: str, seconds: float) -> None:
        """Keep a time that follows from another."""
        self.seconds.setdefault(what, []).append(seconds)


def tabulate_times(watch: Stopwatch, published: Published | None) -> pd.DataFrame:
    """A row a published time: what, published_ms, published_sd_ms, measured_ms, measured_sd_ms, n."""
    rows = []
    for t in published.times if published else ():
        values = np.array(watch.seconds.get(PUBLISHED_TIMES.get(t.what, ""), []), float) * 1000
        rows.append(
            {
                "what": t.what,
                "published_ms": t.milliseconds,
                "published_sd_ms": np.nan if t.sd is None else t.sd,
                "measured_ms": float(values.mean()) if values.size else np.nan,
                "measured_sd_ms": float(values.std(ddof=1)) if values.size > 1 else np.nan,
                "n": int(values.size),
            }
        )
    return pd.DataFrame(rows)


def describe_machine() -> str:
    """This machine in words."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
