"""Make a map-style PyTorch dataset of slices, stacks or cines from a cohort."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mousecmr_data._utils.text import format_bytes
from mousecmr_data.adapters.torch.batch import Batch, FrameInfo, MouseInfo, SampleIndex
from mousecmr_data.adapters.torch.storage import LazyStorage, MemmapStorage, MemoryStorage, PixelStorage
from mousecmr_data.dataset.cohort import Cohort, check_is_cohort
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.dataset.model import check_not_empty
from mousecmr_data.dataset.notebook import N_PICTURES, draw_picture, format_block
from mousecmr_data.dataset.samples import Frames, FrameTable, check_frames, read_frame_tables, select_frames
from mousecmr_data.errors import ArgumentError, UnlabelledError

Kind = Literal["slices", "stacks", "cines"]
Mode = Literal["memmap", "memory", "lazy"]
Sample = dict[str, Any]
READ_DTYPES: dict[torch.dtype | None, type[np.generic]] = {torch.float32: np.float32, torch.float64: np.float64}
"""Types that images are read as directly; for other types they are read as uint16, and PyTorch converts them."""


def dataset(
    cohort: Cohort,
    kind: Kind = "slices",
    *,
    frames: Frames = "labelled",
    transform: Callable[[Sample], Any] | None = None,
    dtype: torch.dtype | None = torch.float32,
    mode: Mode = "memmap",
    cache: str | Path | None = None,
) -> MouseDataset:
    """Return the samples of ``cohort``.

    Parameters
    ----------
    kind
        What a sample is: "slices", one 2D slice (1, y, x); "stacks", all slices of a frame
        (1, slice, y, x); "cines", a whole mouse (1, frame, slice, y, x).
    frames
        "labelled" (default), "unlabelled", "all", or phases such as ["ED", "ES"].
    transform
        Called with each sample, a dictionary in the form of MONAI's transforms: ``image`` (dtype), ``label`` (uint8: 0,
        1, 2, and 255, the padding, in frames that were not segmented), ``valid`` (bool: whether ``label`` is known;
        its axes have length 1, that of the frames of a cine excepted), ``mouse``, ``slice``, ``frame``, ``phase``,
        ``labelled`` and ``time`` (ms), ``spacing`` (mm, of the array's spatial axes), ``affine`` (4, 4) from these axes
        to RAS+ in mm, ``synthetic``, ``split``, ``phenotype``. In a cine, ``frame``, ``labelled`` and ``time`` are
        tensors (frame,), and ``phase`` is a list. Where MONAI is used (imported), images and labels of slices and
        stacks are its MetaTensors.
    dtype
        Of ``image``; None keeps uint16, on which PyTorch supports few operations (no maximum, no sorting).
    mode
        "memmap": uncompressed files in the cache, written on first use, mapped into memory and shared by
        all workers (0.2 MB on disk for a slice of 256 x 256); "memory": all pixels in this process's
        memory (0.2 MB per slice; see ``nbytes``); "lazy": each sample is read from the cohort.
    cache
        Folder for the files of "memmap". Default: in the cohort's own cache.

    Raises UnlabelledError if no frame is selected.
    """
    check_is_cohort(cohort, "dataset()")
    for name, value, values in (("kind", kind, get_args(Kind)), ("mode", mode, get_args(Mode))):
        if value not in values:
            raise ArgumentError.from_name(name, value, values)
    if dtype is not None and not isinstance(dtype, torch.dtype):
        raise ArgumentError(
            f"dtype={dtype!r}.", "a torch.dtype, or None for uint16", "dataset(..., dtype=torch.float32)"
        )
    frames = check_frames(frames)
    check_not_empty(cohort)
    cohort.source.prepare(cohort.mice)
    parts: list[SampleIndex] = []
    selected: list[NDArray[np.intp]] = []
    spacing: list[tuple[float, ...]] = []
    affines: list[NDArray[np.float64]] = []
    synthetic: list[bool] = []
    infos: list[FrameInfo] = []
    opener = cohort.opener
    if isinstance(opener, FileOpener):
        tables = read_frame_tables(cohort, opener)
    else:
        tables = [FrameTable.from_dataset(ds) for ds in cohort.values()]
    for number, table in enumerate(tables):
        z, y, x = table.spacing_mm
        spacing.append((y, x) if kind == "slices" else (z, y, x))
        affine = np.array([[0, 0, x, 0], [0, y, 0, 0], [z, 0, 0, 0], [0, 0, 0, 1.0]])
        affines.append(affine[:, [1, 2, 0, 3]] if kind == "slices" else affine)
        synthetic.append(table.synthetic)
        selected.append(select_frames(table, frames))
        infos.append(FrameInfo.from_table(table, selected[-1]))
        parts.append(SampleIndex.from_sizes(number, selected[-1].size, table.n_slices, kind))
    index = SampleIndex.concatenate(parts)
    if len(index) == 0:
        raise UnlabelledError(f"frames={frames!r} selects no frame of {cohort!r}.", "at least one", "frames='all'")
    pixels: PixelStorage
    if mode == "memmap":
        pixels = MemmapStorage(cohort, selected, frames in ("all", "unlabelled"), Path(cache) if cache else None)
    elif mode == "lazy":
        pixels = LazyStorage(cohort, selected)
    else:
        pixels = MemoryStorage(cohort, selected)
    groups = (tuple(infos), tuple(cohort.splits.values()), tuple(cohort.phenotypes.values()))
    mice = MouseInfo(cohort.mice, np.array(spacing, np.float32), np.array(affines), np.array(synthetic), *groups)
    return MouseDataset(mice, index, pixels, kind, transform, dtype)


@dataclass(eq=False, repr=False)
class MouseDataset(Dataset[Any]):
    """Samples of a cohort; made by :func:`dataset`. Can be pickled; each worker opens its own files."""

    mice: MouseInfo
    index: SampleIndex
    pixels: PixelStorage
    kind: Kind
    transform: Callable[[Sample], Any] | None
    dtype: torch.dtype | None

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> Any:
        if not -len(self) <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        sample = self._read_batch([i % len(self)])[0]
        return self.transform(sample) if self.transform else sample

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Any]:
        """Return the samples at ``indices``. Images of one shape are read into one tensor, and so are their
        labels; ``collate`` uses these tensors without another copy."""
        if not len(indices):
            return []
        batch = self._read_batch(indices)
        return [self.transform(sample) for sample in batch] if self.transform else batch

    def _repr_html_(self) -> str:
        """Return sizes, mice and some samples, before the transform, as HTML for notebooks."""
        mice, shown = self.mice, min(N_PICTURES, len(self))
        pictures = []
        for i in np.linspace(0, len(self) - 1, shown, dtype=int).tolist():
            (sample,) = self._read_batch([i])
            image, label = (np.asarray(sample[key])[0] for key in ("image", "label"))
            while image.ndim > 2:
                image, label = image[len(image) // 2], label[len(label) // 2]
            shape = " × ".join(map(str, sample["image"].shape))
            pictures.append(draw_picture(image, label, [f"{i}: {sample['mouse']}", sample["phenotype"], shape]))
        splits, groups = (", ".join(f"{n} {k}" for k, n in Counter(x).items()) for x in (mice.splits, mice.phenotypes))
        transform = "none" if self.transform is None else getattr(self.transform, "__name__", repr(self.transform))
        facts = {
            "image": f"{self.dtype or 'uint16'}; {format_bytes(self.nbytes)} in memory",
            "mice by split": splits,
            "mice by phenotype": groups,
            "transform": f"{transform} (pictures are before it)",
        }
        title = f"{len(self)} {self.kind} of {len(mice.names)} mice"
        return format_block(title, facts, pictures, bool(mice.synthetic.any()))

    @property
    def nbytes(self) -> int:
        """Bytes of pixels held in this process's memory; 0 for modes that hold none."""
        return self.pixels.nbytes

    def _read_batch(self, indices: Sequence[int]) -> Batch:
        rows = self.index.take(np.asarray(indices, np.intp))
        images, labels = self.pixels.read(rows, self.kind, READ_DTYPES.get(self.dtype, np.uint16))
        if self.dtype is not None:
            images = [image.to(self.dtype) for image in images] if isinstance(images, list) else images.to(self.dtype)
        return Batch(images, labels, rows, self.mice)
