"""Write the result of one mouse: a folder of masks, tables and pictures, or one HDF5 file in the dataset's layout."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data._utils.atomic import DISK_FULL, atomic_path, write_json, write_text
from mousecmr_data._utils.checksums import compute_sha256
from mousecmr_data._utils.hdf5 import open_hdf5
from mousecmr_data._utils.outputs import (
    OVERWRITE_HINT,
    add_file,
    check_replaceable,
    make_foreign_error,
    read_listed_files,
    write_folder,
)
from mousecmr_data._utils.reading import ABSENT, make_read_error
from mousecmr_data._utils.tables import format_csv
from mousecmr_data._utils.text import hide_home, list_notices
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MouseCMRError, OutputError
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.masks import AUTOMATIC_FILE, IMAGES_FILE, MASKS_FILE
from mousecmr_data.formats.orientation import FileGrid
from mousecmr_data.pipeline.analysis import AnalysisResult, join_flags
from mousecmr_data.pipeline.quality import Flag
from mousecmr_data.schema import variables
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.variables import DIMS, ED, ES, IMAGE, MASK, PREDICTED

if TYPE_CHECKING:
    from mousecmr_data.pipeline.config import SegmentConfig

MONTAGE_FILE, CURVE_FILE, MOVIE_FILE = "montage.png", "curve.png", "movie.webp"
SEG_FOLDER, FRAMES_FILE, SLICES_FILE = "dicom-seg", "frames.csv", "slices.csv"
RECORD_FILE, OUTDATED_FILE, MATLAB_FILE = "result.json", "OUTDATED.txt", "result.mat"
REVIEW_FILE = "review.json"
"""What a person corrected; see :mod:`mousecmr_data.pipeline.review`. It is not a file of a run: no run lists it."""
PHASE_FILES = {f"{phase}_mask{ending}": phase for phase in (ED, ES) for ending in (".nii.gz", ".seg.nrrd", ".mha")}
RESULT_FILES = (
    MASKS_FILE,
    IMAGES_FILE,
    AUTOMATIC_FILE,
    *PHASE_FILES,
    MATLAB_FILE,
    FRAMES_FILE,
    SLICES_FILE,
    MONTAGE_FILE,
    CURVE_FILE,
    MOVIE_FILE,
    OUTDATED_FILE,
)


def draw_pictures(result: AnalysisResult, folder: Path) -> None:
    """Write montage, curve and movie with their notices to ``folder``; needs matplotlib."""
    from mousecmr_data.plotting import plot_montage, plot_volume_curve, save_figure, write_movie

    note = " ".join(result.marks)
    shown = np.isin(result.ds["phase"].values, [ED, ES])
    if not shown.any():
        shown[0] = True
    ds = result.ds.assign({MASK: result.ds[PREDICTED]}).assign_coords(labelled=("frame", shown))
    save_figure(plot_montage(ds, f"Masks: {result.mouse['weights']}. {note}"), folder / MONTAGE_FILE)
    save_figure(plot_volume_curve(result.ds, PREDICTED, note), folder / CURVE_FILE)
    write_movie(result.ds, folder / MOVIE_FILE, PREDICTED, note)


def write_mouse_hdf5(ds: xr.Dataset, path: str | Path, attrs: Mapping[str, Any] | None = None) -> Path:
    """Write images and predicted masks of ``ds`` to an HDF5 file in the dataset's layout, whole or not at all.

    Every frame counts as segmented (``Frames_with_ROI``). Attributes of the file state which weights made the masks,
    what these were trained on, and whether the images are synthetic; ``attrs`` are added.
    """
    path = Path(path)
    predicted = ds[PREDICTED].transpose(*DIMS)
    arrays = {variables.IMAGES: ds[IMAGE].transpose(*DIMS).values, variables.MASKS: predicted.values}
    to_file = [variables.MODEL_TO_FILE.index(k) for k in range(len(DIMS))]
    with atomic_path(path) as partial, open_hdf5(partial, "w") as f:
        for name, array in arrays.items():
            stored = np.ascontiguousarray(array.transpose(to_file))
            rows, columns, _, frames = stored.shape
            f.create_dataset(name, data=stored, chunks=(rows, columns, 1, frames), compression="gzip", shuffle=True)
        f.create_dataset(variables.FRAMES_WITH_ROI, data=np.arange(predicted.sizes["frame"]))
        f.attrs[variables.ATTR_MOUSE] = str(ds.attrs.get("mouse", path.stem))
        f.attrs[variables.ATTR_SOURCE] = str(ds.attrs.get("source", variables.NOT_STATED))
        f.attrs[variables.ATTR_SYNTHETIC] = bool(ds.attrs.get("synthetic", False))
        f.attrs[variables.ATTR_PHENOTYPE] = str(ds.attrs.get("phenotype", variables.NOT_PUBLISHED))
        f.attrs[variables.ATTR_VOXEL_SIZE] = np.asarray(get_spacing(ds))
        if ds.sizes["frame"] > 1 and "time" in ds.coords:
            f.attrs[variables.ATTR_FRAME_TIME] = float(ds["time"].values[1] - ds["time"].values[0])
        f.attrs[variables.ATTR_SEGMENTED_BY] = str(predicted.attrs["weights"])
        f.attrs[variables.ATTR_TRAINED_ON] = str(predicted.attrs["trained_on"])
        training = [bool(predicted.attrs.get(key, False)) for key in ("synthetic_training", "synthetic_ancestry")]
        f.attrs[variables.ATTR_NOTICE] = " ".join(list_notices(training[0], False, training[1]))
        f.attrs.update(attrs or {})
    return path


def write_result(
    result: AnalysisResult,
    folder: Path,
    config: SegmentConfig,
    scan: FoundScan | None = None,
    key: str = "",
    overwrite: bool = False,
    *,
    listed: Mapping[str, str] | None = None,
    review: Mapping[str, Any] | None = None,
) -> AnalysisResult:
    """Write masks, tables and pictures of ``result`` to ``folder``, replacing an earlier result.

    Other files in ``folder`` stay. Raises OutputError if the result there was edited and ``overwrite`` is not given.

    Masks and images are NIfTI on the grid of the input. The masks of ED and ES are also written alone in 3D, in the
    input's format if it is NRRD or MetaImage. For DICOM input (``scan``) there is also one DICOM SEG object per frame.
    ``key`` is stored in the record, so that a later run can check what the folder was made from. An additional output
    (all but masks and tables) that cannot be written is a flag of the result that is returned.

    ``review``: the result was corrected; its entries become part of the record, and the images and the network's own
    masks in ``folder`` are kept. Without it, a review in ``folder`` ends with the masks that it was of. ``listed`` are
    the files that may be replaced, with their SHA-256; by default those in the record.
    """
    from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels  # an extra: not for HDF5

    masks = result.ds[PREDICTED]
    trained = ", trained on SYNTHETIC mice" if masks.attrs.get("synthetic_training") else ""
    description = f"{masks.attrs['weights']}{trained}; research only"
    flags: list[Flag] = []
    listed = list_result_files(folder) if listed is None else listed
    with write_folder(folder, record=RECORD_FILE, listed=listed, overwrite=overwrite) as partial:
        write_nifti_labels(masks.values, partial / MASKS_FILE, result.ds, description)
        if review is None:
            shutil.copyfile(partial / MASKS_FILE, partial / AUTOMATIC_FILE)
            if config.images:
                with _report_failure("images", partial, (IMAGES_FILE,), flags):
                    write_nifti_images(result.ds, partial / IMAGES_FILE)
        else:
            for name in (AUTOMATIC_FILE, IMAGES_FILE):
                if (folder / name).is_file():
                    shutil.copyfile(folder / name, partial / name)
        ending = {"NRRD": ".seg.nrrd", "MetaImage": ".mha"}.get(result.ds.attrs.get("format", ""), ".nii.gz")
        for name, phase in PHASE_FILES.items():
            if name.endswith(ending) and len(stack := masks.values[result.ds["phase"].values == phase]) == 1:
                with _report_failure(f"masks of {phase}", partial, (name,), flags):
                    write_nifti_labels(stack, partial / name, result.ds, f"{phase} {description}")
        if config.matlab:
            with _report_failure("MATLAB file", partial, (MATLAB_FILE,), flags):
                _write_matlab(result, partial / MATLAB_FILE)
        if config.dicom_seg and scan is not None and scan.kind == "DICOM":
            with _report_failure("DICOM SEG", partial, (SEG_FOLDER,), flags):
                from mousecmr_data.formats.dicom_seg import write_dicom_seg

                write_dicom_seg(
                    masks.values, partial / SEG_FOLDER, scan.paths, result.ds, description, config.keep_names
                )
        if config.pictures and IMAGE in result.ds:
            with _report_failure("pictures", partial, (MONTAGE_FILE, CURVE_FILE, MOVIE_FILE), flags):
                draw_pictures(result, partial)
        flags = [*result.flags, *flags]
        result = replace(result, flags=tuple(flags), mouse={**result.mouse, "flags": join_flags(flags)})
        write_text(partial / FRAMES_FILE, format_csv(result.frames))
        write_text(partial / SLICES_FILE, format_csv(result.slices))
        record = {
            "key": key,
            "mouse": result.mouse,
            "flags": [{"level": f.level, **vars(f)} for f in flags],
            "marks": result.marks,
            "network": masks.attrs,
            "grid": json.loads(FileGrid.from_dataset(result.ds).to_json()),
            "outputs": {name: getattr(config, name) for name in ("images", "pictures", "dicom_seg", "matlab")},
            "seconds": round(result.seconds, 3),
        }
        write_json(partial / RECORD_FILE, {**record, **(review or {})})
        if review is None:
            (folder / REVIEW_FILE).unlink(missing_ok=True)
    return result


@contextmanager
def _report_failure(output: str, folder: Path, names: tuple[str, ...], flags: list[Flag]) -> Iterator[None]:
    """Turn any error while an additional output is written into a flag, and remove what was written of it."""
    try:
        yield
    except Exception as e:
        if isinstance(e, OSError) and e.errno in DISK_FULL:
            raise  # nothing else could be written either
        text = " ".join(str(e).split()) if isinstance(e, MouseCMRError) else f"{type(e).__name__}: {e}"
        flags.append(Flag("output_missing", f"No {output}: {hide_home(text)}"))
        for path in (folder / name for name in names):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _write_matlab(result: AnalysisResult, path: Path) -> None:
    """Write masks (row, column, slice, frame) and tables as a MATLAB file (version 5, compressed).

    ``frames`` and ``slices`` are structs of columns (``struct2table``); frame and slice numbers start at 0, as in the
    tables. ``mouse`` is a struct of the numbers of the mouse; ``spacing_mm`` is (row, column, slice).
    """
    from scipy.io import savemat

    z, y, x = get_spacing(result.ds)

    def convert_columns(table: pd.DataFrame) -> dict[str, Any]:
        columns = {str(name): column.to_numpy() for name, column in table.items()}
        return {n: c.astype(object if c.dtype.kind not in "biuf" else c.dtype)[:, None] for n, c in columns.items()}

    content = {
        "masks": result.ds[PREDICTED].transpose("y", "x", "slice", "frame").values,
        "label_names": np.array(list(MEANINGS.values())[1:], object),
        "spacing_mm": np.array([y, x, z]),
        "mouse": {name: np.nan if value is None else value for name, value in result.mouse.items()},
        "frames": convert_columns(result.frames),
        "slices": convert_columns(result.slices),
        "marks": " ".join(result.marks),
    }
    with atomic_path(path) as partial:
        savemat(partial, content, do_compression=True, oned_as="column")


def mark_outdated(folder: Path, error: MouseCMRError) -> None:
    """Write a notice that a later run failed, if ``folder`` holds an earlier result; the result stays."""
    if listed := list_result_files(folder):
        text = f"These files are from an earlier run. A later one, with other files or settings, failed:\n{error}\n"
        text = hide_home(text)
        with suppress(OSError, ValueError):  # the tables also report the failure
            add_file(folder, OUTDATED_FILE, text, RECORD_FILE, listed)


def list_result_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files that :func:`write_result` wrote to ``folder``, by name."""
    listed = read_listed_files(folder / RECORD_FILE)
    if listed or read_record(folder) is None:
        return listed
    # A result from before files were listed: what is clearly newer than its record was edited.
    latest = (folder / RECORD_FILE).stat().st_mtime + 2
    files = [folder / name for name in RESULT_FILES if (folder / name).is_file()]
    files += sorted((folder / SEG_FOLDER).glob("*.dcm"))
    return {
        path.relative_to(folder).as_posix(): compute_sha256(path) if path.stat().st_mtime <= latest else "edited"
        for path in files
    }


def check_result_folder(folder: Path, overwrite: bool) -> None:
    """Raise OutputError if a result could not be written to ``folder``: files of others, or edited ones."""
    if (folder / RECORD_FILE).exists() and not list_result_files(folder):
        raise make_foreign_error(folder, [RECORD_FILE])
    listed = list_result_files(folder)
    if not overwrite and (folder / REVIEW_FILE).is_file():
        raise OutputError(f"{folder} was reviewed: it holds {REVIEW_FILE}.", "a folder to segment into", OVERWRITE_HINT)
    check_replaceable(folder, {*RESULT_FILES, *listed}, listed, overwrite=overwrite)


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the record of a folder written by :func:`write_result`; None if there is none or a file is missing."""
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except (*ABSENT, ValueError):
        return None
    except OSError as e:
        raise make_read_error(folder / RECORD_FILE, e) from e
    valid = isinstance(record, dict) and {"key", "mouse", "flags"} <= record.keys()
    return record if valid and all((folder / n).is_file() for n in (MASKS_FILE, FRAMES_FILE, SLICES_FILE)) else None


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of frames and slices of a folder written by :func:`write_result`."""
    text = {"flags": str, "phase": str, "mouse": str, "status": str}
    frames, slices = (
        pd.read_csv(folder / n, dtype=text).fillna({"flags": "", "phase": ""}) for n in (FRAMES_FILE, SLICES_FILE)
    )
    return frames, slices
