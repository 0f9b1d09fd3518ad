"""Combine many mice into one lazy dataset of 2D slices, with the dimension ``sample``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from xarray.core import indexing

from mousecmr_data.dataset.model import Key, LazyArray, check_not_empty, wrap_lazy
from mousecmr_data.errors import ArgumentError, FileLayoutError, UnlabelledError, find_similar
from mousecmr_data.schema.variables import ED, ES, IMAGE, INFLOW, MASK, UNKNOWN

Frames = Literal["labelled", "unlabelled", "all"] | Sequence[str]
"""Which frames: those an expert segmented, the others, all, or those of the named phases."""

_LABELLED_PHASES = (ED, ES, INFLOW, UNKNOWN)


def check_frames(frames: Frames) -> Frames:
    """Return ``frames``, a list of phases as a list; raise ArgumentError if it is no selection of frames."""
    words = get_args(get_args(Frames)[0])
    if isinstance(frames, str) and frames in words:
        return frames
    if isinstance(frames, Iterable) and not isinstance(frames, str):
        frames = list(frames)  # an iterator is used once per mouse
        if frames and all(isinstance(f, str) and f in _LABELLED_PHASES for f in frames):
            return frames
    named = [frames] if isinstance(frames, str) else frames if isinstance(frames, list) else []
    similar = [s for name in named if (s := find_similar(name, (*words, *_LABELLED_PHASES)))]
    example: object = ["ED", "ES"]
    if similar:
        example = similar[0] if similar[0] in words else similar
    raise ArgumentError(
        f"frames={frames!r} is not a selection of frames.",
        f"{', '.join(map(repr, words))}, or a list out of {list(_LABELLED_PHASES)}",
        f"frames={example!r}",
    )


def select_frames(ds: xr.Dataset, frames: Frames) -> NDArray[np.intp]:
    """Return the positions of the frames of ``ds`` that ``frames`` selects, ascending."""
    frames = check_frames(frames)
    if not isinstance(frames, str):
        return np.flatnonzero(np.isin(ds["phase"].values, frames))
    labelled = ds["labelled"].values
    return np.flatnonzero({"labelled": labelled, "unlabelled": ~labelled, "all": np.ones_like(labelled)}[frames])


def build_slices(mice: Iterable[xr.Dataset], frames: Frames = "labelled") -> xr.Dataset:
    """Return one dataset (sample, y, x) of all slices of the selected frames of ``mice``.

    Variables ``image`` uint16 and ``mask`` uint8 (left out if any mouse has none); coordinates
    on ``sample``: mouse, slice, frame, time (ms), labelled, phase, split, phenotype; ``y`` and ``x`` in mm.
    Pixels are read on first use.
    """
    frames = check_frames(frames)
    arrays: dict[str, list[Any]] = {IMAGE: [], MASK: []}
    tables: list[dict[str, NDArray[Any]]] = []
    indices: list[NDArray[np.intp]] = []
    synthetic, members = False, list(mice)
    check_not_empty(members)
    first = members[0]
    for number, ds in enumerate(members):
        if not all(first.sizes[a] == ds.sizes[a] and np.allclose(first[a], ds[a]) for a in ("y", "x")):
            raise FileLayoutError(
                f"{first.attrs['mouse']} ({first.sizes['y']} x {first.sizes['x']} pixels) and {ds.attrs['mouse']} "
                f"({ds.sizes['y']} x {ds.sizes['x']}) differ in the number or the size of their pixels.",
                "mice on one pixel grid",
                "take the mice one by one: for ds in cohort.values(): ...",
            )
        synthetic |= bool(ds.attrs.get("synthetic", False))
        for name in arrays:
            arrays[name].append(ds[name].variable if name in ds else None)
        selected, n_slices = select_frames(ds, frames), ds.sizes["slice"]
        frame, position = np.repeat(selected, n_slices), np.tile(np.arange(n_slices), selected.size)
        indices.append(np.stack([np.full(frame.size, number), frame, position], axis=1))
        tables.append(
            {
                "mouse": np.full(frame.size, ds.attrs["mouse"]),
                "slice": ds["slice"].values[position],
                **{name: ds[name].values[frame] for name in ("frame", "time", "labelled", "phase")},
                **{name: np.full(frame.size, ds.attrs[name]) for name in ("split", "phenotype")},
            }
        )
    index = np.concatenate(indices)
    if not len(index):
        raise UnlabelledError(f"No mouse has a frame for frames={frames!r}.", "at least one", "frames='all'")
    return xr.Dataset(
        {
            name: (("sample", "y", "x"), wrap_lazy(SampleArray(parts, index)), first[name].attrs)
            for name, parts in arrays.items()
            if all(part is not None for part in parts)
        },
        coords={
            **{name: ("sample", np.concatenate([table[name] for table in tables])) for name in tables[0]},
            "y": first["y"],
            "x": first["x"],
        },
        attrs={"source": first.attrs["source"], "version": first.attrs["version"], "synthetic": int(synthetic)},
    )


class SampleArray(LazyArray):
    """Lazy array (sample, y, x) over several lazy arrays (frame, slice, y, x)."""

    support: ClassVar[indexing.IndexingSupport] = indexing.IndexingSupport.OUTER

    def __init__(self, arrays: Sequence[xr.Variable], index: NDArray[np.intp]) -> None:
        self.arrays, self.index = list(arrays), index
        self.shape = (len(index), *arrays[0].shape[2:])
        self.dtype = arrays[0].dtype

    def read(self, key: Key) -> NDArray[Any]:
        """Return a part; each mouse is read once."""
        samples, *plane = key
        selected = np.arange(len(self.index))[samples]
        index = self.index[np.atleast_1d(selected)]
        out = np.empty((len(index), *np.empty(self.shape[1:])[plane[0]][..., plane[1]].shape), self.dtype)
        for mouse in np.unique(index[:, 0]):
            rows = np.flatnonzero(index[:, 0] == mouse)
            frames, frame_at = np.unique(index[rows, 1], return_inverse=True)
            # Slices of a stack are usually wanted together: read the range that spans them.
            low, high = int(index[rows, 2].min()), int(index[rows, 2].max()) + 1
            block = self.arrays[mouse][frames, low:high].values
            out[rows] = block[frame_at, index[rows, 2] - low][:, plane[0]][..., plane[1]]
        return out if np.ndim(selected) else out[0]
