"""The index of a dataset's samples, and a batch of them that is stacked already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, overload

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch.utils.data import default_collate

Tensors = torch.Tensor | list[torch.Tensor]


@dataclass(frozen=True)
class SampleIndex:
    """A row a sample; arrays (n,)."""

    mouse: NDArray[np.intp]
    """Number of the mouse in the cohort."""
    position: NDArray[np.intp]
    """Position of the frame in the mouse's cine; -1: all the chosen ones (a cine)."""
    row: NDArray[np.intp]
    """Position of the frame among the chosen ones of its mouse."""
    slice: NDArray[np.intp]
    """Position of the slice; -1: all."""
    frame: NDArray[np.int64]
    """The frame's number."""
    phase: NDArray[np.str_]
    labelled: NDArray[np.bool_]

    @classmethod
    def from_dataset(cls, number: int, ds: xr.Dataset, chosen: NDArray[np.intp], kind: str) -> SampleIndex:
        """The samples of one mouse, from the positions of its chosen frames."""
        labelled = ds["labelled"].values
        if kind == "cines":
            if chosen.size == 0:
                chosen = np.zeros(0, np.intp)
            n = int(chosen.size > 0)
            one = np.full(n, -1)
            every = np.full(n, bool(labelled[chosen].all()) if n else False)
            return cls(np.full(n, number), one, one, one, one, np.full(n, "", "<U10"), every)
        n_slices = ds.sizes["slice"] if kind == "slices" else 1
        order = np.repeat(np.arange(chosen.size), n_slices)
        position = chosen[order]
        slices = np.tile(np.arange(n_slices), chosen.size) if kind == "slices" else np.full(order.size, -1)
        return cls(
            np.full(order.size, number),
            position,
            order,
            slices,
            ds["frame"].values[position],
            ds["phase"].values[position].astype("<U10"),
            labelled[position],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[SampleIndex]) -> SampleIndex:
        """One index of several."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def take(self, rows: NDArray[np.intp]) -> SampleIndex:
        """The rows at these positions."""
        return SampleIndex(*(getattr(self, f.name)[rows] for f in fields(self)))

    def __len__(self) -> int:
        return int(self.mouse.size)


@dataclass(frozen=True)
class MouseInfo:
    """What samples say of their mouse."""

    names: tuple[str, ...]
    spacing: NDArray[np.float32]
    """(n, 2 or 3) in mm, of a sample's spatial axes."""
    synthetic: NDArray[np.bool_]


class Batch(Sequence[dict[str, Any]]):
    """A sequence of samples whose images, if of one shape, are one tensor (n, 1, ...); so are the labels."""

    def __init__(
        self,
        images: Tensors,
        labels: Tensors,
        rows: SampleIndex,
        mice: MouseInfo,
    ) -> None:
        self.images, self.labels, self.rows, self.mice = images, labels, rows, mice

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, i: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, i: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, i: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(i, slice):
            return [self[k] for k in range(*i.indices(len(self)))]
        return {"image": self.images[i], "label": self.labels[i], **self._metadata(range(len(self))[i])}

    def from_samples(self) -> dict[str, Any]:
        """The batch as one dictionary: tensors where they stack, lists where they do not."""
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

    def _metadata(self, i: int) -> dict[str, Any]:
        rows = self.rows
        mouse = int(rows.mouse[i])
        return {
            "mouse": self.mice.names[mouse],
            "slice": int(rows.slice[i]),
            "frame": int(rows.frame[i]),
            "phase": str(rows.phase[i]),
            "labelled": bool(rows.labelled[i]),
            "spacing": torch.from_numpy(self.mice.spacing[mouse].copy()),
            "synthetic": bool(self.mice.synthetic[mouse]),
        }


# MERGED adapters.torch.batch: Samples into batches, ragged ones too.


def collate(samples: Sequence[Any]) -> dict[str, Any]:
    """One dictionary of a batch's samples, for ``DataLoader(collate_fn=collate)``.

    What has one shape is stacked to (n, ...). Images and labels of different shapes (stacks of different
    mice have different numbers of slices) stay lists of tensors: nothing is padded or cropped unasked.
    """
    if isinstance(samples, Batch):
        return samples.from_samples()
    out: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        ragged = isinstance(values[0], torch.Tensor) and len({v.shape for v in values}) > 1
        out[key] = values if ragged else default_collate(values)
    return out
