"""Read Agilent (Varian) FDF: a folder of ``.fdf`` files, one image each, with ``procpar`` beside them.

A file is a text of C declarations (``float  matrix[] = {128, 128};``), a zero byte, and the pixels at its end,
the first dimension of ``matrix`` running fastest. Lengths are in cm. Source: VnmrJ User Programming, "FDF".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.reading import check_input
from mousecmr_data.errors import FileLayoutError, MissingDataError, MouseCMRError
from mousecmr_data.formats.build import (
    build_scan,
    check_array_size,
    choose_heart_rate,
    convert_pixels,
    find_slice_distance,
    prefer_given,
)
from mousecmr_data.formats.orientation import FileGrid, to_rows
from mousecmr_data.formats.study import (
    MAX_SHIFT,
    Stack,
    StudyScan,
    Unusable,
    add_damaged,
    choose_scans,
    describe_purpose,
)
from mousecmr_data.schema.variables import AXIS_LETTERS

MAX_PROCPAR_BYTES = 16 * 1024**2
"""A procpar has some 100 kB."""
PROCPAR_FIELDS = 11
PROCPAR_REAL = 1
PROCPAR_HEAD = re.compile(r"[A-Za-z_]\S*( -?[\d.e+-]+){10}\s*$")
"""The first line of a parameter."""
ProcparValues = tuple[float, ...] | tuple[str, ...]

MM_IN_CM = 10.0
MAX_HEADER = 64 * 1024
MAGIC = b"#!/usr/local/fdf/startup"
TYPES = {("float", 32): "f4", ("double", 64): "f8", ("short", 16): "i2", ("integer", 16): "i2", ("integer", 32): "i4"}
"""NumPy's name of (storage, bits)."""
_DECLARATION = re.compile(r"^\s*(?:float|int|char)\s*\*?\s*(\w+)\s*(\[\s*\])?\s*=\s*(.*?)\s*;", re.MULTILINE)


def read_procpar(path: Path) -> dict[str, ProcparValues]:
    """Read the parameters of an acquisition by name: real ones as numbers, others as text.

    A parameter takes three lines or more: its name and ten numbers about it (the second is its basic type: 1 real,
    2 string); the number of values and the values (strings in quotes, each on a line of its own from the second on; a
    string can have several lines); the number of allowed values and these. Source: VnmrJ User Programming, "Format of
    a stored parameter".

    Raises :class:`MissingDataError`, and :class:`FileLayoutError` if the file does not follow the format.
    """
    check_input(path, "procpar beside the .fdf files")
    if path.stat().st_size > MAX_PROCPAR_BYTES:
        raise FileLayoutError(f"{path.name} has {path.stat().st_size:,} bytes.", f"at most {MAX_PROCPAR_BYTES:,}")
    # Not splitlines: it also splits at characters that a comment can hold.
    lines = iter(path.read_text(encoding="latin-1").replace("\r\n", "\n").split("\n"))
    parameters: dict[str, ProcparValues] = {}
    for line in lines:
        head = line.split()
        if not head:
            continue
        try:
            if len(head) < PROCPAR_FIELDS:
                raise ValueError(f"{len(head)} fields instead of {PROCPAR_FIELDS}")
            kind = int(head[2])
            number, *rest = next(lines).split(maxsplit=1)
            values: ProcparValues
            if kind == PROCPAR_REAL:
                values = tuple(float(v) for v in "".join(rest).split())
                if len(values) != int(number):
                    raise ValueError(f"{len(values)} values instead of {number}")
            else:
                texts = [_read_text("".join(rest), lines)]
                for _ in range(int(number) - 1):
                    if not (line := next(lines)).lstrip().startswith('"'):
                        raise ValueError(f"{len(texts)} texts instead of {number}")
                    texts.append(_read_text(line, lines))
                values = tuple(texts)
            parameters[head[0]] = values
            _read_text(next(lines), lines)  # the allowed values
        except (ValueError, StopIteration) as e:
            raise FileLayoutError(
                f"{path.name} is damaged or not a procpar, at {head[0][:40]!r}: {str(e) or 'it ends too early'}",
                "Agilent's parameter file",
            ) from e
    return parameters


def _read_text(line: str, lines: Iterator[str]) -> str:
    """Return a value that begins on ``line`` without its quotes; it ends on the line with the closing quote."""
    while line.replace('\\"', "").count('"') % 2:
        more = next(lines)
        if PROCPAR_HEAD.match(more):
            raise ValueError("a text without its closing quote")
        line += f"\n{more}"
    return line.strip().removeprefix('"').removesuffix('"').replace('\\"', '"')


@dataclass(frozen=True)
class FdfImage:
    """The header of a file; lengths in mm."""

    path: Path
    shape: tuple[int, int]
    """(row, column)."""
    spacing: tuple[float, float]
    """(row, column)."""
    dtype: np.dtype[Any]
    slice_no: int
    frame: tuple[int, ...]
    """Sorting key of the frames of a slice: (image or array index, echo)."""
    depth: float
    thickness: float
    gap: float
    tr_ms: float | None
    offset: tuple[float, float]
    """Of the centre along a row and along a column."""
    orientation: tuple[float, ...]
    """Nine numbers; empty if the header states none."""
    study: str
    """Empty if the header states none."""
    sequence: str


def read_fdf(
    paths: Sequence[Path],
    *,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    fill: float | None = None,
) -> xr.Dataset:
    """Read the cine in FDF files (of one folder, or of one slice per folder) as a dataset of the cine model.

    Slices are sorted by position; frames by image and echo number; each slice must have each frame once. The time
    between frames is TR (the header's, else procpar's), if that can be a mouse's; the heart rate is procpar's. Images
    are taken as stored: orientation only says which slices are parallel. Parameters as for
    :func:`mousecmr_data.formats.nifti.read_nifti`.
    """
    if not paths:
        raise MissingDataError("There is no FDF file.", "one or more .fdf files")
    images = [read_fdf_header(p) for p in sorted(paths)]
    folder = paths[0].absolute().parent
    for what in ("shape", "spacing", "dtype", "orientation"):
        if len({getattr(i, what) for i in images}) > 1:
            raise FileLayoutError(
                f"The images in {folder.name} differ in their {what}.",
                "one stack of parallel slices",
                "give the .img folder of the short-axis cine",
            )
    if (np.ptp([i.offset for i in images], axis=0) > MAX_SHIFT * min(images[0].spacing)).any():
        raise FileLayoutError(f"{folder.name}: slices are shifted within their plane.", "slices behind each other")
    stack = _sort_stack(images, folder.name)
    first = stack[0][0]
    positions = [frames[0].depth for frames in stack]
    if len(set(positions)) > 1:
        distance, notes = find_slice_distance(folder.name, positions, first.thickness)
    elif len(stack) > 1:
        distance = first.thickness + first.gap
        notes = ["Slices have no positions: taken in the order of their numbers."]
    else:
        distance, notes = first.thickness, []
    check_array_size(folder.name, (len(stack[0]), len(stack), *first.shape), first.dtype.itemsize)
    array = np.stack([np.stack([_read_pixels(i) for i in frames]) for frames in stack], axis=1)
    zyx, spacing_source = prefer_given(spacing, (distance, *first.spacing), "the header (span, location)")
    step, time_source = prefer_given(frame_time_ms, None, "")
    procpar = _read_procpar_beside(folder, notes)
    if step is None and len(stack[0]) > 1:
        step, time_source = _find_frame_time(first, procpar)
    affine = np.diag([first.spacing[1], first.spacing[0], distance or 1.0, 1.0])
    grid = FileGrid(array.shape[::-1], AXIS_LETTERS, "", to_rows(affine), "mm", "msec", step or 0.0)
    return build_scan(
        convert_pixels(folder.name, array, fill),  # (frame, slice, row, column)
        zyx,
        spacing_source,
        step,
        time_source,
        grid,
        notes,
        mouse=folder.name,
        source=f"{len(paths)} FDF files",
        format="FDF",
        **choose_heart_rate(_list_heart_rates(procpar)),
        **describe_purpose(f"{folder.name} {first.sequence}"),
    )


def group_fdf_files(folders: Sequence[Sequence[Path]]) -> list[StudyScan]:
    """Return the files of each mouse from those of each folder, by the rule of :mod:`mousecmr_data.formats.study`.

    Folders belong to one study if they lie in one folder and state the same ``studyid``. Those that cannot be read form
    a group alone, so that reading them raises the error.
    """
    studies: dict[Any, tuple[list[Stack], list[Unusable]]] = {}
    damaged: dict[tuple[Path, ...], str] = {}
    for paths in folders:
        folder = paths[0].absolute().parent
        try:
            images = [read_fdf_header(path) for path in paths]
        except MouseCMRError:
            damaged[tuple(paths)] = folder.name
            continue
        study = images[0].study
        stacks, unusable = studies.setdefault((folder.parent, study) if study else folder, ([], []))
        try:
            stacks.append(_make_stack(folder, images))
        except FileLayoutError as e:
            unusable.append(Unusable(tuple(paths), e.found.rstrip(".")))
    scans = [scan for stacks, unusable in studies.values() for scan in choose_scans(stacks, unusable)]
    return add_damaged(scans, damaged, lambda path: path.absolute().parent.parent)


def _make_stack(folder: Path, images: list[FdfImage]) -> Stack:
    """Return the images of a folder as a stack; raises :class:`FileLayoutError` if they are none, as reading does."""
    first = images[0]
    if len({i.orientation for i in images}) > 1:
        raise FileLayoutError(f"{folder.name}: slices in several directions (a localiser).")
    stack = _sort_stack(images, folder.name)
    procpar = _read_procpar_beside(folder, [])
    started = next(iter(procpar.get("time_run", ())), "")
    number = tuple(int(n) for n in re.findall(r"\d+", folder.name))
    return Stack(
        tuple(sorted(i.path for i in images)),
        folder.name,
        f"{folder.name} {first.sequence}",
        (first.sequence, first.dtype.str),
        first.shape[::-1],
        first.spacing[::-1],
        first.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        first.offset,
        tuple(frames[0].depth for frames in stack),
        len(stack[0]),
        (str(started), number),
    )


def read_fdf_header(path: Path) -> FdfImage:
    """Read the header of one file. Raises :class:`FileLayoutError` if it is damaged or of another rank than 2."""
    check_input(path, "an .fdf file")
    with path.open("rb") as f:
        raw = f.read(MAX_HEADER)
    end = raw.find(b"\0")
    if not raw.startswith(MAGIC) or end < 0:
        raise FileLayoutError(f"{path.name} is not an FDF file.", f"a file that begins with {MAGIC.decode()}")
    fields = {
        name: [v.strip().strip('"') for v in value.strip("{} ").split(",")]
        for name, _, value in _DECLARATION.findall(raw[:end].decode("latin-1"))
    }
    try:
        return _parse_header(path, fields, end)
    except MouseCMRError:
        raise
    except (KeyError, ValueError, IndexError, OverflowError) as e:
        raise FileLayoutError(
            f"{path.name}: its header has no valid {e}.", "matrix, span, roi, location, storage, bits"
        ) from e


def _parse_header(path: Path, fields: dict[str, list[str]], end: int) -> FdfImage:
    def number(name: str, k: int = 0, default: float | None = None) -> float:
        if default is not None and name not in fields:
            return default
        value = float(fields[name][k])
        if not np.isfinite(value):
            raise ValueError(f"{name} = {value}")
        return value

    if int(number("rank")) != 2:
        raise FileLayoutError(f"{path.name} has {number('rank'):g} dimensions.", "images of two (spatial_rank 2dfov)")
    kind = fields["type"][0] if "type" in fields else "absval"
    if kind != "absval":
        raise FileLayoutError(f"{path.name} holds {kind!r} values.", "magnitude images (absval)")
    storage = (fields["storage"][0], int(number("bits")))
    if storage not in TYPES:
        raise FileLayoutError(f"{path.name} stores {storage[0]} of {storage[1]} bits.", "float, double, short, integer")
    dtype = np.dtype((">" if int(number("bigendian", default=1)) else "<") + TYPES[storage])
    columns, rows = int(number("matrix", 0)), int(number("matrix", 1))
    check_array_size(path.name, (rows, columns), dtype.itemsize)
    if path.stat().st_size - end - 1 < rows * columns * dtype.itemsize:
        raise FileLayoutError(
            f"{path.name} ends too early: {path.stat().st_size - end - 1} bytes of pixels.",
            f"{rows} × {columns} × {dtype.itemsize} bytes",
        )
    image = int(number("array_index" if "array_index" in fields else "image", default=1))
    return FdfImage(
        path,
        (rows, columns),
        (MM_IN_CM * number("span", 1) / rows, MM_IN_CM * number("span", 0) / columns),
        dtype,
        int(number("slice_no", default=1)),
        (image, int(number("echo_no", default=1))),
        MM_IN_CM * number("location", 2),
        MM_IN_CM * number("roi", 2),
        MM_IN_CM * number("gap", default=0.0),
        1000.0 * number("tr") if "tr" in fields else None,
        (MM_IN_CM * number("location", 0), MM_IN_CM * number("location", 1)),
        tuple(number("orientation", k) for k in range(9)) if "orientation" in fields else (),
        fields.get("studyid", [""])[0],
        fields.get("sequence", [""])[0],
    )


def _sort_stack(images: Sequence[FdfImage], name: str) -> list[list[FdfImage]]:
    """Return images as [slice][frame]."""
    by_slice: dict[tuple[float, int], list[FdfImage]] = {}
    for image in images:
        by_slice.setdefault((round(image.depth, 3), image.slice_no), []).append(image)
    stack = [sorted(by_slice[k], key=lambda i: i.frame) for k in sorted(by_slice)]
    keys = [tuple(i.frame for i in frames) for frames in stack]
    for k, frames in enumerate(keys):
        if len(set(frames)) < len(frames):
            raise FileLayoutError(f"{name}: slice {k} has a frame twice.", "each slice once in each frame")
        if frames != keys[0]:
            raise FileLayoutError(
                f"{name} is not a complete grid of slices and frames: slice 0 has {len(keys[0])}, slice {k} has "
                f"{len(frames)} frames, or others.",
                "every slice in every frame, once",
                "look for files that are missing",
            )
    return stack


def _read_procpar_beside(folder: Path, notes: list[str]) -> dict[str, ProcparValues]:
    """Return the parameters; one that is damaged is a note, since the images do not need it."""
    if not (folder / "procpar").is_file():
        return {}
    try:
        return read_procpar(folder / "procpar")
    except FileLayoutError as e:
        notes.append(f"{e.found}: it is not used.")
        return {}


def _find_frame_time(first: FdfImage, procpar: dict[str, ProcparValues]) -> tuple[float | None, str]:
    if first.tr_ms:
        return first.tr_ms, "the header (tr)"
    if (tr := _get_number(procpar, "tr")) is not None:
        return 1000.0 * tr, "procpar (tr)"
    return None, ""


def _list_heart_rates(procpar: dict[str, ProcparValues]) -> Iterator[tuple[float, str]]:
    """Yield the beats per minute that procpar states, also as the R-R interval in seconds, and their sources."""
    if rate := _get_number(procpar, "heartrate"):
        yield rate, "procpar (heartrate)"
    if interval := _get_number(procpar, "rrdelay"):
        yield 60.0 / interval, "procpar (rrdelay)"


def _get_number(procpar: dict[str, ProcparValues], name: str) -> float | None:
    """Return the first value of a parameter of real numbers, if it is finite."""
    value = next(iter(procpar.get(name, ())), None)
    return value if isinstance(value, float) and np.isfinite(value) else None


def _read_pixels(image: FdfImage) -> NDArray[Any]:
    n = image.shape[0] * image.shape[1]
    with image.path.open("rb") as f:
        f.seek(-n * image.dtype.itemsize, 2)
        return np.fromfile(f, image.dtype, n).reshape(image.shape).astype(image.dtype.newbyteorder("="))
