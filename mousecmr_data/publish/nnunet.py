"""A cohort as an nnU-Net dataset (v2): a case for each labelled frame, in 3D.

    imagesTr/Mouse4_frame00_0000.nii.gz  labelsTr/Mouse4_frame00.nii.gz   mice of train and validation
    imagesTs/...                         labelsTs/...                     mice of test
    dataset.json  splits_final.json

nnU-Net makes folds of its own: copy ``splits_final.json`` into the dataset's folder of ``nnUNet_preprocessed`` to
train on the cohort's split by mouse (fold 0). Its own folds would put frames of one mouse on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.memmap import read_without_converting
from mousecmr_data.errors import ArgumentError, UnlabelledError
from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.publish import exports
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.variables import MASK

ENDING = ".nii.gz"
TEST, VALIDATION = "test", "validation"
_NAME = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")


def write(cohort: Cohort, path: str | Path, done: Callable[[str], None] = lambda _: None) -> Path:
    """Write the labelled frames of ``cohort`` to the new folder ``path``, calling ``done`` with each mouse.

    Raises ArgumentError (nnU-Net wants names such as Dataset130_MouseCMR), UnlabelledError (no labelled frame
    to train on), CacheError (``path`` exists).
    """
    path = Path(path)
    if not _NAME.fullmatch(path.name):
        raise ArgumentError(f"nnU-Net does not take {path.name!r}.", "Dataset, three digits, _ and a name",
                            f"-o {path.with_name('Dataset130_MouseCMR')}")  # fmt: skip
    cases: dict[str, list[str]] = {}
    mice = []
    with exports.new_folder(path) as folder:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir()
        for mouse in cohort.mice:
            ds = read_without_converting(cohort, mouse)
            about = exports.about(ds)
            mice.append(about)
            end = "Ts" if about["split"] == TEST else "Tr"
            for frame in about["labelled_frames"]:
                case = f"{mouse}_frame{frame:02d}"
                cases.setdefault(str(about["split"]), []).append(case)
                one = ds.isel(frame=[frame])
                (folder / f"images{end}").mkdir(exist_ok=True)
                (folder / f"labels{end}").mkdir(exist_ok=True)
                write_nifti_images(one, folder / f"images{end}" / f"{case}_0000{ENDING}")
                write_nifti_labels(one[MASK].values, folder / f"labels{end}" / f"{case}{ENDING}", one)
            done(mouse)
        training = [c for split, names in cases.items() if split != TEST for c in names]
        if not training:
            raise UnlabelledError(
                "No mouse to train on has a labelled frame.",
                "mice of the splits train or validation",
                "leave out --split",
            )
        exports.write_json(folder / "dataset.json", _dataset(cohort, len(training), mice))
        if VALIDATION in cases and len(cases[VALIDATION]) < len(training):
            held = cases[VALIDATION]
            split = {"train": [c for c in training if c not in set(held)], "val": held}
            exports.write_json(folder / "splits_final.json", [split])
    return path


def _dataset(cohort: Cohort, n_training: int, mice: list[dict[str, Any]]) -> dict[str, Any]:
    manifest = cohort.source.manifest
    synthetic = cohort.synthetic or any(m["synthetic"] for m in mice)
    return {
        "channel_names": {"0": "cine MRI"},
        "labels": {meaning: int(label) for label, meaning in MEANINGS.items()},
        "numTraining": n_training,
        "file_ending": ENDING,
        "name": ("SYNTHETIC " if synthetic else "") + manifest.name,
        "description": manifest.title,
        "reference": manifest.paper.get("doi", manifest.homepage),
        "licence": manifest.licence,
        "release": manifest.version,
        "synthetic": synthetic,
        "mice": {m["mouse"]: m for m in mice},
    }
