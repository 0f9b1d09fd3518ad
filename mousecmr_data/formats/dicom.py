"""Read DICOM cines: classic files (one image each, in any order) or enhanced multi-frame ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.limits import MAX_IMAGE_RATIO, check_size
from mousecmr_data._utils.reading import check_access
from mousecmr_data._utils.text import is_marked_synthetic
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.formats.build import (
    MAX_UNEVEN,
    build_scan,
    check_array_size,
    convert_pixels,
    find_slice_distance,
    prefer_given,
    suppress_warnings,
)
from mousecmr_data.formats.orientation import LPS_TO_RAS, FileGrid, orient_axes, to_rows
from mousecmr_data.schema.variables import AXIS_LETTERS

try:
    import pydicom
except ImportError as e:
    raise MissingExtraError.from_module("pydicom", "formats") from e

dcm: Any = pydicom
TOLERANCE_MM = 0.01
"""Positions that are closer than this are the same slice."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax of files that are compressed as a whole, headers included."""
BLOCK_BYTES = 10**6
DIGITS = 4
"""Decimals to which directions and pixel spacings are compared."""


@dataclass(frozen=True)
class DicomPlane:
    """A slice in a frame."""

    path: Path
    index: int
    """Of the frame in a multi-frame file; 0 in a classic one."""
    rows: int
    columns: int
    position: tuple[float, ...]
    """Centre of the first pixel, mm, LPS (patient coordinates)."""
    orientation: tuple[float, ...]
    """Directions along a row and along a column: six numbers."""
    spacing: tuple[float, ...]
    """Between rows and between columns, mm."""
    thickness: float | None
    between: float | None
    """Distance of slices, if the file states it."""
    trigger_ms: float | None
    order: int
    """Used if ``trigger_ms`` is not known: temporal position, else instance number."""
    slope: float
    intercept: float

    @property
    def normal(self) -> np.ndarray[Any, Any]:
        """Direction from slice to slice."""
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


_Series = tuple[list[Path], list[DicomPlane]]
"""The files of a series, and all their planes."""


def read_planes(path: Path) -> tuple[list[DicomPlane], Any]:
    """Return the planes of a file, and its header (a pydicom Dataset without pixels)."""
    header = load_dicom(path, pixels=False)
    try:
        if "PerFrameFunctionalGroupsSequence" in header:
            return [_make_enhanced_plane(path, header, k) for k in range(int(header.NumberOfFrames))], header
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise FileLayoutError(
                f"{path.name} has several frames but does not state their positions.", "classic or enhanced MR images"
            )
        order = header.get("TemporalPositionIdentifier") or header.get("InstanceNumber") or 0
        return [_make_plane(path, 0, header, header, header, header, header.get("TriggerTime"), order)], header
    except MouseCMRError:
        raise
    except Exception as e:  # a header can hold anything
        raise FileLayoutError(f"{path.name}: its header cannot be used: {type(e).__name__}: {e}", "MR images") from e


def load_dicom(path: Path, pixels: bool = True) -> Any:
    """Load a file as a pydicom Dataset. Raises :class:`FileLayoutError` if it is not a valid DICOM file."""
    try:
        with suppress_warnings("pydicom"):
            _check_inflated_size(path)
            dataset = dcm.dcmread(path, stop_before_pixels=not pixels)
            for _ in dataset.iterall():  # pydicom decodes values on first access: raise errors now
                pass
            return dataset
    except MouseCMRError:
        raise
    except dcm.errors.InvalidDicomError as e:
        check_access(e, path)
        raise FileLayoutError(f"{path.name} is not a DICOM file: it lacks the DICM prefix.", "a DICOM file") from e
    except Exception as e:  # a damaged file can make pydicom raise almost anything
        check_access(e, path)
        raise FileLayoutError(
            f"{path.name} is damaged or not a DICOM file: {type(e).__name__}: {e}", "a DICOM file"
        ) from e


def _check_inflated_size(path: Path) -> None:
    """Raise :class:`FileLayoutError` if the file, or what it is when inflated, is too large to hold in memory."""
    stored = path.stat().st_size
    check_size(path.name, stored)
    with path.open("rb") as f:
        if DEFLATED not in f.read(BLOCK_BYTES):
            return
        f.seek(0)
        dcm.filereader.read_preamble(f, False)
        dcm.filereader._read_file_meta_info(f)
        inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
        while block := inflate.unconsumed_tail or f.read(BLOCK_BYTES):
            size += len(inflate.decompress(block, BLOCK_BYTES))
            check_size(path.name, size, stored, MAX_IMAGE_RATIO)


def group_dicom_files(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return the files of each mouse: those of a series, or those of a study's series of one slice each, joined.

    Files without an image (reports, segmentations) are left out. If a study holds a cine, its other series
    (localisers) are left out too. A file that cannot be read forms a group alone, so that reading it raises the error.
    """
    alone: list[tuple[Path, ...]] = []
    series: dict[tuple[str, str], _Series] = {}
    for path in paths:
        try:
            header = load_dicom(path, pixels=False)
            if "Rows" not in header and "MediaStorageSOPClassUID" not in header.file_meta:
                raise FileLayoutError(f"{path.name} is damaged: it does not state its content.", "a DICOM file")
            if "Rows" not in header or str(header.get("Modality", "MR")) in ("SEG", "SR", "PR", "KO"):
                continue
            key = (str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", "")))
            planes = read_planes(path)[0]
            files = series.setdefault(key, ([], []))
            files[0].append(path)
            files[1].extend(planes)
        except MouseCMRError:
            alone.append((path,))
    groups: list[tuple[Path, ...]] = []
    for study in dict.fromkeys(k[0] for k in series):
        of_study = [s for k, s in series.items() if k[0] == study]
        cines = [s for s in of_study if len(s[1]) > len(_collect_depths(s[1]))]
        groups += [tuple(sorted(files)) for files in _merge_single_slices(cines or of_study)]
    return groups + alone


def _collect_depths(planes: list[DicomPlane]) -> set[int]:
    return {round(p.depth / TOLERANCE_MM) for p in planes}


def _merge_single_slices(series: list[_Series]) -> list[list[Path]]:
    """Join the files of series of one slice each that have the same geometry and number of frames."""
    merged: list[list[Path]] = []
    single: dict[Any, list[tuple[int, list[Path]]]] = {}
    for files, planes in series:
        depths = _collect_depths(planes)
        if len(depths) == 1 and len(planes) > 1:
            single.setdefault((planes[0].geometry, len(planes)), []).append((depths.pop(), files))
        else:
            merged.append(files)
    for slices in single.values():
        if len({depth for depth, _ in slices}) == len(slices):
            merged.append([path for _, files in slices for path in files])
        else:  # the same slice twice: not a stack
            merged.extend(files for _, files in slices)
    return merged


def _make_enhanced_plane(path: Path, header: Any, k: int) -> DicomPlane:
    shared = header.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in header else {}
    frame = header.PerFrameFunctionalGroupsSequence[k]

    def macro(name: str) -> Any:
        sequence = frame.get(name) or shared.get(name)
        return sequence[0] if sequence else dcm.Dataset()

    sizes, values = macro("PixelMeasuresSequence"), macro("PixelValueTransformationSequence")
    location = dcm.Dataset(
        {e.tag: e for name in ("PlanePositionSequence", "PlaneOrientationSequence") for e in macro(name)}
    )
    trigger_ms = macro("CardiacSynchronizationSequence").get("NominalCardiacTriggerDelayTime")
    order = macro("FrameContentSequence").get("TemporalPositionIndex") or k
    return _make_plane(path, k, header, location, sizes, values, trigger_ms, order)


def _make_plane(
    path: Path, index: int, header: Any, location: Any, sizes: Any, values: Any, trigger_ms: Any, order: Any
) -> DicomPlane:
    """Make a plane; ``location``, ``sizes`` and ``values`` are the datasets that hold these tags."""
    if str(header.get("PhotometricInterpretation", "MONOCHROME2")) != "MONOCHROME2":
        raise FileLayoutError(f"{path.name} is {header.PhotometricInterpretation}.", "grey images (MONOCHROME2)")
    required = {"ImagePositionPatient": location, "ImageOrientationPatient": location, "PixelSpacing": sizes}
    for name, part in required.items():
        if part.get(name) is None:
            raise FileLayoutError(f"{path.name} does not say its {name}.", "images of a scanner, with their geometry")
    return DicomPlane(
        path,
        index,
        rows=int(header.Rows),
        columns=int(header.Columns),
        position=_parse_numbers(location.ImagePositionPatient, 3),
        orientation=_parse_numbers(location.ImageOrientationPatient, 6),
        spacing=_parse_numbers(sizes.PixelSpacing, 2),
        thickness=_parse_number(sizes.get("SliceThickness")),
        between=_parse_number(sizes.get("SpacingBetweenSlices")),
        trigger_ms=_parse_number(trigger_ms),
        order=int(order),
        slope=_parse_number(values.get("RescaleSlope")) or 1.0,
        intercept=_parse_number(values.get("RescaleIntercept")) or 0.0,
    )


def _parse_numbers(values: Any, n: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise ValueError(f"{numbers}, expected {n} numbers")
    return numbers


def _parse_number(value: Any) -> float | None:
    return None if value is None or value == "" else _parse_numbers([value], 1)[0]


def read_dicom(
    paths: Sequence[Path], *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """Read the cine in DICOM files as a dataset of the cine model.

    Images are sorted by their position along the stack's normal and by trigger time (else temporal position,
    else instance number); every slice must have the same number of frames, each once. The z spacing is the
    distance between slices, not their thickness. Parameters as for :func:`mousecmr_data.formats.nifti.read_nifti`.

    Raises :class:`FileLayoutError` (no image, geometry missing or not one stack, a frame missing or twice),
    :class:`~mousecmr_data.errors.UnitsError`.
    """
    stack, header = sort_planes(paths)
    first = stack[0][0]
    if len(stack) > 1:
        source = "the header (positions)"
        z, notes = find_slice_distance(
            first.path.parent.name, [frames[0].depth for frames in stack], first.thickness or None
        )
    else:
        source = "the header (one slice: its thickness)"
        z, notes = abs(first.between or first.thickness or 0.0), []
    zyx, spacing_source = prefer_given(spacing, (z, *first.spacing), source)
    step, time_source = _find_frame_time(stack, header, frame_time_ms, notes)
    grid = _make_grid(stack, z, step or 0.0)
    rate = _read_heart_rate(header)
    return build_scan(
        grid.to_model(_read_pixels(stack)),
        zyx,
        spacing_source,
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
    """Return the planes as [slice][frame], and the header of the first file."""
    if not paths:
        raise MissingDataError("There is no DICOM file.", "one or more")
    files = [read_planes(path) for path in paths]
    planes = [plane for in_file, _ in files for plane in in_file]
    folder = paths[0].parent.name
    geometries = {p.geometry for p in planes}
    if len(geometries) > 1:
        raise FileLayoutError(
            f"The images in {folder} have {len(geometries)} different sizes, directions or pixel spacings.",
            "one stack",
            "give the files of one series",
        )
    slices: list[list[DicomPlane]] = []
    for plane in sorted(planes, key=lambda p: p.depth):
        if slices and plane.depth - slices[-1][0].depth < TOLERANCE_MM:
            slices[-1].append(plane)
        else:
            slices.append([plane])
    stack = [_sort_by_time(frames) for frames in slices]
    counts = [len(s) for s in stack]
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = [f"slice {k} has {n}" for k, n in enumerate(counts) if n != usual]
        raise FileLayoutError(
            f"The images in {folder} are not a complete grid of slices and frames: most slices have {usual} frames, "
            f"{', '.join(odd[:5])}.",
            "every slice in every frame, once",
            "look for files that are missing or belong to another series",
        )
    return stack, files[0][1]


def _sort_by_time(frames: list[DicomPlane]) -> list[DicomPlane]:
    """Sort the planes of a slice by time; the same time twice is an error."""
    times = [p.trigger_ms for p in frames]
    timed = all(t is not None for t in times) and (len(set(times)) > 1 or len(frames) == 1)
    keys = [p.trigger_ms if timed else p.order for p in frames]
    if len(set(keys)) < len(frames):
        twice = next(k for k in keys if keys.count(k) > 1)
        what = f"trigger time {twice:g} ms" if timed else f"temporal position {twice}"
        raise FileLayoutError(
            f"{frames[0].path.name}: two images at the same position ({frames[0].depth:g} mm) have the same {what}.",
            "each slice once in each frame",
            "look for files that are duplicates or belong to another series",
        )
    return [p for _, p in sorted(zip(keys, frames, strict=True), key=lambda pair: float(pair[0] or 0.0))]


def _find_frame_time(
    stack: list[list[DicomPlane]], header: Any, given: float | None, notes: list[str]
) -> tuple[float | None, str]:
    """Return the time between frames in ms and its source, ``given`` first; add notes on uneven trigger times."""
    times = np.array([[p.trigger_ms for p in s] for s in stack], float)  # (slice, frame); NaN if not stated
    steps = np.diff(times.mean(axis=0))
    step = float(steps.mean()) if steps.size else 0.0
    if step > 0:
        if (apart := float(np.ptp(times, axis=0).max())) > 0.5 * step:
            notes.append(f"Frames of different slices lie up to {apart:.1f} ms apart.")
        if (uneven := float(np.ptp(steps))) > 0.5 * step:
            notes.append(f"Frames are not evenly spaced in time (by {uneven:.1f} ms).")
    if given is not None or step > 0:
        return prefer_given(given, step, "the header (trigger time)")
    for name in ("TemporalResolution", "FrameTime"):
        if value := header.get(name):
            return float(value), f"the header ({name})"
    return None, ""


def _make_grid(stack: list[list[DicomPlane]], distance: float, step: float) -> FileGrid:
    first = stack[0][0]
    directions = np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)
    if np.abs(directions.T @ directions - np.eye(3)).max() > MAX_UNEVEN:
        raise FileLayoutError(
            f"{first.path.name}: rows and columns are not at right angles.", "ImageOrientationPatient"
        )
    y, x, z = (v or 1.0 for v in (*first.spacing, distance))
    affine = np.eye(4)
    affine[:3, :3] = directions * (x, y, z)
    affine[:3, 3] = first.position
    affine = LPS_TO_RAS @ affine
    shape = (first.columns, first.rows, len(stack), len(stack[0]))
    letters, flipped = orient_axes(affine, 2, shape)
    return FileGrid(shape, letters + AXIS_LETTERS[3], flipped, to_rows(affine), "mm", "msec", step, code=1)


def _read_pixels(stack: list[list[DicomPlane]]) -> NDArray[Any]:
    """Read all pixels (column, row, slice, frame), each file once."""
    first = stack[0][0]
    shape = (len(stack[0]), len(stack), first.rows, first.columns)
    stored = sum(path.stat().st_size for path in {p.path for s in stack for p in s})
    check_array_size(first.path.parent.name, shape, 4, stored)
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for s in stack for p in s)
    array = np.empty(shape, np.float32 if scaled else np.int32)
    by_file: dict[Path, list[tuple[int, int, DicomPlane]]] = {}
    for z, frames in enumerate(stack):
        for t, plane in enumerate(frames):
            by_file.setdefault(plane.path, []).append((t, z, plane))
    for path, planes in by_file.items():
        try:
            with suppress_warnings("pydicom"):
                pixels = np.asarray(load_dicom(path).pixel_array)
            pixels = pixels.reshape(-1, first.rows, first.columns)
            for t, z, plane in planes:
                array[t, z] = pixels[plane.index] * plane.slope + plane.intercept if scaled else pixels[plane.index]
        except MouseCMRError:
            raise
        except Exception as e:  # decoders can raise anything
            check_access(e, path)
            raise FileLayoutError(
                f"{path.name}: its pixels cannot be read: {type(e).__name__}: {e}",
                "images that pydicom can decode",
                "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg  (for compressed images)",
            ) from e
    return convert_pixels(first.path.name, array).transpose(3, 2, 1, 0)


def _read_heart_rate(header: Any) -> float | None:
    """Return the beats per minute, if the header states them."""
    with suppress(TypeError, ValueError, ZeroDivisionError):
        if rate := header.get("HeartRate"):
            return float(rate)
        if interval := header.get("NominalInterval"):
            return 60_000.0 / float(interval)
    return None
