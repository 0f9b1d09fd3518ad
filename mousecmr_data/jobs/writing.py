"""The files of one result, in a folder that appears whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from mousecmr_data._utils.atomic import translate_os_error
from mousecmr_data.errors import MissingExtraError, MouseCMRError
from mousecmr_data.formats.discover import FoundScan
from mousecmr_data.formats.nifti import write_nifti_labels
from mousecmr_data.jobs.mouse import Result
from mousecmr_data.jobs.settings import Settings
from mousecmr_data.schema.variables import PREDICTED

MASKS, SEG, FRAMES, SLICES, RECORD = "masks.nii.gz", "dicom-seg", "frames.csv", "slices.csv", "result.json"
OUTDATED = "OUTDATED.txt"


def write(
    result: Result, folder: Path, settings: Settings, found: FoundScan | None = None, key: str = ""
) -> list[Path]:
    """Write masks, tables and pictures of ``result`` to ``folder``, in place of what was there.

    Masks are NIfTI on the grid of the input; of DICOM input (``found``) also DICOM SEG objects, one a frame.
    ``key`` is kept in the record, so that a later run knows what this folder was made of. Returns the files.
    """
    partial = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        notes = _fill(result, partial, settings, found)
        record = {
            "key": key,
            "mouse": {**result.mouse, "notes": notes},
            "flags": [{"level": f.level, **vars(f)} for f in result.flags],
            "marks": result.marks,
            "network": result.ds[PREDICTED].attrs,
            "seconds": round(result.seconds, 3),
        }
        dump(record, partial / RECORD)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    except OSError as e:
        raise translate_os_error(e, folder) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(p for p in folder.rglob("*") if p.is_file())


def outdate(folder: Path, error: MouseCMRError) -> None:
    """Say in ``folder``, if it holds an earlier result, that a later run failed; the result stays."""
    if not (folder / RECORD).is_file():
        return
    text = f"These files are of an earlier run. A later one, of other bytes or with other settings, failed:\n{error}\n"
    with suppress(OSError):  # the failure itself stands in the tables
        (folder / OUTDATED).write_text(text, encoding="utf-8")


def _fill(result: Result, folder: Path, settings: Settings, found: FoundScan | None) -> list[str]:
    """Write all but the record; returns what could not be."""
    masks = result.ds[PREDICTED]
    trained = ", trained on SYNTHETIC mice" if masks.attrs["synthetic_training"] else ""
    by = f"{masks.attrs['weights']}{trained}; research only"
    write_nifti_labels(masks.values, folder / MASKS, result.ds, by)
    notes = []
    if settings.dicom_seg and found is not None and found.kind == "DICOM":
        try:
            from mousecmr_data.formats.dicom_seg import write_dicom_seg

            write_dicom_seg(masks.values, folder / SEG, found.paths, result.ds, by)
        except MissingExtraError as e:
            notes.append(f"No DICOM SEG was written: {e.found} {e.next_step}")
    result.frames.to_csv(folder / FRAMES, index=False)
    result.slices.to_csv(folder / SLICES, index=False)
    if settings.pictures:
        from mousecmr_data.jobs import pictures

        pictures.draw(result, folder)
    return notes


def dump(value: Any, path: Path) -> None:
    """Write ``value`` as JSON; what is not finite becomes null."""
    path.write_text(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def plain(value: Any) -> Any:
    """``value`` as JSON can hold it."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record of a folder that :func:`write` made; None where there is none that is whole."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and {"key", "mouse", "flags"} <= record.keys()
    return record if whole and all((folder / n).is_file() for n in (MASKS, FRAMES, SLICES)) else None


def read_tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Frames and slices of such a folder."""
    text = {"flags": str, "phase": str, "mouse": str}
    frames, slices = (pd.read_csv(folder / n, dtype=text).fillna({"flags": "", "phase": ""}) for n in (FRAMES, SLICES))
    return frames, slices
