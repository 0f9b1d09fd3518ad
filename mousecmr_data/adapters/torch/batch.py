"""The index of a dataset's samples, and batches that are already stacked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch.utils.data import default_collate

Tensors = torch.Tensor | list[torch.Tensor]


@dataclass(frozen=True)
class SampleIndex:
    """One row per sample; arrays (n,)."""

    mouse: NDArray[np.intp]
    """Number of the mouse in the cohort."""
    position: NDArray[np.intp]
    """Position of the frame in the mouse's cine; -1: all selected frames (a cine)."""
    row: NDArray[np.intp]
    """Position of the frame among the selected frames of its mouse."""
    slice: NDArray[np.intp]
    """Position of the slice; -1: all."""
    frame: NDArray[np.int64]
    """Number of the frame."""
    phase: NDArray[np.str_]
    labelled: NDArray[np.bool_]

    @classmethod
    def from_dataset(cls, number: int, ds: xr.Dataset, frames: NDArray[np.intp], kind: str) -> SampleIndex:
        """Return the samples of one mouse, from the positions of its selected frames."""
        labelled = ds["labelled"].values
        if kind == "cines":
            n = int(frames.size > 0)
            all_frames = np.full(n, -1)
            all_labelled = np.full(n, bool(labelled[frames].all()) if n else False)
            phase = np.full(n, "", "<U10")
            return cls(np.full(n, number), all_frames, all_frames, all_frames, all_frames, phase, all_labelled)
        n_slices = ds.sizes["slice"] if kind == "slices" else 1
        row = np.repeat(np.arange(frames.size), n_slices)
        position = frames[row]
        return cls(
            np.full(row.size, number),
            position,
            row,
            np.tile(np.arange(n_slices), frames.size) if kind == "slices" else np.full(row.size, -1),
            ds["frame"].values[position],
            ds["phase"].values[position].astype("<U10"),
            labelled[position],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[SampleIndex]) -> SampleIndex:
        """Return one index of several."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def take(self, rows: NDArray[np.intp]) -> SampleIndex:
        """Return the rows at these positions."""
        return SampleIndex(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return int(self.mouse.size)


@dataclass(frozen=True)
class MouseInfo:
    """The facts about mice that samples contain."""

    names: tuple[str, ...]
    spacing: NDArray[np.float32]
    """(n, 2 or 3) in mm, of a sample's spatial axes."""
    synthetic: NDArray[np.bool_]


class Batch(Sequence[dict[str, Any]]):
    """A sequence of samples. Images of one shape are one tensor (n, 1, ...), and so are their labels."""

    def __init__(self, images: Tensors, labels: Tensors, rows: SampleIndex, mice: MouseInfo) -> None:
        self.images, self.labels, self.rows, self.mice = images, labels, rows, mice

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        rows, mouse = self.rows, int(self.rows.mouse[i])
        return {
            "image": self.images[i],
            "label": self.labels[i],
            "mouse": self.mice.names[mouse],
            "slice": int(rows.slice[i]),
            "frame": int(rows.frame[i]),
            "phase": str(rows.phase[i]),
            "labelled": bool(rows.labelled[i]),
            "spacing": torch.from_numpy(self.mice.spacing[mouse].copy()),
            "synthetic": bool(self.mice.synthetic[mouse]),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the batch as one dictionary: tensors where shapes are equal, lists where they differ."""
        rows = self.rows
        return {
            "image": self.images,
            "label": self.labels,
            "mouse": [self.mice.names[m] for m in rows.mouse.tolist()],
            "slice": torch.from_numpy(rows.slice),
            "frame": torch.from_numpy(rows.frame),
            "phase": rows.phase.tolist(),
            "labelled": torch.from_numpy(rows.labelled),
            "spacing": torch.from_numpy(self.mice.spacing[rows.mouse]),
            "synthetic": torch.from_numpy(self.mice.synthetic[rows.mouse]),
        }


def collate(samples: Sequence[Any]) -> dict[str, Any]:
    """Return one dictionary of a batch's samples, for ``DataLoader(collate_fn=collate)``.

    Values of one shape are stacked to (n, ...). Images and labels of different shapes (stacks of different
    mice have different numbers of slices) stay lists of tensors: nothing is padded or cropped.
    """
    if isinstance(samples, Batch):
        return samples.to_dict()
    out: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        ragged = isinstance(values[0], torch.Tensor) and len({v.shape for v in values}) > 1
        out[key] = values if ragged else default_collate(values)
    return out
