"""Put the DICOM files of a study together as series and stacks, from their headers.

Which of them are the short-axis cine is decided by :mod:`mousecmr_data.formats.study`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.dicom import (
    MAGNITUDE,
    DicomFile,
    DicomPlane,
    describe_copies,
    drop_copies,
    read_header,
    split_geometries,
    split_slices,
)
from mousecmr_data.formats.study import Stack, StudyScan, Unusable, add_damaged, choose_scans


def group_dicom_files(paths: Sequence[Path]) -> list[StudyScan]:
    """Return the files of each mouse, by the rule of :mod:`mousecmr_data.formats.study`.

    Files without an image (reports, segmentations) are ignored. What cannot be read forms a group alone, so that
    reading it raises the error.
    """
    files: list[DicomFile] = []
    damaged: dict[tuple[Path, ...], str] = {}
    for path in paths:
        try:
            file = read_header(path)
        except MouseCMRError:
            damaged[(path,)] = path.name
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
    for study, series in list(studies.items()):
        for uid, members in list(series.items()):
            folders = {
                parent: [f for f in members if f.path.parent == parent] for parent in {f.path.parent for f in members}
            }
            if len(folders) > 1 and _are_cines_of_their_own(list(folders.values())):
                del series[uid]
                for parent, part in sorted(folders.items()):
                    studies.setdefault((study, parent), {})[uid] = part
    scans = []
    for scan in (scan for series in studies.values() for scan in _choose_scans(series.values())):
        notes = describe_copies(pair for pair in copies if pair[1] in scan.paths)
        scans.append(replace(scan, paths=tuple(sorted(scan.paths)), notes=(*notes, *scan.notes)))
    return add_damaged(scans, damaged, lambda path: path.absolute().parent)


def _are_cines_of_their_own(parts: Sequence[Sequence[DicomFile]]) -> bool:
    """Return whether folders with one series UID hold a cine each: the UID was copied, by a phantom's or a template's.

    The folders of one series hold a slice or a frame each, or number their images on.
    """
    planes = [[plane for file in part for plane in file.planes] for part in parts]
    numbers = [{plane.number for plane in part} for part in planes]
    repeated = len(set().union(*numbers)) <= sum(map(len, numbers)) / 2 + 0.5
    positions = [len({plane.position for plane in part}) for part in planes]
    kinds = [{(plane.component, plane.echo_ms) for plane in part} for part in planes]  # not magnitudes beside phases
    return (
        repeated
        and all(kind == kinds[0] for kind in kinds)
        and all(n > 1 and len(part) >= 2 * n for part, n in zip(planes, positions, strict=True))
    )


def _choose_scans(series: Iterable[list[DicomFile]]) -> list[StudyScan]:
    """Return the mice of one study from the files of its series."""
    stacks: list[Stack] = []
    unusable: list[Unusable] = []
    for files in series:
        good = [file for file in files if not file.problem]
        broken = [file for file in files if file.problem]
        if broken and (problem := broken[0].problem):
            protocol = broken[0].protocol if broken[0].modality in ("MR", "") else None
            paths = tuple(file.path for file in broken)
            unusable.append(Unusable(paths, problem.found.rstrip("."), broken[0].name, protocol))
        parts = _split_series(good)
        stacks += parts
        if good and not parts:
            reason = f"{good[0].label}: several directions (a localiser), or no magnitudes"
            unusable.append(Unusable(tuple(file.path for file in good), reason))
    return choose_scans(stacks, unusable)


def _split_series(files: list[DicomFile]) -> list[Stack]:
    """Return the stacks in a series, by geometry; none if it is a localiser, or holds no magnitudes."""
    groups = split_geometries(plane for file in files for plane in file.planes)
    paths = [{plane.path for plane in group} for group in groups]
    parts = [
        _make_stack([f for f in files if f.path in inside], magnitudes)
        for group, inside in zip(groups, paths, strict=True)
        if (magnitudes := [plane for plane in group if plane.component == MAGNITUDE])
    ]
    shared = sum(map(len, paths)) > len(set().union(*paths))
    return [] if len(parts) > 1 and (shared or all(part.frames == 1 for part in parts)) else parts


def _make_stack(files: list[DicomFile], planes: list[DicomPlane]) -> Stack:
    """Return planes of one geometry, from these files of one series, as a stack."""
    first, slices = planes[0], split_slices(planes)
    counts = Counter(len(frames) for frames in slices)
    x, y = (float(np.dot(first.position, direction)) for direction in (first.orientation[:3], first.orientation[3:]))
    return Stack(
        tuple(file.path for file in files),
        files[0].label,
        " ".join(dict.fromkeys(file.name for file in files)),
        files[0].protocol,
        (first.columns, first.rows),
        (first.spacing or (1.0, 1.0))[::-1],
        (*first.orientation, *first.normal.tolist()),
        (x, y),
        tuple(frames[0].depth for frames in slices),
        max(counts, key=lambda n: (counts[n], n)),
        max(plane.taken for plane in planes),
        trigger_ms=first.trigger_ms,
        takes_latest=True,
    )
