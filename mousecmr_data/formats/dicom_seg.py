"""Write masks as DICOM segmentation objects (SEG) that refer to the images they were made on, and read such objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._version import __version__
from mousecmr_data.errors import MissingExtraError
from mousecmr_data.formats.build import suppress_warnings
from mousecmr_data.formats.dicom import DicomPlane, load_dicom, sort_planes
from mousecmr_data.formats.orientation import LPS_TO_RAS, FileGrid
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label

try:
    import highdicom
except ImportError as e:
    raise MissingExtraError.from_module("highdicom", "dicom-seg") from e

hd: Any = highdicom
nib: Any = nibabel
SERIES_NUMBER = 1000
CODES = {
    Label.MYOCARDIUM: (("85756007", "SCT", "Tissue"), ("74281007", "SCT", "Myocardium")),
    Label.BLOOD_POOL: (("91720002", "SCT", "Body Substance"), ("87612001", "SCT", "Blood")),
}
"""Category and type of each class (SNOMED CT; the blood is that in the left ventricle)."""


KEPT_TEXTS = ("StudyDate", "StudyTime", "Manufacturer", "ManufacturerModelName")
"""The only texts and dates of the images that a pseudonymised object keeps."""
KEPT_SEQUENCES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TEXTS = ("AE", "AS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT", "OB", "UN")
"""Value representations that can hold names, or when somebody was born."""


def write_dicom_seg(
    labels: NDArray[np.uint8],
    folder: Path,
    sources: Sequence[Path],
    like: xr.Dataset,
    by: str,
    keep_names: bool = False,
) -> list[Path]:
    """Write labels (frame, slice, y, x) on the grid of ``like``, which was read from the DICOM files ``sources``.

    Returns one file per frame of the cine (``frame_000.dcm``, ...), since an object cannot hold two masks of one
    slice; frames without a ventricle have no file. Each has two binary segments, which refer to the images. ``by``
    names the algorithm that made the labels. Names, identifiers and birth dates in the images are replaced by a
    pseudonym, unless ``keep_names``; the UIDs stay, by which a viewer finds the images.
    """
    stack, _ = sort_planes(sources)
    on_file_grid = FileGrid.from_dataset(like).to_file(labels)  # (column, row, slice, frame)
    headers = {path: load_dicom(path, pixels=False) for path in dict.fromkeys(p.path for s in stack for p in s)}
    if not keep_names:
        for header in headers.values():
            _pseudonymise(header)
    written = []
    for t in range(on_file_grid.shape[3]):
        masks = np.ascontiguousarray(on_file_grid[..., t].transpose(2, 1, 0))
        if masks.any():
            target = folder / f"frame_{t:03d}.dcm"
            with atomic_path(target) as partial:
                _make_segmentation(masks, [frames[t] for frames in stack], headers, by, t).save_as(partial)
            written.append(target)
    return written


def load_dicom_seg(path: Path) -> Any:
    """Return the segmentation ``path`` as a ``Nifti1Image`` (slice, row, column) of segment numbers, in mm.

    Slices without a segment may be missing at both ends, since the object need not have them.
    """
    with suppress_warnings("highdicom"):
        volume = hd.seg.segread(path).get_volume(combine_segments=True)
    image: Any = nib.Nifti1Image(volume.array.astype(np.uint8), LPS_TO_RAS @ volume.affine)
    image.header.set_xyzt_units("mm", "sec")
    return image


def _pseudonymise(header: Any) -> None:
    """Remove everything from ``header`` that can hold a name; the pseudonym is one of the study."""
    for element in list(header):
        if element.VR == "SQ" and element.keyword not in KEPT_SEQUENCES:
            del header[element.tag]
    _remove_texts(header)
    code = hashlib.sha256(str(header.StudyInstanceUID).encode()).hexdigest()[:8]
    header.PatientName, header.PatientID = f"Mouse^{code}", f"mouse-{code}"
    header.PatientBirthDate = header.AccessionNumber = header.StudyID = header.ReferringPhysicianName = ""


def _remove_texts(dataset: Any) -> None:
    for element in list(dataset):
        if element.tag.is_private or (element.VR in TEXTS and element.keyword not in KEPT_TEXTS):
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _remove_texts(item)


def _make_segmentation(
    masks: NDArray[np.uint8], planes: Sequence[DicomPlane], headers: dict[Path, Any], by: str, t: int
) -> Any:
    """Make the segmentation of one frame from masks (slice, row, column) and their planes."""
    first = planes[0]
    z = abs(planes[1].depth - first.depth) if len(planes) > 1 else first.thickness or 1.0
    with suppress_warnings("highdicom"):
        return hd.seg.Segmentation(
            source_images=[headers[p] for p in dict.fromkeys(p.path for p in planes)],
            pixel_array=masks,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_describe_segment(label, by) for label in FOREGROUND],
            series_instance_uid=hd.UID(),
            series_number=SERIES_NUMBER + t,
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="mousecmr-data",
            manufacturer_model_name="mousecmr segment",
            software_versions=__version__,
            device_serial_number="0",
            pixel_measures=hd.PixelMeasuresSequence(first.spacing, z, z),
            plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.orientation),
            plane_positions=[hd.PlanePositionSequence("PATIENT", p.position) for p in planes],
            content_description=f"LV masks, frame {t}, research only",
            content_label="LV_MASKS",
        )


def _describe_segment(label: Label, by: str) -> Any:
    category, property_type = (hd.sr.CodedConcept(*code) for code in CODES[label])
    return hd.seg.SegmentDescription(
        segment_number=int(label),
        segment_label=MEANINGS[label],
        segmented_property_category=category,
        segmented_property_type=property_type,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=by[:64], version=__version__, family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence")
        ),
    )
