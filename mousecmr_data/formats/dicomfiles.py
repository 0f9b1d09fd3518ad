"""DICOM headers: which files belong together, and the planes (a slice in a frame) that they hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mousecmr_data.errors import FileLayoutError, MissingExtraError, MouseCMRError
from mousecmr_data.formats.quiet import quiet

try:
    import pydicom
except ImportError as e:
    raise MissingExtraError.of("pydicom", "formats") from e

dcm: Any = pydicom
TOLERANCE_MM = 0.01
"""Positions that are closer are the same slice."""
DIGITS = 4
"""Decimals by which directions and pixel spacings are compared."""


@dataclass(frozen=True)
class Plane:
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


def planes(path: Path) -> tuple[list[Plane], Any]:
    """The planes of a file, and its header (a pydicom Dataset without pixels)."""
    header = load(path, pixels=False)
    try:
        if "PerFrameFunctionalGroupsSequence" in header:
            return [_enhanced(path, header, k) for k in range(int(header.NumberOfFrames))], header
        if int(header.get("NumberOfFrames", 1) or 1) > 1:
            raise FileLayoutError(
                f"{path.name} has several frames but does not say where each lies.", "classic or enhanced MR images"
            )
        return [_classic(path, header)], header
    except MouseCMRError:
        raise
    except Exception as e:  # a header can hold anything
        raise FileLayoutError(f"{path.name}: its header cannot be used: {type(e).__name__}: {e}", "MR images") from e


def load(path: Path, pixels: bool = True) -> Any:
    """A pydicom Dataset; :class:`FileLayoutError` where there is none."""
    try:
        with quiet("pydicom"):
            found = dcm.dcmread(path, stop_before_pixels=not pixels)
            for _ in found.iterall():  # values are decoded when they are first looked at: now
                pass
            return found
    except dcm.errors.InvalidDicomError as e:
        raise FileLayoutError(f"{path.name} is no DICOM file: it lacks the DICM prefix.", "a DICOM file") from e
    except Exception as e:  # a damaged file can make pydicom raise almost anything
        raise FileLayoutError(f"{path.name} is damaged or no DICOM: {type(e).__name__}: {e}", "a DICOM file") from e


def groups(paths: Sequence[Path]) -> list[tuple[Path, ...]]:
    """The files of each mouse: those of a series; series of a study that are one slice each, together.

    Files without an image (reports, segmentations) are left out. Where a study holds a cine, its series that
    are none (localisers) are left out too. A file that cannot be read stays alone, so that someone says so.
    """
    alone: list[tuple[Path, ...]] = []
    series: dict[tuple[str, str], list[tuple[Path, list[Plane]]]] = {}
    for path in paths:
        try:
            header = load(path, pixels=False)
            if "Rows" not in header and "MediaStorageSOPClassUID" not in header.file_meta:
                raise FileLayoutError(f"{path.name} is damaged: it does not say what it holds.", "a DICOM file")
            if "Rows" not in header or str(header.get("Modality", "MR")) in ("SEG", "SR", "PR", "KO"):
                continue
            key = (str(header.get("StudyInstanceUID", "")), str(header.get("SeriesInstanceUID", "")))
            every = planes(path)[0]
            series.setdefault(key, []).append((path, every))
        except MouseCMRError:
            alone.append((path,))
    out: list[tuple[Path, ...]] = []
    for study in dict.fromkeys(k[0] for k in series):
        found = [files for k, files in series.items() if k[0] == study]
        cines = [files for files in found if _is_cine(files)]
        kept = cines or found
        for files in _merged(kept):
            out.append(tuple(sorted(p for p, _ in files)))
    return out + alone


def _is_cine(files: Iterable[tuple[Path, list[Plane]]]) -> bool:
    every = [p for _, found in files for p in found]
    return len(every) > len({round(p.depth / TOLERANCE_MM) for p in every})


def _merged(series: list[list[tuple[Path, list[Plane]]]]) -> list[list[tuple[Path, list[Plane]]]]:
    """Series of one slice each, with the same geometry and as many frames, joined."""
    out: list[list[tuple[Path, list[Plane]]]] = []
    single: dict[Any, list[tuple[int, list[tuple[Path, list[Plane]]]]]] = {}
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


def _classic(path: Path, header: Any) -> Plane:
    return Plane(
        path,
        0,
        **_place(path, header, header, header),
        trigger_ms=_number(header.get("TriggerTime")),
        order=int(header.get("TemporalPositionIdentifier") or header.get("InstanceNumber") or 0),
        slope=_number(header.get("RescaleSlope")) or 1.0,
        intercept=_number(header.get("RescaleIntercept")) or 0.0,
    )


def _enhanced(path: Path, header: Any, k: int) -> Plane:
    shared = header.SharedFunctionalGroupsSequence[0] if "SharedFunctionalGroupsSequence" in header else {}
    own = header.PerFrameFunctionalGroupsSequence[k]

    def macro(name: str) -> Any:
        found = own.get(name) or shared.get(name)
        return found[0] if found else dcm.Dataset()

    heart, content, values = (
        macro(n) for n in ("CardiacSynchronizationSequence", "FrameContentSequence", "PixelValueTransformationSequence")
    )
    where = dcm.Dataset({**_tags(macro("PlanePositionSequence")), **_tags(macro("PlaneOrientationSequence"))})
    return Plane(
        path,
        k,
        **_place(path, header, where, macro("PixelMeasuresSequence")),
        trigger_ms=_number(heart.get("NominalCardiacTriggerDelayTime")),
        order=int(content.get("TemporalPositionIndex") or k),
        slope=_number(values.get("RescaleSlope")) or 1.0,
        intercept=_number(values.get("RescaleIntercept")) or 0.0,
    )


def _tags(part: Any) -> dict[Any, Any]:
    return {element.tag: element for element in part}


def _place(path: Path, header: Any, where: Any, sizes: Any) -> dict[str, Any]:
    if str(header.get("PhotometricInterpretation", "MONOCHROME2")) != "MONOCHROME2":
        raise FileLayoutError(f"{path.name} is {header.PhotometricInterpretation}.", "grey images (MONOCHROME2)")
    for name, part in (("ImagePositionPatient", where), ("ImageOrientationPatient", where), ("PixelSpacing", sizes)):
        if part.get(name) is None:
            raise FileLayoutError(f"{path.name} does not say its {name}.", "images of a scanner, with their geometry")
    return {
        "rows": int(header.Rows),
        "columns": int(header.Columns),
        "position": _numbers(where.ImagePositionPatient, 3),
        "orientation": _numbers(where.ImageOrientationPatient, 6),
        "spacing": _numbers(sizes.PixelSpacing, 2),
        "thickness": _number(sizes.get("SliceThickness")),
        "between": _number(sizes.get("SpacingBetweenSlices")),
    }


def _numbers(values: Any, n: int) -> tuple[float, ...]:
    found = tuple(float(v) for v in values)
    if len(found) != n or not np.isfinite(found).all():
        raise ValueError(f"{found}, expected {n} numbers")
    return found


def _number(value: Any) -> float | None:
    return None if value is None or value == "" else _numbers([value], 1)[0]
