"""The files of one result, in a folder that appears whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import atomic_folder, atomic_path, write_text
from mousecmr_data._utils.json import write_json
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MissingExtraError, MouseCMRError
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.nifti import write_nifti_labels
from mousecmr_data.pipeline.analysis import AnalysisResult
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.plotting import make_title, plot_montage, save_figure, write_movie
from mousecmr_data.schema.labels import COLOURS, Label
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import (
    ATTR_FRAME_TIME,
    ATTR_MOUSE,
    ATTR_PHENOTYPE,
    ATTR_SOURCE,
    ATTR_SYNTHETIC,
    ATTR_VOXEL_SIZE,
    DIMS,
    FRAMES_WITH_ROI,
    IMAGE,
    IMAGES,
    MASK,
    MASKS,
    MODEL_TO_FILE,
    NOT_PUBLISHED,
    PREDICTED,
)

# MERGED pipeline.writers: A result in pictures: montage, curve and movie, each with the words that mark it.


MONTAGE_FILE, CURVE_FILE, MOVIE_FILE = "montage.png", "curve.png", "movie.webp"


def draw_pictures(result: AnalysisResult, folder: Path) -> list[Path]:
    """Write all three to ``folder``; returns their paths. Needs matplotlib."""
    note = " ".join(result.marks)
    figure = plot_montage(_make_montage_dataset(result.ds))
    weights = result.ds[PREDICTED].attrs["weights"]
    figure.text(0.3, 0.025, f"masks: {weights}. {note}", color="0.75", fontsize=7)
    return [
        save_figure(figure, folder / MONTAGE_FILE),
        _draw_curve(result, folder / CURVE_FILE, note),
        write_movie(result.ds, folder / MOVIE_FILE, PREDICTED, note),
    ]


def _make_montage_dataset(ds: xr.Dataset) -> xr.Dataset:
    """The masks as the montage takes them: ED and ES, or the only frame."""
    chosen = np.isin(ds["phase"].values, [ED, ES])
    if not chosen.any():
        chosen[0] = True
    return ds.assign({MASK: ds[PREDICTED]}).assign_coords(labelled=("frame", chosen))


def _draw_curve(result: AnalysisResult, path: Path, note: str) -> Path:
    from matplotlib.figure import Figure

    table, row = result.frames, result.mouse
    timed = bool(table["time_ms"].notna().all())
    x = table["time_ms"] if timed else table["frame"]
    figure = Figure(figsize=(6.4, 4.6))
    volume, mass = figure.subplots(
        2, 1, sharex=True, height_ratios=(3, 2), gridspec_kw={"left": 0.12, "right": 0.97, "top": 0.85, "bottom": 0.16}
    )
    pool, wall = COLOURS[Label.BLOOD_POOL], COLOURS[Label.MYOCARDIUM]
    volume.plot(x, table["blood_pool_smoothed_ul"], color=pool, lw=1.2)
    volume.plot(x, table["blood_pool_ul"], "o", color=pool, ms=4)
    mass.plot(x, table["mass_mg"], "o-", color=wall, ms=4, lw=1)
    volume.set_ylabel("blood pool (µL)")
    mass.set_ylabel("mass (mg)")
    for ax, column in ((volume, "blood_pool_ul"), (mass, "mass_mg")):
        ax.set_ylim(0, max(1.0, 1.25 * float(table[column].max())))
        ax.spines[["top", "right"]].set_visible(False)
    for phase in (ED, ES):
        for at, value in zip(x[table["phase"] == phase], table["blood_pool_ul"][table["phase"] == phase], strict=True):
            volume.annotate(
                f"{phase} {value:.1f} µL", (at, value), (0, 9 if phase == ED else -15), textcoords="offset points",
                fontsize=8, ha="left" if at == x.iloc[0] else "center",
            )  # fmt: skip
    mass.set_xlabel("time after the trigger (ms)" if timed else "frame (the time between frames is not known)")
    known = np.isfinite(row["ef_percent"])
    numbers = f"SV {row['sv_ul']:.1f} µL, EF {row['ef_percent']:.1f} %" if known else "EF: no ED/ES pair"
    figure.text(0.02, 0.97, f"{make_title(result.ds)}\n{numbers}; masks: {row['weights']}", fontsize=9, va="top")
    figure.text(0.02, 0.015, note.replace(". ", ".\n", 1), fontsize=6.5, color="0.35", va="bottom")
    return save_figure(figure, path)


# MERGED pipeline.writers: A segmented mouse as a file of the dataset's own layout.


ATTR_SEGMENTED_BY, ATTR_TRAINED_ON = "segmented_by", "trained_on"


def write_mouse_hdf5(ds: xr.Dataset, path: str | Path, attrs: Mapping[str, Any] | None = None) -> Path:
    """Write images and predicted masks of ``ds`` to ``path``, whole or not at all.

    Every frame counts as segmented (``Frames_with_ROI``). The file says, in attributes, which weights made
    the masks, what they were trained on, and whether the images are synthetic; ``attrs`` are added to these.
    """
    path = Path(path)
    predicted = ds[PREDICTED].transpose(*DIMS)
    arrays = {IMAGES: ds[IMAGE].transpose(*DIMS).values, MASKS: predicted.values}
    to_file = [MODEL_TO_FILE.index(k) for k in range(len(DIMS))]
    with atomic_path(path) as partial, h5py.File(partial, "w") as f:
        for name, array in arrays.items():
            stored = np.ascontiguousarray(array.transpose(to_file))
            rows, columns, _, frames = stored.shape
            f.create_dataset(name, data=stored, chunks=(rows, columns, 1, frames), compression="gzip", shuffle=True)
        f.create_dataset(FRAMES_WITH_ROI, data=np.arange(predicted.sizes["frame"]))
        f.attrs[ATTR_MOUSE] = str(ds.attrs.get("mouse", path.stem))
        f.attrs[ATTR_SOURCE] = str(ds.attrs.get("source", "not stated"))
        f.attrs[ATTR_SYNTHETIC] = bool(ds.attrs.get("synthetic", False))
        f.attrs[ATTR_PHENOTYPE] = str(ds.attrs.get("phenotype", NOT_PUBLISHED))
        f.attrs[ATTR_VOXEL_SIZE] = np.asarray(get_spacing(ds))
        if ds.sizes["frame"] > 1 and "time" in ds.coords:
            f.attrs[ATTR_FRAME_TIME] = float(ds["time"].values[1] - ds["time"].values[0])
        f.attrs[ATTR_SEGMENTED_BY] = str(predicted.attrs["weights"])
        f.attrs[ATTR_TRAINED_ON] = str(predicted.attrs["trained_on"])
        f.attrs.update(attrs or {})
    return path


MASKS_FILE, SEG_FOLDER, FRAMES_FILE, SLICES_FILE, RECORD_FILE = (
    "masks.nii.gz",
    "dicom-seg",
    "frames.csv",
    "slices.csv",
    "result.json",
)
OUTDATED_FILE = "OUTDATED.txt"


def write_result(
    result: AnalysisResult, folder: Path, config: SegmentConfig, found: FoundScan | None = None, key: str = ""
) -> list[Path]:
    """Write masks, tables and pictures of ``result`` to ``folder``, in place of what was there.

    Masks are NIfTI on the grid of the input; of DICOM input (``found``) also DICOM SEG objects, one a frame.
    ``key`` is kept in the record, so that a later run knows what this folder was made of. Returns the files.
    """
    with atomic_folder(folder, overwrite=True) as partial:
        notes = _write_files(result, partial, config, found)
        record = {
            "key": key,
            "mouse": {**result.mouse, "notes": notes},
            "flags": [{"level": f.level, **vars(f)} for f in result.flags],
            "marks": result.marks,
            "network": result.ds[PREDICTED].attrs,
            "seconds": round(result.seconds, 3),
        }
        write_json(partial / RECORD_FILE, record)
    return sorted(p for p in folder.rglob("*") if p.is_file())


def mark_outdated(folder: Path, error: MouseCMRError) -> None:
    """Say in ``folder``, if it holds an earlier result, that a later run failed; the result stays."""
    if not (folder / RECORD_FILE).is_file():
        return
    text = f"These files are of an earlier run. A later one, of other bytes or with other settings, failed:\n{error}\n"
    with suppress(OSError):  # the failure itself stands in the tables
        write_text(folder / OUTDATED_FILE, text)


def _write_files(result: AnalysisResult, folder: Path, config: SegmentConfig, found: FoundScan | None) -> list[str]:
    """Write all but the record; returns what could not be."""
    masks = result.ds[PREDICTED]
    trained = ", trained on SYNTHETIC mice" if masks.attrs["synthetic_training"] else ""
    by = f"{masks.attrs['weights']}{trained}; research only"
    write_nifti_labels(masks.values, folder / MASKS_FILE, result.ds, by)
    notes = []
    if config.dicom_seg and found is not None and found.kind == "DICOM":
        try:
            from mousecmr_data.formats.dicom_seg import write_dicom_seg

            write_dicom_seg(masks.values, folder / SEG_FOLDER, found.paths, result.ds, by)
        except MissingExtraError as e:
            notes.append(f"No DICOM SEG was written: {e.found} {e.next_step}")
    result.frames.to_csv(folder / FRAMES_FILE, index=False)
    result.slices.to_csv(folder / SLICES_FILE, index=False)
    if config.pictures:
        draw_pictures(result, folder)
    return notes


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a folder that :func:`write` made; None where there is none that is whole."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and {"key", "mouse", "flags"} <= record.keys()
    return record if whole and all((folder / n).is_file() for n in (MASKS_FILE, FRAMES_FILE, SLICES_FILE)) else None


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames and slices of such a folder."""
    text = {"flags": str, "phase": str, "mouse": str}
    frames, slices = (
        pd.read_csv(folder / n, dtype=text).fillna({"flags": "", "phase": ""}) for n in (FRAMES_FILE, SLICES_FILE)
    )
    return frames, slices
