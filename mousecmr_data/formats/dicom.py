"""DICOM: a cine in classic files (one image each, in any order) or enhanced multi-frame ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.notices import is_marked_synthetic
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError, UnitsError
from mousecmr_data.formats.build import SPACING_HINT, build_scan, check_array_size, convert_pixels, suppress_warnings
from mousecmr_data.formats.orientation import AXIS_LETTERS, FileGrid, orient_axes

# MERGED formats.dicom: DICOM headers: which files belong together, and the planes (a slice in a frame) that they hold.


try:
    import pydicom
except ImportError as e:
    raise MissingExtraError.from_module("pydicom", "formats") from e

dcm: Any = pydicom
TOLERANCE_MM = 0.01
"""Positions that are closer are the same slice."""
DIGITS = 4
"""Decimals by which directions and pixel spacings are compared."""


@dataclass(frozen=True)
class DicomPlane:
    """A slice in a frame."""

    path: Path
    index: int
    """Of the frame in a multi-frame file; 0 in a classic one."""
    rows: int
    columns: int
    position: tuple[float, ...]
    """Centre of the first pixel, mm, LPS (the patient's)."""
    orientation: tuple[float, ...]
    """Where columns and rows run: six numbers."""
    spacing: tuple[float, ...]
    """Between rows and between columns, mm."""
    thickness: float | None
    between: float | None
    """Distance of slices, where the file says so."""
    trigger_ms: float | None
    order: int
    """Where ``trigger_ms`` is not known: temporal position, else instance number."""
    slope: float
    intercept: float

    @property
    def normal(self) -> np.ndarray[Any, Any]:
        """Where slices run."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def depth(self) -> float:
        """Position along the normal, mm."""
        return float(np.dot(self.position, self.normal))

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What all planes of a stack share."""
        numbers = (*self.orientation, *self.spacing)
        return (self.rows, self.columns, *(round(v, DIGITS) + 0.0 for v in numbers))


def read_planes(path: Path) -> tuple[list[DicomPlane], Any]:
    """The planes of a file, and its header (a pydicom Dataset without pixels)."""
    header = load_dicom(path, pixels=False)
    try:
        if "PerFrameFunctionalGroupsSequence" in header:
            return [_make_enhanced_plane(path, header, k) for k in range(int(header.NumberOfFrames))], header
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise FileLayoutError(
                f"{path.name} has several frames but does not say where each lies.", "classic or enhanced MR images"
            )
        return [_make_classic_plane(path, header)], header
    except MouseCMRError:
        raise
    except Exception as e:  # a header can hold anything
        raise FileLayoutError(f"{path.name}: its header cannot be used: {type(e).__name__}: {e}", "MR images") from e


def load_dicom(path: Path, pixels: bool = True) -> Any:
    """A pydicom Dataset; :class:`FileLayoutError` where there is none."""
    try:
        with suppress_warnings("pydicom"):
            found = dcm.dcmread(path, stop_before_pixels=not pixels)
            for _ in found.iterall():  # values are decoded when they are first looked at: now
                pass
            return found
    except dcm.errors.InvalidDicomError as e:
        raise FileLayoutError(f"{path.name} is no DICOM file: it lacks the DICM prefix.", "a DICOM file") from e
    except Exception as e:  # a damaged file can make pydicom raise almost anything
        raise FileLayoutError(f"{path.name} is damaged or no DICOM: {type(e).__name__}: {e}", "a DICOM file") from e


def group_dicom_files(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each mouse: those of a series; series of a study that are one slice each, together.

    Files without an image (reports, segmentations) are left out. Where a study holds a cine, its series that
    are none (localisers) are left out too. A file that cannot be read stays alone, so that someone says so.
    """
    alone: list[tuple[Path, ...]] = []
    series: dict[tuple[str, str], list[tuple[Path, list[DicomPlane]]]] = {}
    for path in paths:
        try:
            header = load_dicom(path, pixels=False)
            if "Rows" not in header and "MediaStorageSOPClassUID" not in header.file_meta:
                raise FileLayoutError(f"{path.name} is damaged: it does not say what it holds.", "a DICOM file")
            if "Rows" not in header or str(header.get("Modality", "MR")) in ("SEG", "SR", "PR", "KO"):
                continue
            key = (str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", "")))
            every = read_planes(path)[0]
            series.setdefault(key, []).append((path, every))
        except MouseCMRError:
            alone.append((path,))
    out: list[tuple[Path, ...]] = []
    for study in dict.fromkeys(k[0] for k in series):
        found = [files for k, files in series.items() if k[0] == study]
        cines = [files for files in found if _is_cine(files)]
        kept = cines or found
        for files in _merge_single_slices(kept):
            out.append(tuple(sorted(p for p, _ in files)))
    return out + alone


def _is_cine(files: Iterable[tuple[Path, list[DicomPlane]]]) -> bool:
    every = [p for _, found in files for p in found]
    return len(every) > len({round(p.depth / TOLERANCE_MM) for p in every})


def _merge_single_slices(
    series: list[list[tuple[Path, list[DicomPlane]]]],
) -> list[list[tuple[Path, list[DicomPlane]]]]:
    """Series of one slice each, with the same geometry and as many frames, joined."""
    out: list[list[tuple[Path, list[DicomPlane]]]] = []
    single: dict[Any, list[tuple[int, list[tuple[Path, list[DicomPlane]]]]]] = {}
    for files in series:
        every = [p for _, found in files for p in found]
        depths = {round(p.depth / TOLERANCE_MM) for p in every}
        if len(depths) == 1 and len(every) > 1:
            single.setdefault((every[0].geometry, len(every)), []).append((depths.pop(), files))
        else:
            out.append(files)
    for slices in single.values():
        if len({depth for depth, _ in slices}) == len(slices):
            out.append([f for _, files in slices for f in files])
        else:  # the same slice twice: they are no stack
            out.extend(files for _, files in slices)
    return out


def _make_classic_plane(path: Path, header: Any) -> DicomPlane:
    return DicomPlane(
        path,
        0,
        **_read_geometry(path, header, header, header),
        trigger_ms=_parse_number(header.get("TriggerTime")),
        order=int(header.get("TemporalPositionIdentifier") or header.get("InstanceNumber") or 0),
        slope=_parse_number(header.get("RescaleSlope")) or 1.0,
        intercept=_parse_number(header.get("RescaleIntercept")) or 0.0,
    )


def _make_enhanced_plane(path: Path, header: Any, k: int) -> DicomPlane:
    shared = header.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in header else {}
    own = header.PerFrameFunctionalGroupsSequence[k]

    def macro(name: str) -> Any:
        found = own.get(name) or shared.get(name)
        return found[0] if found else dcm.Dataset()

    heart, content, values = (
        macro(n) for n in ("CardiacSynchronizationSequence", "FrameContentSequence", "PixelValueTransformationSequence")
    )
    where = dcm.Dataset(
        {**_collect_tags(macro("PlanePositionSequence")), **_collect_tags(macro("PlaneOrientationSequence"))}
    )
    return DicomPlane(
        path,
        k,
        **_read_geometry(path, header, where, macro("PixelMeasuresSequence")),
        trigger_ms=_parse_number(heart.get("NominalCardiacTriggerDelayTime")),
        order=int(content.get("TemporalPositionIndex") or k),
        slope=_parse_number(values.get("RescaleSlope")) or 1.0,
        intercept=_parse_number(values.get("RescaleIntercept")) or 0.0,
    )


def _collect_tags(part: Any) -> dict[Any, Any]:
    return {element.tag: element for element in part}


def _read_geometry(path: Path, header: Any, where: Any, sizes: Any) -> dict[str, Any]:
    if str(header.get("PhotometricInterpretation", "MONOCHROME2")) != "MONOCHROME2":
        raise FileLayoutError(f"{path.name} is {header.PhotometricInterpretation}.", "grey images (MONOCHROME2)")
    for name, part in (("ImagePositionPatient", where), ("ImageOrientationPatient", where), ("PixelSpacing", sizes)):
        if part.get(name) is None:
            raise FileLayoutError(f"{path.name} does not say its {name}.", "images of a scanner, with their geometry")
    return {
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "position": _parse_numbers(where.ImagePositionPatient, 3),
        "orientation": _parse_numbers(where.ImageOrientationPatient, 6),
        "spacing": _parse_numbers(sizes.PixelSpacing, 2),
        "thickness": _parse_number(sizes.get("SliceThickness")),
        "between": _parse_number(sizes.get("SpacingBetweenSlices")),
    }


def _parse_numbers(values: Any, n: int) -> tuple[float, ...]:
    found = tuple(float(v) for v in values)
    if len(found) != n or not np.isfinite(found).all():
        raise ValueError(f"{found}, expected {n} numbers")
    return found


def _parse_number(value: Any) -> float | None:
    return None if value is None or value == "" else _parse_numbers([value], 1)[0]


MAX_UNEVEN = 0.02
"""Share of the slice distance by which distances may differ."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_dicom(
    paths: Sequence[Path], *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """The cine in DICOM files as a dataset of the cine model.

    Images are sorted by their position along the stack's normal and by trigger time (else temporal position,
    else instance number); every slice must have the same number of frames, each once. Slices count with their
    distance, not their thickness. Parameters as for :func:`mousecmr_data.formats.nifti.read_nifti`.

    Raises :class:`FileLayoutError` (no image, geometry missing or not one stack, a frame missing or twice),
    :class:`UnitsError`.
    """
    stack, header = sort_planes(paths)
    first = stack[0][0]
    z, source, notes = _find_slice_distance(stack)
    steps = (z, *first.spacing) if spacing is None else tuple(float(v) for v in spacing)
    if len(steps) != 3:
        raise UnitsError(f"The spacing is {spacing!r}.", "three sizes in mm", SPACING_HINT)
    times = _average_times(stack, notes)
    step = float(np.diff(times).mean()) if times is not None else None
    if frame_time_ms is not None:
        step, time_source = frame_time_ms, "given by the caller"
    elif step is not None:
        time_source = "the header (trigger time)"
    else:
        step, time_source = _find_frame_time(header)
    grid = _make_grid(stack, z, step or 0.0)
    rate = _read_heart_rate(header)
    return build_scan(
        grid.to_model(_read_pixels(stack)),
        (steps[0], steps[1], steps[2]),
        source if spacing is None else "given by the caller",
        step,
        time_source,
        grid,
        notes,
        mouse=first.path.parent.name or first.path.stem,
        source=f"{len(paths)} DICOM file{'s'[: len(paths) > 1]}",
        format="DICOM",
        synthetic=is_marked_synthetic(str(header.get("ImageComments", ""))),
        **({"heart_rate_bpm": rate} if rate else {}),
    )


def sort_planes(paths: Sequence[Path]) -> tuple[list[list[DicomPlane]], Any]:
    """Planes as [slice][frame], and the header of the first file."""
    if not paths:
        raise MissingDataError("There is no DICOM file.", "one or more")
    every: list[DicomPlane] = []
    headers = []
    for path in paths:
        found, header = read_planes(path)
        every += found
        headers.append(header)
    who = paths[0].parent.name
    kinds = sorted({p.geometry for p in every}, key=str)
    if len(kinds) > 1:
        raise FileLayoutError(
            f"The images in {who} have {len(kinds)} different sizes, directions or pixel spacings.",
            "one stack",
            "give the files of one series",
        )
    by_depth: dict[int, list[DicomPlane]] = {}
    for plane in sorted(every, key=lambda p: p.depth):
        last = max(by_depth, default=None)
        same = last is not None and plane.depth - by_depth[last][0].depth < TOLERANCE_MM
        by_depth.setdefault(last if same and last is not None else len(by_depth), []).append(plane)
    stack = [_sort_by_time(found) for found in by_depth.values()]
    counts = [len(s) for s in stack]
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = [f"slice {k} has {n}" for k, n in enumerate(counts) if n != usual]
        raise FileLayoutError(
            f"The images in {who} are no grid of slices and frames: most slices have {usual} frames, "
            f"{', '.join(odd[:5])}.",
            "every slice in every frame, once",
            "look for files that are missing or belong to another series",
        )
    return stack, headers[0]


def _sort_by_time(found: list[DicomPlane]) -> list[DicomPlane]:
    """The planes of a slice, sorted by time; the same time twice is an error."""
    times = [p.trigger_ms for p in found]
    timed = all(t is not None for t in times) and (len(set(times)) > 1 or len(found) == 1)
    keys = [p.trigger_ms if timed else p.order for p in found]
    if len(set(keys)) < len(found):
        twice = next(k for k in keys if keys.count(k) > 1)
        what = f"trigger time {twice:g} ms" if timed else f"temporal position {twice}"
        raise FileLayoutError(
            f"{found[0].path.name}: two images at the same position ({found[0].depth:g} mm) have the same {what}.",
            "each slice once in each frame",
            "look for files that are there twice or belong to another series",
        )
    return [p for _, p in sorted(zip(keys, found, strict=True), key=lambda pair: float(pair[0] or 0.0))]


def _average_times(stack: list[list[DicomPlane]], notes: list[str]) -> NDArray[np.float64] | None:
    """Times (frame,) in ms, averaged over slices; None where the files do not say."""
    if len(stack[0]) < 2 or any(p.trigger_ms is None for s in stack for p in s):
        return None
    times = np.array([[p.trigger_ms for p in s] for s in stack], float)
    mean: NDArray[np.float64] = times.mean(axis=0)
    step = float(np.diff(mean).mean())
    if step <= 0:
        return None
    if (apart := float(np.ptp(times, axis=0).max())) > 0.5 * step:
        notes.append(f"Frames of different slices lie up to {apart:.1f} ms apart.")
    if (uneven := float(np.ptp(np.diff(mean)))) > 0.5 * step:
        notes.append(f"Frames are not evenly spaced in time (by {uneven:.1f} ms).")
    return mean


def _find_slice_distance(stack: list[list[DicomPlane]]) -> tuple[float, str, list[str]]:
    """Distance of slices in mm (0 where the files do not say), its source, and notes."""
    first = stack[0][0]
    if len(stack) == 1:
        stated = first.between or first.thickness or 0.0
        return abs(stated), "the header (one slice: its thickness)", []
    steps = np.diff([s[0].depth for s in stack])
    if np.ptp(steps) > MAX_UNEVEN * np.median(steps):
        at = int(np.argmax(steps))
        raise FileLayoutError(
            f"Slices are {np.median(steps):.3g} mm apart, but slices {at} and {at + 1} {steps[at]:.3g} mm.",
            "evenly spaced slices",
            "look for slices that are missing or belong to another series",
        )
    distance = float(np.mean(steps))
    notes = []
    if first.thickness and abs(first.thickness - distance) > MAX_UNEVEN * distance:
        notes.append(f"Slices are {first.thickness:g} mm thick and {distance:.3g} mm apart: volumes use the distance.")
    return distance, "the header (positions)", notes


def _make_grid(stack: list[list[DicomPlane]], distance: float, step: float) -> FileGrid:
    first = stack[0][0]
    directions = np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)
    if np.abs(directions.T @ directions - np.eye(3)).max() > MAX_UNEVEN:
        raise FileLayoutError(
            f"{first.path.name}: rows and columns are not at right angles.", "ImageOrientationPatient"
        )
    y, x, z = (v or 1.0 for v in (*first.spacing, distance))
    affine = np.eye(4)
    affine[:3, :3] = LPS_TO_RAS @ directions * (x, y, z)
    affine[:3, 3] = LPS_TO_RAS @ np.asarray(first.position)
    letters, flipped = orient_axes(affine, 2, oriented=True)
    shape = (first.columns, first.rows, len(stack), len(stack[0]))
    return FileGrid(
        shape, letters + AXIS_LETTERS[3], flipped, tuple(tuple(r) for r in affine.tolist()), "mm", "msec", step, True
    )


def _read_pixels(stack: list[list[DicomPlane]]) -> NDArray[Any]:
    """All pixels (column, row, slice, frame), each file read once."""
    first = stack[0][0]
    shape = (len(stack[0]), len(stack), first.rows, first.columns)
    check_array_size(first.path.parent.name, shape, 8)
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for s in stack for p in s)
    array = np.empty(shape, np.float32 if scaled else np.int32)
    wanted: dict[Path, list[tuple[int, int, DicomPlane]]] = {}
    for z, found in enumerate(stack):
        for t, plane in enumerate(found):
            wanted.setdefault(plane.path, []).append((t, z, plane))
    for path, here in wanted.items():
        try:
            with suppress_warnings("pydicom"):
                pixels = np.asarray(load_dicom(path).pixel_array)
            pixels = pixels.reshape(-1, first.rows, first.columns)
            for t, z, plane in here:
                array[t, z] = pixels[plane.index] * plane.slope + plane.intercept if scaled else pixels[plane.index]
        except FileLayoutError:
            raise
        except Exception as e:  # decoders raise what they like
            raise FileLayoutError(
                f"{path.name}: its pixels cannot be read: {type(e).__name__}: {e}",
                "images that pydicom can decode",
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg  (for compressed images)",
            ) from e
    return convert_pixels(first.path.name, array).transpose(3, 2, 1, 0)


def _find_frame_time(header: Any) -> tuple[float | None, str]:
    for name in ("TemporalResolution", "FrameTime"):
        if value := header.get(name):
            return float(value), f"the header ({name})"
    return None, ""


def _read_heart_rate(header: Any) -> float | None:
    """Beats a minute, where the header says so."""
    try:
        if rate := header.get("HeartRate"):
            return float(rate)
        if interval := header.get("NominalInterval"):
            return 60_000.0 / float(interval)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return None
