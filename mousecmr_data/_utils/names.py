"""File names from words that files, archives and people bring along: the only place that makes them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

MAX_CHARACTERS, MAX_BYTES = 80, 150
"""Longest name; file systems allow 255 bytes, and endings are added."""
RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in range(10))}


def make_file_name(text: str, default: str = "mouse") -> str:
    """Return ``text`` as the name of a file or folder on any system; ``default`` if nothing usable is left.

    Letters and digits of every script and ``. + - _`` stay, in Unicode normal form C; all others (separators, control
    characters, spaces) become ``_``. ``. + - _`` at the start and ``. _`` at
    the end go; the length is limited.
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join(c if c.isalnum() or c in ".+-" or unicodedata.category(c).startswith("M") else "_" for c in normal)
    name = re.sub("_+", "_", kept).lstrip("._+-").rstrip("._")[:MAX_CHARACTERS]
    while len(name.encode()) > MAX_BYTES:
        name = name[:-1]
    name = name.rstrip("._")
    return re.sub(r"^[^.]+", r"\g<0>_", name) if is_reserved(name) else name or default


def is_reserved(name: str) -> bool:
    """Return whether Windows keeps ``name`` for a device, whatever its ending."""
    return name.partition(".")[0].strip().lower() in RESERVED_NAMES


def make_unique(names: Iterable[str]) -> list[str]:
    """Append a number to each name that an earlier one takes, also on file systems that ignore case."""
    taken: set[str] = set()
    unique = []
    for name in names:
        candidate, n = name, 1
        while candidate.casefold() in taken:
            n += 1
            candidate = f"{name}_{n}"
        taken.add(candidate.casefold())
        unique.append(candidate)
    return unique
