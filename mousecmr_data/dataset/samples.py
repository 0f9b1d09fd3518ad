"""Many mice as one dataset of 2D slices, with the dimension ``sample``; pixels stay on disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from mousecmr_data.dataset.lazy import Key, LazyArray, wrap_lazy
from mousecmr_data.errors import ArgumentError, FileLayoutError, UnlabelledError
from mousecmr_data.schema.phases import ED, ES, INFLOW, UNKNOWN
from mousecmr_data.schema.variables import IMAGE, MASK

Frames = Literal["labelled", "all"] | Sequence[str]
"""Which frames: those an expert segmented, every one, or those of the named phases."""

_LABELLED_PHASES = (ED, ES, INFLOW, UNKNOWN)


def select_frames(ds: xr.Dataset, frames: Frames) -> NDArray[np.intp]:
    """Positions of the frames of ``ds`` that ``frames`` names, ascending."""
    if isinstance(frames, str):
        if frames == "all":
            return np.arange(ds.sizes["frame"])
        if frames == "labelled":
            return np.flatnonzero(ds["labelled"].values)
    else:
        names = list(frames)
        if names and all(phase in _LABELLED_PHASES for phase in names):
            return np.flatnonzero(np.isin(ds["phase"].values, names))
    raise ArgumentError(
        f"frames={frames!r} names no frames.",
        f"'labelled', 'all', or a list out of {list(_LABELLED_PHASES)}",
        "cohort.slices(frames=['ED', 'ES'])",
    )


def build_slices(mice: Iterable[xr.Dataset], frames: Frames = "labelled") -> xr.Dataset:
    """One dataset (sample, y, x) of all slices of the selected frames of ``mice``.

    Variables ``image`` uint16 and ``mask`` uint8 (left out where a mouse has none); coordinates
    on ``sample``: mouse, slice, frame, labelled, phase, split, phenotype; ``y`` and ``x`` in mm.
    Nothing is read before it is asked for.
    """
    frames = frames if isinstance(frames, str) else list(frames)  # it is looked at once a mouse
    parts: dict[str, list[Any]] = {IMAGE: [], MASK: []}
    columns: dict[str, list[NDArray[Any]]] = {
        k: [] for k in ("mouse", "slice", "frame", "labelled", "phase", "split", "phenotype")
    }
    where: list[NDArray[np.intp]] = []
    first: xr.Dataset | None = None
    synthetic = False
    for number, ds in enumerate(mice):
        first = ds if first is None else first
        _check_same_grid(first, ds)
        synthetic |= bool(ds.attrs.get("synthetic", False))
        for name, arrays in parts.items():
            arrays.append(ds[name].variable if name in ds else None)
        chosen, n_slices = select_frames(ds, frames), ds.sizes["slice"]
        frame, position = np.repeat(chosen, n_slices), np.tile(np.arange(n_slices), chosen.size)
        where.append(np.stack([np.full(frame.size, number), frame, position], axis=1))
        columns["slice"].append(ds["slice"].values[position])
        for name in ("frame", "labelled", "phase"):
            columns[name].append(ds[name].values[frame])
        for name in ("mouse", "split", "phenotype"):
            columns[name].append(np.full(frame.size, ds.attrs[name]))
    if first is None:
        raise UnlabelledError("There is no mouse to take slices from.", "a cohort of at least one mouse")
    index = np.concatenate(where)
    if not len(index):
        raise UnlabelledError(f"No mouse has a frame for frames={frames!r}.", "at least one", "frames='all'")
    variables = {
        name: (("sample", "y", "x"), wrap_lazy(SampleArray(arrays, index)), first[name].attrs)
        for name, arrays in parts.items()
        if all(a is not None for a in arrays)
    }
    return xr.Dataset(
        variables,
        coords={
            **{name: ("sample", np.concatenate(values)) for name, values in columns.items()},
            "y": first["y"],
            "x": first["x"],
        },
        attrs={"source": first.attrs["source"], "version": first.attrs["version"], "synthetic": synthetic},
    )


class SampleArray(LazyArray):
    """Lazy (sample, y, x) over several lazy (frame, slice, y, x): one read a mouse at a time."""

    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER

    def __init__(self, arrays: Sequence[xr.Variable], index: NDArray[np.intp]) -> None:
        self.arrays, self.index = list(arrays), index
        self.shape = (len(index), *arrays[0].shape[2:])
        self.dtype = arrays[0].dtype

    def read(self, key: Key) -> NDArray[Any]:
        """Read a part; a read a mouse."""
        samples, *plane = key
        picked = np.arange(len(self.index))[samples]
        rows = np.atleast_1d(picked)
        out: NDArray[Any] | None = None
        for mouse in np.unique(self.index[rows, 0]):
            places = np.flatnonzero(self.index[rows, 0] == mouse)
            frames, frame_at = np.unique(self.index[rows[places], 1], return_inverse=True)
            slices_, slice_at = np.unique(self.index[rows[places], 2], return_inverse=True)
            # Slices of a stack are usually wanted together: take the range that spans them.
            low, high = int(slices_[0]), int(slices_[-1]) + 1
            block = self.arrays[mouse][frames, low:high].values
            chosen = block[frame_at, slices_[slice_at] - low][(slice(None), plane[0])]
            chosen = chosen[(Ellipsis, plane[1])]
            if out is None:
                out = np.empty((rows.size, *chosen.shape[1:]), self.dtype)
            out[places] = chosen
        if out is None:
            out = np.empty((0, *np.empty(self.shape[1:])[plane[0]][..., plane[1]].shape), self.dtype)
        return out if np.ndim(picked) else out[0]


def _check_same_grid(first: xr.Dataset, ds: xr.Dataset) -> None:
    same = first.sizes["y"] == ds.sizes["y"] and first.sizes["x"] == ds.sizes["x"]
    if not same or not (np.allclose(first["y"], ds["y"]) and np.allclose(first["x"], ds["x"])):
        raise FileLayoutError(
            f"{first.attrs['mouse']} has {first.sizes['y']} x {first.sizes['x']} pixels of another size or number "
            f"than {ds.attrs['mouse']} with {ds.sizes['y']} x {ds.sizes['x']}.",
            "mice on one pixel grid",
            "take the mice one by one: for ds in cohort.values(): ...",
        )
