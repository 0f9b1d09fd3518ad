"""One file of the dataset's layout becomes one lazy dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from mousecmr_data.cine import hdf5, model
from mousecmr_data.cine.lazy import LazyArray
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.variables import (
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    IMAGES,
    MASKS,
    NOT_PUBLISHED,
)


@dataclass(frozen=True)
class Parts:
    """What a dataset is made of. Nothing is open, so parts pickle."""

    path: Path
    image: LazyArray
    mask: LazyArray | None
    labelled_frames: tuple[int, ...]
    sizes: model.Sizes
    attrs: Mapping[str, Any]

    def dataset(self, attrs: Mapping[str, Any] | None = None) -> xr.Dataset:
        """The dataset, with ``attrs`` in addition."""
        return model.dataset(self.image, self.mask, self.labelled_frames, self.sizes, {**self.attrs, **(attrs or {})})


def parts(
    path: str | Path,
    *,
    mouse: str | None = None,
    source: str | None = None,
    version: str = "not stated",
    manifest: Manifest | None = None,
    voxel_size_mm: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
) -> Parts:
    """Look at a file's outline; no pixel is read. Parameters as for ``open_file``."""
    outline = hdf5.read_outline(path)
    own = outline.attrs
    shape = (outline.n_frames, outline.n_slices, *outline.shape_yx)
    return Parts(
        Path(path),
        hdf5.FileArray(path, IMAGES, shape, "uint16"),
        hdf5.FileArray(path, MASKS, shape, "uint8") if outline.has_masks else None,
        outline.labelled_frames,
        model.sizes(own, voxel_size_mm, frame_time_ms, manifest),
        {
            "mouse": mouse or str(own.get(ATTR_MOUSE, Path(path).stem)),
            "source": source or str(own.get(ATTR_SOURCE, Path(path).name)),
            "version": version,
            "split": "none",
            "phenotype": str(own.get(ATTR_PHENOTYPE, NOT_PUBLISHED)),
            "synthetic": bool(own.get(ATTR_SYNTHETIC, False)) or bool(manifest and manifest.synthetic),
        },
    )


def open_file(
    path: str | Path,
    *,
    voxel_size_mm: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
) -> xr.Dataset:
    """Open one mouse; no pixel is read until asked for.

    ``voxel_size_mm`` (z, y, x) and ``frame_time_ms`` override what the file or the manifest says.
    Attributes of the result: mouse, source, version, split, phenotype (or "not published"),
    synthetic, slice_order, voxel_size_source, frame_time_source.
    """
    return parts(path, voxel_size_mm=voxel_size_mm, frame_time_ms=frame_time_ms).dataset()
