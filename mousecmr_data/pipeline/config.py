"""Options of ``mousecmr predict`` and ``mousecmr segment``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data.inference.roi import DEFAULT_REGION, RegionMode
from mousecmr_data.metrics.postprocessing import PostprocessingRule
from mousecmr_data.schema import PUBLISHED_WEIGHTS


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of every segmentation. Equal options give equal masks."""

    weights: str = PUBLISHED_WEIGHTS
    """A name in :func:`~mousecmr_data.inference.list_models`, or the path of a weights file."""
    network: str | None = None
    """"package.module:Class" of the network of a weights file, where its code is neither of this package or MONAI nor
    an installed entry point."""
    engine: str = "auto"
    """One of :data:`mousecmr_data.inference.engines.ENGINE_NAMES`."""
    force: bool = False
    """Use an engine that failed its accuracy check; the name of the weights then says so in every output."""
    region: RegionMode = DEFAULT_REGION
    """"auto" computes most frames in a window around the heart where that is safe; marks outside the window are then
    found, and flagged, in two frames only. "full" computes the whole field of every frame."""
    postprocessing: PostprocessingRule = "paper"
    device: str = "auto"
    """"auto", "cpu", "cuda" or "mps"."""
    batch_size: int = 16
    """Number of 2D slices computed at a time."""
    cache: str | Path | None = None
    """Cache folder; None is the default one."""

    def compute_weights_sha256(self) -> str:
        """Return the SHA-256 of the weights; empty if the file does not exist."""
        from mousecmr_data.inference.predictor import list_models

        card = list_models(cache=self.cache).get(self.weights)
        if card:
            return card.weights.sha256
        return compute_sha256(self.weights) if Path(self.weights).is_file() else ""


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(PredictConfig):
    """Options of ``mousecmr segment``: how scans are read and what is written. None: the value in the file."""

    spacing: tuple[float, float, float] | None = None
    """(z, y, x) in mm."""
    axes: str | None = None
    """One letter per axis of the file (x column, y row, z slice, t frame); not for DICOM, Bruker and FDF."""
    frames: int | None = None
    """Number of frames of each slice, for files whose slices and frames share one axis."""
    fill: float | None = None
    """Value for pixels that are NaN or infinite; None: they are an error."""
    frame_time_ms: float | None = None
    images: bool = True
    """Write the images beside the masks, on the same grid, for viewers and editors."""
    pictures: bool = True
    """Write movie, montage and curve; needs matplotlib."""
    dicom_seg: bool = True
    """Also write DICOM SEG objects for DICOM input; needs highdicom (without it, a flag says so)."""
    matlab: bool = False
    """Also write masks and tables as a MATLAB file."""
    keep_names: bool = False
    """Keep the names, identifiers and birth dates of the DICOM images in DICOM SEG; else they get a pseudonym."""

    @property
    def reading(self) -> dict[str, Any]:
        """The options of :func:`mousecmr_data.formats.read.read_scan`."""
        return {name: getattr(self, name) for name in ("spacing", "axes", "frames", "fill", "frame_time_ms")}

    def to_dict(self) -> dict[str, Any]:
        """Return, by name, the options that determine the content of a result folder."""
        order = (
            "weights",
            "spacing",
            "axes",
            "frames",
            "fill",
            "frame_time_ms",
            "postprocessing",
            "engine",
            "device",
            "batch_size",
        )
        table = asdict(self)
        named = ("network",) if self.network else ()
        rest = ("region", "images", "pictures", "dicom_seg", "keep_names", "matlab")
        return {name: table[name] for name in (*order, *rest, *named)}
