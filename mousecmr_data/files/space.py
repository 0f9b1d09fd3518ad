"""What will be downloaded, how much, where to, and whether it fits: asked before the first byte."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from mousecmr_data.errors import CacheError
from mousecmr_data.files import disk
from mousecmr_data.files.obtain import Task
from mousecmr_data.files.partial import Partial
from mousecmr_data.files.progress import human
from mousecmr_data.files.sources import shown

TYPICAL = 40_000_000
"""Bytes of a mouse whose size nobody published: 5.16 GB uncompressed for 130 mice (source: repo)."""


@dataclass(frozen=True)
class Plan:
    """What a run is about to do. ``total``: bytes still to come, estimated where ``text`` says so."""

    total: int
    text: str


def plan(title: str, tasks: list[Task]) -> Plan:
    """The plan of a run; CacheError where the disk cannot hold what is known to come.

    Nobody is asked for sizes: 130 more requests would only bring the rate limit nearer. Where sizes are
    not known, the plan says "about", and each file is checked against the disk when its host tells its size.
    """
    known: dict[str, int] = {}
    here = 0
    for task in tasks:
        partial = Partial(task.path)
        length = partial.length()
        here += length
        origin = partial.origin()
        if size := task.entry.size or (origin.size if origin else None):
            known[task.entry.mouse] = max(0, size - length)
    unknown = len(tasks) - len(known)
    typical = max((t.entry.size or 0 for t in tasks), default=0) or TYPICAL
    total = sum(known.values()) + unknown * typical
    folder = tasks[0].folder
    free = disk.free(folder)
    if sum(known.values()) > free:
        raise CacheError(
            f"{human(sum(known.values()))} are to be downloaded, but {folder} has {human(free)} free.",
            "enough free space before the first byte",
            "free some space, fetch fewer mice, or: export MOUSECMR_CACHE=/path/with/space",
        )
    count = f"{len(tasks)} file{'s' if len(tasks) > 1 else ''}"
    size_text = f"about {human(total)} (an estimate: sizes are not published)" if unknown else human(total)
    parts = [f"{title}: {count}, {size_text}, from {_hosts(tasks)} to {folder}"]
    if here:
        parts.append(f"{human(here)} are here from an interrupted run")
    parts.append(f"{human(free)} free" + (", which may not be enough" if total > free else ""))
    return Plan(total, "; ".join(parts) + ".")


def _hosts(tasks: list[Task]) -> str:
    names = [urlsplit(s.urls[0]).netloc.rpartition("@")[2] or shown(s.urls[0]) for t in tasks for s in t.sources]
    return ", else ".join(dict.fromkeys(names))
