"""One mouse: segmented, measured and checked. No file is read or written here."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.notices import list_notices
from mousecmr_data.errors import FileLayoutError, UnitsError
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN, ATTR_NOTES, SPACING_HINT
from mousecmr_data.metrics.volumes import Measures, analyze_curve, make_phases, measure, smooth_curve
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.pipeline.quality import IMPOSSIBLE_UL, Flag, check_curve, check_function, check_images, check_masks
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.phases import ED, ES, UNKNOWN
from mousecmr_data.schema.variables import DIMS, IMAGE, MASK, PREDICTED, UNPROCESSED

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor


TABLE_DIGITS = 4
"""Decimals in the tables."""
ATTR_HEART_RATE = "heart_rate_bpm"
"""The attribute, and the column, of the heart rate."""


@dataclass(frozen=True)
class AnalysisResult:
    """A segmented mouse."""

    name: str
    ds: xr.Dataset
    """The cine with ``predicted`` (frame, slice, y, x); ``phase`` holds ED and ES of the masks' own curve."""
    mouse: dict[str, Any]
    """A row for the table of mice: EDV, ESV, SV, EF, mass, heart rate, peak rates, flags. NaN is missing."""
    frames: pd.DataFrame
    """A row a frame: time, phase, volumes, mass, flags."""
    slices: pd.DataFrame
    """A row a slice of each frame: areas, flags."""
    flags: tuple[Flag, ...]
    marks: tuple[str, ...]
    """Sentences to show with every number and picture."""
    seconds: float


def analyze(
    ds: xr.Dataset,
    predictor: Predictor,
    config: SegmentConfig | None = None,
    progress: Callable[[int], None] | None = None,
    name: str | None = None,
) -> AnalysisResult:
    """Segment every frame of ``ds`` (the cine model), measure, and raise flags.

    ED and ES are those of :func:`~mousecmr_data.metrics.volumes.find_ed_es`; volumes are counted on the masks
    themselves. ``progress`` is called with the number of 2D slices
    done. Masks that ``ds`` has already are left out of the result.

    Raises :class:`~mousecmr_data.errors.UnitsError` where the ventricle would be larger than any mouse's, and
    :class:`~mousecmr_data.errors.FileLayoutError` where there is no image.
    """
    config = config or SegmentConfig()
    if not ds[IMAGE].size:
        raise FileLayoutError(f"There is no image: {dict(ds[IMAGE].sizes)}.", "a frame and a slice, at least")
    start = time.perf_counter()
    who = name or str(ds.attrs.get("mouse", "mouse"))
    ds = ds.drop_vars(MASK, errors="ignore")
    ds = ds.assign({IMAGE: (DIMS, ds[IMAGE].transpose(*DIMS).values)})
    made = predictor.segment(
        ds,
        postprocessing=config.postprocessing,
        batch_size=config.batch_size,
        region=config.region,
        progress=progress,
        unprocessed=True,
    )
    labels, before, attrs = made[PREDICTED].values, made[UNPROCESSED].values, made[PREDICTED].attrs
    made = made.drop_vars(UNPROCESSED)
    made = made.assign_attrs(mouse=who).assign_coords(labelled=("frame", np.ones(len(labels), bool)))
    m = measure(made, mask=PREDICTED)
    volumes = m.frames["blood_pool_ul"].to_numpy()
    if volumes.max() > IMPOSSIBLE_UL:
        voxel = " × ".join(f"{v:g}" for v in m.voxel_size_mm)
        raise UnitsError(
            f"{who}: a left ventricle of {volumes.max() / 1000:.1f} mL is no mouse's. Voxels: {voxel} mm "
            f"({ds.attrs.get('voxel_size_source', 'source unknown')}).",
            f"at most {IMPOSSIBLE_UL:g} µL",
            SPACING_HINT,
        )
    smoothed, phase = smooth_curve(volumes), make_phases(volumes)
    if volumes.size == 1:
        phase[0] = UNKNOWN
    made = made.assign_coords(phase=("frame", phase))
    m = measure(made, mask=PREDICTED)
    flags = _collect_flags(made, before, volumes)
    row = _make_row(made, m)
    flags += tuple(check_function(row["edv_ul"], row["ef_percent"]))
    said = list_notices(bool(attrs["synthetic_training"]), bool(ds.attrs.get("synthetic")))
    row = {k: round(v, TABLE_DIGITS) if isinstance(v, float) else v for k, v in row.items()}
    common = {"weights": attrs["weights"], "marks": " ".join(said)}
    return AnalysisResult(
        who,
        made,
        {"mouse": who, **row, "flags": _join_flags(flags), **common},
        _make_frame_table(made, m, smoothed, flags).round(TABLE_DIGITS).assign(**common),
        _make_slice_table(made, m, flags).round(TABLE_DIGITS).assign(**common),
        flags,
        said,
        time.perf_counter() - start,
    )


def _make_row(ds: xr.Dataset, m: Measures) -> dict[str, Any]:
    volumes = m.frames["blood_pool_ul"].to_numpy()
    timed = bool(ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True)) and volumes.size > 1
    c = analyze_curve(volumes, float(ds["time"].attrs["frame_time"]))
    stated = ds.attrs.get(ATTR_HEART_RATE)
    estimated = "one beat taken as the whole cine" if timed else "missing"
    pair = np.isfinite(m.edv_ul)
    return {
        "source": ds.attrs.get("source", ""),
        "format": ds.attrs.get("format", ""),
        "frames": ds.sizes["frame"],
        "slices": ds.sizes["slice"],
        "edv_ul": m.edv_ul,
        "esv_ul": m.esv_ul,
        "sv_ul": m.sv_ul,
        "ef_percent": m.ef_percent,
        "mass_ed_mg": m.mass_ed_mg,
        "mass_es_mg": m.mass_es_mg,
        "ed_frame": _find_phase_frame(ds, ED),
        "es_frame": _find_phase_frame(ds, ES),
        ATTR_HEART_RATE: float(stated) if stated else c.heart_rate_bpm if timed else np.nan,
        "heart_rate_source": "the file" if stated else estimated,
        "peak_ejection_rate_ul_s": c.peak_ejection_rate_ul_s if timed and pair else np.nan,
        "peak_filling_rate_ul_s": c.peak_filling_rate_ul_s if timed and pair else np.nan,
        "peak_ejection_rate_edv_s": c.peak_ejection_rate_edv_s if timed and pair else np.nan,
        "peak_filling_rate_edv_s": c.peak_filling_rate_edv_s if timed and pair else np.nan,
        "voxel_z_mm": m.voxel_size_mm[0],
        "voxel_y_mm": m.voxel_size_mm[1],
        "voxel_x_mm": m.voxel_size_mm[2],
        "voxel_size_source": m.voxel_size_source,
        "frame_time_ms": float(ds["time"].attrs["frame_time"]) if timed else np.nan,
        "synthetic_images": m.synthetic,
    }


def _collect_flags(ds: xr.Dataset, before: Any, volumes: Any) -> tuple[Flag, ...]:
    labels = ds[PREDICTED].values
    found = [
        *check_masks(labels, before),
        *check_images(ds[IMAGE].values, labels),
        *check_curve(volumes),
    ]
    if volumes.size == 1:
        found.append(Flag("single_frame", "One frame: no ED and ES."))
    elif not ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True):
        found.append(Flag("frame_time_unknown", "Give it in ms: --frame-time 5"))
    found += [Flag("input_note", str(note)) for note in ds.attrs.get(ATTR_NOTES, ())]
    return tuple(found)


def _make_frame_table(ds: xr.Dataset, m: Measures, smoothed: Any, flags: tuple[Flag, ...]) -> pd.DataFrame:
    table = m.frames.copy()
    if not ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True):
        table["time_ms"] = np.nan
    table["phase"] = table["phase"].where(table["phase"].isin([ED, ES]), "")
    table.insert(4, "blood_pool_smoothed_ul", smoothed)
    table["flags"] = [_join_flags([f for f in flags if f.frame == k]) for k in table["frame"]]
    table.insert(0, "mouse", ds.attrs["mouse"])
    return table


def _make_slice_table(ds: xr.Dataset, m: Measures, flags: tuple[Flag, ...]) -> pd.DataFrame:
    """A row a slice of each frame."""
    labels = ds[PREDICTED].values
    pixel = m.voxel_size_mm
    by_place: dict[tuple[int | None, int | None], list[Flag]] = {}
    for f in flags:
        by_place.setdefault((f.frame, f.slice), []).append(f)
    n_frames, n_slices = labels.shape[:2]
    area = pixel[1] * pixel[2]
    return pd.DataFrame(
        {
            "mouse": ds.attrs["mouse"],
            "frame": np.repeat(np.arange(n_frames), n_slices),
            "slice": np.tile(np.arange(n_slices), n_frames),
            "blood_pool_mm2": (labels == Label.BLOOD_POOL).sum(axis=(2, 3)).ravel() * area,
            "myocardium_mm2": (labels == Label.MYOCARDIUM).sum(axis=(2, 3)).ravel() * area,
            "flags": [
                _join_flags(by_place.get((f, s), []) + by_place.get((None, s), []))
                for f in range(n_frames)
                for s in range(n_slices)
            ],
        }
    )


def _find_phase_frame(ds: xr.Dataset, phase: str) -> int | None:
    found = np.flatnonzero(ds["phase"].values == phase)
    return int(found[0]) if found.size else None


def _join_flags(flags: list[Flag] | tuple[Flag, ...]) -> str:
    return " ".join(dict.fromkeys(f.flag for f in flags))
