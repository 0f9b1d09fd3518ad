"""What a segmentation job is asked to do, and the words that mark its results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from mousecmr_data.metrics.postprocessing import PostprocessingRule

PUBLISHED = "mousecmr-9.4T-unet3plus"
"""The authors' published weights: the default, for which nothing ever stands in."""
RESEARCH = "For research, not for clinical use."
SYNTHETIC_WEIGHTS = "Masks by weights that were trained on synthetic mice only."
SYNTHETIC_IMAGES = "SYNTHETIC images: made by the phantom, not measured on mice."


@dataclass(frozen=True)
class Settings:
    """A job. Sizes that are None are the file's own."""

    weights: str = PUBLISHED
    """A name of ``baseline.cards()``, or a weights file's path."""
    spacing: tuple[float, float, float] | None = None
    """(z, y, x) in mm."""
    axes: str | None = None
    """NIfTI only: a letter an axis of the file (x column, y row, z slice, t frame)."""
    frame_time_ms: float | None = None
    postprocessing: PostprocessingRule = "paper"
    engine: str = "auto"
    device: str = "auto"
    batch_size: int = 16
    region: Literal["full", "auto"] = "auto"
    """"auto" computes most frames in a window around the heart where that is safe; what the network would mark
    outside it is then seen in two frames only, and flagged there. "full": every frame whole."""
    pictures: bool = True
    """Movie, montage and curve; needs matplotlib."""
    dicom_seg: bool = True
    """Also a DICOM SEG object, for DICOM input; needs highdicom."""

    def table(self) -> dict[str, Any]:
        """By name, for JSON."""
        return asdict(self)


def marks(synthetic_training: bool, synthetic_images: bool) -> tuple[str, ...]:
    """The sentences that go with every result."""
    said = (SYNTHETIC_WEIGHTS,) * synthetic_training + (SYNTHETIC_IMAGES,) * synthetic_images
    return (*said, RESEARCH)
