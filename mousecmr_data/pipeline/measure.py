"""Measure one mouse from its masks, whatever they are in. The masks of an HDF5 file need neither xarray nor pandas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mousecmr_data import api
from mousecmr_data.dataset.hdf5 import MouseParts, read_parts
from mousecmr_data.dataset.model import assign_phases
from mousecmr_data.formats.masks import find_result
from mousecmr_data.metrics.volumes import Measures, check_labelled, check_pair, measure_labels
from mousecmr_data.metrics.volumes import measure as measure_dataset
from mousecmr_data.pipeline.quality import check_function, check_masks
from mousecmr_data.schema import DEFAULT_DATASET
from mousecmr_data.schema.labels import Label, LabelMap, parse_label_map
from mousecmr_data.schema.variables import DIMS, MASK, MASK_SUFFIXES

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray


def measure(
    mouse: xr.Dataset | str | PathLike[str],
    *,
    mask: str = MASK,
    ed: int | None = None,
    es: int | None = None,
    find_phases: bool = False,
    source: str | PathLike[str] = DEFAULT_DATASET,
    cache: str | PathLike[str] | None = None,
    spacing: Sequence[float] | None = None,
    frame_time_ms: float | None = None,
    labels: str | LabelMap | None = None,
    axes: str | None = None,
) -> Measures:
    """Measure one mouse from its masks: EDV, ESV, SV, EF and mass.

    ``mouse`` is a dataset of the cine model (``mask`` names its variable (frame, slice, y, x) of labels 0, 1, 2), a
    file of masks (NIfTI, NRRD, MetaImage, DICOM SEG, HDF5), the name of a mouse of ``source``, or a folder of
    ``mousecmr segment``, whose masks may have been edited since; ED and ES are then as they were. ``ed`` and ``es`` are
    other frames for them; ``find_phases`` finds them on the volume curve. The others are those of
    :func:`~mousecmr_data.open_mouse`. Only labelled frames are read. Without an ED/ES pair, EDV, ESV, SV, EF and the
    two masses are missing (NaN).

    Raises :class:`~mousecmr_data.errors.UnlabelledError` (no labelled frame, or no mask),
    :class:`~mousecmr_data.errors.LabelError`, :class:`~mousecmr_data.errors.UnitsError` (no usable voxel size),
    :class:`~mousecmr_data.errors.ArgumentError` (only one of ``ed`` and ``es``), and what opening a file raises.
    """
    check_pair(ed, es, find_phases)
    reading: Any = {"spacing": spacing, "frame_time_ms": frame_time_ms, "labels": labels, "axes": axes}
    if not isinstance(mouse, str | PathLike):
        return measure_dataset(_choose_phases(mouse, mask, ed, es, find_phases), mask=mask)
    if folder := find_result(mouse):
        from mousecmr_data.pipeline.review import open_result

        opened = open_result(folder)
        opened.choose_phases(ed, es, find=find_phases)
        return opened.analyze().to_measures()
    parts = None if find_phases or ed is not None or mask != MASK else _read_parts(mouse, source, cache, reading)
    if parts and parts.mask:
        measures, masks = _measure_parts(parts)
    else:
        ds = api.open_mouse(mouse, source=source, cache=cache, **reading)
        measures = measure_dataset(ds := _choose_phases(ds, mask, ed, es, find_phases), mask=mask)
        masks = ds[mask].isel(frame=np.flatnonzero(ds["labelled"].values)).transpose(*DIMS).values
    raised = (*check_masks(masks, masks), *check_function(measures.edv_ul, measures.ef_percent))
    return replace(measures, flags=tuple(dict.fromkeys(flag.flag for flag in raised)))


def _read_parts(
    mouse: str | PathLike[str], source: str | PathLike[str], cache: str | PathLike[str] | None, reading: dict[str, Any]
) -> MouseParts | None:
    """Return the parts of a mouse that is in an HDF5 file; None if it is in another one, or in a store."""
    path = Path(mouse)
    if path.suffix or path.is_file() or len(path.parts) > 1:
        if path.name.lower().endswith(MASK_SUFFIXES):
            return None
        labels = reading["labels"]
        return read_parts(path, **{**reading, "labels": parse_label_map(labels) if isinstance(labels, str) else labels})
    if any(value is not None for value in reading.values()) or api.is_store(source):
        return None
    manifest = api.resolve_manifest(source)
    ((name, file),) = api.fetch([str(mouse)], source=source, cache=cache).items()
    return read_parts(file, mouse=name, source=manifest.name, version=manifest.version, manifest=manifest)


def _measure_parts(parts: MouseParts) -> tuple[Measures, NDArray[np.uint8]]:
    """Measure the labelled frames of a file; also return their masks (n, slice, y, x)."""
    assert parts.mask is not None  # noqa: S101 (checked by the caller)
    labelled, (n_frames, _, *pixels) = np.array(parts.labelled_frames, np.intp), parts.mask.shape
    check_labelled(str(parts.attrs["mouse"]), labelled)
    masks = parts.mask.read((labelled, slice(None), slice(None), slice(None)))
    dz, *in_plane = parts.sizes.voxel_size_mm
    # The size of a pixel as the coordinates of a dataset state it: with the same last digit.
    dy, dx = (abs(float(np.diff(np.arange(n) * d).mean())) for n, d in zip(pixels, in_plane, strict=True))
    phases = assign_phases(n_frames, parts.labelled_frames, masks if labelled.size > 2 else None)
    measures = measure_labels(
        masks,
        frames=labelled,
        times_ms=labelled * parts.sizes.frame_time_ms,
        phases=phases[labelled],
        voxel_size_mm=(dz, dy, dx),
        attrs={**parts.attrs, "voxel_size_source": parts.sizes.voxel_size_source},
    )
    return measures, masks


def _choose_phases(ds: xr.Dataset, mask: str, ed: int | None, es: int | None, find: bool) -> xr.Dataset:
    """Return ``ds`` with these frames as ED and ES, or with those that are found on the volume curve, if asked."""
    if (not find and ed is None) or not hasattr(ds, "data_vars"):  # no dataset: measuring it says so
        return ds
    from mousecmr_data.pipeline.analysis import mark_phases

    pools = np.count_nonzero(ds[mask].transpose(*DIMS).values == Label.BLOOD_POOL, axis=(1, 2, 3)).astype(float)
    pair = None if ed is None or es is None else (ed, es)
    return ds.assign_coords(phase=("frame", mark_phases(pools, pair)))
