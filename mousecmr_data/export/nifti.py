"""Write a cohort as NIfTI, NRRD or MetaImage files, or as an nnU-Net dataset.

A frame that nobody segmented has no mask file: zeros would mean "background".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mousecmr_data._utils.atomic import atomic_folder, write_json
from mousecmr_data._utils.outputs import check_apart
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data.dataset.cohort import Cohort, list_inputs
from mousecmr_data.dataset.memmap import read_without_converting
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, UnlabelledError
from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.variables import MASK

FILE_ENDINGS = {"nifti": ".nii.gz", "nrrd": ".nrrd", "mha": ".mha"}
FILE_ENDING = FILE_ENDINGS["nifti"]
TEST, VALIDATION = "test", "validation"
_DATASET_NAME = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")


def write_nifti_dataset(
    cohort: Cohort, path: str | Path, progress: ProgressCallback = lambda _: None, ending: str = FILE_ENDING
) -> Path:
    """Write ``cohort`` to the new folder ``path``, calling ``progress`` with 1 after each mouse.

    ``ending`` is the format: ".nii.gz", ".nrrd" or ".mha".

    One folder per mouse: the cine in 4D, and a mask in 3D for each labelled frame. OutputError if ``path`` exists, or
    lies in or holds a file of the cohort.

        Mouse4/Mouse4_cine.nii.gz            (x, y, slice, frame) uint16, in mm and s
        Mouse4/Mouse4_frame00_ED_mask.nii.gz (x, y, slice) uint8
        Mouse4/Mouse4.json                   sources of the sizes, labelled frames, phases, synthetic or not
    """
    check_apart([Path(path)], list_inputs(cohort))
    with atomic_folder(path) as folder:
        for mouse in cohort.mice:
            ds = read_without_converting(cohort, mouse)
            about = describe_mouse(ds)
            cine, masks = f"{mouse}_cine{ending}", {}
            (folder / mouse).mkdir()
            write_nifti_images(ds, folder / mouse / cine)
            for frame in about["labelled_frames"]:
                name = f"{mouse}_frame{frame:02d}_{about['phases'][str(frame)]}_mask{ending}"
                masks[str(frame)] = name
                write_nifti_labels(ds[MASK].isel(frame=[frame]).values, folder / mouse / name, ds)
            write_json(folder / mouse / f"{mouse}.json", {**about, "cine": cine, "masks": masks})
            progress(1)
    return Path(path)


def write_nnunet_dataset(
    cohort: Cohort,
    path: str | Path,
    progress: ProgressCallback = lambda _: None,
    *,
    splits: Mapping[str, str] | None = None,
    tests: Mapping[str, Mapping[str, xr.Dataset]] | None = None,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write the labelled frames of ``cohort`` to the new folder ``path``, calling ``progress`` with 1 after each mouse.

    The layout is nnU-Net's (v2): one case for each labelled frame, in 3D.

        imagesTr/Mouse4_frame00_0000.nii.gz  labelsTr/Mouse4_frame00.nii.gz   mice of train and validation
        imagesTs/...                         labelsTs/...                     mice of test
        dataset.json  splits_final.json

    nnU-Net's own folds would put frames of one mouse on both sides. Its planner copies ``splits_final.json``, whose
    fold 0 is the split by mouse.

    Parameters
    ----------
    splits
        "train" or "validation" for each mouse. Default: the cohort's splits.
    tests
        Further mice to be segmented, by name, in a folder below ``imagesTs`` each ("": in itself). All their frames are
        written, without labels.
    about
        More for ``dataset.json``.

    Raises ArgumentError (nnU-Net requires names such as Dataset130_MouseCMR), UnlabelledError (no labelled frame
    to train on), OutputError (``path`` exists, or lies in or holds a file of the cohort).
    """
    path = Path(path).absolute()
    if not _DATASET_NAME.fullmatch(path.name):
        raise ArgumentError(f"nnU-Net does not accept {path.name!r}.", "Dataset, three digits, _ and a name",
                            f"-o {shlex.quote(str(path.parent / 'Dataset130_MouseCMR'))}")  # fmt: skip
    check_apart([path], list_inputs(cohort))
    cases: dict[str, list[str]] = {}
    mice = []
    synthetic = cohort.synthetic
    with atomic_folder(path) as folder:
        for part in ("imagesTr", "labelsTr"):
            (folder / part).mkdir()
        for mouse in cohort.mice:
            ds = read_without_converting(cohort, mouse)
            described = describe_mouse(ds) | ({"split": splits[mouse]} if splits else {})
            mice.append(described)
            part = "Ts" if described["split"] == TEST else "Tr"
            labelled = ds.isel(frame=described["labelled_frames"])
            images, labels = folder / f"images{part}", folder / f"labels{part}"
            written = _write_cases(labelled, mouse, images, labels)
            cases.setdefault(str(described["split"]), []).extend(written)
            synthetic |= described["synthetic"]
            progress(1)
        training = [c for split, names in cases.items() if split != TEST for c in names]
        if not training:
            raise UnlabelledError(
                "No mouse to train on has a labelled frame.",
                "mice of the splits train or validation",
                "leave out --split",
            )
        for name, tested in (tests or {}).items():
            for mouse, ds in tested.items():
                _write_cases(ds, mouse, folder / "imagesTs" / name)
                synthetic |= bool(ds.attrs["synthetic"])
                progress(1)
        manifest = cohort.source.manifest
        dataset = {
            "channel_names": {"0": "cine MRI"},
            "labels": {meaning: int(label) for label, meaning in MEANINGS.items()},
            "numTraining": len(training),
            "file_ending": FILE_ENDING,
            "name": ("SYNTHETIC " if synthetic else "") + manifest.name,
            "description": manifest.title,
            "reference": manifest.paper.get("doi", manifest.homepage),
            "licence": manifest.licence,
            "release": manifest.version,
            "synthetic": synthetic,
            "mice": {m["mouse"]: m for m in mice},
            **(about or {}),
        }
        write_json(folder / "dataset.json", dataset)
        validation = cases.get(VALIDATION, [])
        if 0 < len(validation) < len(training):
            split = {"train": [c for c in training if c not in set(validation)], "val": validation}
            write_json(folder / "splits_final.json", [split])
    return path


def _write_cases(ds: xr.Dataset, mouse: str, images: Path, labels: Path | None = None) -> list[str]:
    """Write each frame of ``ds`` as a case of nnU-Net, and return the names of the cases."""
    names = [f"{mouse}_frame{frame:02d}" for frame in ds["frame"].values]
    for k, name in enumerate(names):
        stack = ds.isel(frame=[k])
        images.mkdir(parents=True, exist_ok=True)
        write_nifti_images(stack, images / f"{name}_0000{FILE_ENDING}")
        if labels:
            labels.mkdir(exist_ok=True)
            write_nifti_labels(stack[MASK].values, labels / f"{name}{FILE_ENDING}", stack)
    return names


def describe_mouse(ds: xr.Dataset) -> dict[str, Any]:
    """Return what a NIfTI file cannot hold: source, split, group, phases, and where the sizes come from."""
    labelled = np.flatnonzero(ds["labelled"].values).tolist()
    phases = ds["phase"].values.astype(str).tolist()
    attrs = ds.attrs
    return {
        "mouse": attrs["mouse"],
        "synthetic": bool(attrs["synthetic"]),
        **{name: attrs[name] for name in ("source", "version", "split", "phenotype")},
        "voxel_size_mm_zyx": list(get_spacing(ds)),
        "voxel_size_source": attrs["voxel_size_source"],
        "frame_time_ms": float(ds["time"].attrs["frame_time"]),
        "frame_time_source": attrs["frame_time_source"],
        "slice_order": attrs["slice_order"],
        "labelled_frames": labelled,
        "phases": {str(i): phases[i] for i in labelled},
    }
