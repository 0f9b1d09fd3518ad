"""What was uploaded, before anything is computed: mice, sizes, expected time, and what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.read import read_scan
from mousecmr_data.pipeline.analysis import SegmentConfig
from mousecmr_data.pipeline.batch import collect_inputs


@dataclass(frozen=True)
class Seen:
    """A mouse that was looked at."""

    name: str
    kind: str = ""
    bytes: int = 0
    frames: int = 0
    slices: int = 0
    shape_yx: tuple[int, int] = (0, 0)
    voxel_mm: tuple[float, float, float] | None = None
    """(z, y, x)."""
    frame_ms: float | None = None
    """None: not known."""
    synthetic: bool = False
    error: MouseCMRError | None = None

    @property
    def images(self) -> int:
        """2D slices to segment."""
        return self.frames * self.slices


def check(inputs: Sequence[Path], settings: SegmentConfig, scratch: Path) -> list[Seen]:
    """The mice in ``inputs``, each read by the very readers that the job uses, with its error where it has one."""
    if not inputs:
        return []
    with collect_inputs(inputs, scratch) as (found, refused):
        return [*(_read(f, settings) for f in found), *(Seen(r.name, error=r.error) for r in refused)]


def _read(one: FoundScan, settings: SegmentConfig) -> Seen:
    try:
        ds = read_scan(one, spacing=settings.spacing, axes=settings.axes, frame_time_ms=settings.frame_time_ms)
    except MouseCMRError as e:
        return Seen(one.name, one.kind, one.size, error=e)
    sizes = ds.sizes
    return Seen(
        one.name,
        one.kind,
        one.size,
        sizes["frame"],
        sizes["slice"],
        (sizes["y"], sizes["x"]),
        get_spacing(ds),
        float(ds["time"].attrs["frame_time"]) if ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True) else None,
        bool(ds.attrs.get("synthetic")),
    )
