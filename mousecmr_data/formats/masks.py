"""Which files in a folder are masks, results of a program or halves of a pair, and so are never taken for scans."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.outputs import read_listed_files
from mousecmr_data._utils.text import join_names
from mousecmr_data.schema.variables import ATTR_SEGMENTED_BY, IMAGES, MASKS

_WORDS = r"masks?|dseg|probseg|segmentations?|label[_-]?maps?|ground[_-]?truth"
_LAST_WORDS = r"seg|labels?|gt|preds?|predictions?|manual|contours?|rois?"
MASK_NAME = re.compile(rf"(?<![a-z])({_WORDS})(?![a-z])|(?:^|[\W_])({_LAST_WORDS})$", re.IGNORECASE)
"""Names, without their ending, of files of masks: BIDS (``_dseg``), ACDC and M&Ms (``_gt``), 3D Slicer, MONAI."""
MASK_FOLDER = re.compile(
    rf"({_WORDS}|seg|labels?|labels(Tr|Ts|Val)|gt|gt_segmentations|annotations?|predictions?)", re.IGNORECASE
)
"""Names of folders of masks: nnU-Net (``labelsTr``), MONAI, TotalSegmentator."""
RESULT_FOLDERS = {"derivatives": "BIDS derivatives", "nnunet_results": "nnU-Net", "nnunet_preprocessed": "nnU-Net"}
"""Names of folders of results, in lower case, and whose results they are."""
MAX_NUMBERS, MAX_REGIONS = 16, 256
"""Most numbers in a file of labels, and in one where labels fill regions, such as TotalSegmentator's 117 organs."""
REGION_SHARE = 0.75
"""Share of the foreground's voxels whose neighbour has the same number, in a file of labels that fill regions. Measured
in two mice of the phantom: at most 0.10 with 256 grey levels, 0.56 with 32, because of the noise."""
SEGMENT_RECORDS = ("result.json", "manifest.json")
"""Files by which ``mousecmr segment`` lists what it wrote to a folder."""
MASKS_FILE, IMAGES_FILE, AUTOMATIC_FILE = "masks.nii.gz", "images.nii.gz", "automatic_masks.nii.gz"
"""Its masks, the images that it writes beside them, and the masks as the network made them."""


@dataclass(frozen=True)
class LeftOutFile:
    """A file that could be read, but is not taken for a scan."""

    path: Path
    reason: str


def describe_left_out(files: Iterable[LeftOutFile]) -> list[str]:
    """Return one sentence for the files of each folder that were left out for the same reason."""
    groups: dict[tuple[Path, str], list[str]] = {}
    for file in files:
        groups.setdefault((file.path.parent, file.reason), []).append(file.path.name)
    return [
        f"Left out of {folder}: {join_names(names)} ({reason})." for (folder, reason), names in sorted(groups.items())
    ]


def find_result(path: Any) -> Path | None:
    """Return the folder of ``mousecmr segment`` that ``path`` is, or whose masks it is; None if it is neither."""
    path = Path(path)
    folder = path.parent if path.name == MASKS_FILE else path
    return folder if (folder / SEGMENT_RECORDS[0]).is_file() else None


def strip_mask_word(stem: str) -> str:
    """Return the name of a mask without the word that says so: that of its image."""
    return re.sub(r"[\W_]+$", "", MASK_NAME.sub("", stem))


def list_results(folder: Path) -> frozenset[str]:
    """Return the paths, relative to ``folder``, of the files that ``mousecmr segment`` wrote there."""
    names = {name for record in SEGMENT_RECORDS for name in read_listed_files(folder / record)}
    if (folder / AUTOMATIC_FILE).is_file():  # its record was left behind
        names |= {IMAGES_FILE, AUTOMATIC_FILE}
    return frozenset(names)


def find_program(folder: Path, names: Collection[str]) -> str:
    """Return whose results the folder with the files ``names`` holds, with all its subfolders; empty if nobody's."""
    if "predict_from_raw_data_args.json" in names or {"plans.json", "dataset.json"} <= set(names):
        return "nnU-Net"
    if "dataset_description.json" in names:
        about = _read_json(folder / "dataset_description.json")
        kind = str(about.get("DatasetType", "derivative" if "PipelineDescription" in about else "raw"))
        if kind.lower() == "derivative":
            makers = about.get("GeneratedBy")
            maker = makers[0] if isinstance(makers, list) and makers else about.get("PipelineDescription")
            return str(maker.get("Name")) if isinstance(maker, dict) else RESULT_FOLDERS["derivatives"]
    return ""


def find_folder_reason(parts: Iterable[str]) -> str:
    """Return why files in subfolders of these names are left out; empty if they are not."""
    for part in parts:
        if program := RESULT_FOLDERS.get(part.lower()):
            return f"results of {program}"
        if MASK_FOLDER.fullmatch(part):
            return f"masks, by the name of the folder {part}"
    return ""


def find_labels(array: NDArray[Any]) -> tuple[int, ...]:
    """Return the numbers in an array of labels: 0 and a few other whole numbers, or many that fill regions.

    ``(0,)`` for an array of zeros, which says nothing; empty for images.
    """
    values = array.ravel(order="K")
    if array.dtype.kind not in "uifb" or len(np.unique(values[:: 1 + values.size // 10_000])) > MAX_REGIONS:
        return ()  # most images: decided without sorting all of it
    numbers = np.unique(values)
    if len(numbers) > MAX_REGIONS or numbers[0] != 0 or not (numbers == np.floor(numbers)).all():
        return ()
    if len(numbers) > MAX_NUMBERS:
        for axis in np.flatnonzero(np.array(array.shape) > 1):
            along = np.moveaxis(array, axis, 0)
            inside = along[:-1] != 0
            if not inside.any() or (along[1:] == along[:-1])[inside].mean() < REGION_SHARE:
                return ()
    return tuple(int(n) for n in numbers)


def find_hdf5_reason(path: Path) -> str:
    """Return why the HDF5 file ``path`` in a folder is left out; empty if it is not, also where it is damaged."""
    is_matlab = path.suffix.lower() == ".mat"
    try:
        with h5py.File(path) as f:
            if ATTR_SEGMENTED_BY in f.attrs:
                return "written by mousecmr predict"
            if IMAGES not in f and (MASKS in f or is_matlab):
                return f"{MASKS if MASKS in f else 'a MATLAB file'} without {IMAGES}"
    except (OSError, RuntimeError, KeyError, ValueError):
        return "a MATLAB file of version 7 or older" if is_matlab else ""
    return ""


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def find_pair_header(path: Path) -> Path | None:
    """Return the header (``.hdr``) beside ``path``, a file of pixels (``.img``); itself if it is a header."""
    match = re.fullmatch(r"(.+)\.(hdr|img)(\.gz)?", path.name, re.IGNORECASE)
    if match is None or match[2].lower() == "hdr":
        return match and path
    headers = (path.with_name(match[1] + ending) for ending in (".hdr", ".HDR", ".hdr.gz"))
    return next((header for header in headers if header.is_file()), None)
