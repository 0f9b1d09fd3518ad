"""Segment, measure and check one mouse in memory. No file is read or written here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.text import list_notices
from mousecmr_data.dataset.model import SPACING_HINT, get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError, UnitsError
from mousecmr_data.formats.build import (
    ATTR_FRAME_TIME_KNOWN,
    ATTR_HEART_RATE,
    ATTR_HEART_RATE_SOURCE,
    ATTR_INCOMPLETE,
    ATTR_NOTES,
    ATTR_PURPOSE,
)
from mousecmr_data.metrics.volumes import Measures, analyze_curve, make_phases, measure, smooth_curve
from mousecmr_data.pipeline.quality import (
    IMPOSSIBLE_UL,
    Flag,
    check_curve,
    check_function,
    check_heart_rate,
    check_images,
    check_masks,
    check_slices,
)
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.variables import (
    DIMS,
    ED,
    ES,
    EXPECTED_DICE,
    IMAGE,
    MASK,
    NOT_STATED,
    PREDICTED,
    UNKNOWN,
    UNLABELLED,
    UNPROCESSED,
)

if TYPE_CHECKING:
    from mousecmr_data.inference.predictor import Predictor
    from mousecmr_data.pipeline.config import SegmentConfig


TABLE_DIGITS = 4
"""Decimals in the tables."""
VOLUMES_AND_MASSES = ("edv_ul", "esv_ul", "sv_ul", "ef_percent", "mass_ed_mg", "mass_es_mg")
"""Columns of the table of mice, with the names of the fields of Measures."""
PEAK_RATES = tuple(f"peak_{phase}_rate_{unit}" for unit in ("ul_s", "edv_s") for phase in ("ejection", "filling"))
"""Columns of the table of mice, with the names of the fields of VolumeCurve."""
FINAL_NUMBERS = (*VOLUMES_AND_MASSES, "ed_frame", "es_frame")
"""Columns of the table of mice that a review changes; those of the network's own masks end in ``_auto``."""
REVIEW_COLUMNS = ("slices_edited", "slices_excluded", "slices_confirmed", "readers", "review_minutes")
SINGLE_FRAME_NUMBERS = ("volume_ul", "mass_mg")
"""Columns of the table of mice that only a scan with one frame has; shown to people where there is one."""
MICE_COLUMNS = (
    *("source", "format", "frames", "slices", *FINAL_NUMBERS, *SINGLE_FRAME_NUMBERS),
    *(ATTR_HEART_RATE, ATTR_HEART_RATE_SOURCE, *PEAK_RATES),
    *("voxel_z_mm", "voxel_y_mm", "voxel_x_mm", "voxel_size_source", "frame_time_ms", "synthetic_images"),
    *(*(f"{name}_auto" for name in FINAL_NUMBERS), *REVIEW_COLUMNS, "flags", "weights", "marks"),
)
"""Columns of the table of mice after the mouse, the same in every run."""
AUTO = "auto"
"""Status of a slice as the network left it; the others are in :mod:`mousecmr_data.pipeline.review`."""
ONE_BEAT = "one beat taken as the whole cine"
"""Source of a heart rate that no file states."""


@dataclass(frozen=True)
class AnalysisResult:
    """A segmented mouse with its measures and flags."""

    name: str
    ds: xr.Dataset
    """The cine with ``predicted`` (frame, slice, y, x); ``phase`` marks ED and ES."""
    mouse: dict[str, Any]
    """One row for the table of mice, with :data:`MICE_COLUMNS`. NaN means missing."""
    frames: pd.DataFrame
    """One row per frame: time, phase, volumes, mass, flags; ``_auto``: of the network's own masks."""
    slices: pd.DataFrame
    """One row per slice of each frame: areas, what post-processing added and removed, expected Dice, status, flags."""
    flags: tuple[Flag, ...]
    marks: tuple[str, ...]
    """Notices to show with every number and picture."""
    seconds: float

    def to_measures(self) -> Measures:
        """Return the numbers alone, with the names of the flags."""
        return replace(measure(self.ds, mask=PREDICTED), flags=tuple(dict.fromkeys(f.flag for f in self.flags)))


def analyze(
    ds: xr.Dataset,
    predictor: Predictor,
    config: SegmentConfig | None = None,
    progress: Callable[[int], None] | None = None,
    name: str | None = None,
) -> AnalysisResult:
    """Segment every frame of ``ds`` (the cine model), measure the masks, and raise flags.

    ED and ES are those of :func:`~mousecmr_data.metrics.volumes.find_ed_es`; volumes are counted on the masks
    themselves. ``progress`` is called with the number of 2D slices done. Existing masks of ``ds`` are left out of the
    result.

    Raises :class:`~mousecmr_data.errors.UnitsError` if the ventricle would be larger than in any mouse, and
    :class:`~mousecmr_data.errors.FileLayoutError` if there is no image.
    """
    from mousecmr_data.pipeline.config import SegmentConfig  # which measuring does not need

    config = config or SegmentConfig()
    if not ds[IMAGE].size:
        raise FileLayoutError(f"There is no image: {dict(ds[IMAGE].sizes)}.", "at least one frame and one slice")
    start = time.perf_counter()
    ds = ds.drop_vars(MASK, errors="ignore")
    ds = ds.assign({IMAGE: (DIMS, ds[IMAGE].transpose(*DIMS).values)})
    segmented = predictor.segment(
        ds, postprocessing=config.postprocessing, batch_size=config.batch_size, region=config.region,
        progress=progress, unprocessed=True,
    )  # fmt: skip
    unprocessed, expected = segmented[UNPROCESSED].values, segmented[EXPECTED_DICE].values
    named = segmented.drop_vars([UNPROCESSED, EXPECTED_DICE]).assign_attrs(
        mouse=name or str(ds.attrs.get("mouse", "mouse"))
    )
    result = measure_masks(named, unprocessed=unprocessed, expected=expected)
    return replace(result, seconds=time.perf_counter() - start)


def measure_masks(
    ds: xr.Dataset,
    *,
    pair: tuple[int, int] | None = None,
    unprocessed: NDArray[np.uint8] | None = None,
    expected: NDArray[np.floating[Any]] | None = None,
    automatic: NDArray[np.uint8] | None = None,
    status: NDArray[np.str_] | None = None,
    kept: Sequence[Flag] = (),
) -> AnalysisResult:
    """Measure the masks ``predicted`` of ``ds`` (the cine model; without ``image``, grey values are not checked).

    ``pair`` are the frames of ED and ES; None finds them on the volume curve. ``unprocessed`` are the masks before
    post-processing, ``automatic`` those of the network before a person corrected them, all (frame, slice, y, x).
    ``expected`` (frame, slice) is the Dice that the network expects, and ``status`` (frame, slice) says what was
    corrected. ``kept`` are flags of an earlier analysis that cannot be raised
    from masks alone. Raises :class:`~mousecmr_data.errors.UnitsError` if the ventricle would be larger than in any
    mouse.
    """
    start = time.perf_counter()
    labels, attrs = ds[PREDICTED].values, ds[PREDICTED].attrs
    name = str(ds.attrs["mouse"])
    ds = ds.assign_coords(labelled=("frame", np.ones(len(labels), bool)))
    voxel = get_spacing(ds)
    volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * float(np.prod(voxel))
    if volumes.max() > IMPOSSIBLE_UL:
        size = " × ".join(f"{v:g}" for v in voxel)
        text = f"{name}: a left ventricle of {volumes.max() / 1000:.1f} mL is too large for a mouse."
        text += f" Voxels: {size} mm ({ds.attrs.get('voxel_size_source', 'source unknown')})."
        raise UnitsError(text, f"at most {IMPOSSIBLE_UL:g} µL", SPACING_HINT)
    ds = ds.assign_coords(phase=("frame", mark_phases(volumes, pair)))
    measures = measure(ds, mask=PREDICTED)
    row = _make_row(ds, measures)
    flags = (
        *kept,
        *_collect_flags(ds, labels if unprocessed is None else unprocessed, expected, volumes),
        *check_function(row["edv_ul"], row["ef_percent"]),
        *check_heart_rate(row[ATTR_HEART_RATE], row[ATTR_HEART_RATE_SOURCE]),
    )
    notices = list_notices(
        bool(attrs.get("synthetic_training")), bool(ds.attrs.get("synthetic")), bool(attrs.get("synthetic_ancestry"))
    )
    row = {k: round(v, TABLE_DIGITS) if isinstance(v, float) else v for k, v in row.items()}
    common = {"weights": attrs.get("weights", NOT_STATED), "marks": " ".join(notices)}
    automatic = labels if automatic is None else automatic
    frames = _make_frame_table(ds, automatic, measures, smooth_curve(volumes), flags)
    slices = _make_slice_table(ds, automatic, unprocessed, expected, status, measures, flags)
    return AnalysisResult(
        name,
        ds,
        {"mouse": name, **row, "flags": join_flags(flags), **common},
        frames.round(TABLE_DIGITS).assign(**common),
        slices.round(TABLE_DIGITS).assign(**common),
        flags,
        notices,
        time.perf_counter() - start,
    )


def mark_phases(volumes_ul: NDArray[np.float64], pair: tuple[int, int] | None = None) -> NDArray[np.str_]:
    """Return the phase of each frame (frame,): ED and ES are ``pair``, or found on the curve of volumes (frame,).

    Raises :class:`~mousecmr_data.errors.ArgumentError` if there are no such frames.
    """
    phase = make_phases(volumes_ul)
    if volumes_ul.size == 1:
        phase[0] = UNKNOWN
    elif pair is not None:
        if not all(0 <= frame < volumes_ul.size for frame in pair) or pair[0] == pair[1]:
            raise ArgumentError(
                f"ED and ES are the frames {pair[0]} and {pair[1]}.",
                f"two different frames of 0 to {volumes_ul.size - 1}",
                "--ed N --es N (Python: ed=0, es=9)",
            )
        phase[:] = UNLABELLED
        phase[list(pair)] = ED, ES
    return phase


def _make_row(ds: xr.Dataset, measures: Measures) -> dict[str, Any]:
    volumes = measures.frames["blood_pool_ul"].to_numpy()
    timed = bool(ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True)) and volumes.size > 1
    curve = analyze_curve(volumes, float(ds["time"].attrs["frame_time"]))
    stated = ds.attrs.get(ATTR_HEART_RATE)
    estimated = ONE_BEAT if timed else "missing"
    has_rates = timed and np.isfinite(measures.edv_ul)
    unknown = {"sv_ul", "ef_percent"} if ds.sizes["slice"] == 1 else set()  # one slice is not a ventricle
    single = measures.frames.iloc[0] if volumes.size == 1 else {"blood_pool_ul": np.nan, "mass_mg": np.nan}
    numbers = {
        **{name: np.nan if name in unknown else getattr(measures, name) for name in VOLUMES_AND_MASSES},
        "ed_frame": _find_phase_frame(ds, ED),
        "es_frame": _find_phase_frame(ds, ES),
    }
    return {
        "source": ds.attrs.get("source", ""),
        "format": ds.attrs.get("format", ""),
        "frames": ds.sizes["frame"],
        "slices": ds.sizes["slice"],
        **numbers,
        "volume_ul": float(single["blood_pool_ul"]),
        "mass_mg": float(single["mass_mg"]),
        ATTR_HEART_RATE: float(stated) if stated else curve.heart_rate_bpm if timed else np.nan,
        ATTR_HEART_RATE_SOURCE: ds.attrs.get(ATTR_HEART_RATE_SOURCE, "the file") if stated else estimated,
        **{name: getattr(curve, name) if has_rates else np.nan for name in PEAK_RATES},
        **dict(zip(("voxel_z_mm", "voxel_y_mm", "voxel_x_mm"), measures.voxel_size_mm, strict=True)),
        "voxel_size_source": measures.voxel_size_source,
        "frame_time_ms": float(ds["time"].attrs["frame_time"]) if timed else np.nan,
        "synthetic_images": measures.synthetic,
        **{f"{name}_auto": value for name, value in numbers.items()},
        **dict.fromkeys(("slices_edited", "slices_excluded", "slices_confirmed"), 0),
        "readers": "",
        "review_minutes": 0.0,
    }


def _collect_flags(ds: xr.Dataset, unprocessed: Any, expected: Any, volumes: Any) -> Iterator[Flag]:
    labels = ds[PREDICTED].values
    yield from check_masks(labels, unprocessed)
    if expected is not None:
        yield from check_slices(expected, labels)
    if IMAGE in ds:
        yield from check_images(ds[IMAGE].values, labels)
    yield from check_curve(volumes)
    if volumes.size == 1:
        yield Flag("single_frame", "One frame: no ED and ES.")
    elif not ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True):
        yield Flag("frame_time_unknown", "Give it in ms: --frame-time 5")
    if ds.sizes["slice"] == 1:
        yield Flag("single_slice", "One slice: its volumes are not those of a ventricle, and there is no EF.")
    if purpose := ds.attrs.get(ATTR_PURPOSE):
        yield Flag("not_short_axis", f"The header says that this is {purpose}.")
    for attr, flag in ((ATTR_INCOMPLETE, "input_incomplete"), (ATTR_NOTES, "input_note")):
        for note in str(ds.attrs.get(attr, "")).splitlines():
            yield Flag(flag, note)


def _make_frame_table(
    ds: xr.Dataset, automatic: Any, measures: Measures, smoothed: Any, flags: Sequence[Flag]
) -> pd.DataFrame:
    table = measures.frames.copy()
    if not ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True):
        table["time_ms"] = np.nan
    table["phase"] = table["phase"].where(table["phase"].isin([ED, ES]), "")
    table.insert(4, "blood_pool_smoothed_ul", smoothed)
    own = measure(ds.assign({PREDICTED: (DIMS, automatic)}), mask=PREDICTED).frames
    table["blood_pool_auto_ul"], table["mass_auto_mg"] = own["blood_pool_ul"], own["mass_mg"]
    table["flags"] = [join_flags(f for f in flags if f.frame == k) for k in table["frame"]]
    table.insert(0, "mouse", ds.attrs["mouse"])
    return table


def _make_slice_table(
    ds: xr.Dataset,
    automatic: Any,
    unprocessed: Any,
    expected: Any,
    status: Any,
    measures: Measures,
    flags: Sequence[Flag],
) -> pd.DataFrame:
    labels = ds[PREDICTED].values
    n_frames, n_slices = labels.shape[:2]
    _, dy, dx = measures.voxel_size_mm
    added = removed = np.nan
    if unprocessed is not None:
        added = ((labels > 0) & (unprocessed == 0)).sum(axis=(2, 3)).ravel() * (dy * dx)
        removed = ((labels == 0) & (unprocessed > 0)).sum(axis=(2, 3)).ravel() * (dy * dx)
    flags_at: dict[tuple[int | None, int | None], list[Flag]] = {}
    for flag in flags:
        flags_at.setdefault((flag.frame, flag.slice), []).append(flag)
    return pd.DataFrame(
        {
            "mouse": ds.attrs["mouse"],
            "frame": np.repeat(np.arange(n_frames), n_slices),
            "slice": np.tile(np.arange(n_slices), n_frames),
            "blood_pool_mm2": (labels == Label.BLOOD_POOL).sum(axis=(2, 3)).ravel() * (dy * dx),
            "myocardium_mm2": (labels == Label.MYOCARDIUM).sum(axis=(2, 3)).ravel() * (dy * dx),
            "added_mm2": added,
            "removed_mm2": removed,
            "expected_dice": np.nan if expected is None else expected.astype(float).ravel(),
            "status": AUTO if status is None else status.ravel(),
            "blood_pool_auto_mm2": (automatic == Label.BLOOD_POOL).sum(axis=(2, 3)).ravel() * (dy * dx),
            "myocardium_auto_mm2": (automatic == Label.MYOCARDIUM).sum(axis=(2, 3)).ravel() * (dy * dx),
            "flags": [
                join_flags(flags_at.get((f, s), []) + flags_at.get((None, s), []))
                for f in range(n_frames)
                for s in range(n_slices)
            ],
        }
    )


def _find_phase_frame(ds: xr.Dataset, phase: str) -> int | None:
    frames = np.flatnonzero(ds["phase"].values == phase)
    return int(frames[0]) if frames.size else None


def join_flags(flags: Iterable[Flag]) -> str:
    return " ".join(dict.fromkeys(f.flag for f in flags))
