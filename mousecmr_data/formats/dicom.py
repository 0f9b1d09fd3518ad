"""Read DICOM cines: classic files (one image each, in any order) or enhanced multi-frame ones.

Which files of a study belong together is decided by :mod:`mousecmr_data.formats.study`.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import IO, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.reading import MAX_IMAGE_RATIO, check_access, check_size
from mousecmr_data._utils.text import is_marked_synthetic
from mousecmr_data.dataset.model import SPACING_HINT
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError, UnitsError
from mousecmr_data.formats.archive import GZIP_MAGIC
from mousecmr_data.formats.build import (
    MAX_UNEVEN,
    build_scan,
    check_array_size,
    choose_heart_rate,
    convert_pixels,
    find_slice_distance,
    prefer_given,
    suppress_warnings,
)
from mousecmr_data.formats.orientation import LPS_TO_RAS, FileGrid, orient_axes, to_rows
from mousecmr_data.formats.study import (
    MAX_SHIFT,
    TOLERANCE_MM,
    are_parallel,
    describe_purpose,
    have_same_steps,
    join_sentence,
)
from mousecmr_data.schema.variables import AXIS_LETTERS

try:
    import pydicom
except ImportError as e:
    raise MissingExtraError.from_module("pydicom", "formats") from e

dcm: Any = pydicom
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax of files that are compressed as a whole, headers included."""
HEAD_BYTES, BLOCK_BYTES = 2**16, 10**6
MR_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.4{end}" for end in ("", ".1", ".3", ".4"))
"""SOP classes of MR images: classic, enhanced, enhanced colour, legacy converted enhanced."""
NO_IMAGES = ("SEG", "SR", "PR", "KO", "RWV", "REG", "RTSTRUCT")
"""Modalities of objects that accompany images."""
MR_WANTED = "give the MR images of the short-axis cine"
MAGNITUDE = "magnitude"
COMPONENTS = {
    **dict.fromkeys(("P", "PHASE", "PHASE MAP", "VELOCITY", "VELOCITY MAP"), "phase"),
    **dict.fromkeys(("R", "REAL"), "real part"),
    **dict.fromkeys(("I", "IMAGINARY"), "imaginary part"),
    **dict.fromkeys(("B0", "B0 MAP", "FIELD_MAP", "B1", "B1 MAP", "B1_MAP"), "field map"),
}
"""What ImageType (third value or later) and ComplexImageComponent call images that are no magnitudes."""
GE_IMAGE_TYPE = 0x0043102F
GE_COMPONENTS = {1: "phase", 2: "real part", 3: "imaginary part"}
"""GE's private tag of the same."""
DATES = ("AcquisitionDateTime", "AcquisitionDate", "AcquisitionTime", "SeriesDate", "SeriesTime")
UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
NAMES = ("SeriesDescription", "ProtocolName", "SequenceName", "PulseSequenceName")
RATES = (
    ("RRIntervalTimeNominal", "0020,9251", True),
    ("NominalInterval", "0018,1062", True),
    ("HeartRate", "0018,1088", False),
    ("CardiacRRIntervalSpecified", "0018,9070", True),
)
"""Names of heart rates, their tags, and whether they are intervals in ms; measured ones first."""
FRAME_TIMES = ("TemporalResolution", "FrameTime")
PLANE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "SpacingBetweenSlices")
GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "CardiacSynchronizationSequence")
TIMES = ("TriggerTime", "TemporalPositionIdentifier", "EchoTime", "NumberOfFrames")
WORDS = ("Modality", "ImageType", "ComplexImageComponent", "EchoPlanarPulseSequence", "ScanningSequence")
NUMBERS = ("SeriesNumber", "AcquisitionNumber", "InstanceNumber", "Rows", "Columns", "RescaleSlope", "RescaleIntercept")
USED = [
    dcm.tag.Tag(name)
    for name in (
        *("PatientID", "ImageComments", "PhotometricInterpretation", GE_IMAGE_TYPE, *DATES, *UIDS, *NAMES),
        *(*FRAME_TIMES, *PLANE, *GROUPS, *TIMES, *WORDS, *NUMBERS, *(name for name, _, _ in RATES)),
    )
]
"""All that is read from a header: the rest is not even decoded."""
PIXEL_TAGS = [
    dcm.tag.Tag(name)
    for name in (
        *("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
        *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ExtendedOffsetTable"),
        *("ExtendedOffsetTableLengths", "PixelData", "FloatPixelData", "DoubleFloatPixelData"),
    )
]
"""All that decoding pixels needs."""


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
    spacing: tuple[float, ...] | None
    """Between rows and between columns, mm; None if it is not stated."""
    thickness: float | None
    between: float | None
    """Distance of slices, if the file states it."""
    trigger_ms: float | None
    temporal: int | None
    """Temporal position."""
    number: tuple[int, int] | None
    """Instance number, and index of the frame in the file: the last resort for the order in time."""
    slope: float
    intercept: float
    component: str
    """:data:`MAGNITUDE`, or what else the values are."""
    echo_ms: float | None
    taken: tuple[str, int, int]
    """When it was scanned: date and time, series number, acquisition number."""
    series: str

    @property
    def normal(self) -> np.ndarray[Any, Any]:
        """Direction from slice to slice."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def depth(self) -> float:
        """Position along the normal, mm."""
        (a, b, c), (d, e, f) = self.orientation[:3], self.orientation[3:]
        x, y, z = self.position
        return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d)

    def has_geometry_of(self, other: DicomPlane) -> bool:
        """Return whether size, directions and pixel spacing are those of ``other``, as in all planes of a stack."""
        return (
            (self.rows, self.columns) == (other.rows, other.columns)
            and are_parallel(self.orientation, other.orientation)
            and have_same_steps(self.spacing or (), other.spacing or ())
        )


@dataclass(frozen=True)
class DicomFile:
    """What the header of a file says."""

    path: Path
    study: str
    series: str
    instance: str
    """UIDs; empty if they were removed."""
    patient: str
    modality: str
    label: str
    """Series description and number, for messages."""
    protocol: str
    """What series of one protocol share, without numbers."""
    name: str
    """Names of series, protocol and sequence, and what ImageType and flags say about it."""
    rates: tuple[tuple[float, str], ...]
    """Heart rates, beats per minute, and where they stand in the header; measured ones first."""
    frame_ms: tuple[float, str] | None
    synthetic: bool
    planes: tuple[DicomPlane, ...] = ()
    problem: FileLayoutError | None = field(default=None, compare=False)
    """Why it has no planes."""
    has_image: bool = True

    @property
    def uids(self) -> tuple[str, str, str]:
        """UIDs of study, series and instance."""
        return self.study, self.series, self.instance


@dataclass(frozen=True)
class DicomStack:
    """A grid of slices and frames."""

    slices: list[list[DicomPlane]]
    files: list[DicomFile]
    notes: list[str]


def load_dicom(path: Path, pixels: bool = True, only: list[Any] | None = None) -> Any:
    """Load a file, also a compressed one, as a pydicom Dataset; it decodes values when they are first used.

    ``only`` are the tags of the elements to load.

    Raises :class:`FileLayoutError` if it is not a valid DICOM file.
    """
    try:
        with suppress_warnings("pydicom"), _open_dicom(path) as f:
            dataset = dcm.dcmread(f, stop_before_pixels=not pixels, force=True, specific_tags=only)
            if dataset.preamble is None and not ("SOPClassUID" in dataset or "Rows" in dataset):
                raise FileLayoutError(f"{path.name} is not a DICOM file.", "a DICOM file")
            if "TransferSyntaxUID" not in dataset.file_meta:  # only the dataset was stored
                implicit, little = dataset.original_encoding
                syntax = dcm.uid.ExplicitVRLittleEndian if little else dcm.uid.ExplicitVRBigEndian
                dataset.file_meta.TransferSyntaxUID = dcm.uid.ImplicitVRLittleEndian if implicit else syntax
            return dataset
    except MouseCMRError:
        raise
    except Exception as e:  # a damaged file can make pydicom raise almost anything
        check_access(e, path)
        raise FileLayoutError(
            f"{path.name} is damaged or not a DICOM file: {type(e).__name__}: {e}", "a DICOM file"
        ) from e


def _open_dicom(path: Path) -> IO[bytes]:
    """Open a file, uncompressed; raise :class:`FileLayoutError` if it is too large to hold in memory when inflated."""
    stored = path.stat().st_size
    check_size(path.name, stored)
    f = path.open("rb")
    try:
        head = f.read(HEAD_BYTES)
        f.seek(0)
        if head.startswith(GZIP_MAGIC):
            with f, gzip.open(f) as packed:
                content = io.BytesIO()
                while block := packed.read(BLOCK_BYTES):
                    content.write(block)
                    check_size(path.name, content.tell(), stored, MAX_IMAGE_RATIO)
            content.seek(0)
            return content
        if DEFLATED in head:
            _check_inflated_size(path, f, stored)
        return f
    except BaseException:
        f.close()
        raise


def _check_inflated_size(path: Path, f: IO[bytes], stored: int) -> None:
    dcm.filereader.read_preamble(f, False)
    dcm.filereader._read_file_meta_info(f)
    inflate, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    while block := inflate.unconsumed_tail or f.read(BLOCK_BYTES):
        size += len(inflate.decompress(block, BLOCK_BYTES))
        check_size(path.name, size, stored, MAX_IMAGE_RATIO)
    f.seek(0)


def list_dicomdir(path: Path) -> list[Path] | None:
    """Return the files that a DICOMDIR names, those that are there; None if ``path`` is no DICOMDIR.

    Raises :class:`MissingDataError` if none is there. Only files below its own folder count.
    """
    header = load_dicom(path, pixels=False)
    if "DirectoryRecordSequence" not in header:
        return None
    found, named = [], 0
    for record in header.DirectoryRecordSequence:
        if parts := record.get("ReferencedFileID"):
            named += 1
            parts = [parts] if isinstance(parts, str) else list(parts)
            spellings = [path.parent.joinpath(*parts), path.parent.joinpath(*(p.lower() for p in parts))]
            there = [p for p in spellings if p.is_file() and p.resolve().is_relative_to(path.parent.resolve())]
            found += there[:1]
    if not found:
        raise MissingDataError(
            f"{path.name} names {named} files, and none of them is beside it.",
            "the whole folder that was exported",
            "copy the files that it names beside it, or give their folder",
        )
    return found


def read_header(path: Path) -> DicomFile:
    """Return what the header of a file says. Raises :class:`FileLayoutError` if it is damaged or not a DICOM file."""
    about = path.stat()
    return _read_header(path, about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=20_000)
def _read_header(path: Path, _size: int, _changed: int) -> DicomFile:
    with suppress_warnings("pydicom"):
        dataset = load_dicom(path, pixels=False, only=USED)
        try:
            sop_class = str(dataset.file_meta.get("MediaStorageSOPClassUID") or "")
            header = {"SOPClassUID": sop_class} | {e.keyword or int(e.tag): e.value for e in dataset}
            return _describe_file(path, header)
        except MouseCMRError:
            raise
        except Exception as e:  # a header can hold anything
            text = f"{path.name}: its header cannot be used: {type(e).__name__}: {e}"
            raise FileLayoutError(text, "MR images") from e


def _describe_file(path: Path, header: dict[Any, Any]) -> DicomFile:
    def text(*names: str) -> str:
        return " ".join(str(header.get(name) or "").strip() for name in names).strip()

    sop_class, modality = text("SOPClassUID"), text("Modality")
    has_image = ("Rows" in header or sop_class in MR_CLASSES) and modality not in NO_IMAGES
    if not has_image and not sop_class:
        raise FileLayoutError(f"{path.name} is damaged: it does not state its content.", "a DICOM file")
    series_number = text("SeriesNumber")
    numbered = f"series {series_number}" if series_number else ""
    description = text("SeriesDescription") or text("ProtocolName")
    echo_planar = "YES" in text("EchoPlanarPulseSequence") or "EP" in _list_words(header, "ScanningSequence")
    file = DicomFile(
        path,
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        instance=text("SOPInstanceUID"),
        patient=text("PatientID"),
        modality=modality,
        label=f"{description} ({numbered})" if description and numbered else description or numbered or path.name,
        protocol=re.sub(r"[\d\W_]+", " ", text("ProtocolName", "ScanningSequence") or description),
        name=text(*NAMES, "ImageType") + " EPI" * echo_planar,
        rates=(),
        frame_ms=_find_stated_frame_time(header),
        synthetic=is_marked_synthetic(text("ImageComments")),
        has_image=has_image,
    )
    problem = _find_problem(path, header, has_image)
    if problem is None:
        try:
            planes = tuple(_make_planes(path, header))
            return replace(file, planes=planes, rates=tuple(_list_heart_rates(header)))
        except FileLayoutError as e:
            problem = e
    return replace(file, problem=problem)


def _find_problem(path: Path, header: dict[Any, Any], has_image: bool) -> FileLayoutError | None:
    """Return the error of a file that cannot be a part of an MR cine, whatever its geometry is."""
    sop_class, modality = str(header.get("SOPClassUID") or ""), str(header.get("Modality") or "")
    kind = dcm.uid.UID(sop_class).name if sop_class else "an object of unknown class"
    if not has_image:
        return FileLayoutError(f"{path.name} holds no images: {kind}.", "MR images", MR_WANTED)
    if modality != "MR" and sop_class not in MR_CLASSES and (modality or sop_class):
        return FileLayoutError(f"{path.name} is no MR image: {kind}, modality {modality or '?'}.", "MR", MR_WANTED)
    if "Rows" not in header:
        return FileLayoutError(f"{path.name} is damaged: it ends within its header.", "MR images", "copy it again")
    colours = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if colours != "MONOCHROME2":
        return FileLayoutError(f"{path.name} is {colours}.", "grey images (MONOCHROME2)", MR_WANTED)
    if "MOSAIC" in str(header.get("ImageType", "")):
        return FileLayoutError(f"{path.name} is a mosaic: all slices in one image.", "one image per slice", MR_WANTED)
    return None


def _list_words(dataset: Any, name: str) -> list[str]:
    """Return the values of an element of code strings."""
    value = dataset.get(name) or ()
    return [str(v).upper() for v in ([value] if isinstance(value, str) else value)]


def _make_planes(path: Path, header: dict[Any, Any]) -> Iterator[DicomPlane]:
    n = int(header.get("NumberOfFrames", 1) or 1)
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = (header.get("SharedFunctionalGroupsSequence") or [dcm.Dataset()])[0]
    if frames and ("PlanePositionSequence" in shared or "PlanePositionSequence" in frames[0]):
        if len(frames) < n:
            raise FileLayoutError(f"{path.name} describes {len(frames)} of its {n} frames.", "all frames", MR_WANTED)
        for k in range(n):
            yield _make_enhanced_plane(path, header, shared, frames[k], k)
    elif n > 1:
        raise FileLayoutError(
            f"{path.name} has several frames but does not state their positions.",
            "classic or enhanced MR images",
            MR_WANTED,
        )
    else:
        temporal = header.get("TemporalPositionIdentifier")
        yield _make_plane(path, 0, header, header, header, header, header, header.get("TriggerTime"), temporal)


def _make_enhanced_plane(path: Path, header: dict[Any, Any], shared: Any, frame: Any, k: int) -> DicomPlane:
    def macro(name: str) -> Any:
        sequence = frame.get(name) or shared.get(name)
        return sequence[0] if sequence else dcm.Dataset()

    location = dcm.Dataset(
        {e.tag: e for name in ("PlanePositionSequence", "PlaneOrientationSequence") for e in macro(name)}
    )
    names = ("MRImageFrameTypeSequence", "MREchoSequence", "FrameContentSequence")
    about = dcm.Dataset({e.tag: e for name in names for e in macro(name)})
    sizes, values = macro("PixelMeasuresSequence"), macro("PixelValueTransformationSequence")
    trigger_ms = macro("CardiacSynchronizationSequence").get("NominalCardiacTriggerDelayTime")
    temporal = about.get("TemporalPositionIndex")
    return _make_plane(path, k, header, location, sizes, values, about, trigger_ms, temporal)


def _make_plane(
    path: Path,
    index: int,
    header: Any,
    location: Any,
    sizes: Any,
    values: Any,
    about: Any,
    trigger_ms: Any,
    temporal: Any,
) -> DicomPlane:
    """Make a plane; ``location``, ``sizes``, ``values`` and ``about`` are the datasets that hold these tags."""
    for name in ("ImagePositionPatient", "ImageOrientationPatient"):
        if not location.get(name):
            raise FileLayoutError(f"{path.name} does not say its {name}.", "images of a scanner, with their geometry")
    spacing = _parse_numbers(sizes.get("PixelSpacing") or (0, 0), 2)
    number = _parse_integer(header.get("InstanceNumber"))
    return DicomPlane(
        path,
        index,
        rows=int(header["Rows"]),
        columns=int(header["Columns"]),
        position=_parse_numbers(location.get("ImagePositionPatient"), 3),
        orientation=_parse_numbers(location.get("ImageOrientationPatient"), 6),
        spacing=spacing if min(spacing) > 0 else None,
        thickness=_parse_number(sizes.get("SliceThickness")),
        between=_parse_number(sizes.get("SpacingBetweenSlices")),
        trigger_ms=_parse_number(trigger_ms),
        temporal=_parse_integer(temporal),
        number=None if number is None and index == 0 else (number or 0, index),
        slope=_parse_number(values.get("RescaleSlope")) or 1.0,
        intercept=_parse_number(values.get("RescaleIntercept")) or 0.0,
        component=_find_component(header, about),
        echo_ms=_parse_number(about.get("EffectiveEchoTime") or about.get("EchoTime")),
        taken=(
            "".join(str(header.get(name) or "") for name in DATES),
            _parse_integer(header.get("SeriesNumber")) or 0,
            _parse_integer(header.get("AcquisitionNumber")) or 0,
        ),
        series=str(header.get("SeriesInstanceUID") or ""),
    )


def _find_component(header: Any, about: Any) -> str:
    """Return :data:`MAGNITUDE`, or what else the values of an image are."""
    types = _list_words(about, "FrameType") or _list_words(header, "ImageType")
    component = _list_words(about, "ComplexImageComponent") or _list_words(header, "ComplexImageComponent")
    for word in (*component, *types[2:]):
        if word in COMPONENTS:
            return COMPONENTS[word]
    with suppress(TypeError, ValueError):
        return GE_COMPONENTS.get(int(header.get(GE_IMAGE_TYPE, 0)), MAGNITUDE)
    return MAGNITUDE


def _parse_numbers(values: Any, n: int) -> tuple[float, ...]:
    numbers = tuple(float(v) for v in values)
    if len(numbers) != n or not np.isfinite(numbers).all():
        raise ValueError(f"{numbers}, expected {n} numbers")
    return numbers


def _parse_number(value: Any) -> float | None:
    return None if value is None or value == "" else _parse_numbers([value], 1)[0]


def _parse_integer(value: Any) -> int | None:
    number = _parse_number(value)
    return None if number is None else int(number)


def _list_heart_rates(header: Any) -> Iterator[tuple[float, str]]:
    """Yield the heart rates that a header states (beats per minute) and their sources, the measured ones first."""
    parts = [header, *(header.get("SharedFunctionalGroupsSequence") or ())]
    parts += header.get("PerFrameFunctionalGroupsSequence") or ()
    parts += [item for part in parts for item in part.get("CardiacSynchronizationSequence") or ()]
    for name, tag, is_interval in RATES:
        with suppress(TypeError, ValueError):
            values = [float(part.get(name)) for part in parts if part.get(name)]
            value = median(values) if values else 0.0
            if 0 < value < float("inf"):
                yield 60_000.0 / value if is_interval else value, f"the file ({name}, {tag})"


def _find_stated_frame_time(header: Any) -> tuple[float, str] | None:
    for name in FRAME_TIMES:
        with suppress(TypeError, ValueError):
            if value := float(header.get(name) or 0):
                return value, f"the header ({name})"
    return None


def drop_copies(files: Sequence[DicomFile]) -> tuple[list[DicomFile], list[tuple[Path, Path]]]:
    """Return ``files`` without copies, and the copies with their originals.

    A copy is the same instance (UID) of the same place and time. Where UIDs were removed, or set to one by an
    anonymiser, it is the same bytes.
    """
    places = {
        f.path: [(p.index, p.position, p.trigger_ms, p.temporal, p.number, p.component) for p in f.planes]
        for f in files
    }
    by_uid: dict[Any, Any] = {}
    shared = {f.uids for f in files if by_uid.setdefault(f.uids, places[f.path]) != places[f.path]}
    kept: dict[Any, DicomFile] = {}
    copies: list[tuple[Path, Path]] = []
    for file in files:
        is_known = file.instance and file.uids not in shared
        key: Any = (file.uids, str(places[file.path]), is_known or file.path.stat().st_size)
        if not is_known and key in kept:
            kept.setdefault((key, compute_sha256(kept[key].path)), kept[key])
            key = (key, compute_sha256(file.path))
        if key in kept:
            copies.append((file.path, kept[key].path))
        else:
            kept[key] = file
    return list(dict.fromkeys(kept.values())), copies


def describe_copies(copies: Iterable[tuple[Path, Path]]) -> list[str]:
    """Return a note on ``copies`` and their originals, if there are any."""
    texts = [f"{_shorten(copy)} is a copy of {_shorten(original)}" for copy, original in copies]
    return join_sentence("Copies were left out", texts)


def _shorten(path: Path) -> str:
    return "/".join(path.resolve().parts[-2:])


def split_slices(planes: Iterable[DicomPlane]) -> list[list[DicomPlane]]:
    """Return the planes as [slice][any order], by their position along the normal."""
    slices: list[list[DicomPlane]] = []
    for depth, plane in sorted(((p.depth, p) for p in planes), key=lambda pair: pair[0]):
        if slices and depth - slices[-1][0].depth < TOLERANCE_MM:
            slices[-1].append(plane)
        else:
            slices.append([plane])
    return slices


def split_geometries(planes: Iterable[DicomPlane]) -> list[list[DicomPlane]]:
    """Return the planes of each size, direction and pixel spacing."""
    groups: list[list[DicomPlane]] = []
    for plane in planes:
        group = next((g for g in groups if plane.has_geometry_of(g[0])), None)
        if group is None:
            groups.append([plane])
        else:
            group.append(plane)
    return groups


def sort_planes(paths: Sequence[Path]) -> DicomStack:
    """Return the planes of ``paths`` as [slice][frame], in the order of space and time.

    Copies, images that are no magnitudes, later echoes, and slices that were scanned again are left out, with a note.
    Raises :class:`FileLayoutError` if the rest is not a grid of parallel slices.
    """
    if not paths:
        raise MissingDataError("There is no DICOM file.", "one or more")
    files, copies = drop_copies([read_header(path) for path in paths])
    notes = describe_copies(copies)
    for file in files:
        if file.problem:
            raise file.problem
    folder = _name_folder(paths)
    planes = _keep_magnitudes(folder, [plane for file in files for plane in file.planes], notes)
    if len(groups := split_geometries(planes)) > 1:
        raise FileLayoutError(
            f"The images in {folder} have {len(groups)} different sizes, directions or pixel spacings (a localiser?).",
            "one stack of parallel slices",
            MR_WANTED + ", of one series",
        )
    labels = {file.series: file.label for file in files}
    slices = [_choose_scan(frames, labels, notes) for frames in split_slices(planes)]
    _check_line(folder, slices)
    stack = [_sort_by_time(frames) for frames in slices]
    counts = [len(s) for s in stack]
    if len(set(counts)) > 1:
        usual = max(set(counts), key=counts.count)
        odd = [f"slice {k} has {n}" for k, n in enumerate(counts) if n != usual]
        names = sorted({_shorten(p.path) for s in stack if len(s) != usual for p in s})
        raise FileLayoutError(
            f"The images in {folder} are not a complete grid of slices and frames: most slices have {usual} frames, "
            f"{', '.join(odd[:5])}.",
            "every slice in every frame, once",
            join_sentence("add the files that are missing, or take out those of these slices", names)[0],
        )
    return DicomStack(stack, files, notes)


def _name_folder(paths: Sequence[Path]) -> str:
    return paths[0].resolve().parent.name or paths[0].stem


def _keep_magnitudes(folder: str, planes: list[DicomPlane], notes: list[str]) -> list[DicomPlane]:
    others = Counter(p.component for p in planes if p.component != MAGNITUDE)
    if not others:
        return planes
    listed = ", ".join(f"{n} of {component}" for component, n in others.items())
    if len(planes) == others.total():
        raise FileLayoutError(
            f"The images in {folder} are no magnitudes: {listed}.", "magnitude images", "give the magnitude series"
        )
    notes.append(f"Images that are no magnitudes were left out: {listed}.")
    return [p for p in planes if p.component == MAGNITUDE]


def _choose_scan(frames: list[DicomPlane], labels: dict[str, str], notes: list[str]) -> list[DicomPlane]:
    """Return the planes of one slice from its latest complete scan, and of its first echo; add notes on the others."""
    echoes = sorted({p.echo_ms for p in frames if p.echo_ms is not None})
    if len(echoes) > 1 and _count_times(frames) < len(frames):
        text = f"Of {len(echoes)} echoes, the first one is used ({echoes[0]:g} ms)."
        if text not in notes:
            notes.append(text)
        frames = [p for p in frames if p.echo_ms == echoes[0]]
    scans: dict[Any, list[DicomPlane]] = {}
    for p in frames:
        scans.setdefault(p.series, []).append(p)
    if len(scans) == len(frames) and any(
        len({getattr(p, n) for p in frames}) == len(frames) for n in ("trigger_ms", "temporal")
    ):
        return frames  # each series holds one frame of the cine
    times = 0
    if len(scans) == 1:
        times = _count_times(frames)
        if times == len(frames):
            return frames
        by_number = len({p.taken[2] for p in frames}) > 1
        scans = {}
        for p in frames:
            scans.setdefault(p.taken[2] if by_number else p.taken[0], []).append(p)
    complete = max(times, *(_count_times(s) for s in scans.values()))
    whole = [s for s in scans.values() if len(s) == _count_times(s) == complete]
    if not whole:
        return frames
    latest = max(whole, key=lambda s: max(p.taken for p in s))
    where = f"The slice at {frames[0].depth:.2f} mm was scanned {len(scans)} times"
    notes.append(f"{where}: the latest complete scan is used, {labels[latest[0].series]}.")
    return latest


def _count_times(frames: Sequence[DicomPlane]) -> int:
    """Return how many points in time the planes of a slice have; all, if nothing tells them apart."""
    for keys in _list_time_keys(frames):
        return len(set(keys))
    return 1


def _list_time_keys(frames: Sequence[DicomPlane]) -> Iterator[list[Any]]:
    """Yield what tells the frames of a slice apart, the best first: trigger time, temporal position, instance number.

    A value that one of them lacks, or that is the same in all, tells nothing.
    """
    for name in ("trigger_ms", "temporal", "number"):
        keys = [getattr(p, name) for p in frames]
        if None not in keys and (len(set(keys)) > 1 or len(keys) == 1):
            yield keys


def _check_line(folder: str, slices: list[list[DicomPlane]]) -> None:
    """Raise :class:`FileLayoutError` if slices are shifted within their plane: no grid could place their masks."""
    first = slices[0][0]
    along = np.array([first.orientation[:3], first.orientation[3:]])
    positions = np.array([p.position for s in slices for p in s])
    shift = float(np.abs((positions - first.position) @ along.T).max())
    pixel = min(first.spacing or (1.0,))
    if shift > MAX_SHIFT * pixel:
        raise FileLayoutError(
            f"The slices in {folder} are shifted within their plane, by up to {shift:.3g} mm "
            f"({shift / pixel:.1f} pixels): a tilted stack, or slices of different series.",
            "slices that lie straight above each other",
            "resample them to one grid (for example in 3D Slicer) and give the NIfTI; or give one slice",
        )


def _sort_by_time(frames: list[DicomPlane]) -> list[DicomPlane]:
    """Sort the planes of a slice by time; the same time twice is an error."""
    if len(frames) == 1:
        return frames
    keys = next(_list_time_keys(frames), None)
    if keys is None or len(set(keys)) < len(keys):
        same = "nothing that tells their order" if keys is None else f"the same time ({_find_twice(keys)})"
        names = " and ".join(_shorten(p.path) for p in _find_twins(frames, keys)[:2])
        raise FileLayoutError(
            f"{names}: two images at the same position ({frames[0].depth:g} mm) have {same}.",
            "each slice once in each frame",
            "take out the files that belong to another scan",
        )
    return [p for _, p in sorted(zip(keys, frames, strict=True), key=lambda pair: pair[0])]


def _find_twice(keys: list[Any]) -> Any:
    return next(k for k in keys if keys.count(k) > 1)


def _find_twins(frames: list[DicomPlane], keys: list[Any] | None) -> list[DicomPlane]:
    if keys is None:
        return frames
    twice = _find_twice(keys)
    return [p for p, k in zip(frames, keys, strict=True) if k == twice]


def read_dicom(
    paths: Sequence[Path], *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """Read the cine in DICOM files as a dataset of the cine model.

    Images are sorted by their position along the stack's normal and by trigger time (else temporal position,
    else instance number); every slice must have the same number of frames, each once. The z spacing is the
    distance between slices, not their thickness. Parameters as for :func:`mousecmr_data.formats.nifti.read_nifti`.

    Raises :class:`FileLayoutError` (no MR image, geometry missing or not one stack, a frame missing or twice),
    :class:`~mousecmr_data.errors.UnitsError`.
    """
    stack = sort_planes(paths)
    slices, notes = stack.slices, stack.notes
    first = slices[0][0]
    name = _name_folder(paths)
    if len(slices) > 1:
        source = "the header (positions)"
        z, uneven = find_slice_distance(name, [frames[0].depth for frames in slices], first.thickness or None)
        notes += uneven
    else:
        source, z = "the header (one slice: its thickness)", abs(first.between or first.thickness or 0.0)
    if first.spacing is None and spacing is None:
        raise UnitsError(f"{first.path.name} does not say its pixel spacing.", "sizes in mm", SPACING_HINT)
    step, time_source = _find_frame_time(stack, frame_time_ms, notes)
    grid = _make_grid(slices, z, step or 0.0, spacing)
    lengths = dict(zip(grid.axes, np.linalg.norm(np.array(grid.affine)[:3, :3], axis=0).tolist(), strict=False))
    zyx, spacing_source = prefer_given(spacing, (z, lengths["y"], lengths["x"]), source)
    return build_scan(
        grid.to_model(_read_pixels(name, slices)),
        zyx,
        spacing_source,
        step,
        time_source,
        grid,
        notes,
        mouse=name,
        source=f"{len(stack.files)} DICOM file{'s'[: len(stack.files) > 1]}",
        format="DICOM",
        synthetic=any(file.synthetic for file in stack.files),
        **describe_purpose(" ".join(dict.fromkeys(file.name for file in stack.files))),
        **choose_heart_rate(rate for file in stack.files for rate in file.rates),
    )


def _find_frame_time(stack: DicomStack, given: float | None, notes: list[str]) -> tuple[float | None, str]:
    """Return the time between frames in ms and its source, ``given`` first; add notes on uneven trigger times."""
    times = np.array([[p.trigger_ms for p in s] for s in stack.slices], float)  # (slice, frame); NaN if not stated
    steps = np.diff(times.mean(axis=0))
    step = float(steps.mean()) if steps.size else 0.0
    if step > 0:
        if (apart := float(np.ptp(times, axis=0).max())) > 0.5 * step:
            notes.append(f"Frames of different slices lie up to {apart:.1f} ms apart.")
        if (uneven := float(np.ptp(steps))) > 0.5 * step:
            notes.append(f"Frames are not evenly spaced in time (by {uneven:.1f} ms).")
    if given is not None or step > 0:
        return prefer_given(given, step, "the header (trigger time)")
    return next((file.frame_ms for file in stack.files if file.frame_ms), (None, ""))


def _make_grid(slices: list[list[DicomPlane]], distance: float, step: float, given: Sequence[float] | None) -> FileGrid:
    first = slices[0][0]
    directions = np.stack([first.orientation[:3], first.orientation[3:], first.normal], axis=1)
    if np.abs(directions.T @ directions - np.eye(3)).max() > MAX_UNEVEN:
        raise FileLayoutError(
            f"{first.path.name}: rows and columns are not at right angles.", "ImageOrientationPatient", MR_WANTED
        )
    shape = (first.columns, first.rows, len(slices), len(slices[0]))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = directions, first.position
    letters, _ = orient_axes(LPS_TO_RAS @ affine, 2, shape)
    row_step, column_step = first.spacing or (0.0, 0.0)
    steps = {letters[0]: column_step, letters[1]: row_step, "z": distance}
    if given is not None:  # where the header states none
        steps = {c: steps[c] or abs(float(v)) for c, v in zip("zyx", given, strict=False)}
    affine[:3, :3] = directions * [steps[c] or 1.0 for c in letters]
    affine = LPS_TO_RAS @ affine
    letters, flipped = orient_axes(affine, 2, shape)
    return FileGrid(shape, letters + AXIS_LETTERS[3], flipped, to_rows(affine), "mm", "msec", step, code=1)


def _read_pixels(name: str, slices: list[list[DicomPlane]]) -> NDArray[Any]:
    """Read all pixels (column, row, slice, frame), each file once."""
    first = slices[0][0]
    shape = (len(slices[0]), len(slices), first.rows, first.columns)
    stored = sum(path.stat().st_size for path in {p.path for s in slices for p in s})
    check_array_size(name, shape, 4, stored)
    scaled = any((p.slope, p.intercept) != (1.0, 0.0) for s in slices for p in s)
    array: NDArray[Any] | None = None
    by_file: dict[Path, list[tuple[int, int, DicomPlane]]] = {}
    for z, frames in enumerate(slices):
        for t, plane in enumerate(frames):
            by_file.setdefault(plane.path, []).append((t, z, plane))
    for path, planes in by_file.items():
        with suppress_warnings("pydicom"):
            pixels = _decode_pixels(path, first)
        wanted = np.dtype(np.float32) if scaled else pixels.dtype
        if array is None:
            array = np.empty(shape, wanted)
        elif wanted != array.dtype:
            array = array.astype(np.promote_types(array.dtype, wanted))
        for t, z, plane in planes:
            array[t, z] = pixels[plane.index] * plane.slope + plane.intercept if scaled else pixels[plane.index]
    return convert_pixels(first.path.name, np.asarray(array)).transpose(3, 2, 1, 0)


def _decode_pixels(path: Path, like: DicomPlane) -> NDArray[Any]:
    """Return the pixels of a file as (frame, row, column), with rows and columns as many as those of ``like``."""
    dataset = load_dicom(path, only=PIXEL_TAGS)
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        return np.asarray(dataset.pixel_array).reshape(-1, like.rows, like.columns)
    except Exception as e:  # decoders can raise anything
        check_access(e, path)
        expected, cure = "whole images", "copy the file again from the scanner or the archive: it may end too early"
        with suppress(Exception):  # of a transfer syntax that does not exist
            if syntax.is_compressed and not dcm.pixels.get_decoder(syntax).is_available:
                expected = "images that pydicom can decode"
                cure = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        raise FileLayoutError(
            f"{path.name}: its pixels ({syntax.name}) cannot be read: {type(e).__name__}: {e}", expected, cure
        ) from e
