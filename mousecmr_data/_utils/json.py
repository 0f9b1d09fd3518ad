"""Convert values to JSON and write JSON files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from os import PathLike
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import write_text


def to_json_value(value: Any) -> Any:
    """Return ``value`` in JSON types: NaN and infinity as null, NumPy scalars as numbers, other objects as text."""
    if isinstance(value, Mapping):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple | Set):
        return [to_json_value(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def dump_json(value: Any, *, ascii_only: bool = False) -> str:
    """Return ``value`` as indented JSON text with a newline at the end; ``ascii_only`` escapes all other characters."""
    return json.dumps(to_json_value(value), indent=1, ensure_ascii=ascii_only) + "\n"


def write_json(path: str | PathLike[str], value: Any) -> Path:
    """Write ``value`` to ``path`` as JSON, atomically, and return the path."""
    return write_text(path, dump_json(value))
