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
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MissingExtraError
from mousecmr_data.formats.build import suppress_warnings
from mousecmr_data.formats.dicom import GROUPS, MR_CLASSES, DicomPlane, dcm, load_dicom, sort_planes
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
NEEDED = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber"),
    *("StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName", "PositionReferenceIndicator"),
)
"""Elements that highdicom copies from the images; empty where these lack them."""
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
    slice; frames without a ventricle have no file. An object refers to one series, and to one file if that has many
    frames: of a stack of several, each gets its own objects (``frame_000_1.dcm``, ...). Each has two binary segments,
    which refer to the images. ``by`` names the algorithm that made the labels. Names, identifiers and birth dates in
    the images are replaced by a pseudonym, unless ``keep_names``; the UIDs stay, by which a viewer finds the images.
    """
    slices = sort_planes(sources).slices
    on_file_grid = FileGrid.from_dataset(like).to_file(labels)  # (column, row, slice, frame)
    planes_of: dict[Path, list[DicomPlane]] = {}
    for plane in (p for frames in slices for p in frames):
        planes_of.setdefault(plane.path, []).append(plane)
    made = {name: str(hd.UID()) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")}
    spacing, first = get_spacing(like), slices[0][0]
    headers = {path: _load_source(path, planes, first, spacing, made, keep_names) for path, planes in planes_of.items()}
    written = []
    for t in range(on_file_grid.shape[3]):
        masks = on_file_grid[..., t].transpose(2, 1, 0)
        groups: dict[Any, list[int]] = {}
        for k, frames in enumerate(slices):
            path = frames[t].path
            groups.setdefault(path if GROUPS[0] in headers[path] else frames[t].series, []).append(k)
        for part, inside in enumerate(groups.values(), 1):
            if masks[inside].any():
                target = folder / (f"frame_{t:03d}_{part}.dcm" if len(groups) > 1 else f"frame_{t:03d}.dcm")
                planes = [slices[k][t] for k in inside]
                with atomic_path(target) as partial:
                    _make_segmentation(masks[inside], planes, spacing, headers, by, t).save_as(partial)
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


def _load_source(
    path: Path,
    planes: list[DicomPlane],
    first: DicomPlane,
    spacing: Sequence[float],
    made: dict[str, str],
    keep_names: bool,
) -> Any:
    """Load the header of a file, with what highdicom needs where it expects it.

    ``made`` are UIDs, and ``spacing`` (z, y, x) sizes in mm, for images that do not state them.
    """
    header = load_dicom(path, pixels=False)
    for name, uid in made.items():
        if not header.get(name):
            setattr(header, name, uid)
    if not keep_names:
        _pseudonymise(header)
    for name in NEEDED:
        if name not in header:
            setattr(header, name, "")
    if str(header.SOPClassUID) not in MR_CLASSES[1:]:
        header.ImageOrientationPatient = list(first.orientation)  # the same digits in all
        for name in ("NumberOfFrames", *GROUPS[:2]):
            header.pop(name, None)
        return header
    shared = dcm.Dataset()
    shared.PlaneOrientationSequence = hd.PlaneOrientationSequence("PATIENT", first.orientation)
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence(first.spacing or spacing[1:], spacing[0])
    frames = [dcm.Dataset() for _ in range(int(header.get("NumberOfFrames") or 1))]
    for frame in frames:  # those that are not used lie at the place of one that is
        frame.PlanePositionSequence = hd.PlanePositionSequence("PATIENT", planes[0].position)
    for plane in planes:
        frames[plane.index].PlanePositionSequence = hd.PlanePositionSequence("PATIENT", plane.position)
    header.SharedFunctionalGroupsSequence, header.PerFrameFunctionalGroupsSequence = [shared], frames
    header.NumberOfFrames = len(frames)
    return header


def _pseudonymise(header: Any) -> None:
    """Remove everything from ``header`` that can hold a name; the pseudonym is one of the study."""
    for element in list(header):
        if element.VR == "SQ":
            del header[element.tag]
    _remove_texts(header)
    code = hashlib.sha256(str(header.StudyInstanceUID).encode()).hexdigest()[:8]
    header.PatientName, header.PatientID = f"Mouse^{code}", f"mouse-{code}"
    header.PatientBirthDate = header.AccessionNumber = header.StudyID = header.ReferringPhysicianName = ""


def _remove_texts(dataset: Any) -> None:
    for element in list(dataset):
        if element.tag.is_private or (element.VR in TEXTS and element.keyword not in KEPT_TEXTS):
            del dataset[element.tag]


def _make_segmentation(
    masks: NDArray[np.uint8],
    planes: Sequence[DicomPlane],
    spacing: Sequence[float],
    headers: dict[Path, Any],
    by: str,
    t: int,
) -> Any:
    """Make the segmentation of one frame from masks (slice, row, column) and their planes.

    ``spacing`` is (z, y, x) in mm, used where the images do not state their own.
    """
    first, z = planes[0], spacing[0]
    with suppress_warnings("highdicom"):
        segmentation = hd.seg.Segmentation(
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
            pixel_measures=hd.PixelMeasuresSequence(first.spacing or spacing[1:], z, z),
            plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.orientation),
            plane_positions=[hd.PlanePositionSequence("PATIENT", p.position) for p in planes],
            content_description=f"LV masks, frame {t}, research only",
            content_label="LV_MASKS",
        )
    used = {p.index + 1 for p in planes}
    for frame in segmentation.PerFrameFunctionalGroupsSequence:  # highdicom refers to all frames at this place
        for derivation in frame.get("DerivationImageSequence") or ():
            images = derivation.SourceImageSequence
            derivation.SourceImageSequence = [i for i in images if i.get("ReferencedFrameNumber", 1) in used]
    return segmentation


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
