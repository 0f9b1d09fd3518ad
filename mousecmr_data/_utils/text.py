"""Text for people and for spreadsheet programs: numbers, names, tables, and the notices of synthetic data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from mousecmr_data.schema import FORMULA_STARTS

if TYPE_CHECKING:
    import pandas as pd

Cell = TypeVar("Cell")

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


def disarm_cell(value: Cell) -> Cell | str:
    """Put an apostrophe before text that a spreadsheet program would take for a formula; numbers stay as they are."""
    if not isinstance(value, str) or not value.startswith(FORMULA_STARTS):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def format_csv(table: pd.DataFrame, *, index: bool = False, missing: str = "") -> str:
    """Return ``table`` as CSV, its texts harmless in spreadsheet programs; the only function that makes CSV tables."""
    safe = table.reset_index() if index else table.copy()
    for name in safe.columns[[dtype.kind == "O" for dtype in safe.dtypes]]:
        safe[name] = safe[name].map(disarm_cell)
    return str(safe.to_csv(index=False, na_rep=missing, lineterminator="\n"))


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
