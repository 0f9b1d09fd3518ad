"""Write the result of one mouse: a folder of masks, tables and pictures, or one HDF5 file in the dataset's layout."""

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
from mousecmr_data.schema import variables
from mousecmr_data.schema.labels import COLOURS, Label
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import DIMS, IMAGE, MASK, PREDICTED

MONTAGE_FILE, CURVE_FILE, MOVIE_FILE = "montage.png", "curve.png", "movie.webp"
MASKS_FILE, SEG_FOLDER, FRAMES_FILE, SLICES_FILE = "masks.nii.gz", "dicom-seg", "frames.csv", "slices.csv"
RECORD_FILE, OUTDATED_FILE = "result.json", "OUTDATED.txt"
ATTR_SEGMENTED_BY, ATTR_TRAINED_ON = "segmented_by", "trained_on"


def draw_pictures(result: AnalysisResult, folder: Path) -> None:
    """Write montage, curve and movie with their notices to ``folder``; needs matplotlib."""
    note = " ".join(result.marks)
    shown = np.isin(result.ds["phase"].values, [ED, ES])
    if not shown.any():
        shown[0] = True
    figure = plot_montage(result.ds.assign({MASK: result.ds[PREDICTED]}).assign_coords(labelled=("frame", shown)))
    figure.text(0.3, 0.025, f"masks: {result.mouse['weights']}. {note}", color="0.75", fontsize=7)
    save_figure(figure, folder / MONTAGE_FILE)
    _draw_curve(result, folder / CURVE_FILE, note)
    write_movie(result.ds, folder / MOVIE_FILE, PREDICTED, note)


def _draw_curve(result: AnalysisResult, path: Path, note: str) -> None:
    from matplotlib.figure import Figure

    table, row = result.frames, result.mouse
    timed = bool(table["time_ms"].notna().all())
    x = table["time_ms"] if timed else table["frame"]
    figure = Figure(figsize=(6.4, 4.6))
    volume, mass = figure.subplots(
        2, 1, sharex=True, height_ratios=(3, 2), gridspec_kw={"left": 0.12, "right": 0.97, "top": 0.85, "bottom": 0.16}
    )
    blood, myocardium = COLOURS[Label.BLOOD_POOL], COLOURS[Label.MYOCARDIUM]
    volume.plot(x, table["blood_pool_smoothed_ul"], color=blood, lw=1.2)
    volume.plot(x, table["blood_pool_ul"], "o", color=blood, ms=4)
    mass.plot(x, table["mass_mg"], "o-", color=myocardium, ms=4, lw=1)
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
    mass.set_xlabel("time after the trigger (ms)" if timed else "frame (the time between frames is unknown)")
    has_pair = np.isfinite(row["ef_percent"])
    numbers = f"SV {row['sv_ul']:.1f} µL, EF {row['ef_percent']:.1f} %" if has_pair else "EF: no ED/ES pair"
    figure.text(0.02, 0.97, f"{make_title(result.ds)}\n{numbers}; masks: {row['weights']}", fontsize=9, va="top")
    figure.text(0.02, 0.015, note.replace(". ", ".\n", 1), fontsize=6.5, color="0.35", va="bottom")
    save_figure(figure, path)


def write_mouse_hdf5(ds: xr.Dataset, path: str | Path, attrs: Mapping[str, Any] | None = None) -> Path:
    """Write images and predicted masks of ``ds`` to an HDF5 file in the dataset's layout, whole or not at all.

    Every frame counts as segmented (``Frames_with_ROI``). Attributes of the file state which weights made the masks,
    what these were trained on, and whether the images are synthetic; ``attrs`` are added.
    """
    path = Path(path)
    predicted = ds[PREDICTED].transpose(*DIMS)
    arrays = {variables.IMAGES: ds[IMAGE].transpose(*DIMS).values, variables.MASKS: predicted.values}
    to_file = [variables.MODEL_TO_FILE.index(k) for k in range(len(DIMS))]
    with atomic_path(path) as partial, h5py.File(partial, "w") as f:
        for name, array in arrays.items():
            stored = np.ascontiguousarray(array.transpose(to_file))
            rows, columns, _, frames = stored.shape
            f.create_dataset(name, data=stored, chunks=(rows, columns, 1, frames), compression="gzip", shuffle=True)
        f.create_dataset(variables.FRAMES_WITH_ROI, data=np.arange(predicted.sizes["frame"]))
        f.attrs[variables.ATTR_MOUSE] = str(ds.attrs.get("mouse", path.stem))
        f.attrs[variables.ATTR_SOURCE] = str(ds.attrs.get("source", "not stated"))
        f.attrs[variables.ATTR_SYNTHETIC] = bool(ds.attrs.get("synthetic", False))
        f.attrs[variables.ATTR_PHENOTYPE] = str(ds.attrs.get("phenotype", variables.NOT_PUBLISHED))
        f.attrs[variables.ATTR_VOXEL_SIZE] = np.asarray(get_spacing(ds))
        if ds.sizes["frame"] > 1 and "time" in ds.coords:
            f.attrs[variables.ATTR_FRAME_TIME] = float(ds["time"].values[1] - ds["time"].values[0])
        f.attrs[ATTR_SEGMENTED_BY] = str(predicted.attrs["weights"])
        f.attrs[ATTR_TRAINED_ON] = str(predicted.attrs["trained_on"])
        f.attrs.update(attrs or {})
    return path


def write_result(
    result: AnalysisResult, folder: Path, config: SegmentConfig, scan: FoundScan | None = None, key: str = ""
) -> None:
    """Write masks, tables and pictures of ``result`` to ``folder``, replacing an earlier result.

    Masks are NIfTI on the grid of the input; for DICOM input (``scan``) there is also one DICOM SEG object per frame.
    ``key`` is stored in the record, so that a later run can check what the folder was made from.
    """
    masks = result.ds[PREDICTED]
    trained = ", trained on SYNTHETIC mice" if masks.attrs["synthetic_training"] else ""
    description = f"{masks.attrs['weights']}{trained}; research only"
    notes = []
    with atomic_folder(folder, overwrite=True) as partial:
        write_nifti_labels(masks.values, partial / MASKS_FILE, result.ds, description)
        if config.dicom_seg and scan is not None and scan.kind == "DICOM":
            try:
                from mousecmr_data.formats.dicom_seg import write_dicom_seg

                write_dicom_seg(masks.values, partial / SEG_FOLDER, scan.paths, result.ds, description)
            except MissingExtraError as e:
                notes.append(f"No DICOM SEG was written: {e.found} {e.next_step}")
        result.frames.to_csv(partial / FRAMES_FILE, index=False)
        result.slices.to_csv(partial / SLICES_FILE, index=False)
        if config.pictures:
            draw_pictures(result, partial)
        record = {
            "key": key,
            "mouse": {**result.mouse, "notes": notes},
            "flags": [{"level": f.level, **vars(f)} for f in result.flags],
            "marks": result.marks,
            "network": masks.attrs,
            "seconds": round(result.seconds, 3),
        }
        write_json(partial / RECORD_FILE, record)


def mark_outdated(folder: Path, error: MouseCMRError) -> None:
    """Write a notice that a later run failed, if ``folder`` holds an earlier result; the result stays."""
    if (folder / RECORD_FILE).is_file():
        text = f"These files are from an earlier run. A later one, with other files or settings, failed:\n{error}\n"
        with suppress(OSError):  # the tables also report the failure
            write_text(folder / OUTDATED_FILE, text)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder written by :func:`write_result`; None if there is none or a file is missing."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    valid = isinstance(record, dict) and {"key", "mouse", "flags"} <= record.keys()
    return record if valid and all((folder / n).is_file() for n in (MASKS_FILE, FRAMES_FILE, SLICES_FILE)) else None


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of frames and slices of a folder written by :func:`write_result`."""
    text = {"flags": str, "phase": str, "mouse": str}
    frames, slices = (
        pd.read_csv(folder / n, dtype=text).fillna({"flags": "", "phase": ""}) for n in (FRAMES_FILE, SLICES_FILE)
    )
    return frames, slices
