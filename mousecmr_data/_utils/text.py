"""Text for people: numbers, names, and the notices of synthetic data."""

from __future__ import annotations

from collections.abc import Sequence

SYNTHETIC = "SYNTHETIC"
"""The word that every name, title and header of synthetic data carries."""
SYNTHETIC_DATA = "SYNTHETIC DATA: made by the phantom, not measured on mice."
SYNTHETIC_IMAGES = "SYNTHETIC images: made by the phantom, not measured on mice."
SYNTHETIC_WEIGHTS = "Masks by weights that were trained on synthetic mice only."
RESEARCH_ONLY = "For research, not for clinical use."


def format_bytes(size: float) -> str:
    """Return a number of bytes as text in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def join_names(names: Sequence[object], limit: int = 8) -> str:
    """Return names separated by commas, shortened if there are more than ``limit``."""
    text = ", ".join(map(str, names[:limit]))
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text


def list_notices(synthetic_training: bool, synthetic_images: bool) -> tuple[str, ...]:
    """Return the notices shown with every segmentation: in tables, pictures and files."""
    notices = (SYNTHETIC_WEIGHTS,) * synthetic_training + (SYNTHETIC_IMAGES,) * synthetic_images
    return (*notices, RESEARCH_ONLY)


def mark_title(title: str, synthetic: bool) -> str:
    """Return ``title``, with SYNTHETIC in front if the data are synthetic."""
    return f"{SYNTHETIC} mice: {title}" if synthetic else title


def is_marked_synthetic(text: str) -> bool:
    """Return whether a file's description or comment says that its images are synthetic."""
    return SYNTHETIC in text
