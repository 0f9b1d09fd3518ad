"""The one error at the end of a run: what is missing, why, and what to type next."""

from __future__ import annotations

from pathlib import Path

from mousecmr_data.errors import (
    CacheError,
    ChecksumError,
    DownloadError,
    MissingDataError,
    MouseCMRError,
)
from mousecmr_data.files.obtain import Failure
from mousecmr_data.schema.manifest import FileEntry

SHOWN = 6
"""Reasons spelled out; more would scroll the next step out of sight."""


def listed(names: list[str], limit: int = 8) -> str:
    """Names for a sentence, shortened where there are many."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def nowhere(title: str, entries: list[FileEntry], folder: Path, offline: bool) -> MissingDataError:
    """The error for files that are missing where nothing may or can be asked."""
    names = [e.mouse for e in entries]
    damaged = [e.mouse for e in entries if (folder / e.path).exists()]
    found = f"{title}: {len(names)} file{'s are' if len(names) > 1 else ' is'} not in {folder}: {listed(names)}."
    if damaged:
        found += f" (There, but damaged: {listed(damaged)}.)"
    if offline:
        found += " Network traffic is switched off (MOUSECMR_OFFLINE or offline=True)."
        step = (
            "unset MOUSECMR_OFFLINE, then mousecmr fetch; or, without a network: "
            "mousecmr bundle import FILE, with a FILE that `mousecmr bundle create` wrote elsewhere"
        )
    else:
        found += " The manifest names no URL, and MOUSECMR_MIRROR is not set."
        step = "export MOUSECMR_MIRROR=/folder/or/url/that/has/them"
    return MissingDataError(found, None, step)


def summary(failed: list[Failure], asked: int, offline: bool) -> MouseCMRError:
    """One error for all files that failed; equal reasons are told once."""
    by_reason: dict[str, list[str]] = {}
    for failure in failed:
        by_reason.setdefault(failure.reason, []).append(failure.entry.mouse)
    if len(failed) < asked:
        lines = [f"{len(failed)} of {asked} files could not be had; the others are in the cache."]
    else:
        lines = [f"None of {asked} files could be had." if asked > 1 else "The file could not be had."]
    lines += [f"  {listed(names)}: {reason}" for reason, names in list(by_reason.items())[:SHOWN]]
    if len(by_reason) > SHOWN:
        lines.append(f"  … and {sum(map(len, list(by_reason.values())[SHOWN:]))} more for other reasons")
    text = "\n".join(lines)
    if all(f.kind == "disk" for f in failed):
        return CacheError(text, None, "free some space, or export MOUSECMR_CACHE=/path/with/space; then fetch again")
    if all(f.kind == "wrong bytes" for f in failed):
        return ChecksumError(
            text,
            "bytes with the manifest's checksums; what did not match was not kept",
            "try another host: export MOUSECMR_MIRROR=…; or report it, with this message",
        )
    if offline:
        return MissingDataError(text, None, "unset MOUSECMR_OFFLINE, or mousecmr bundle import FILE")
    return DownloadError(text, None, "mousecmr fetch  (it goes on where this stopped)")
