"""Bruker ParaVision: a cine in ``pdata/N/2dseq``, read by brukerapi from ``visu_pars`` beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.notices import is_marked_synthetic
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError
from mousecmr_data.formats.build import build_scan, check_array_size, convert_pixels, suppress_warnings
from mousecmr_data.formats.orientation import AXIS_LETTERS, FileGrid, orient_axes

try:
    from brukerapi.dataset import Dataset  # type: ignore[import-untyped]
except ImportError as e:
    raise MissingExtraError.from_module("brukerapi", "bruker") from e

FLOAT_BYTES = 8
"""Bytes of a pixel as brukerapi gives it."""
SLICES = ("FG_SLICE",)
TRIGGERED, GATED = "FG_MOVIE", ("FG_CARDIAC_MOVIE", "FG_CYCLE")
"""Frame groups that are frames of a cine: a triggered movie, a frame a repetition time; a movie gated afterwards,
whose frames are parts of a heart beat that the file does not state."""
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def read_bruker(
    path: Path, *, spacing: Sequence[float] | None = None, frame_time_ms: float | None = None
) -> xr.Dataset:
    """The cine in a ``2dseq`` file as a dataset of the cine model.

    Slices count with their distance. The time between frames is the repetition time of a triggered movie, and not
    known of a gated one. Parameters as for :func:`mousecmr_data.formats.nifti.read_nifti`. Raises
    :class:`FileLayoutError` (damaged, complex, several slice packages, dimensions that are no cine's).
    """
    array, letters, affine, repetition_ms, synthetic = _load_2dseq(path)
    scan = path.parents[2].name if len(path.parents) > 2 else path.parent.name
    axes, flipped = orient_axes(affine, 2, oriented=True)
    order = [letters.index(c) for c in AXIS_LETTERS]
    array = array.transpose(order)
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    by_letter = dict(zip(axes, steps.tolist(), strict=True))
    notes = []
    step, source = frame_time_ms, "given by the caller"
    if step is None and repetition_ms:
        step, source = repetition_ms, "visu_pars (repetition time)"
        notes.append("The repetition time is taken for the time between frames, as it is in a triggered cine.")
    grid = FileGrid(
        tuple(array.shape),
        axes + AXIS_LETTERS[3],
        flipped,
        tuple(tuple(r) for r in affine.tolist()),
        "mm",
        "msec",
        step or 0.0,
        True,
    )
    own = (by_letter["z"], by_letter["y"], by_letter["x"])
    given = own if spacing is None else tuple(float(v) for v in spacing)
    return build_scan(
        convert_pixels(scan, grid.to_model(array)),
        (given[0], given[1], given[2]),
        "visu_pars" if spacing is None else "given by the caller",
        step,
        source,
        grid,
        notes,
        mouse=scan,
        source=f"Bruker 2dseq, scan {scan}",
        format="Bruker",
        synthetic=synthetic,
    )


def _load_2dseq(path: Path) -> tuple[NDArray[Any], str, NDArray[np.float64], float | None, bool]:
    """Pixels, their axes' letters, affine (column, row, slice) to RAS, repetition time, whether synthetic."""
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}.", "Bruker's 2dseq")
    if not (path.parent / "visu_pars").is_file():
        raise MissingDataError(f"There is no visu_pars beside {path.name}.", "both, as ParaVision wrote them")
    check_array_size(path.name, (path.stat().st_size,), FLOAT_BYTES // 2)
    try:
        with suppress_warnings("brukerapi"):
            data: Any = Dataset(path)
            array = np.asarray(data.data)
            kinds = [str(k) for k in data.dim_type]
            affine = np.asarray(data.affine, float)
            repetition = getattr(data, "TR", None)
            comment = str(data["VisuSubjectComment"].value) if "VisuSubjectComment" in data else ""
    except Exception as e:  # a damaged parameter file can make brukerapi raise almost anything
        text = (str(e).strip().splitlines() or [""])[0][:200]
        raise FileLayoutError(
            f"{path} cannot be read: {type(e).__name__}: {text}", "a reconstruction as ParaVision wrote it"
        ) from e
    if array.dtype.kind == "c":
        raise FileLayoutError(f"{path.name} holds complex values.", "magnitude images")
    letters, used = _name_axes(path, kinds, array.shape)
    array = array.reshape([n for n, c in zip(array.shape, letters, strict=True) if c != "-"])
    letters = letters.replace("-", "")
    for c in "zt":
        if c not in letters:
            array, letters = array[..., None], letters + c
    triggered = used == TRIGGERED
    ms = float(np.atleast_1d(repetition)[0]) if triggered and repetition is not None else None
    return array, letters, LPS_TO_RAS @ affine, ms, is_marked_synthetic(comment)


def _name_axes(path: Path, kinds: list[str], shape: tuple[int, ...]) -> tuple[str, str]:
    """A letter an axis ("-": unused), and the frame group that is time."""
    letters, used = "", ""
    for kind, n in zip(kinds, shape, strict=False):
        if kind == "spatial":
            letters += "xyz"[letters.count("x") + letters.count("y") + letters.count("z")]
        elif n == 1:
            letters += "-"
        elif kind in SLICES and "z" not in letters:
            letters += "z"
        elif kind in (TRIGGERED, *GATED) and "t" not in letters:
            letters, used = letters + "t", kind
        else:
            raise FileLayoutError(
                f"{path.name} has the dimensions {', '.join(kinds)} ({' × '.join(map(str, shape))}).",
                "columns, rows, slices, frames of a movie",
            )
    if len(letters) != len(shape) or not letters.startswith("xy"):
        raise FileLayoutError(f"{path.name} has the dimensions {', '.join(kinds)}.", "columns and rows first")
    return letters, used
