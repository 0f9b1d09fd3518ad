"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    ``plan`` comes first (``text``: what, how much, where to; ``total``: bytes to come), and once more
    before a download where files had to be hashed before it. Then for each
    file ``start``, ``bytes`` (``done`` of ``total`` so far), ``wait`` (``text``: why and how long),
    ``note`` (``text``: something the user should know), ``done`` or ``failed``. At the end: ``end``.
    """

    kind: Literal["plan", "start", "bytes", "wait", "note", "done", "failed", "end"]
    name: str = ""
    done: int = 0
    total: int | None = None
    text: str = ""


Watcher: TypeAlias = Callable[[Event], None]
"""Called from several threads, one call at a time."""

Progress: TypeAlias = bool | Watcher | None
"""None: bars where stderr is a terminal and it takes a while; True or False: always or never."""


def human(size: float) -> str:
    """Bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"
