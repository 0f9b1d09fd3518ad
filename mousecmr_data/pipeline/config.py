"""How mice are segmented: the options of ``mousecmr predict`` and ``mousecmr segment``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data.inference.roi import DEFAULT_REGION, RegionMode
from mousecmr_data.metrics.postprocessing import PostprocessingRule

PUBLISHED_WEIGHTS = "mousecmr-9.4T-unet3plus"
"""The authors' published weights: the default, for which nothing ever stands in."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of every segmentation; equal options give equal masks."""

    weights: str = PUBLISHED_WEIGHTS
    """A name in :func:`~mousecmr_data.inference.list_models`, or the path of a weights file."""
    engine: str = "auto"
    """One of :data:`mousecmr_data.inference.engines.ENGINE_NAMES`, or "auto"."""
    region: RegionMode = DEFAULT_REGION
    """"auto" computes most frames in a window around the heart where that is safe; what the network would mark
    outside it is then seen in two frames only, and flagged there. "full": every frame whole."""
    postprocessing: PostprocessingRule = "paper"
    device: str = "auto"
    """"auto", "cpu", "cuda" or "mps"."""
    batch_size: int = 16
    """2D slices computed at a time."""
    cache: str | Path | None = None
    """Folder of the cache; None is the default one."""

    def compute_weights_sha256(self) -> str:
        """Return the checksum of the weights; empty for a file that does not exist."""
        from mousecmr_data.inference.predictor import list_models

        card = list_models().get(self.weights)
        if card:
            return card.weights.sha256
        return compute_sha256(self.weights) if Path(self.weights).is_file() else ""


@dataclass(frozen=True, kw_only=True)
class SegmentConfig(PredictConfig):
    """Options of ``mousecmr segment``: how scans are read and what is written. Sizes that are None are the file's."""

    spacing: tuple[float, float, float] | None = None
    """(z, y, x) in mm."""
    axes: str | None = None
    """NIfTI only: one letter per axis of the file (x column, y row, z slice, t frame)."""
    frame_time_ms: float | None = None
    pictures: bool = True
    """Write movie, montage and curve; needs matplotlib."""
    dicom_seg: bool = True
    """Write a DICOM SEG object too, for DICOM input; needs highdicom."""

    def to_dict(self) -> dict[str, Any]:
        """Return all that decides what is in a result folder, by name."""
        order = ("weights", "spacing", "axes", "frame_time_ms", "postprocessing", "engine", "device", "batch_size")
        table = asdict(self)
        return {name: table[name] for name in (*order, "region", "pictures", "dicom_seg")}
