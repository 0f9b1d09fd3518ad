"""Numbers, names and tables as text for people and for spreadsheet programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from mousecmr_data.schema import FORMULA_STARTS

if TYPE_CHECKING:
    import pandas as pd

Cell = TypeVar("Cell")


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
