"""Text for people and names for files: numbers, lists, notices of synthetic data, and what others call their mice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

SYNTHETIC = "SYNTHETIC"
"""The word that every name, title and header of synthetic data carries."""
SYNTHETIC_DATA = "SYNTHETIC DATA: made by the phantom, not measured on mice."
SYNTHETIC_IMAGES = "SYNTHETIC images: made by the phantom, not measured on mice."
SYNTHETIC_WEIGHTS = "Masks by weights that were trained on synthetic mice only."
SYNTHETIC_ANCESTRY = "Masks by weights whose training began with weights trained on synthetic mice."
RESEARCH_ONLY = "For research, not for clinical use."


def format_bytes(size: float) -> str:
    """Return a number of bytes as text in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


def format_count(number: int | None, noun: str) -> str:
    """Return a number of things: "1 mouse", "2 mice", "1,000 files"."""
    if number == 1:
        return f"1 {noun}"
    plural = "mice" if noun == "mouse" else f"{noun}s"
    return f"{number} {plural}" if number is None else f"{number:,} {plural}"


def join_names(names: Sequence[object], limit: int = 8) -> str:
    """Return names separated by commas, shortened if there are more than ``limit``."""
    text = ", ".join(map(str, names[:limit]))
    return f"{text} and {len(names) - limit} more" if len(names) > limit else text


def list_notices(synthetic_training: bool, synthetic_images: bool, synthetic_ancestry: bool = False) -> tuple[str, ...]:
    """Return the notices shown with every segmentation: in tables, pictures and files."""
    ancestry = synthetic_ancestry and not synthetic_training
    notices = (SYNTHETIC_WEIGHTS,) * synthetic_training + (SYNTHETIC_ANCESTRY,) * ancestry
    return (*notices, *(SYNTHETIC_IMAGES,) * synthetic_images, RESEARCH_ONLY)


def is_marked_synthetic(text: str) -> bool:
    """Return whether a file's description or comment says that its images are synthetic."""
    return SYNTHETIC in text


MAX_CHARACTERS, MAX_BYTES = 80, 150
"""Longest name; file systems allow 255 bytes, and endings are added."""
RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{device}{n}" for device in ("com", "lpt") for n in "0123456789¹²³")}


def hide_home(text: str) -> str:
    """Replace the path of the user's home folder, which often holds a name, by ``~``."""
    with suppress(RuntimeError):  # a user without a home
        home = str(Path.home())
        text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text) if len(home) > 1 else text
    return text


def make_file_name(text: str, default: str = "mouse") -> str:
    """Return ``text`` as the name of a file or folder on any system; ``default`` if nothing usable is left.

    Letters and digits of every script, symbols such as ♀ and ``. + - _`` stay, in Unicode normal form C; all others
    (separators, control characters, spaces) become ``_``. ``. + - _`` at the start and ``. _`` at the end go; the
    length is limited.
    """
    normal = unicodedata.normalize("NFC", text)
    kept = "".join(
        c if c.isalnum() or c in ".+-" or unicodedata.category(c) in ("Mn", "Mc", "Me", "So") else "_" for c in normal
    )
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
