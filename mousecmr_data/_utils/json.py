"""JSON: any value as JSON can hold it, and the files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from os import PathLike
from pathlib import Path
from typing import Any

from mousecmr_data._utils.atomic import write_text


def to_json_value(value: Any) -> Any:
    """Return ``value`` as JSON can hold it: NaN and infinity become null, NumPy scalars numbers, paths and other
    objects their text."""
    if isinstance(value, Mapping):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple | Set):
        return [to_json_value(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def dump_json(value: Any) -> str:
    """Return ``value`` as JSON text for people and programs, with a newline at the end."""
    return json.dumps(to_json_value(value), indent=1, ensure_ascii=False) + "\n"


def write_json(path: str | PathLike[str], value: Any) -> Path:
    """Write ``value`` to ``path`` as JSON, whole or not at all, and return the path."""
    return write_text(path, dump_json(value))
