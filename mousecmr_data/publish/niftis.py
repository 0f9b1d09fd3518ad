"""A cohort as NIfTI files: a folder a mouse, the cine in 4D, and a mask for each labelled frame in 3D.

    Mouse4/Mouse4_cine.nii.gz            (x, y, slice, frame) uint16, in mm and s
    Mouse4/Mouse4_frame00_ED_mask.nii.gz (x, y, slice) uint8
    Mouse4/Mouse4.json                   sources of the sizes, labelled frames, phases, synthetic or not

A frame that nobody segmented has no mask file: zeros would say "background".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.memmap import read_without_converting
from mousecmr_data.formats.nifti import write_nifti_images, write_nifti_labels
from mousecmr_data.publish import exports
from mousecmr_data.schema.variables import MASK


def write(cohort: Cohort, path: str | Path, done: Callable[[str], None] = lambda _: None) -> Path:
    """Write ``cohort`` to the new folder ``path``, calling ``done`` with each mouse. CacheError if it exists."""
    with exports.new_folder(path) as folder:
        for mouse in cohort.mice:
            ds = read_without_converting(cohort, mouse)
            about = exports.about(ds)
            place = folder / mouse
            place.mkdir()
            write_nifti_images(ds, place / f"{mouse}_cine.nii.gz")
            masks = {}
            for frame in about["labelled_frames"]:
                name = f"{mouse}_frame{frame:02d}_{about['phases'][str(frame)]}_mask.nii.gz"
                masks[str(frame)] = name
                write_nifti_labels(ds[MASK].isel(frame=[frame]).values, place / name, ds)
            exports.write_json(place / f"{mouse}.json", {**about, "cine": f"{mouse}_cine.nii.gz", "masks": masks})
            done(mouse)
    return Path(path)
