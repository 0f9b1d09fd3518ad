"""Read cines of Bruker ParaVision: ``pdata/N/2dseq`` with the ``visu_pars`` beside it, by brukerapi."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.reading import check_access, check_input
from mousecmr_data._utils.text import is_marked_synthetic
from mousecmr_data.errors import FileLayoutError, MissingExtraError
from mousecmr_data.formats.build import build_scan, check_array_size, convert_pixels, prefer_given, suppress_warnings
from mousecmr_data.formats.orientation import LPS_TO_RAS, FileGrid, orient_axes, to_rows
from mousecmr_data.schema.variables import AXIS_LETTERS

try:
    from brukerapi.dataset import Dataset  # type: ignore[import-untyped]
except ImportError as e:
    raise MissingExtraError.from_module("brukerapi", "bruker") from e

FLOAT_BYTES = 8
"""Bytes per pixel in brukerapi's arrays."""
MAX_PARAMETER_BYTES = 16 * 1024**2
"""A parameter file has some 100 kB."""
SLICES = ("FG_SLICE",)
TRIGGERED = "FG_MOVIE"
"""Frame group of a triggered cine, which has one frame per repetition time."""
GATED = ("FG_CARDIAC_MOVIE", "FG_CYCLE")
"""Frame groups of a cine that was gated afterwards: its frames are parts of a beat whose length the file omits."""


def read_bruker(
    path: Path, *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """Read the cine in a ``2dseq`` file as a dataset of the cine model.

    The z spacing is the distance between slices. The time between frames is the repetition time of a triggered movie;
    it is not known for a gated one. Parameters as for :func:`mousecmr_data.formats.nifti.read_nifti`. Raises
    :class:`FileLayoutError` (damaged, complex, several slice packages, dimensions other than a cine's).
    """
    array, letters, affine, repetition_ms, synthetic = _load_2dseq(path)
    scan = path.parents[2].name if len(path.parents) > 2 else path.parent.name
    array = array.transpose([letters.index(c) for c in AXIS_LETTERS])
    axes, flipped = orient_axes(affine, 2, array.shape)
    lengths = dict(zip(axes, np.linalg.norm(affine[:3, :3], axis=0).tolist(), strict=True))
    zyx, spacing_source = prefer_given(spacing, [lengths[c] for c in "zyx"], "visu_pars")
    step, time_source = prefer_given(frame_time_ms, repetition_ms, "visu_pars (repetition time)")
    notes = []
    if frame_time_ms is None and repetition_ms:
        notes.append("The repetition time is used as the time between frames, as in a triggered cine.")
    grid = FileGrid(array.shape, axes + AXIS_LETTERS[3], flipped, to_rows(affine), "mm", "msec", step or 0.0, code=1)
    return build_scan(
        convert_pixels(scan, grid.to_model(array)),
        zyx,
        spacing_source,
        step,
        time_source,
        grid,
        notes,
        mouse=scan,
        source=f"Bruker 2dseq, scan {scan}",
        format="Bruker",
        synthetic=synthetic,
    )


def _load_2dseq(path: Path) -> tuple[NDArray[Any], str, NDArray[np.float64], float | None, bool]:
    """Return pixels, letters of their axes, affine (column, row, slice) to RAS, repetition time, whether synthetic."""
    check_input(path, "Bruker's 2dseq")
    check_input(path.parent / "visu_pars", "2dseq and visu_pars in one folder, as ParaVision wrote them")
    check_array_size(path.name, (path.stat().st_size,), FLOAT_BYTES // 2)
    scan = path.parents[2] if len(path.parents) > 2 else path.parent
    parameter_files = (path.parent / "visu_pars", path.parent / "reco", scan / "method", scan / "acqp")
    for parameters in parameter_files:
        if parameters.is_file() and parameters.stat().st_size > MAX_PARAMETER_BYTES:
            size = f"{parameters.stat().st_size:,} bytes"
            raise FileLayoutError(f"{parameters.name} has {size}.", f"at most {MAX_PARAMETER_BYTES:,}")
    try:
        with suppress_warnings("brukerapi"):
            data: Any = Dataset(path)
            array = np.asarray(data.data)
            kinds = [str(k) for k in data.dim_type]
            affine = np.asarray(data.affine, float)
            repetition = getattr(data, "TR", None)
            comment = str(data["VisuSubjectComment"].value) if "VisuSubjectComment" in data else ""
    except Exception as e:  # a damaged parameter file can make brukerapi raise almost anything
        check_access(e, *(p for p in (path, *parameter_files) if p.is_file()))
        text = (str(e).strip().splitlines() or [""])[0][:200]
        raise FileLayoutError(
            f"{path} cannot be read: {type(e).__name__}: {text}", "a reconstruction as ParaVision wrote it"
        ) from e
    if array.dtype.kind == "c":
        raise FileLayoutError(f"{path.name} holds complex values.", "magnitude images")
    letters, time_group = _name_axes(path, kinds, array.shape)
    array = array.reshape([n for n, c in zip(array.shape, letters, strict=True) if c != "-"])
    letters = letters.replace("-", "")
    for c in "zt":
        if c not in letters:
            array, letters = array[..., None], letters + c
    ms = float(np.atleast_1d(repetition)[0]) if time_group == TRIGGERED and repetition is not None else None
    return array, letters, LPS_TO_RAS @ affine, ms or None, is_marked_synthetic(comment)


def _name_axes(path: Path, kinds: list[str], shape: tuple[int, ...]) -> tuple[str, str]:
    """Return one letter per axis ("-": unused), and the frame group that is time."""
    letters, time_group = "", ""
    for kind, n in zip(kinds, shape, strict=False):
        if kind == "spatial":
            letters += "xyz"[letters.count("x") + letters.count("y") + letters.count("z")]
        elif n == 1:
            letters += "-"
        elif kind in SLICES and "z" not in letters:
            letters += "z"
        elif kind in (TRIGGERED, *GATED) and "t" not in letters:
            letters, time_group = letters + "t", kind
        else:
            raise FileLayoutError(
                f"{path.name} has the dimensions {', '.join(kinds)} ({' × '.join(map(str, shape))}).",
                "columns, rows, slices, frames of a movie",
            )
    if len(letters) != len(shape) or not letters.startswith("xy"):
        raise FileLayoutError(f"{path.name} has the dimensions {', '.join(kinds)}.", "columns and rows first")
    return letters, time_group
