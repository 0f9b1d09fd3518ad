"""Decide which series of a study are the short-axis cine of a mouse, and say what was left out and why.

The rule for all formats whose files state their place in space. It takes plain geometry, reads no file, and needs no
extra.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from math import isclose
from pathlib import Path
from typing import Any

import numpy as np

from mousecmr_data.formats.build import ATTR_PURPOSE, MAX_UNEVEN

TOLERANCE_MM = 0.01
"""Positions that are closer than this are the same slice."""
MAX_DIRECTION, MAX_SPACING = 1e-3, 1e-3
"""Differences of direction cosines, and relative ones of pixel sizes, within one stack: headers round them."""
MAX_SHIFT = 0.5
"""Pixels by which slices of a stack may be shifted within their plane."""
MAX_LISTED = 12
"""Number of series or files that a note names."""
PURPOSES = {
    "a localiser": r"locali[sz]er|scout|survey|tri.?pi?lot|\bloc\b|3.?plane",
    "a long-axis view": r"\b(la|lax|hla|vla|[lr]vot|[234] ?ch?(amber)?)\b|long.?ax",
    "a field map": r"\bb[01]\b|b[01].?map|field.?map|shim",
    "an EPI": r"\bepi\b|ep2d|epfid|echo.?planar",
    "a diffusion or perfusion series": r"diffusion|perfusion|\bdwi\b|\bdti\b|\basl\b",
    "a multi-echo series": r"\b(mgre?|mge|mems|msme|t[12]star|t[12]map)\b",
}
"""Words in the names of protocol, sequence and series of images that are no short-axis cine."""
SHORT_AXIS = re.compile(r"(?<![a-z])(sax?|short.?ax[a-z]*)(?![a-z])", re.IGNORECASE)
"""Names of series that say that they are short-axis stacks."""


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one geometry and protocol: a series, or several joined ones. Lengths in mm."""

    paths: tuple[Path, ...]
    label: str
    """For messages."""
    name: str
    """Names of series, sequence and protocol."""
    protocol: Any
    """What series of one protocol share: the sequence and its settings, no numbers of series."""
    shape: tuple[int, ...]
    """(column, row)."""
    steps: tuple[float, ...]
    """Between columns and between rows."""
    directions: tuple[float, ...]
    """Along a row, along a column and from slice to slice: nine numbers."""
    offset: tuple[float, float]
    """Of the first pixel along a row and along a column."""
    depths: tuple[float, ...]
    """Positions of the slices along the third direction."""
    frames: int
    taken: tuple[Any, ...]
    """Sorts scans by the time at which they were made."""
    is_movie: bool = True
    """Whether the frames are those of a movie by the header; repetitions may be, too."""
    trigger_ms: float | None = None
    """Time of the first frame, if the header states it: tells series of one frame each apart."""
    takes_latest: bool = False
    """Whether the reader takes the latest of several scans of a slice, so that one that was scanned again can join."""

    @property
    def purpose(self) -> str:
        """What else than a short-axis cine this is by its name; empty if nothing says so."""
        return find_purpose(self.name)

    @property
    def rank(self) -> tuple[bool, bool, bool, bool]:
        """A cine before images without frames; what is not called anything else; a movie; several slices before one."""
        return self.frames > 1, not self.purpose, self.is_movie, len(self.depths) > 1

    def describe(self) -> str:
        """Return what it is, for a note on why it was left out."""
        n, frames = len(self.depths), self.frames
        size = f"{n} slice{'s'[: n > 1]}, {frames} frame{'s'[: frames > 1]}"
        return f"{self.label}: {size}" + (f", {self.purpose} by its name" if self.purpose else "")

    def is_parallel_to(self, other: Stack) -> bool:
        """Return whether the directions are the same."""
        return are_parallel(self.directions, other.directions)

    def fits(self, other: Stack) -> bool:
        """Return whether the two have the same geometry and protocol, so that they can be parts of one stack."""
        return (
            (self.shape, self.protocol, self.purpose) == (other.shape, other.protocol, other.purpose)
            and self.is_parallel_to(other)
            and have_same_steps(self.steps, other.steps)
            and bool((np.abs(np.subtract(self.offset, other.offset)) <= np.multiply(MAX_SHIFT, self.steps)).all())
        )

    def shares_slices_with(self, other: Stack) -> bool:
        """Return whether any slice is also in ``other``."""
        return any(map(other._has, self.depths))

    def _has(self, depth: float) -> bool:
        return min(abs(depth - d) for d in self.depths) < TOLERANCE_MM

    def join(self, other: Stack) -> Stack:
        """Return the slices of both."""
        return replace(
            self,
            paths=(*self.paths, *other.paths),
            label=f"{self.label}, {other.label}",
            depths=(*self.depths, *(d for d in other.depths if not self._has(d))),
            taken=max(self.taken, other.taken),
        )


@dataclass(frozen=True)
class Unusable:
    """Files of one series that cannot be read as a stack."""

    paths: tuple[Path, ...]
    reason: str
    name: str = ""
    """As of a :class:`Stack`."""
    protocol: Any = None
    """Of what may be a part of a stack, as of a :class:`Stack`; empty if not known. None: it cannot be a part."""

    def may_belong_to(self, stack: Stack) -> bool:
        """Return whether ``stack`` may lack these files."""
        return self.protocol in ("", stack.protocol) and find_purpose(self.name) == stack.purpose


@dataclass(frozen=True)
class StudyScan:
    """The files of one mouse."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    """What was left out of its study, and why."""
    incomplete: tuple[str, ...] = ()
    """What may belong to it and was left out, one sentence each: slices may be missing."""


def are_parallel(directions: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether directions are the same but for what headers round."""
    return all(abs(a - b) <= MAX_DIRECTION for a, b in zip(directions, others, strict=True))


def have_same_steps(steps: Sequence[float], others: Sequence[float]) -> bool:
    """Return whether pixel sizes are the same but for what headers round."""
    same = (isclose(a, b, rel_tol=MAX_SPACING) for a, b in zip(steps, others, strict=False))
    return len(steps) == len(others) and all(same)


@lru_cache(maxsize=1000)
def find_purpose(names: str) -> str:
    """Return what else than a short-axis cine a series of these names is; empty if nothing says so."""
    words = re.sub(r"[\W_]+", " ", names.lower())
    return next((purpose for purpose, pattern in PURPOSES.items() if re.search(pattern, words)), "")


def describe_purpose(names: str) -> dict[str, Any]:
    """Return the attribute of :func:`find_purpose`, if there is any."""
    purpose = find_purpose(names)
    return {ATTR_PURPOSE: purpose} if purpose else {}


def choose_scans(series: Sequence[Stack], unusable: Sequence[Unusable] = ()) -> list[StudyScan]:
    """Return the mice of one study: its cines of parallel slices, where it has any.

    ``unusable`` are mice of their own, so that reading them raises the error, only if they may belong to a cine or if
    there is nothing else. Series of the same geometry and protocol whose slices lie beside each other become one stack,
    as do series of one frame each with times of their own. Of what was scanned or reconstructed again, the latest
    complete one is taken. If stacks in several directions remain, those in the direction with the largest are taken, or
    all if two are equally large.
    """
    left_out: list[str] = []
    stacks: list[Stack] = []
    rest = list(series)
    while rest:
        bucket = [s for s in rest if s.fits(rest[0])]
        rest = [s for s in rest if s not in bucket]
        stacks += _merge(bucket, left_out)
    best = max((stack.rank for stack in stacks), default=None)
    chosen = [stack for stack in stacks if stack.rank == best]
    named = [stack for stack in chosen if SHORT_AXIS.search(stack.name)]
    chosen = named if named and best and best[-1] else chosen
    largest = max((len(stack.depths) for stack in chosen), default=0)
    large = [stack for stack in chosen if len(stack.depths) == largest]
    if all(stack.is_parallel_to(large[0]) for stack in large):
        chosen = [stack for stack in chosen if stack.is_parallel_to(large[0])]
    others = [stack for stack in stacks if stack not in chosen]
    refused = [u for u in unusable if not chosen or any(u.may_belong_to(stack) for stack in chosen)]
    scans = []
    for stack in chosen:
        parts = [s for s in others if s.frames > 1 and s.fits(stack) and not s.shares_slices_with(stack)]
        texts = [*left_out, *(s.describe() for s in others if s not in parts)]
        texts += [u.reason for u in unusable if u not in refused]
        notes = join_sentence("Left out of this study", texts)
        if len(chosen) > 1:
            notes.append(f"This study has {len(chosen)} such stacks, and all were taken. This one: {stack.label}.")
        missing = [*(u.reason for u in refused if u.may_belong_to(stack)), *(s.describe() for s in parts)]
        scans.append(StudyScan(stack.paths, tuple(notes), tuple(_say_incomplete(missing))))
    return scans + [StudyScan(u.paths) for u in refused]


def add_damaged(
    scans: Iterable[StudyScan], damaged: Mapping[tuple[Path, ...], str], get_folder: Callable[[Path], Path]
) -> list[StudyScan]:
    """Say which damaged files lie in the folders of ``scans``, and add them, so that reading them raises the error.

    ``damaged`` are the files of each damaged series and its name. ``get_folder`` returns the folder of the study in
    which a file lies.
    """
    result = []
    for scan in scans:
        folder = os.path.commonpath([get_folder(path) for path in scan.paths])
        beside = [name for paths, name in damaged.items() if get_folder(paths[0]).is_relative_to(folder)]
        result.append(replace(scan, incomplete=(*scan.incomplete, *_say_incomplete(beside))))
    return result + [StudyScan(paths) for paths in damaged]


def join_sentence(start: str, items: Iterable[str]) -> list[str]:
    """Return one sentence that lists ``items``, each once, or nothing if there are none."""
    listed = list(dict.fromkeys(items))
    more = f"; and {len(listed) - MAX_LISTED} more" if len(listed) > MAX_LISTED else ""
    return [f"{start}: {'; '.join(listed[:MAX_LISTED])}{more}."] if listed else []


def _say_incomplete(series: Sequence[str]) -> list[str]:
    return join_sentence("What may belong to this stack is not in it, so that slices may be missing", series)


def _merge(bucket: Sequence[Stack], left_out: list[str]) -> list[Stack]:
    """Join stacks that fit each other; add those that were scanned again to ``left_out``."""
    times = {stack.trigger_ms for stack in bucket}
    if all(stack.frames == 1 for stack in bucket) and None not in times and len(times) == len(bucket):
        cine = reduce(Stack.join, bucket)  # one series per frame
        return [replace(cine, frames=sum(len(stack.depths) for stack in bucket) // len(cine.depths))]
    counts: dict[int, tuple[bool, int, tuple[Any, ...]]] = {}
    for stack in bucket:
        _, n, taken = counts.get(stack.frames, (True, 0, stack.taken))
        counts[stack.frames] = (stack.frames > 1, n + len(stack.depths), max(taken, stack.taken))
    usual = max(counts, key=lambda frames: counts[frames])
    latest_first = sorted((s for s in bucket if s.frames == usual), key=lambda s: s.taken, reverse=True)
    base = max(latest_first, key=lambda s: len(s.depths))
    latest_first.remove(base)
    is_single, apart = len(base.depths) == 1, []
    for stack in latest_first:
        shared = stack.shares_slices_with(base)
        if shared and not (stack.takes_latest and len(stack.depths) == 1):
            again = "later, but not completely" if stack.taken > base.taken and not is_single else "earlier"
            left_out.append(f"{stack.describe()}, the same slices scanned {again}")
        elif shared or is_single or _is_even((*base.depths, *stack.depths)):
            base = base.join(stack)
        else:
            apart.append(stack)
    other_frames = [s for s in bucket if s.frames != usual]
    for stack in _merge(other_frames, left_out) if other_frames else []:
        if stack.shares_slices_with(base):
            left_out.append(f"{stack.describe()}, the same slices with other frames")
        else:
            apart.append(stack)
    return [base, *apart]


def _is_even(depths: Sequence[float]) -> bool:
    steps = np.diff(sorted(depths))
    return bool(np.ptp(steps) <= MAX_UNEVEN * np.median(steps))
