"""Read cines of Bruker ParaVision: ``pdata/N/2dseq`` with the ``visu_pars`` beside it, by brukerapi.

brukerapi reads the pixels and the parameters. The geometry is taken from the position and orientation of every slice,
since one matrix for a whole file (brukerapi's ``affine``) is wrong for several slice packages and uneven distances.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data._utils.text import is_marked_synthetic
from mousecmr_data.errors import FileLayoutError, MissingExtraError, MouseCMRError
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
    Stack,
    StudyScan,
    Unusable,
    add_damaged,
    choose_scans,
    describe_purpose,
)
from mousecmr_data.schema.variables import AXIS_LETTERS

try:
    from brukerapi.dataset import Dataset  # type: ignore[import-untyped]
    from brukerapi.jcampdx import JCAMPDX  # type: ignore[import-untyped]
except ImportError as e:
    raise MissingExtraError.from_module("brukerapi", "bruker") from e

FLOAT_BYTES = 8
"""Bytes per pixel in brukerapi's arrays."""
MAX_PARAMETER_BYTES = 16 * 1024**2
"""A parameter file has some 100 kB."""
# Frame groups, by their names in ParaVision.
SLICES, TRIGGERED, GATED = "FG_SLICE", "FG_MOVIE", "FG_CARDIAC_MOVIE"
"""Slices; frames of a triggered cine, one per repetition time; frames of a cine that was gated afterwards."""
REPETITIONS, FLOW = "FG_CYCLE", "FG_FLOW"
"""Repetitions, which are the frames of a real-time cine and repeat a triggered one; directions of flow encoding."""
TIME_GROUPS = (GATED, TRIGGERED, REPETITIONS)
"""The first of these that a file has is its time."""
NOT_MAGNITUDE = ("PHASE_IMAGE", "REAL_IMAGE", "IMAGINARY_IMAGE", "COMPLEX_IMAGE")
DIGITS = 3
"""Decimals to which directions of slices are compared."""


@dataclass(frozen=True)
class BrukerHeader:
    """What ``visu_pars`` says about the images in a ``2dseq``; lengths in mm, LPS (patient coordinates)."""

    path: Path
    shape: tuple[int, ...]
    """(column, row) of a frame, or (column, row, slice) of a volume."""
    steps: tuple[float, ...]
    """Between the pixels along these axes."""
    groups: tuple[tuple[str, int], ...]
    """Name and length of each frame group; the first runs fastest."""
    orientation: NDArray[np.float64]
    """(slice, 3, 3): directions along a row, along a column, and from slice to slice."""
    positions: NDArray[np.float64]
    """(slice, 3): centre of the first pixel."""
    thickness: float
    frame_types: NDArray[np.str_]
    """Of every frame, with one axis per group."""
    parameters: dict[str, Any]
    """All others by name."""

    @property
    def scan(self) -> str:
        """Name of the folder of the scan."""
        return get_scan_folder(self.path).name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the scan and of its sequence, and what flags say about it."""
        names = ("VisuSeriesExperimentComment", "VisuAcquisitionProtocol", "VisuAcqSequenceName")
        is_epi = str(self.parameters.get("VisuAcqIsEpiSequence", "")) == "Yes"
        return (*(str(self.parameters.get(name, "")) for name in names), "EPI" if is_epi else "")

    @property
    def time_group(self) -> str:
        """Name of the frame group that is time; empty if there is one frame."""
        return next((kind for kind in TIME_GROUPS if dict(self.groups).get(kind, 1) > 1), "")

    @property
    def n_frames(self) -> int:
        """Number of frames of the cine."""
        return dict(self.groups).get(self.time_group, 1)


def get_scan_folder(path: Path) -> Path:
    """Return the folder of the scan of a ``2dseq``: the one that holds ``pdata``, else its own."""
    path = path.absolute()
    return path.parents[2] if path.parents[1].name == "pdata" else path.parent


def read_bruker(
    paths: Sequence[Path], *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """Read the cine in a ``2dseq`` file, or in files of one slice each, as a dataset of the cine model.

    Slices are sorted by position, and the z spacing is the distance between them. Of slices in several directions, only
    the largest stack is used. Repetitions of a triggered cine: the last is used; flow encodings: the first magnitude
    image. The time between frames is the repetition time of a triggered movie, and the one that ``visu_pars`` states of
    a gated movie. The attribute ``notes`` says so. Parameters as for
    :func:`mousecmr_data.formats.nifti.read_nifti`. Raises :class:`FileLayoutError` (damaged, complex or phase images,
    no largest stack, slices that are uneven or shifted, dimensions other than a cine's).
    """
    notes: list[str] = []
    headers = [read_bruker_header(path) for path in paths]
    first = headers[0]
    shape = (*first.shape[:2], sum(len(h.positions) for h in headers) * (first.shape[2:] or (1,))[0], first.n_frames)
    check_array_size(first.scan, shape, FLOAT_BYTES)
    arrays = [_read_frames(header, notes) for header in headers]
    header, array = _sort_stack(_join_slices(headers), np.concatenate(arrays, axis=2), notes)
    distance = header.steps[2] if len(header.steps) > 2 else abs(header.thickness)
    if len(header.positions) > 1:
        depths = (header.positions @ header.orientation[0, 2]).tolist()
        distance, more = find_slice_distance(first.scan, depths, header.thickness or None)
        notes += more
    x, y = header.steps[:2]
    affine = np.eye(4)
    affine[:3, :3] = header.orientation[0].T * (x, y, distance or 1.0)
    affine[:3, 3] = header.positions[0]
    affine = LPS_TO_RAS @ affine
    axes, flipped = orient_axes(affine, 2, array.shape)
    by_letter = dict(zip(axes, (x, y, distance), strict=True))
    zyx, spacing_source = prefer_given(spacing, [by_letter[c] for c in "zyx"], "visu_pars")
    own_ms, own_source = _find_frame_time(header)
    step, time_source = prefer_given(frame_time_ms, own_ms, own_source)
    if frame_time_ms is None and own_ms and header.time_group == TRIGGERED:
        notes.append("The repetition time is used as the time between frames, as in a triggered cine.")
    grid = FileGrid(array.shape, axes + AXIS_LETTERS[3], flipped, to_rows(affine), "mm", "msec", step or 0.0, code=1)
    scans = ", ".join(dict.fromkeys(h.scan for h in headers))
    return build_scan(
        convert_pixels(first.scan, grid.to_model(array)),
        zyx,
        spacing_source,
        step,
        time_source,
        grid,
        list(dict.fromkeys(notes)),
        mouse=first.scan,
        source=f"Bruker 2dseq, scan{'s'[: len(headers) > 1]} {scans}",
        format="Bruker",
        synthetic=is_marked_synthetic(str(header.parameters.get("VisuSubjectComment", ""))),
        **choose_heart_rate(_list_heart_rates(header)),
        **describe_purpose(" ".join(first.names)),
    )


def read_bruker_header(path: Path) -> BrukerHeader:
    """Read the ``visu_pars`` beside ``path``, a ``2dseq``; no pixels.

    Raises :class:`MissingDataError`, and :class:`FileLayoutError` if it is damaged or does not state the geometry.
    """
    check_input(path, "Bruker's 2dseq")
    check_input(path.parent / "visu_pars", "2dseq and visu_pars in one folder, as ParaVision wrote them")
    scan = get_scan_folder(path)
    parameter_files = (path.parent / "visu_pars", path.parent / "reco", scan / "method", scan / "acqp")
    for parameters in parameter_files:
        if parameters.is_file() and parameters.stat().st_size > MAX_PARAMETER_BYTES:
            size = f"{parameters.stat().st_size:,} bytes"
            raise FileLayoutError(f"{parameters.name} has {size}.", f"at most {MAX_PARAMETER_BYTES:,}")
    if b"\0" in (path.parent / "visu_pars").read_bytes():  # brukerapi drops what follows in a number
        raise FileLayoutError(f"{path.parent / 'visu_pars'} is damaged: it holds zero bytes.", "a text")
    try:
        with suppress_warnings("brukerapi"):
            visu = JCAMPDX(path.parent / "visu_pars")
            values = {name: parameter.value for name, parameter in visu.params.items()}
            groups = visu.params["VisuFGOrderDesc"].nested if "VisuFGOrderDesc" in visu.params else []
        return _parse_header(path, values, [(str(g[1]).upper(), int(g[0])) for g in groups])
    except MouseCMRError:
        raise
    except Exception as e:  # a damaged parameter file can make brukerapi raise almost anything
        check_access(e, *(p for p in parameter_files if p.is_file()))
        raise _make_damaged_error(path.parent / "visu_pars", e) from e


def group_bruker_files(paths: Sequence[Path]) -> list[StudyScan]:
    """Return the ``2dseq`` files of each mouse, by the rule of :mod:`mousecmr_data.formats.study`.

    A file that cannot be read forms a group alone, so that reading it raises the error.
    """
    studies: dict[Any, tuple[list[Stack], list[Unusable]]] = {}
    damaged: dict[tuple[Path, ...], str] = {}
    for path in paths:
        try:
            header = read_bruker_header(path)
        except MouseCMRError:
            damaged[(path,)] = f"scan {get_scan_folder(path).name}"
            continue
        stacks, unusable = studies.setdefault(header.parameters.get("VisuStudyUid") or get_scan_folder(path), ([], []))
        try:
            stacks.append(_make_stack(header))
        except FileLayoutError as e:
            unusable.append(Unusable((path,), e.found.rstrip(".")))
    scans = [scan for stacks, unusable in studies.values() for scan in choose_scans(stacks, unusable)]
    return add_damaged(scans, damaged, lambda path: get_scan_folder(path).parent)


def _make_stack(header: BrukerHeader) -> Stack:
    """Return the largest stack of a file; raises :class:`FileLayoutError` if it has none, as reading it does."""
    _choose_frames(header, [])
    header, _ = _sort_stack(header, np.empty((1, 1, len(header.positions), 1)), [])
    axes = header.orientation[0]
    number = [int(name) if name.isdigit() else 0 for name in (header.scan, header.path.parent.name)]
    folder = header.path.absolute().parent
    label = f"scan {header.scan}" + (f"/pdata/{folder.name}" if folder.parent.name == "pdata" else "")
    return Stack(
        (header.path,),
        label + next((f" ({name})" for name in header.names if name), ""),
        " ".join(header.names),
        (header.names[2], len(header.shape), str(header.parameters.get("VisuAcqEchoTime", ""))),
        header.shape[:2],
        header.steps[:2],
        tuple(axes.ravel().tolist()),
        (float(header.positions[0] @ axes[0]), float(header.positions[0] @ axes[1])),
        tuple((header.positions @ axes[2]).tolist()) * (header.shape[2:] or (1,))[0],
        header.n_frames,
        tuple(number),
        header.time_group in (TRIGGERED, GATED),
    )


def _parse_header(path: Path, values: dict[str, Any], groups: list[tuple[str, int]]) -> BrukerHeader:
    n_frames = int(values["VisuCoreFrameCount"])
    shape = tuple(int(n) for n in np.atleast_1d(values["VisuCoreSize"]))
    extent = np.atleast_1d(np.asarray(values["VisuCoreExtent"], float))
    kinds, units = np.atleast_1d(values["VisuCoreDimDesc"]), np.atleast_1d(values.get("VisuCoreUnits", "mm"))
    groups = groups or ([("frames without a description", n_frames)] if n_frames > 1 else [])
    lengths = [n for _, n in groups]
    dimensions = ", ".join([*map(str, kinds), *(f"{kind} ({n})" for kind, n in groups)])
    if len(shape) not in (2, 3) or len(extent) != len(shape) or [str(k) for k in kinds] != ["spatial"] * len(shape):
        raise FileLayoutError(f"{path.name} has the dimensions {dimensions}.", "columns and rows first")
    check_array_size(path.name, (*shape, n_frames), 1)
    if len(dict(groups)) < len(groups) or min(lengths, default=1) < 1 or int(np.prod(lengths)) != n_frames:
        raise FileLayoutError(f"{path.name} has {n_frames} frames in the groups {dimensions}.", "all in groups")
    for name in ("VisuCoreDataSlope", "VisuCoreDataOffs"):
        if (n := np.size(values.get(name, 1.0))) not in (1, n_frames):
            raise FileLayoutError(f"visu_pars: {name} has {n} values.", f"one, or one for each of {n_frames} frames")
    if {str(u) for u in units} != {"mm"}:
        raise FileLayoutError(f"visu_pars has lengths in {', '.join(map(str, units))}.", "mm")
    n_slices = dict(groups).get(SLICES, 1)
    axis = [kind for kind, _ in groups].index(SLICES) if n_slices > 1 else None

    def spread(name: str, width: int) -> NDArray[np.float64]:
        """Return a parameter (slice, width), which may not differ between the other frames."""
        full = _spread(name, np.asarray(values[name], float).reshape(-1, width), lengths, axis)
        by_slice = np.moveaxis(full, 0 if axis is None else axis, 0).reshape(n_slices, -1, width)
        if not np.isfinite(by_slice).all() or np.ptp(by_slice, axis=1).max() > 10.0**-DIGITS:
            raise FileLayoutError(f"visu_pars: {name} differs between the frames of a slice.", "slices that stay")
        if "reverse" in str(values.get("VisuCoreDiskSliceOrder", "")) and len(shape) == 2:
            by_slice = by_slice[::-1]  # as brukerapi does with the images
        return by_slice[:, 0]

    steps = tuple(float(v) for v in extent / shape)
    orientation, positions = spread("VisuCoreOrientation", 9).reshape(-1, 3, 3), spread("VisuCorePosition", 3)
    thickness = float(np.atleast_1d(values.get("VisuCoreFrameThickness", 0.0))[0])
    right = np.abs(orientation @ orientation.transpose(0, 2, 1) - np.eye(3)).max() <= MAX_UNEVEN
    if not (right and min(steps) > 0 and np.isfinite([*steps, thickness]).all()):
        raise FileLayoutError("visu_pars states axes that are not at right angles, or without a length.", "a grid")
    types = np.atleast_1d(np.asarray(values.get("VisuCoreFrameType", ""), str))
    frame_types = _spread("VisuCoreFrameType", types[:, None], lengths, None)[..., 0]
    return BrukerHeader(path, shape, steps, tuple(groups), orientation, positions, thickness, frame_types, values)


def _spread(name: str, values: NDArray[Any], lengths: list[int], axis: int | None) -> NDArray[Any]:
    """Return ``values`` (n, width) for every frame, with one axis per group; ``axis`` is preferred if n fits several.

    ParaVision stores one value for all frames, one per element of a group, or one per frame.
    """
    n, width = values.shape
    if n == int(np.prod(lengths)):
        return values.reshape([*lengths, width], order="F") if lengths else values
    fitting = [k for k, length in enumerate(lengths) if n == length]
    if n == 1 and (axis is None or name != "VisuCorePosition"):
        return np.broadcast_to(values[0], (*lengths, width))
    if not fitting:
        raise FileLayoutError(f"visu_pars: {name} has {n} values.", "one per slice")
    shape = [1] * len(lengths)
    shape[axis if axis in fitting else fitting[0]] = n
    return np.broadcast_to(values.reshape(*shape, width), (*lengths, width))


def _choose_frames(header: BrukerHeader, notes: list[str]) -> list[Any]:
    """Return the index of each frame group: all of it, or the one that is used; add notes on what was left out.

    Raises :class:`FileLayoutError` if these are not the images of one cine.
    """
    path = header.path
    keep: list[Any] = []
    for axis, (kind, n) in enumerate(header.groups):
        if n == 1:
            keep.append(0)
        elif kind == header.time_group or (kind == SLICES and len(header.shape) == 2):
            keep.append(slice(None))
        elif kind == REPETITIONS:
            keep.append(n - 1)
            notes.append(f"{n} repetitions of the cine ({kind}): the last is used.")
        elif kind == FLOW:
            others = tuple(k for k in range(len(header.groups)) if k != axis)
            magnitude = ~np.isin(header.frame_types, NOT_MAGNITUDE).any(axis=others)
            keep.append(int(np.argmax(magnitude)))
            notes.append(f"{n} flow encodings ({kind}): number {keep[-1] + 1} is used.")
        else:
            dimensions = ", ".join(f"{k} ({m})" for k, m in header.groups)
            raise FileLayoutError(
                f"{path.name} of scan {header.scan} has the frame groups {dimensions}.",
                "slices, and frames of a movie",
                "save the images of one cine as NIfTI (x, y, slice, frame), and give that file with --spacing",
            )
    if types := set(header.frame_types[tuple(keep)].ravel().tolist()).intersection(NOT_MAGNITUDE):
        raise FileLayoutError(f"{path.name} of scan {header.scan} holds {', '.join(types)}.", "magnitude images")
    return keep


def _read_frames(header: BrukerHeader, notes: list[str]) -> NDArray[Any]:
    """Return the pixels (column, row, slice, frame) in the order of the file, and add notes on what was left out."""
    path, keep = header.path, _choose_frames(header, notes)
    try:
        with suppress_warnings("brukerapi"), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", RuntimeWarning)
            array = np.asarray(Dataset(path).data)
    except Exception as e:  # as above
        check_access(e, path)
        raise _make_damaged_error(path, e) from e
    notes += [f"brukerapi: {str(w.message).replace(str(path), path.name)}" for w in caught]
    if array.dtype.kind == "c":
        raise FileLayoutError(f"{path.name} holds complex values.", "magnitude images")
    array = array.reshape([*header.shape, *(n for _, n in header.groups)], order="F")[(..., *keep)]
    kept = [kind for (kind, _), k in zip(header.groups, keep, strict=True) if isinstance(k, slice)]
    if kept == [header.time_group, SLICES]:
        array = array.swapaxes(2, 3)
    return array.reshape(*header.shape[:2], -1, header.n_frames)


def _make_damaged_error(path: Path, error: Exception) -> FileLayoutError:
    text = (str(error).strip().splitlines() or [""])[0][:200]
    return FileLayoutError(
        f"{path} cannot be read: {type(error).__name__}: {text}", "a reconstruction as ParaVision wrote it"
    )


def _join_slices(headers: list[BrukerHeader]) -> BrukerHeader:
    """Return the header of all slices of scans of one slice each, or of parallel stacks."""
    first = headers[0]
    for what in ("shape", "n_frames"):
        values = list(dict.fromkeys(getattr(h, what) for h in headers))
        if len(values) > 1:
            raise FileLayoutError(f"The scans differ in their {what}: {values[0]}, {values[1]}.", "one stack")
    if any(not np.allclose(h.steps, first.steps, rtol=MAX_UNEVEN) for h in headers):
        raise FileLayoutError("The scans differ in their pixel sizes.", "one stack", "give one scan")
    return replace(
        first,
        orientation=np.concatenate([h.orientation for h in headers]),
        positions=np.concatenate([h.positions for h in headers]),
    )


def _sort_stack(header: BrukerHeader, array: NDArray[Any], notes: list[str]) -> tuple[BrukerHeader, NDArray[Any]]:
    """Return the slices of the largest stack in the order of their positions, with their pixels."""
    directions: dict[tuple[float, ...], list[int]] = {}
    for k, matrix in enumerate(header.orientation):
        directions.setdefault(tuple(np.round(matrix, DIGITS).ravel() + 0.0), []).append(k)
    stacks = sorted(directions.values(), key=len, reverse=True)
    if len(stacks) > 1:
        counts = ", ".join(str(len(s)) for s in stacks)
        if len(stacks[0]) == len(stacks[1]):
            raise FileLayoutError(
                f"Scan {header.scan} has slices in {len(stacks)} directions ({counts} slices): a localiser.",
                "one stack of parallel slices",
                "give the scan of the short-axis cine: the 2dseq in another folder of the study",
            )
        notes.append(f"Slices in {len(stacks)} directions ({counts}): only the largest stack is used.")
    axes = header.orientation[stacks[0][0]]
    chosen = sorted(stacks[0], key=lambda k: float(header.positions[k] @ axes[2]))
    positions = header.positions[chosen]
    if len(chosen) > 1:
        shifts = np.abs((positions - positions[0]) @ axes[:2].T) / header.steps[:2]
        if shifts.max() > MAX_SHIFT:
            raise FileLayoutError(
                f"Scan {header.scan}: slices are shifted within their plane by up to {shifts.max():.1f} pixels.",
                "slices that lie behind each other",
                "save the stack resampled to one grid as NIfTI, and give that file",
            )
        if np.diff(positions @ axes[2]).min() <= 0:
            raise FileLayoutError(f"Scan {header.scan} has two slices at the same position.", "each slice once")
        array = array[:, :, chosen]
    return replace(header, orientation=header.orientation[chosen], positions=positions), array


def _find_frame_time(header: BrukerHeader) -> tuple[float | None, str]:
    """Return the time between frames in ms, if the file states it, and its source."""
    n, kind = header.n_frames, header.time_group
    if kind == TRIGGERED and (repetition := _get_number(header, "VisuAcqRepetitionTime")):
        return repetition, "visu_pars (repetition time)"
    if kind == GATED:
        times = np.asarray(header.parameters.get("VisuCardiacMovieFrameTime", []), object)
        if times.shape == (n, 2) and (step := float(np.diff(times[:, 0].astype(float)).mean())) > 0:
            return step, "visu_pars (VisuCardiacMovieFrameTime)"
        if cycle := _get_number(header, "VisuCardiacCycle"):
            return cycle / n, "visu_pars (VisuCardiacCycle / frames)"
    return None, ""


def _list_heart_rates(header: BrukerHeader) -> Iterator[tuple[float, str]]:
    """Yield the heart rates that the file states (beats per minute) and their sources."""
    if rate := _get_number(header, "VisuCardiacHeartRate"):
        yield rate, "visu_pars (VisuCardiacHeartRate)"
    if cycle := _get_number(header, "VisuCardiacCycle"):
        yield 60_000.0 / cycle, "visu_pars (VisuCardiacCycle)"


def _get_number(header: BrukerHeader, name: str) -> float | None:
    """Return a positive parameter, the first of several; None if it is not there or not a positive number."""
    try:
        number = float(np.ravel(header.parameters[name])[0])
    except (KeyError, ValueError, TypeError, IndexError):
        return None
    return number if 0 < number < np.inf else None
