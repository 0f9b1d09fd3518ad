"""Combine many mice into one lazy dataset of 2D slices, with the dimension ``sample``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.journal import read_journal, update_journal
from mousecmr_data._version import __version__
from mousecmr_data.dataset.hdf5 import MouseParts
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.dataset.model import (
    Key,
    LazyArray,
    assign_phases,
    check_not_empty,
    get_spacing,
    read_phases,
    wrap_lazy,
)
from mousecmr_data.dataset.source import MouseSummary, make_summary
from mousecmr_data.errors import ArgumentError, FileLayoutError, UnlabelledError, find_similar
from mousecmr_data.schema.variables import ED, ES, IMAGE, INFLOW, MASK, PHASE_DTYPE, UNKNOWN

Frames = Literal["labelled", "unlabelled", "all"] | Sequence[str]
"""Which frames: those an expert segmented, the others, all, or those of the named phases."""

FRAMES_FILE = "frames.journal"
"""The index of frame tables, in the layout cache of a dataset version."""
_LABELLED_PHASES = (ED, ES, INFLOW, UNKNOWN)


@dataclass(frozen=True)
class FrameTable:
    """What an index of samples holds of a mouse: arrays (frame,), and facts."""

    number: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    phase: NDArray[np.str_]
    time_ms: NDArray[np.floating[Any]]
    n_slices: int
    spacing_mm: tuple[float, float, float]
    """(z, y, x)."""
    synthetic: bool

    @classmethod
    def from_dataset(cls, ds: xr.Dataset) -> FrameTable:
        """Return the table of a dataset of the cine model; reads masks if there are more than two labelled frames."""
        number, labelled, phase, time = (ds[name].values for name in ("frame", "labelled", "phase", "time"))
        return cls(number, labelled, phase, time, ds.sizes["slice"], get_spacing(ds), bool(ds.attrs["synthetic"]))

    @classmethod
    def from_parts(cls, parts: MouseParts) -> FrameTable:
        """Return the table of a file; reads masks if there are more than two labelled frames."""
        n_frames, n_slices = parts.image.shape[:2]
        labelled = np.zeros(n_frames, bool)
        labelled[list(parts.labelled_frames)] = True
        phase = assign_phases(n_frames, ()) if parts.mask is None else read_phases(parts.mask, parts.labelled_frames)
        spacing, synthetic = parts.sizes.voxel_size_mm, bool(parts.attrs["synthetic"])
        number = np.arange(n_frames)
        return cls(number, labelled, phase, number * parts.sizes.frame_time_ms, n_slices, spacing, synthetic)

    @classmethod
    def from_list(cls, row: Sequence[Any]) -> FrameTable:
        """Return the table that :meth:`to_list` gave."""
        number, labelled, phase, time, n_slices, spacing, synthetic = row
        frames = (np.array(number, np.int64), np.array(labelled, bool), np.array(phase, PHASE_DTYPE))
        return cls(*frames, np.array(time, float), n_slices, tuple(spacing), synthetic)

    def summarize(self) -> MouseSummary:
        """Return the summary of the mouse."""
        labelled = tuple(np.flatnonzero(self.labelled).tolist())
        return make_summary((self.number.size, self.n_slices), labelled, self.phase.tolist())

    def to_list(self) -> list[Any]:
        """Return the values, for JSON."""
        arrays = (a.tolist() for a in (self.number, self.labelled, self.phase, self.time_ms))
        return [*arrays, self.n_slices, list(self.spacing_mm), self.synthetic]


def read_frame_tables(mice: Iterable[str], opener: FileOpener, *, headers_only: bool = False) -> list[FrameTable]:
    """Return the frame table of each mouse; those that were read before come from an index in the layout cache.

    A table is used again while the mouse's file, the release and the sizes in the manifest are the same. An index that
    cannot be written only costs time. ``headers_only`` leaves out mice with more than two labelled frames, whose phases
    are found in their masks.
    """
    path = opener.layouts.folder / FRAMES_FILE if opener.layouts else None
    known: Mapping[str, Any] = {}
    if path:
        with suppress(OSError):
            known = read_journal(path)
    constants = {name: constant.value for name, constant in opener.source.manifest.acquisition.items()}
    about = json.loads(json.dumps([__version__, constants]))  # lists, as in the index
    tables, new = [], {}
    for mouse in mice:
        opener.source.prepare([mouse])
        key: list[Any] = []
        with suppress(OSError):  # read_parts says what to type
            stat = opener.source.get_path(mouse).stat()
            key = [stat.st_size, stat.st_mtime_ns, about]
        row = known.get(mouse)
        if row and row[0] == key:
            tables.append(FrameTable.from_list(row[1]))
        else:
            parts = opener.read_parts(mouse)
            if headers_only and len(parts.labelled_frames) > 2:
                continue
            tables.append(FrameTable.from_parts(parts))
            new[mouse] = [key, tables[-1].to_list()]
    if new and path:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            update_journal(path, new)
    return tables


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


def select_frames(mouse: xr.Dataset | FrameTable, frames: Frames) -> NDArray[np.intp]:
    """Return the positions of the frames of a mouse that ``frames`` selects, ascending."""
    frames = check_frames(frames)
    if not isinstance(frames, str):
        phase = mouse.phase if isinstance(mouse, FrameTable) else mouse["phase"].values
        return np.flatnonzero(np.isin(phase, frames))
    labelled = mouse.labelled if isinstance(mouse, FrameTable) else mouse["labelled"].values
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

    support = "OUTER"

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
