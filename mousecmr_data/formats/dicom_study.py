"""Decide which DICOM files of a study are the short-axis cine of a mouse, and say what was left out and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import Any

import numpy as np

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.build import MAX_UNEVEN
from mousecmr_data.formats.dicom import (
    MAGNITUDE,
    TOLERANCE_MM,
    DicomFile,
    DicomPlane,
    describe_copies,
    drop_copies,
    join_sentence,
    read_header,
    split_geometries,
    split_slices,
)

SHORT_AXIS = re.compile(r"(?<![a-z])(sax?|short.?ax[a-z]*)(?![a-z])", re.IGNORECASE)
"""Names of series that say that they are short-axis stacks."""


@dataclass(frozen=True)
class DicomScan:
    """The files of one mouse."""

    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    """What was left out of its study, and why."""
    incomplete: tuple[str, ...] = ()
    """What may belong to it and was refused, one sentence each: slices or frames may be missing."""


@dataclass(frozen=True)
class _Stack:
    """Planes of one geometry and protocol; at first of one series."""

    files: tuple[DicomFile, ...]
    planes: tuple[DicomPlane, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(sorted(file.path for file in self.files))

    @cached_property
    def _slices(self) -> list[list[DicomPlane]]:
        return split_slices(self.planes)

    @cached_property
    def depths(self) -> list[float]:
        return [frames[0].depth for frames in self._slices]

    @cached_property
    def frames(self) -> int:
        """Number of frames that most slices have."""
        counts = Counter(len(frames) for frames in self._slices)
        return max(counts, key=lambda n: (counts[n], n))

    @property
    def taken(self) -> tuple[Any, ...]:
        return max(p.taken for p in self.planes)

    @property
    def rank(self) -> tuple[bool, bool, bool]:
        """A cine before images without frames; what is not called anything else; several slices before one."""
        return self.frames > 1, not self.purpose, len(self.depths) > 1

    @property
    def purpose(self) -> str:
        return next((file.purpose for file in self.files if file.purpose), "")

    @property
    def label(self) -> str:
        labels = list(dict.fromkeys(file.label for file in self.files))
        return ", ".join(labels[:3]) + (f" and {len(labels) - 3} more" if len(labels) > 3 else "")

    def describe(self) -> str:
        """Return what it is, for a note on why it was left out."""
        n, frames = len(self.depths), self.frames
        size = f"{n} slice{'s'[: n > 1]}, {frames} frame{'s'[: frames > 1]}"
        return f"{self.label}: {size}" + (f", {self.purpose} by its header" if self.purpose else "")

    def fits(self, other: _Stack) -> bool:
        """Return whether the two have the same geometry and protocol."""
        same = self.files[0].protocol == other.files[0].protocol and self.purpose == other.purpose
        return same and self.planes[0].has_geometry_of(other.planes[0])

    def is_part_of(self, other: _Stack) -> bool:
        """Return whether this is a slice that ``other`` lacks, with other frames."""
        apart = min(abs(d - b) for d in self.depths for b in other.depths)
        return self.fits(other) and len(self.depths) == 1 and self.frames > 1 and apart >= TOLERANCE_MM

    def may_have(self, file: DicomFile) -> bool:
        """Return whether ``file``, which cannot be used, may be a part of this."""
        near = {file.series, file.path.parent} & {v for f in self.files for v in (f.series or None, f.path.parent)}
        unlike = file.purpose != self.purpose or file.protocol not in ("", self.files[0].protocol)
        return file.problem is not None and file.modality in ("MR", "") and (bool(near) or not unlike)

    def join(self, other: _Stack) -> _Stack:
        files = (*self.files, *(f for f in other.files if f not in self.files))
        return _Stack(files, (*self.planes, *other.planes))


def group_dicom_files(paths: Sequence[Path]) -> list[DicomScan]:
    """Return the files of each mouse: the cines of parallel slices of each study, where it has any.

    Series of one slice each that have the same geometry and protocol become one stack; of a stack that was scanned
    again, the latest complete one is taken. Everything else in a study with a cine (long axes, localisers, maps,
    other modalities) is left out, with a note. Files without an image (reports, segmentations) are ignored. What
    cannot be read forms a group alone, so that reading it raises the error.
    """
    files: list[DicomFile] = []
    refused: list[DicomScan] = []
    damaged: list[Path] = []
    for path in paths:
        try:
            file = read_header(path)
        except MouseCMRError:
            damaged.append(path)
            refused.append(DicomScan((path,)))
        else:
            files += [file] if file.has_image else []
    files, copies = drop_copies(files)
    times_used = Counter(file.uids for file in files)
    studies: dict[Any, dict[Any, list[DicomFile]]] = {}
    for file in files:
        is_unique = not file.instance or times_used[file.uids] == 1
        known = file.series and is_unique  # else an anonymiser set all UIDs to one
        study = (file.study, file.patient) if known and file.study else file.path.parent
        studies.setdefault(study, {}).setdefault(file.series if known else file.path.parent, []).append(file)
    scans = [scan for series in studies.values() for scan in _choose_scans(list(series.values()))]
    return [_add_remarks(scan, copies, damaged) for scan in scans] + refused


def _add_remarks(scan: DicomScan, copies: list[tuple[Path, Path]], damaged: list[Path]) -> DicomScan:
    """Add what concerns the files of ``scan``: copies of them, and damaged files that lie among them."""
    folder = os.path.commonpath([p.parent for p in scan.paths])
    notes = describe_copies(pair for pair in copies if pair[1] in scan.paths)
    beside = [p.name for p in damaged if p.is_relative_to(folder)]
    return DicomScan(scan.paths, (*notes, *scan.notes), (*scan.incomplete, *_say_incomplete(beside)))


def _say_incomplete(files: list[str]) -> list[str]:
    return join_sentence("What may belong to this stack was refused, so that slices may be missing", files)


def _choose_scans(series: list[list[DicomFile]]) -> list[DicomScan]:
    """Return the mice of one study from the files of its series."""
    stacks: list[_Stack] = []
    useless: list[tuple[list[DicomFile], str]] = []
    for files in series:
        good = [file for file in files if not file.problem]
        if broken := [file for file in files if file.problem]:
            useless.append((broken, str(broken[0].problem and broken[0].problem.found).rstrip(".")))
        parts = _split_series(good)
        stacks += parts
        if good and not parts:
            useless.append((good, f"{good[0].label}: several directions (a localiser), or no magnitudes"))
    left_out: list[str] = []
    stacks = _merge_stacks(stacks, left_out)
    best = max((stack.rank for stack in stacks), default=None)
    chosen = [stack for stack in stacks if stack.rank == best]
    named = [stack for stack in chosen if any(SHORT_AXIS.search(file.name) for file in stack.files)]
    chosen = named if named and best and best[2] else chosen
    others = [stack for stack in stacks if stack not in chosen]
    scans: list[DicomScan] = []
    belonging: list[list[DicomFile]] = []
    for stack in chosen:
        members = [(f, text) for f, text in useless if stack.may_have(f[0])]
        belonging += [f for f, _ in members]
        missing = [text for _, text in members] + [s.describe() for s in others if s.is_part_of(stack)]
        rest = [*left_out, *(s.describe() for s in others), *(text for f, text in useless if f not in belonging)]
        notes = join_sentence("Left out of this study", list(dict.fromkeys(t for t in rest if t not in missing)))
        if len(chosen) > 1:
            notes.append(f"This study has {len(chosen)} such stacks, and all were taken. This one: {stack.label}.")
        scans.append(DicomScan(stack.paths, tuple(notes), tuple(_say_incomplete(missing))))
    failed = [files for files, _ in useless if not chosen or files in belonging]
    return scans + [DicomScan(tuple(sorted(file.path for file in files))) for files in failed]


def _split_series(files: list[DicomFile]) -> list[_Stack]:
    """Return the stacks in a series, by geometry; none if it is a localiser, or holds no magnitudes."""
    groups = split_geometries(plane for file in files for plane in file.planes)
    paths = [{plane.path for plane in group} for group in groups]
    parts = [
        _Stack(tuple(f for f in files if f.path in inside), magnitudes)
        for group, inside in zip(groups, paths, strict=True)
        if (magnitudes := tuple(plane for plane in group if plane.component == MAGNITUDE))
    ]
    shared = sum(map(len, paths)) > len(set().union(*paths))
    return [] if len(parts) > 1 and (shared or all(part.frames == 1 for part in parts)) else parts


def _merge_stacks(stacks: list[_Stack], left_out: list[str]) -> list[_Stack]:
    """Join stacks of the same geometry and protocol; add what was scanned again to ``left_out``."""
    buckets: list[list[_Stack]] = []
    for stack in stacks:
        bucket = next((b for b in buckets if stack.fits(b[0])), None)
        if bucket is None:
            buckets.append([stack])
        else:
            bucket.append(stack)
    return [merged for bucket in buckets for merged in _merge_bucket(bucket, left_out)]


def _merge_bucket(stacks: list[_Stack], left_out: list[str]) -> list[_Stack]:
    triggers = [stack.planes[0].trigger_ms for stack in stacks]
    if all(stack.frames == 1 for stack in stacks) and None not in triggers and len(set(triggers)) == len(stacks):
        return [reduce(_Stack.join, stacks)]  # one series per frame of the cine
    slices = Counter(frames for stack in stacks for frames in [stack.frames] * len(stack.depths))
    usual = max(slices, key=lambda n: (slices[n], n))
    latest_first = sorted((s for s in stacks if s.frames == usual), key=lambda s: s.taken, reverse=True)
    base = max(latest_first, key=lambda s: len(s.depths))
    latest_first.remove(base)
    single = len(base.depths) == 1
    apart = [s for s in stacks if s.frames != usual]
    for stack in latest_first:
        depths, own = base.depths, stack.depths
        new = [d for d in own if min(abs(d - b) for b in depths) >= TOLERANCE_MM]
        if not new and len(own) == 1:
            base = base.join(stack)  # a slice that was scanned again: the reader takes the latest one
        elif len(new) == len(own) and (single or _is_even([*depths, *own])):
            base = base.join(stack)
        elif min(own) < max(depths) and max(own) > min(depths):
            later = "later, but not complete" if stack.taken > base.taken else "earlier"
            left_out.append(f"{stack.describe()}, the same stack scanned {later}")
        else:
            apart.append(stack)
    return [base, *apart]


def _is_even(depths: Sequence[float]) -> bool:
    steps = np.diff(sorted(depths))
    return bool(np.ptp(steps) <= MAX_UNEVEN * np.median(steps))
