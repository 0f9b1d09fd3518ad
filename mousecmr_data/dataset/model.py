"""The cine model: one mouse as one xarray.Dataset, in physical units.

Variables ``image`` uint16 and, where the file has masks, ``mask`` uint8, both (frame, slice, y, x).
Coordinates: ``frame`` and ``slice`` (numbers), ``time`` (ms), ``z``, ``y``, ``x`` (mm, of the voxel's
centre), ``labelled`` (one bool per frame) and ``phase``.

The phases follow the annotators' rule (source: the authors' code). ED is the earliest labelled frame. ES is, of the
others, the one with the smallest blood pool (ties: the earliest), counted slice by slice after dropping 2D components
(8-connected) under 50 pixels, and only inside the ED footprint (mask > 0 in the same slice at ED). Every further
labelled frame is an inflow-artefact frame. A single labelled frame has no pair: its phase is unknown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.errors import ArgumentError, LabelError, UnitsError, UnlabelledError
from mousecmr_data.schema.labels import LABELS_HINT, MEANINGS, STRUCTURES, Label, LabelMap
from mousecmr_data.schema.manifest import Manifest, load_manifest
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_VOXEL_SIZE,
    DIMS,
    ED,
    ES,
    IMAGE,
    INFLOW,
    MASK,
    PHASE_DTYPE,
    UNKNOWN,
    UNLABELLED,
)

if TYPE_CHECKING:
    import xarray as xr

MIN_COMPONENT_PIXELS = 50
"""Pixels of the smallest 2D component that counts (source: the authors' code)."""


Key = tuple[Any, ...]
"""One index per axis: an integer, a slice, or (if ``support`` allows it) an array of integers."""


class LazyArray(ABC):
    """An array of a known shape and dtype that is read when indexed; :func:`wrap_lazy` prepares it for xarray."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    support: ClassVar[Literal["BASIC", "OUTER", "OUTER_1VECTOR"]] = "OUTER_1VECTOR"
    """The keys that ``read`` accepts, as xarray's ``IndexingSupport`` names them; xarray splits other keys."""

    @abstractmethod
    def read(self, key: Key) -> NDArray[Any]:
        """Return a part; an integer drops its axis."""

    def read_all(self) -> NDArray[Any]:
        """Return the whole array."""
        return self.read((slice(None),) * len(self.shape))


def wrap_lazy(array: LazyArray | NDArray[Any]) -> Any:
    """Return ``array`` in the form that ``xarray.Dataset`` takes; lazy arrays stay lazy."""
    if not isinstance(array, LazyArray):
        return array
    from xarray.core import indexing

    return indexing.LazilyIndexedArray(_adapt_lazy(array))


def _adapt_lazy(array: LazyArray) -> Any:
    return _define_adapter()(array)


@cache
def _define_adapter() -> Any:
    """Return the class that shows a lazy array to xarray; a function, as measuring a file does not import xarray."""
    from xarray.backends import BackendArray
    from xarray.core import indexing

    class XarrayAdapter(BackendArray):
        def __init__(self, array: LazyArray) -> None:
            self.array, self.shape, self.dtype = array, array.shape, array.dtype

        def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
            if isinstance(key, indexing.OuterIndexer):  # xarray cannot split indices of which one is an empty array
                empty = (slice(0, 0) if isinstance(k, np.ndarray) and not k.size else k for k in key.tuple)
                key = indexing.OuterIndexer(tuple(empty))
            support = indexing.IndexingSupport[self.array.support]
            return indexing.explicit_indexing_adapter(key, self.shape, support, self.array.read)

        def __reduce__(self) -> Any:
            return _adapt_lazy, (self.array,)

    return XarrayAdapter


def check_labels(array: NDArray[Any], name: str, next_step: str | None = None) -> None:
    """Raise :class:`LabelError` if ``array`` holds a number that is not a label; ``name`` begins the message."""
    if array.dtype.kind in "ub" and (not array.size or array.max() <= max(Label)):
        return  # the usual case, decided without searching
    unknown = np.unique(array[~np.isin(array, list(Label))])
    if unknown.size:
        plural = "s"[: unknown.size > 1]
        raise LabelError(
            f"{name} holds the label{plural} {', '.join(f'{v:g}' for v in unknown[:8])}.",
            ", ".join(f"{label.value} ({meaning})" for label, meaning in MEANINGS.items()),
            next_step,
        )


def convert_labels(array: NDArray[Any], name: str, labels: LabelMap | None = None) -> NDArray[np.uint8]:
    """Return ``array`` as uint8 with the numbers of :class:`Label`, of the same shape; ``name`` begins messages.

    Without ``labels``, the array must have them already. Raises :class:`LabelError` if it has not, or if it has numbers
    but none that ``labels`` names.
    """
    if labels is None:
        check_labels(array, name, LABELS_HINT)
        return array.astype(np.uint8, copy=False)
    out = np.zeros(array.shape, np.uint8)
    for structure, label in STRUCTURES.items():
        if structure in labels:
            out[array == labels[structure]] = label
    if not out.any() and (others := np.unique(array[array != 0])).size:
        found = f"{name} holds the numbers {', '.join(f'{v:g}' for v in others[:8])}, and none for a structure."
        raise LabelError(found, ", ".join(f"{k}={v}" for k, v in labels.items()), LABELS_HINT)
    return out


def check_not_empty(mice: Sized) -> None:
    """Raise :class:`ArgumentError` if there is no mouse."""
    if not len(mice):
        raise ArgumentError("There is no mouse: the cohort is empty.", "at least one mouse")


def find_es(masks: NDArray[np.uint8]) -> int:
    """Return the index of the ES frame in ``masks`` (n >= 2, slice, y, x): labelled frames, the first at ED."""
    footprint = masks[0] > 0
    counts = [_count_blood_pool(mask == Label.BLOOD_POOL, footprint) for mask in masks[1:]]
    return 1 + int(np.argmin(counts))


def assign_phases(
    n_frames: int, labelled_frames: Sequence[int], masks: NDArray[np.uint8] | None = None
) -> NDArray[np.str_]:
    """Return the phase of each frame, shape (n_frames,), as named in ``schema.variables``.

    ``labelled_frames`` are ascending; ``masks`` (len(labelled_frames), slice, y, x) is needed if there are more
    than two of them.
    """
    names = np.full(n_frames, UNLABELLED, PHASE_DTYPE)
    if len(labelled_frames) == 1:
        names[labelled_frames[0]] = UNKNOWN
    elif len(labelled_frames) >= 2:
        names[list(labelled_frames)] = INFLOW
        names[labelled_frames[0]] = ED
        if len(labelled_frames) > 2 and masks is None:
            raise TypeError("masks are needed to choose ES among more than two labelled frames")
        names[labelled_frames[1 if masks is None else find_es(masks)]] = ES
    return names


def read_phases(masks: LazyArray, labelled_frames: Sequence[int]) -> NDArray[np.str_]:
    """Return the phase of each frame from lazy ``masks`` (frame, slice, y, x); reads labelled frames if needed."""
    if len(labelled_frames) <= 2:  # there is no choice for ES
        return assign_phases(masks.shape[0], labelled_frames)
    whole = (slice(None),) * (len(DIMS) - 1)
    return assign_phases(masks.shape[0], labelled_frames, masks.read((np.array(labelled_frames), *whole)))


class PhaseArray(LazyArray):
    """Phases (frame,) that are computed on first access, for mice whose masks have to be read."""

    support = "BASIC"

    def __init__(self, masks: LazyArray, labelled_frames: Sequence[int]) -> None:
        self.masks, self.labelled_frames = masks, tuple(labelled_frames)
        self.shape, self.dtype = (masks.shape[0],), np.dtype(PHASE_DTYPE)

    def read(self, key: Key) -> NDArray[np.str_]:
        """Compute the phases and return a part."""
        return np.asarray(read_phases(self.masks, self.labelled_frames)[key])


def load_truth(ds: xr.Dataset) -> xr.Dataset:
    """Return the labelled frames of a mouse: masks in memory, no images."""
    if MASK not in ds or not ds["labelled"].values.any():
        mouse = ds.attrs.get("mouse", "this mouse")
        raise UnlabelledError(f"No frame of {mouse} is labelled: there is no mask to compare a prediction with.")
    return ds[[MASK]].isel(frame=np.flatnonzero(ds["labelled"].values)).transpose(*DIMS).load()


def _count_blood_pool(blood_pool: NDArray[np.bool_], footprint: NDArray[np.bool_]) -> int:
    from scipy import ndimage  # only mice with more than two labelled frames need it; a quarter second to import

    total = 0
    for pool, inside in zip(blood_pool, footprint, strict=True):
        components, n = ndimage.label(pool, np.ones((3, 3)))  # corners connect, as in the authors' code
        if n:
            sizes = np.bincount(components.ravel())
            sizes[0] = 0
            total += int(np.count_nonzero((sizes >= MIN_COMPONENT_PIXELS)[components] & inside))
    return total


# Voxel size

SPACING_HINT = "give it in mm: --spacing Z Y X, e.g. --spacing 1.0 0.1 0.1  (Python: spacing=(1.0, 0.1, 0.1))"

# Sizes that mouse cines can have; anything else is an error that names the option to type.
PIXEL_MM = (0.02, 0.6)
"""Range of pixel sizes, with a margin on both sides (the dataset: 0.1 mm; common: 0.08 to 0.25 mm)."""
SLICE_MM = (0.1, 3.0)
"""Range of slice distances, with a margin on both sides (the dataset: 1.0 mm; common: 0.5 to 1.5 mm)."""
WRONG_UNITS = (
    (1e-3, "µm written as mm"),
    (1e3, "metres written as mm"),
    (10.0, "cm written as mm"),
    (0.1, "sizes ten times too large, as for programs made for people, or a human heart"),
)
"""Factors that turn a size into mm, and what was most likely written instead."""
FIELD_MM = (4.0, 150.0)
"""Range of the longer side of the field of view, for images of ``MIN_FIELD_PIXELS`` or more along it."""
MIN_FIELD_PIXELS = 64


def order_spacing(sizes: Sequence[float]) -> tuple[float, float, float]:
    """Return sizes in mm that a person typed as (z, y, x), also if they are in the order x y z.

    Slices of a mouse's cine are not thinner than its pixels: where the last number is by far the largest, it is z.
    """
    first, second, third = sizes
    return (third, second, first) if third > 1.5 * max(first, second) else (first, second, third)


def check_spacing(name: str, spacing: Sequence[float], can_name_axes: bool = False) -> tuple[float, float, float]:
    """Return ``spacing`` (z, y, x) in mm; raises :class:`UnitsError` with the likely reason if no mouse cine has it.

    ``can_name_axes``: whether the order of the sizes follows from ``--axes``.
    """
    if len(spacing) != 3:
        raise UnitsError(f"The spacing is {spacing!r}.", "three sizes in mm", SPACING_HINT)
    z, y, x = (abs(float(v)) for v in spacing)
    size = f"{z:g} × {y:g} × {x:g}"
    voxels = f"{name}: voxels of {size} mm (slice × row × column)"
    if not all(0 < v < float("inf") for v in (z, y, x)):
        raise UnitsError(f"{name} does not say its voxel size ({size}).", "sizes in mm", SPACING_HINT)
    if _fits(z, y, x):
        return z, y, x
    if z == y == x == 1.0:
        found = f"{name}: every side of a voxel is 1: most likely its voxel size was never written."
        raise UnitsError(found, "sizes in mm", SPACING_HINT)
    for factor, reason in WRONG_UNITS:
        if _fits(z * factor, y * factor, x * factor):
            right = " ".join(f"{v * factor:g}" for v in (z, y, x))
            raise UnitsError(
                f"{voxels} are not those of a mouse: this looks like {reason}.",
                f"pixels of {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm",
                f"--spacing {right}, if that is what they are",
            )
    if _fits(max(z, y, x), *sorted((z, y, x))[:2]):
        raise UnitsError(
            f"{voxels}: slices thinner than pixels, the axes look swapped.",
            "the largest distance between slices",
            "name the axes as stored: --axes, e.g. --axes zyxt (x column, y row, z slice, t frame)"
            if can_name_axes
            else SPACING_HINT,
        )
    raise UnitsError(
        f"{voxels} are not those of a mouse.",
        f"pixels of {PIXEL_MM[0]:g} to {PIXEL_MM[1]:g} mm, slices of {SLICE_MM[0]:g} to {SLICE_MM[1]:g} mm",
        SPACING_HINT,
    )


def _fits(z: float, y: float, x: float) -> bool:
    return all(PIXEL_MM[0] <= v <= PIXEL_MM[1] for v in (y, x)) and SLICE_MM[0] <= z <= SLICE_MM[1]


def check_field(name: str, shape: Sequence[int], spacing: Sequence[float]) -> None:
    """Raise :class:`UnitsError` if images of ``shape`` (rows, columns) and ``spacing`` (z, y, x) are too wide or small.

    So a size ten times too large or too small is found where the voxels alone are possible.
    """
    pixels, (z, y, x) = max(shape), spacing
    side = max(shape[0] * y, shape[1] * x)
    if pixels >= MIN_FIELD_PIXELS and not FIELD_MM[0] <= side <= FIELD_MM[1]:
        factor = 0.1 if side > FIELD_MM[1] else 10.0
        raise UnitsError(
            f"{name}: the images are {side:g} mm wide: the voxel size is most likely ten times too "
            f"{'large' if factor < 1 else 'small'}.",
            f"{FIELD_MM[0]:g} to {FIELD_MM[1]:g} mm",
            f"--spacing {z * factor:g} {y * factor:g} {x * factor:g}, if that is what they are",
        )


# Axes of files that do not say what they are


def guess_axes(shape: Sequence[int], usual: str) -> str:
    """Return the most likely meaning of the axes of a cine: one letter each, x column, y row, z slice, t frame.

    Rows and columns are the neighbouring axes with the most pixels, and there are fewer slices than frames. Where they
    come first, the order is ``usual``; else it is that of numpy.
    """
    first = max(range(3), key=lambda k: shape[k] * shape[k + 1])
    if first == 0:
        return usual
    others = [k for k in range(4) if k not in (first, first + 1)]
    slices = min(reversed(others), key=lambda k: shape[k])
    return "".join("y" if k == first else "x" if k == first + 1 else "z" if k == slices else "t" for k in range(4))


def check_axes(name: str, shape: Sequence[int], axes: str, usual: str) -> None:
    """Raise :class:`UnitsError` if rows and columns of a cine of ``shape`` are clearly not where ``axes`` says."""
    size = dict(zip(axes, shape, strict=True))
    guess = guess_axes(shape, usual)
    pixels = shape[guess.index("x")] * shape[guess.index("y")]
    if {axes.index("x"), axes.index("y")} == {guess.index("x"), guess.index("y")} or pixels < 2 * size["x"] * size["y"]:
        return
    matlab = guess.translate(str.maketrans("xy", "yx"))
    raise UnitsError(
        f"{name}: as {axes}, the array {' × '.join(map(str, shape))} has {size['z']} slices and {size['t']} frames of "
        f"{size['y']} × {size['x']} pixels: its axes are in another order.",
        "rows and columns with more pixels than slices and frames",
        f"say what each axis is: --axes {guess}, or --axes {matlab} if MATLAB or Fortran wrote it  (x column, y row, "
        f"z slice, t frame; Python: axes={guess!r})",
    )


def swap_slices_and_frames(axes: str) -> str:
    """Return the letters of axes with z and t exchanged."""
    return axes.translate(str.maketrans("zt", "tz"))


def get_spacing(ds: xr.Dataset | xr.DataArray) -> tuple[float, float, float]:
    """Return the voxel size (z, y, x) in mm, from the coordinates y and x and the slice thickness of z.

    Nothing is assumed. Raises :class:`UnitsError` where a coordinate is missing, not in mm, not evenly spaced, or
    where slices were left out so that a volume would have gaps.
    """
    z = _get_coordinate(ds, "z")
    thickness: Any = z.attrs.get("slice_thickness")
    if not (isinstance(thickness, int | float | np.number) and np.isfinite(thickness) and thickness > 0):
        raise UnitsError(f"The coordinate z has the slice thickness {thickness!r}.", "a size in mm", SPACING_HINT)
    if z.size > 1:
        step = _get_step(z)
        if not np.isclose(step, float(thickness), rtol=1e-3):
            raise UnitsError(
                f"Slices are {step:g} mm apart but {thickness:g} mm thick: slices are missing.",
                "contiguous slices",
                "measure the whole stack, then select",
            )
    return float(thickness), _get_step(_get_coordinate(ds, "y")), _get_step(_get_coordinate(ds, "x"))


def _get_coordinate(ds: xr.Dataset | xr.DataArray, name: str) -> xr.DataArray:
    if name not in ds.coords:
        found = f"The dataset has no coordinate {name!r}: its voxel size is unknown."
        raise UnitsError(found, "z, y, x in mm", SPACING_HINT)
    units = ds[name].attrs.get("units")
    if units != "mm":
        raise UnitsError(f"The coordinate {name} has the units {units!r}.", "'mm'", SPACING_HINT)
    return ds[name]


def _get_step(coordinate: xr.DataArray) -> float:
    """Return the distance between neighbours in mm, always positive."""
    values = np.asarray(coordinate.values, float)
    steps = np.diff(values)
    if values.ndim != 1 or steps.size == 0 or not np.all(np.isfinite(steps)) or np.any(steps == 0):
        raise UnitsError(
            f"The coordinate {coordinate.name} does not give a spacing.", "two values or more", SPACING_HINT
        )
    if not np.allclose(steps, steps[0], rtol=1e-3):
        raise UnitsError(
            f"The coordinate {coordinate.name} is not evenly spaced ({steps.min():g} to {steps.max():g} mm).",
            "even spacing",
            SPACING_HINT,
        )
    return abs(float(steps.mean()))


# The dataset of one mouse

FROM_FILE = "the file's own attribute"
FROM_ARGUMENT = "given by the caller"
FRAME_TIME_HINT = "give it in ms: mousecmr segment --frame-time 5  (Python: frame_time_ms=5.0)"


@dataclass(frozen=True)
class PhysicalSizes:
    """Voxel size (z, y, x) in mm and frame time in ms, each with a description of its source."""

    voxel_size_mm: tuple[float, float, float]
    voxel_size_source: str
    frame_time_ms: float
    frame_time_source: str


def resolve_sizes(
    attrs: dict[str, Any],
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    manifest: Manifest | None = None,
) -> PhysicalSizes:
    """Return the physical sizes and their sources: the caller's, else the file's own, else the manifest's."""
    facts = (manifest or load_manifest()).acquisition
    if not {"slice_thickness", "pixel_spacing", "frame_time"} <= facts.keys():
        facts = {**load_manifest().acquisition, **facts}
    if spacing is not None:
        voxel, voxel_source = spacing, FROM_ARGUMENT
    elif ATTR_VOXEL_SIZE in attrs:
        voxel, voxel_source = attrs[ATTR_VOXEL_SIZE], FROM_FILE
    else:
        thickness, pixel = facts["slice_thickness"], facts["pixel_spacing"]
        in_plane = pixel.value if isinstance(pixel.value, list | tuple) else (pixel.value, pixel.value)
        voxel = (thickness.value, *in_plane)
        voxel_source = f"not in the file; {pixel.source}; slices: {thickness.source}"
    if frame_time_ms is not None:
        frame_time, time_source = frame_time_ms, FROM_ARGUMENT
    elif ATTR_FRAME_TIME in attrs:
        frame_time, time_source = attrs[ATTR_FRAME_TIME], FROM_FILE
    else:
        frame_time, time_source = facts["frame_time"].value, f"not in the file; {facts['frame_time'].source}"
    z, y, x = _check_positive(voxel, 3, "voxel size (z, y, x) in mm", SPACING_HINT)
    (t,) = _check_positive([frame_time], 1, "frame time in ms", FRAME_TIME_HINT)
    return PhysicalSizes((z, y, x), voxel_source, t, time_source)


def build_dataset(
    image: LazyArray | NDArray[Any],
    mask: LazyArray | NDArray[Any] | None,
    labelled_frames: Sequence[int],
    physical: PhysicalSizes,
    attrs: dict[str, Any],
    phase: NDArray[np.str_] | None = None,
) -> xr.Dataset:
    """Build the dataset of one mouse from arrays (frame, slice, y, x); lazy arrays stay lazy.

    ``phase`` (frame,) is computed by the rule if it is not given.
    """
    import xarray as xr

    import mousecmr_data.dataset.notebook  # noqa: F401 (registers ds.mousecmr)

    n_frames, n_slices, n_y, n_x = image.shape
    (dz, dy, dx), dt = physical.voxel_size_mm, physical.frame_time_ms
    labelled = np.zeros(n_frames, bool)
    labelled[list(labelled_frames)] = True
    names: Any = phase
    if names is None and isinstance(mask, LazyArray) and len(labelled_frames) > 2:
        names = wrap_lazy(PhaseArray(mask, labelled_frames))
    elif names is None:
        masks = mask[list(labelled_frames)] if isinstance(mask, np.ndarray) else None
        names = assign_phases(n_frames, labelled_frames, masks)
    variables: dict[str, Any] = {IMAGE: (DIMS, wrap_lazy(image), {"long_name": "magnitude image", "units": "1"})}
    if mask is not None:
        attributes = {
            "long_name": "expert segmentation",
            "flag_values": [int(label) for label in MEANINGS],
            "flag_meanings": " ".join(m.replace(" ", "_") for m in MEANINGS.values()),
            "comment": "Zero means background only where the coordinate 'labelled' is true.",
        }
        variables[MASK] = (DIMS, wrap_lazy(mask), attributes)
    return xr.Dataset(
        variables,
        coords={
            "frame": ("frame", np.arange(n_frames), {"long_name": "frame number"}),
            "slice": ("slice", np.arange(n_slices), {"long_name": "slice number"}),
            "time": (
                "frame",
                np.arange(n_frames) * dt,
                {"long_name": "time after the trigger", "units": "ms", "axis": "T", "frame_time": dt},
            ),
            "z": (
                "slice",
                np.arange(n_slices) * dz,
                {"long_name": "position along the stack", "units": "mm", "axis": "Z", "slice_thickness": dz},
            ),
            "y": ("y", np.arange(n_y) * dy, {"long_name": "position along the rows", "units": "mm", "axis": "Y"}),
            "x": ("x", np.arange(n_x) * dx, {"long_name": "position along the columns", "units": "mm", "axis": "X"}),
            "labelled": ("frame", labelled, {"long_name": "the frame was segmented by an expert"}),
            "phase": ("frame", names, {"long_name": "cardiac phase by the annotators' rule"}),
        },
        attrs={
            **{k: int(v) if isinstance(v, bool) else v for k, v in attrs.items()},  # netCDF has no bool attributes
            "slice_order": "unknown",
            "voxel_size_source": physical.voxel_size_source,
            "frame_time_source": physical.frame_time_source,
        },
    )


def _check_positive(values: Any, n: int, what: str, hint: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(v) for v in values)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != n or not all(np.isfinite(v) and v > 0 for v in numbers):
        raise UnitsError(f"The {what} is {values!r}.", f"{n} positive number{'s'[: n > 1]}", hint)
    return numbers
