"""The index of a dataset's samples, and batches that are already stacked."""

from __future__ import annotations

import sys
from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import default_collate

from mousecmr_data.dataset.samples import FrameTable

Tensors = torch.Tensor | list[torch.Tensor]
FRAME_KEYS = ("frame", "phase", "labelled", "time")
"""Keys of samples that tell about the frame, or, in a cine, about each frame."""
MAX_META_AXES = 4
"""Channel and three axes in space: MONAI knows no affine of four, so images of cines stay plain tensors."""


@dataclass(frozen=True)
class FrameInfo:
    """The facts about the selected frames of a mouse; arrays (frame,)."""

    frame: NDArray[np.int64]
    """Number of the frame."""
    phase: NDArray[np.str_]
    labelled: NDArray[np.bool_]
    time: NDArray[np.float32]
    """In ms."""

    @classmethod
    def from_table(cls, table: FrameTable, frames: NDArray[np.intp]) -> FrameInfo:
        """Return the facts about the frames at these positions."""
        return cls(
            table.number[frames],
            table.phase[frames].astype("<U10"),
            table.labelled[frames],
            table.time_ms[frames].astype(np.float32),
        )


@dataclass(frozen=True)
class SampleIndex:
    """One row per sample; arrays (n,)."""

    mouse: NDArray[np.intp]
    """Number of the mouse in the cohort."""
    row: NDArray[np.intp]
    """Position of the frame among the selected frames of its mouse; -1: all of them (a cine)."""
    slice: NDArray[np.intp]
    """Position of the slice; -1: all."""

    @classmethod
    def from_sizes(cls, number: int, n_frames: int, n_slices: int, kind: str) -> SampleIndex:
        """Return the samples of one mouse, from the number of its selected frames and of its slices."""
        if kind == "cines":
            one = np.full(int(n_frames > 0), number)
            return cls(one, np.full_like(one, -1), np.full_like(one, -1))
        row = np.repeat(np.arange(n_frames), n_slices if kind == "slices" else 1)
        position = np.tile(np.arange(n_slices), n_frames) if kind == "slices" else np.full(row.size, -1)
        return cls(np.full(row.size, number), row, position)

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
    affine: NDArray[np.float64]
    """(n, 4, 4): from a sample's spatial axes (a slice: y, x, and the distance between slices) to RAS+ in mm, as in the
    files of ``mousecmr convert --to nifti``."""
    synthetic: NDArray[np.bool_]
    frames: tuple[FrameInfo, ...]
    splits: tuple[str, ...]
    phenotypes: tuple[str, ...]


class Batch(MutableSequence[dict[str, Any]]):
    """A list of samples, made when it is first used; changes stay.

    Images of one shape are one tensor (n, 1, ...), and so are their labels: :func:`collate` takes these tensors as they
    are, without making samples.
    """

    def __init__(self, images: Tensors, labels: Tensors, rows: SampleIndex, mice: MouseInfo) -> None:
        self.images, self.labels, self.rows, self.mice = images, labels, rows, mice
        self.made: list[dict[str, Any]] | None = None
        """The samples, once they were used."""

    @property
    def _samples(self) -> list[dict[str, Any]]:
        if self.made is None:
            affines = torch.from_numpy(self._get_affines())
            self.made = [self._make_sample(k, affine) for k, affine in enumerate(affines)]
        return self.made

    def __len__(self) -> int:
        return len(self.rows) if self.made is None else len(self.made)

    def __getitem__(self, i: Any) -> Any:
        return self._samples[i]

    def __setitem__(self, i: Any, value: Any) -> None:
        self._samples[i] = value

    def __delitem__(self, i: Any) -> None:
        del self._samples[i]

    def insert(self, index: int, value: dict[str, Any]) -> None:
        """Insert a sample before ``index``."""
        self._samples.insert(index, value)

    def _make_sample(self, i: int, affine: torch.Tensor) -> dict[str, Any]:
        rows, mouse = self.rows, int(self.rows.mouse[i])
        image, label = self.images[i], self.labels[i]
        if "monai.data.meta_tensor" in sys.modules and image.ndim <= MAX_META_AXES:
            from monai.data.meta_tensor import MetaTensor

            # as of MONAI's LoadImage: SaveImage writes masks on the grid that these say
            grid = {"original_affine": affine.clone(), "spatial_shape": torch.tensor(image.shape[1:])}
            image, label = (MetaTensor(tensor, affine=affine.clone(), meta=dict(grid)) for tensor in (image, label))
        facts, row = self.mice.frames[mouse], int(rows.row[i])
        labelled = torch.from_numpy(facts.labelled)[row if row >= 0 else slice(None)]
        frame: dict[str, Any]
        if row >= 0:
            frame = {name: getattr(facts, name)[row].item() for name in FRAME_KEYS}
        else:
            frame = {name: torch.tensor(getattr(facts, name)) for name in FRAME_KEYS if name != "phase"}
            frame["phase"] = facts.phase.tolist()
        return {
            "image": image,
            "label": label,
            "valid": labelled.reshape(1, -1, *[1] * (label.ndim - 2)).clone(),
            "affine": affine,
            "mouse": self.mice.names[mouse],
            "slice": int(rows.slice[i]),
            **frame,
            "spacing": torch.from_numpy(self.mice.spacing[mouse].copy()),
            "synthetic": bool(self.mice.synthetic[mouse]),
            "split": self.mice.splits[mouse],
            "phenotype": self.mice.phenotypes[mouse],
        }

    def _get_affines(self) -> NDArray[np.float64]:
        """Return the affine of each sample; that of a slice has its position in the stack."""
        affine = self.mice.affine[self.rows.mouse]
        affine[:, :3, 3] += affine[:, :3, 2] * np.maximum(self.rows.slice, 0)[:, None]
        return affine

    def to_dict(self) -> dict[str, Any]:
        """Return the batch as one dictionary: tensors where shapes are equal, lists where they differ."""
        rows, mice = self.rows, self.rows.mouse.tolist()
        samples = list(zip(mice, rows.row.tolist(), strict=True))
        frame: dict[str, Any] = {}
        for name in FRAME_KEYS:
            values = [getattr(self.mice.frames[m], name)[slice(None) if row < 0 else row] for m, row in samples]
            if name == "phase":
                frame[name] = [value.tolist() if isinstance(value, np.ndarray) else str(value) for value in values]
            elif len({np.shape(value) for value in values}) == 1:
                frame[name] = torch.from_numpy(np.array(values))
            else:
                frame[name] = [torch.from_numpy(value.copy()) for value in values]
        labelled, label = frame["labelled"], self.labels
        shape = (1, -1, *[1] * (label[0].ndim - 2))
        return {
            "image": self.images,
            "label": label,
            "valid": [v.reshape(shape) for v in labelled]
            if isinstance(labelled, list)
            else labelled.reshape(len(rows), *shape),
            "affine": torch.from_numpy(self._get_affines()),
            "mouse": [self.mice.names[m] for m in mice],
            "slice": torch.from_numpy(rows.slice),
            **frame,
            "spacing": torch.from_numpy(self.mice.spacing[rows.mouse]),
            "synthetic": torch.from_numpy(self.mice.synthetic[rows.mouse]),
            "split": [self.mice.splits[m] for m in mice],
            "phenotype": [self.mice.phenotypes[m] for m in mice],
        }


def collate(samples: Sequence[Any]) -> dict[str, Any]:
    """Return one dictionary of a batch's samples, for ``DataLoader(collate_fn=collate)``.

    Values of one shape are stacked to (n, ...). Images and labels of different shapes (stacks of different
    mice have different numbers of slices) stay lists of tensors: nothing is padded or cropped. MONAI's MetaTensors keep
    the affine of each sample.
    """
    if isinstance(samples, Batch) and samples.made is None:
        return samples.to_dict()
    out: dict[str, Any] = {}
    for key in samples[0]:
        values = [sample[key] for sample in samples]
        ragged = isinstance(values[0], list)  # of the phases of a cine
        ragged |= isinstance(values[0], torch.Tensor) and len({v.shape for v in values}) > 1
        if not ragged and hasattr(values[0], "affine"):
            from monai.data.utils import list_data_collate

            out |= list_data_collate([{key: value} for value in values])
        else:
            out[key] = values if ragged else default_collate(values)
    return out
