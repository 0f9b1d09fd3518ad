from pathlib import Path

import numpy as np
import pydicom
import pytest
import scanner_files as scanner
from numpy.typing import NDArray
from pydicom.datadict import DicomDictionary

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, UnitsError
from mousecmr_data.formats.dicom import read_dicom
from mousecmr_data.formats.dicom_seg import write_dicom_seg
from mousecmr_data.formats.dicom_study import group_dicom_files
from mousecmr_data.formats.nifti import read_nifti, write_nifti_images

Images = NDArray[np.uint16]


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_images_in_any_order_become_slices_and_frames(tmp_path: Path, images: Images, kind: str) -> None:
    if kind == "classic":
        paths = scanner.dicom_classic(images, tmp_path, HeartRate=480)
    else:
        paths = [scanner.dicom_enhanced(images, tmp_path / "e.dcm")]
    ds = read_dicom(paths[::-1])
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)
    assert ds["time"].values.tolist() == [0.0, 5.0, 10.0]
    assert ds.attrs["frame_time_known"]
    assert ds.attrs["notes"] == ""
    assert ds.attrs.get("heart_rate_bpm") == (480.0 if kind == "classic" else None)


def test_the_same_geometry_gives_the_same_images_as_nifti(tmp_path: Path, images: Images) -> None:
    """An oblique stack, as DICOM and as NIfTI at the same position in space."""
    c, s = np.cos(0.5), np.sin(0.5)
    ds = read_dicom(scanner.dicom_classic(images, tmp_path / "d", orientation=(c, s, 0.0, 0.0, 0.0, -1.0)))
    path = write_nifti_images(ds, tmp_path / "a.nii.gz")
    back = read_nifti(path)
    np.testing.assert_array_equal(back["image"].values, ds["image"].values)


def test_masks_become_segmentation_objects_on_the_same_planes(tmp_path: Path, images: Images) -> None:
    hd = pytest.importorskip("highdicom")
    labels = ((images // 40) % 3).astype(np.uint8)
    labels[1] = 0  # a frame without a ventricle
    for orientation in (scanner.UPRIGHT, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)):  # as stored, and reversed by the reader
        folder = tmp_path / str(orientation[0])
        paths = scanner.dicom_classic(images, folder / "in", orientation=orientation)
        ds = read_dicom(paths)
        own = labels if orientation is scanner.UPRIGHT else labels[..., ::-1, ::-1]
        written = write_dicom_seg(own, folder / "seg", paths, ds, "a network; research only")
        assert [p.name for p in written] == ["frame_000.dcm", "frame_002.dcm"]
        seg = hd.seg.segread(written[1])
        volume = seg.get_volume(combine_segments=True).array
        np.testing.assert_array_equal(volume[::-1] if not (volume == labels[2]).all() else volume, labels[2])
        assert {d.SegmentLabel for d in seg.SegmentSequence} == {"LV myocardium", "LV blood pool"}
        uids = {i.ReferencedSOPInstanceUID for i in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
        assert uids == {pydicom.dcmread(p).SOPInstanceUID for p in paths if pydicom.dcmread(p).TriggerTime == 10.0}


def fill_with_names(ds: pydicom.Dataset) -> None:
    """Set every text of the DICOM dictionary that is not there yet, and add texts to all sequences."""
    texts = {"LO", "LT", "PN", "SH", "ST", "UC", "UT"}
    ds.Manufacturer, ds.ManufacturerModelName = "Bruker", "BioSpec"  # these are kept
    fixed = {"PatientName": "Secret^Name", "PatientID": "Secret", "PatientBirthDate": "19770707", "PatientAge": "077Y"}
    for tag, (vr, _, _, retired, keyword) in DicomDictionary.items():
        if tag >> 16 > 2 and keyword and not retired and vr in texts and keyword not in ds:
            setattr(ds, keyword, "Secret")
        elif isinstance(ds.get(keyword), pydicom.Sequence):
            for item in ds[keyword].value:
                item.PatientComments, item.OperatorsName = "Secret", "Secret^Name"
                for nested in (e for e in item if e.VR == "SQ" and e.value):
                    nested.value[0].FrameComments = "Secret"
    other = pydicom.Dataset()
    other.PatientID = other.PatientName = "Secret"
    ds.OtherPatientIDsSequence = ds.ReferringPhysicianIdentificationSequence = [other]
    ds.private_block(0x0013, "Secret", create=True).add_new(1, "LO", "Secret")
    for keyword, value in fixed.items():
        setattr(ds, keyword, value)


@pytest.mark.parametrize("kind", ["classic", "enhanced"])
def test_names_in_the_images_are_not_in_their_masks(tmp_path: Path, images: Images, kind: str) -> None:
    pytest.importorskip("highdicom")
    if kind == "classic":
        paths = scanner.dicom_classic(images, tmp_path / "in")
    else:
        paths = [scanner.dicom_enhanced(images, tmp_path / "in.dcm")]
    for path in paths:
        source = pydicom.dcmread(path)
        fill_with_names(source)
        source.save_as(path)
    ds = read_dicom(paths)
    labels = ((images // 40) % 3).astype(np.uint8)
    for keep_names in (False, True):
        (first, *_) = write_dicom_seg(labels, tmp_path / f"seg{keep_names}", paths, ds, "a network", keep_names)
        content, seg = first.read_bytes(), pydicom.dcmread(first)
        found = [word for word in (b"Secret", b"19770707", b"077Y") if word in content]
        assert found == ([b"Secret", b"19770707", b"077Y"] if keep_names else [])
        assert seg.StudyInstanceUID == source.StudyInstanceUID  # by which a viewer finds the images
        assert (seg.PatientID == "Secret") == keep_names
    assert str(pydicom.dcmread(next((tmp_path / "segFalse").iterdir())).PatientName).startswith("Mouse^")


def edit(path: Path, **tags: object) -> None:
    ds = pydicom.dcmread(path)
    for name, value in tags.items():
        if value is None:
            delattr(ds, name)
        else:
            setattr(ds, name, value)
    ds.save_as(path)


def test_a_grid_with_a_missing_or_duplicate_image_is_refused(tmp_path: Path, images: Images) -> None:
    paths = scanner.dicom_classic(images, tmp_path)
    with pytest.raises(FileLayoutError, match="most slices have 3 frames, slice 1 has 2"):
        read_dicom([p for p in paths if p != paths[1]])
    with pytest.raises(FileLayoutError, match="slices 0 and 1 2 mm"):
        read_dicom([p for k, p in enumerate(paths) if k % 4 != 1])
    again = tmp_path / "again"
    again.write_bytes(paths[0].read_bytes())
    edit(again, SOPInstanceUID=f"{scanner.ROOT}.9.99")
    with pytest.raises(FileLayoutError, match=r"two images at the same position .* have the same time \(0"):
        read_dicom([*paths, again])
    edit(paths[2], PixelSpacing=[0.2, 0.2])
    with pytest.raises(FileLayoutError, match="different sizes"):
        read_dicom(paths)


def test_missing_header_values_are_named(tmp_path: Path, images: Images) -> None:
    paths = scanner.dicom_classic(images[:2, :2], tmp_path)
    for path in paths:
        edit(path, TriggerTime=None)
    ds = read_dicom(paths)  # by instance number
    np.testing.assert_array_equal(ds["image"].values, images[:2, :2])
    assert not ds.attrs["frame_time_known"]
    edit(paths[0], ImagePositionPatient=None)
    with pytest.raises(FileLayoutError, match="does not say its ImagePositionPatient"):
        read_dicom(paths)
    (tmp_path / "text").write_text("no DICOM")
    with pytest.raises(FileLayoutError, match="not a DICOM"):
        read_dicom([tmp_path / "text"])
    human = scanner.dicom_classic(images[:1, :2], tmp_path / "human", steps=(8.0, 1.4, 1.4))
    with pytest.raises(UnitsError, match="not those of a mouse"):
        read_dicom(human)


def test_scaled_values_and_gaps_between_slices(tmp_path: Path, images: Images) -> None:
    paths = scanner.dicom_classic(images, tmp_path, RescaleSlope=0.5, RescaleIntercept=-3, SliceThickness=0.7)
    ds = read_dicom(paths)
    np.testing.assert_allclose(ds["image"].values, images * 0.5 - 3)
    assert get_spacing(ds)[0] == 1.0
    assert "0.7 mm thick and 1 mm apart" in ds.attrs["notes"].splitlines()[0]


def test_series_are_separated_or_joined(tmp_path: Path, images: Images) -> None:
    slices = [
        path
        for z in range(4)
        for path in scanner.dicom_classic(
            images[:, z : z + 1],
            tmp_path / str(z),
            SeriesInstanceUID=f"{scanner.ROOT}.2.{z}",
            ImagePositionPatient=[0.0, 0.0, float(z)],
        )
    ]
    scout = scanner.dicom_classic(images[:1], tmp_path / "scout", SeriesInstanceUID=f"{scanner.ROOT}.7")
    other = scanner.dicom_classic(images, tmp_path / "other", StudyInstanceUID=f"{scanner.ROOT}.5")
    junk = tmp_path / "junk.dcm"
    junk.write_bytes(bytes(128) + b"DICM" + bytes(range(100)))
    groups = group_dicom_files([*scout, *slices, *other, junk])
    # an unreadable file stays, so that its error is reported
    assert [len(g.paths) for g in groups] == [12, 12, 1]
    np.testing.assert_array_equal(read_dicom(groups[0].paths)["image"].values, images)
    assert groups[0].notes == ("Left out of this study: series 1: 4 slices, 1 frame.",)
    assert "junk.dcm" in groups[0].incomplete[0]
