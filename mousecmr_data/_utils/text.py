"""Numbers and names as text for people."""

from __future__ import annotations

from collections.abc import Sequence


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
