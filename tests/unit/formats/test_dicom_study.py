"""Which files of a study become a mouse, and what is said about the others."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import scanner_files as scanner
from numpy.typing import NDArray
from pydicom.fileset import FileSet

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, MissingDataError, UnitsError
from mousecmr_data.formats.discover import FoundScan, collect_inputs, find_scans
from mousecmr_data.formats.read import read_scan

Images = NDArray[np.uint16]
LONG_AXIS = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)


def write_series(images: Images, folder: Path, number: int, first_slice: int = 0, **tags: Any) -> list[Path]:
    """Write images (frame, slice, y, x) as classic files of one series, with UIDs and dates of their own."""
    tags = {"SeriesDescription": f"series {number}", "ProtocolName": "cine", **tags}
    steps, orientation = tags.pop("steps", scanner.STEPS), tags.pop("orientation", scanner.UPRIGHT)
    paths = scanner.dicom_classic(images, folder, steps, orientation, **tags)
    for k, path in enumerate(paths):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{scanner.ROOT}.9.{number}.{k + 1}"
        ds.SeriesInstanceUID, ds.SeriesNumber = f"{scanner.ROOT}.2.{number}", number
        ds.SeriesDate, ds.SeriesTime = "20200101", f"12{number:02d}00"
        z = first_slice + k % images.shape[1]
        ds.ImagePositionPatient = tags.get("ImagePositionPatient", scanner._position(z, steps, orientation))
        ds.save_as(path)
    return paths


def change(paths: list[Path], **tags: Any) -> None:
    for path in paths:
        ds = pydicom.dcmread(path)
        for name, value in tags.items():
            if value is None:
                del ds[name]
            else:
                setattr(ds, name, value)
        ds.save_as(path)


def read_one(folder: Path) -> tuple[FoundScan, Any]:
    (scan,) = find_scans(folder)
    return scan, read_scan(scan)


def test_a_study_gives_its_cine_and_says_what_was_left_out(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        write_series(images[:, z : z + 1], tmp_path / f"SA_{z}", 10 + z, first_slice=z)
    write_series(images[:, :1], tmp_path / "LA", 20, orientation=LONG_AXIS, SeriesDescription="LA 2ch")
    write_series(images[:1], tmp_path / "static", 21, SeriesDescription="anatomy")
    for k, orientation in enumerate((scanner.UPRIGHT, LONG_AXIS)):
        paths = write_series(images[:1, :1], tmp_path / f"scout{k}", 22, orientation=orientation)
        change(paths, SOPInstanceUID=f"{scanner.ROOT}.7.{k}")
    write_series(images, tmp_path / "epi", 23, SeriesDescription="B0 map", steps=(1.0, 0.2, 0.2))
    write_series(images, tmp_path / "ct", 24, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    scan, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images)
    (note,) = ds.attrs["notes"].splitlines()
    assert note.startswith("Left out of this study: ")
    for part in (
        "LA 2ch (series 20): 1 slice, 3 frames, a long-axis view by its name",
        "anatomy (series 21): 4 slices, 1 frame",
        "series 22 (series 22): several directions (a localiser)",
        "B0 map (series 23): 4 slices, 3 frames, a field map by its name",
        "modality CT",
    ):
        assert part in note, part
    assert scan.incomplete == ()


def test_without_a_cine_a_lone_series_is_read_or_refused(tmp_path: Path, images: Images) -> None:
    write_series(images[:, :1], tmp_path / "LA", 20, orientation=LONG_AXIS, SeriesDescription="LA 2ch")
    assert read_one(tmp_path)[1].attrs["purpose"] == "a long-axis view"
    for k, orientation in enumerate((scanner.UPRIGHT, LONG_AXIS)):
        paths = write_series(images[:1, :1], tmp_path / "scout" / str(k), 22, orientation=orientation)
        change(paths, SOPInstanceUID=f"{scanner.ROOT}.7.{k}")
    with pytest.raises(FileLayoutError, match=r"2 different sizes, directions .* \(a localiser\?\)"):
        read_one(tmp_path / "scout")


def test_a_slice_that_was_scanned_again_does_not_dissolve_its_stack(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        write_series(images[:, z : z + 1] // 2, tmp_path / f"SA_{z}", 10 + z, first_slice=z)
    write_series(images[:, 2:3], tmp_path / "again", 30, first_slice=2)
    write_series(images[:2, 3:4], tmp_path / "broken off", 31, first_slice=3)
    expected = images // 2
    expected[:, 2] = images[:, 2]
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, expected)
    notes = ds.attrs["notes"].splitlines()
    assert "scanned 2 times: the latest complete scan is used, series 30 (series 30)" in notes[1]
    assert "series 31 (series 31): 1 slice, 2 frames" in notes[0]


def test_of_a_stack_that_was_scanned_again_the_latest_complete_one_is_taken(tmp_path: Path, images: Images) -> None:
    write_series(images // 3, tmp_path / "first", 1)
    write_series(images, tmp_path / "second", 2)
    write_series(images[:, :2] // 2, tmp_path / "third", 3)
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images)
    note = ds.attrs["notes"]
    assert "series 1 (series 1): 4 slices, 3 frames, the same slices scanned earlier" in note
    assert "series 3 (series 3): 2 slices, 3 frames, the same slices scanned later, but not completely" in note


def test_a_scan_repeated_within_its_series_is_resolved_by_acquisition_number(tmp_path: Path, images: Images) -> None:
    first = write_series(images[:, :1] // 2, tmp_path / "a", 1)
    change(first, AcquisitionNumber=1)
    second = write_series(images[:, :1], tmp_path / "b", 1)
    change(second, AcquisitionNumber=2)
    for k, path in enumerate(second):
        change([path], SOPInstanceUID=f"{scanner.ROOT}.7.{k}")
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images[:, :1])


def test_copies_are_dropped_with_a_note(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        paths = write_series(images[:, z : z + 1], tmp_path / f"SA_{z}", 10 + z, first_slice=z)
        if z == 1:
            (tmp_path / "SA_1" / "copy").write_bytes(paths[0].read_bytes())
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images)
    assert ds.attrs["notes"].startswith("Copies were left out: SA_1/")
    # without UIDs, only the bytes tell
    paths = write_series(images, tmp_path / "blank", 40, StudyInstanceUID="")
    change(paths, SOPInstanceUID="", SeriesInstanceUID="")
    (tmp_path / "blank" / "copy").write_bytes(paths[0].read_bytes())
    _, ds = read_one(tmp_path / "blank")
    np.testing.assert_array_equal(ds["image"].values, images)
    assert "blank/copy" in ds.attrs["notes"]


def test_a_refused_member_of_a_stack_is_said(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        paths = write_series(images[:, z : z + 1], tmp_path / f"SA_{z}", 10 + z, first_slice=z)
    for path in paths:
        path.write_bytes(path.read_bytes()[:700])
    scan, *refused = find_scans(tmp_path)
    assert read_scan(scan).sizes["slice"] == 3
    assert len(refused) == 1
    assert "slices may be missing: " in scan.incomplete[0]
    assert f"{refused[0].paths[0].name} is damaged" in read_scan(scan).attrs["incomplete"]
    paths = write_series(images[:, 3:4], tmp_path / "SA_3", 13, first_slice=3)
    change(paths, ImagePositionPatient=None)
    scan, *refused = find_scans(tmp_path)
    assert "ImagePositionPatient" in scan.incomplete[0]
    with pytest.raises(FileLayoutError, match="does not say its ImagePositionPatient"):
        read_scan(refused[0])


def test_a_slice_with_other_frames_makes_the_stack_incomplete(tmp_path: Path, images: Images) -> None:
    for z in range(4):
        frames = 2 if z == 3 else 3
        write_series(images[:frames, z : z + 1], tmp_path / f"SA_{z}", 10 + z, first_slice=z)
    scan, ds = read_one(tmp_path)
    assert ds.sizes["slice"] == 3
    assert "series 13 (series 13): 1 slice, 2 frames" in scan.incomplete[0]


def test_series_of_one_frame_each_and_interleaved_slices_are_one_cine(tmp_path: Path, images: Images) -> None:
    for t in range(3):
        write_series(images[t : t + 1], tmp_path / "phases" / str(t), 1 + t, TriggerTime=5.0 * t)
    np.testing.assert_array_equal(read_one(tmp_path / "phases")[1]["image"].values, images)
    for k in (0, 1):
        paths = write_series(images[:, k::2], tmp_path / "interleaved" / str(k), 1 + k)
        for path in paths:
            ds = pydicom.dcmread(path)
            z = round(float(ds.ImagePositionPatient[2]) - 3.0) * 2 + k
            change([path], ImagePositionPatient=scanner._position(z, scanner.STEPS, scanner.UPRIGHT))
    np.testing.assert_array_equal(read_one(tmp_path / "interleaved")[1]["image"].values, images)


def test_removed_and_constant_uids_leave_the_folders(tmp_path: Path, images: Images) -> None:
    for uid in ("", f"{scanner.ROOT}.4"):
        for k in (1, 2):
            paths = write_series(images // k, tmp_path / f"uid{uid}" / f"m{k}", 1, StudyInstanceUID=uid)
            change(paths, SOPInstanceUID=uid, SeriesInstanceUID=uid)
        scans = find_scans(tmp_path / f"uid{uid}")
        assert len(scans) == 2
        for k, scan in enumerate(scans, 1):
            np.testing.assert_array_equal(read_scan(scan)["image"].values, images // k)


def test_what_tells_the_order_of_frames(tmp_path: Path, images: Images) -> None:
    paths = write_series(images, tmp_path, 1, TemporalPositionIdentifier=1, TriggerTime=0.0)
    np.testing.assert_array_equal(read_one(tmp_path)[1]["image"].values, images)
    change(paths, InstanceNumber=1)
    with pytest.raises(FileLayoutError, match="nothing that tells their order"):
        read_one(tmp_path)


def test_a_classic_file_with_an_empty_functional_group_stays_classic(tmp_path: Path, images: Images) -> None:
    change(write_series(images, tmp_path, 1), PerFrameFunctionalGroupsSequence=[pydicom.Dataset()])
    np.testing.assert_array_equal(read_one(tmp_path)[1]["image"].values, images)


def test_phases_and_later_echoes_are_left_out(tmp_path: Path, images: Images) -> None:
    write_series(images, tmp_path, 1, ImageType=["ORIGINAL", "PRIMARY", "M"])
    write_series(4000 - images, tmp_path / "phase", 1, ImageType=["ORIGINAL", "PRIMARY", "P"])
    for k, path in enumerate(sorted((tmp_path / "phase").iterdir())):
        change([path], SOPInstanceUID=f"{scanner.ROOT}.7.{k}")
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images)
    assert ds.attrs["notes"] == "Images that are no magnitudes were left out: 12 of phase."
    with pytest.raises(FileLayoutError, match="no magnitudes: 12 of phase") as e:
        read_one(tmp_path / "phase")
    assert e.value.next_step == "give the magnitude series"
    change(list((tmp_path / "phase").iterdir()), ImageType=["ORIGINAL", "PRIMARY", "M"], EchoTime=9.0)
    change([p for p in tmp_path.iterdir() if p.is_file()], EchoTime=2.0)
    _, ds = read_one(tmp_path)
    np.testing.assert_array_equal(ds["image"].values, images)
    assert ds.attrs["notes"] == "Of 2 echoes, the first one is used (2 ms)."


@pytest.mark.parametrize("modality", ["CT", "US", "PT", "OT", "NM"])
def test_other_modalities_are_refused(tmp_path: Path, images: Images, modality: str) -> None:
    paths = write_series(images, tmp_path, 1, Modality=modality, SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    with pytest.raises(FileLayoutError, match=f"no MR image: .*modality {modality}"):
        read_one(tmp_path)
    change(paths, Modality="MR")
    np.testing.assert_array_equal(read_one(tmp_path)[1]["image"].values, images)


def test_missing_pixel_spacing_is_given(tmp_path: Path, images: Images) -> None:
    change(write_series(images, tmp_path, 1), PixelSpacing=None)
    (scan,) = find_scans(tmp_path)
    with pytest.raises(UnitsError, match="does not say its pixel spacing") as e:
        read_scan(scan)
    assert "--spacing" in str(e.value.next_step)
    ds = read_scan(scan, spacing=(1.0, 0.1, 0.15))
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.15)
    change([tmp_path / p.name for p in scan.paths], PixelSpacing=[0, 0])
    np.testing.assert_array_equal(read_scan(scan, spacing=(1.0, 0.1, 0.15))["image"].values, images)


def test_oblong_pixels_keep_their_sides_when_the_axes_are_exchanged(tmp_path: Path, images: Images) -> None:
    rows_along_x = (0.0, 1.0, 0.0, 1.0, 0.0, 0.0)
    write_series(images, tmp_path, 1, steps=(1.0, 0.1, 0.2), orientation=rows_along_x)
    _, ds = read_one(tmp_path)
    assert ds["image"].shape[2:] == (72, 80)
    assert get_spacing(ds) == (1.0, 0.2, 0.1)


def test_slices_shifted_within_their_plane_are_refused(tmp_path: Path, images: Images) -> None:
    paths = write_series(images, tmp_path, 1)
    for path in paths:
        x, y, z = pydicom.dcmread(path).ImagePositionPatient
        change([path], ImagePositionPatient=[x, float(y) + 0.2 * float(z), z])
    with pytest.raises(FileLayoutError, match=r"shifted within their plane, by up to 0\.6 mm \(6\.0 pixels\)") as e:
        read_one(tmp_path)
    assert "or give one slice" in str(e.value.next_step)
    (tmp_path / "one").mkdir()
    for path in paths[::4]:
        path.rename(tmp_path / "one" / path.name)
    assert read_one(tmp_path / "one")[1].sizes["slice"] == 1


@pytest.mark.parametrize(
    ("tags", "rate", "source"),
    [
        ({"HeartRate": 480}, 480.0, "the file (HeartRate, 0018,1088)"),
        ({"NominalInterval": 125}, 480.0, "the file (NominalInterval, 0018,1062)"),
        ({"CardiacRRIntervalSpecified": 125.0}, 480.0, "the file (CardiacRRIntervalSpecified, 0018,9070)"),
        ({"HeartRate": 60, "NominalInterval": 125}, 480.0, "the file (NominalInterval, 0018,1062)"),
        ({"HeartRate": 60}, 60.0, "the file (HeartRate, 0018,1088)"),
        ({"HeartRate": 0}, None, None),
    ],
)
def test_the_heart_rate_of_the_file(
    tmp_path: Path, images: Images, tags: dict[str, Any], rate: float | None, source: str | None
) -> None:
    write_series(images, tmp_path, 1, **tags)
    _, ds = read_one(tmp_path)
    assert (ds.attrs.get("heart_rate_bpm"), ds.attrs.get("heart_rate_source")) == (rate, source)


def test_files_without_prefix_and_compressed_files_are_read(tmp_path: Path, images: Images) -> None:
    paths = write_series(images, tmp_path / "bare", 1)
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.preamble, ds.file_meta = None, pydicom.dataset.FileMetaDataset()
        ds.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_one(tmp_path / "bare")[1]["image"].values, images)
    for path in write_series(images, tmp_path / "packed", 1):
        path.write_bytes(gzip.compress(path.read_bytes()))
    np.testing.assert_array_equal(read_one(tmp_path / "packed")[1]["image"].values, images)
    for name in ("notes.txt", "report.pdf"):
        (tmp_path / "packed" / name).write_bytes(b"\x08 no DICOM, but a text" * 50)
    assert len(find_scans(tmp_path / "packed")) == 1
    with zipfile.ZipFile(tmp_path / "study", "w") as z:  # a zip without its ending
        for path in (tmp_path / "packed").iterdir():
            z.write(path, f"m/{path.name}")
    with collect_inputs([tmp_path / "study"]) as (found, refused):
        assert not refused
        np.testing.assert_array_equal(read_scan(found[0])["image"].values, images)


def test_a_dicomdir_alone_leads_to_its_files(tmp_path: Path, images: Images) -> None:
    files = FileSet()
    for path in write_series(images, tmp_path / "in", 1, StudyID="1"):
        files.add(path)
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # pydicom leaves its temporary folder to the garbage collector, which warns
    scan, ds = read_one(tmp_path / "disc" / "DICOMDIR")
    np.testing.assert_array_equal(ds["image"].values, images)
    assert scan.name == "SE000000"
    assert len(find_scans(tmp_path / "disc")) == 1
    (tmp_path / "alone").mkdir()
    (tmp_path / "disc" / "DICOMDIR").rename(tmp_path / "alone" / "DICOMDIR")
    with pytest.raises(MissingDataError, match="names 12 files, and none of them is beside it"):
        find_scans(tmp_path / "alone" / "DICOMDIR")


def test_a_truncated_file_is_said_to_end_too_early(tmp_path: Path, images: Images) -> None:
    path = write_series(images, tmp_path, 1)[0]
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(FileLayoutError, match="pixels") as e:
        read_one(tmp_path)
    assert "copy the file again" in str(e.value.next_step)


def test_advice_of_an_incomplete_grid_works(tmp_path: Path, images: Images) -> None:
    paths = write_series(images, tmp_path, 1)
    paths[0].unlink()
    with pytest.raises(FileLayoutError, match="slice 0 has 2") as e:
        read_one(tmp_path)
    named = [p for p in paths[1:] if p.name in str(e.value.next_step)]
    assert len(named) == 2
    for path in named:
        path.unlink()
    np.testing.assert_array_equal(read_one(tmp_path)[1]["image"].values, images[:, 1:])


def test_masks_of_a_merged_stack_are_one_object_per_series_and_frame(tmp_path: Path, images: Images) -> None:
    hd: Any = pytest.importorskip("highdicom")
    from mousecmr_data.formats.dicom_seg import write_dicom_seg

    for z in range(4):
        paths = write_series(images[:, z : z + 1], tmp_path / "in" / f"SA_{z}", 10 + z, first_slice=z)
        change(paths, FrameOfReferenceUID=None, PatientSex=None, StudyID=None)
        change(paths[:1], ImageOrientationPatient=[1.0, 0.0, 0.0, 0.0, 1.0, 0.000001])
    change(paths, PixelSpacing=[0.1, 0.1])
    (scan,) = find_scans(tmp_path / "in")
    ds = read_scan(scan)
    labels = ((images // 40) % 3).astype(np.uint8)
    written = write_dicom_seg(labels, tmp_path / "seg", scan.paths, ds, "a network; research only")
    assert len(written) == 4 * 3
    for path in written:
        seg = hd.seg.segread(path)
        frame, z = int(path.stem.split("_")[1]), int(path.stem.split("_")[2]) - 1
        np.testing.assert_array_equal(seg.get_volume(combine_segments=True).array, labels[frame, z : z + 1])
        (series,) = seg.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == f"{scanner.ROOT}.2.{10 + z}"
        (instance,) = series.ReferencedInstanceSequence
        assert instance.ReferencedSOPInstanceUID == f"{scanner.ROOT}.9.{10 + z}.{frame + 1}"


@pytest.mark.parametrize("per_frame", ["PixelMeasuresSequence", "PlaneOrientationSequence", ""])
def test_masks_of_enhanced_images_wherever_these_keep_their_geometry(
    tmp_path: Path, images: Images, per_frame: str
) -> None:
    hd: Any = pytest.importorskip("highdicom")
    from mousecmr_data.formats.dicom_seg import write_dicom_seg

    path = scanner.dicom_enhanced(images[:, :1] if not per_frame else images, tmp_path / "e.dcm")
    ds = pydicom.dcmread(path)
    shared, frames = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence
    if per_frame:
        for frame in frames:
            setattr(frame, per_frame, shared[per_frame].value)
        del shared[per_frame]
    else:  # one position for all frames
        shared.PlanePositionSequence = frames[0].PlanePositionSequence
        for frame in frames:
            del frame.PlanePositionSequence
    ds.save_as(path)
    read = read_scan(find_scans(path)[0])
    labels = ((read["image"].values // 40) % 3).astype(np.uint8)
    written = write_dicom_seg(labels, tmp_path / "seg", [path], read, "a network")
    assert len(written) == 3
    for frame, target in enumerate(written):
        seg = hd.seg.segread(target)
        np.testing.assert_array_equal(seg.get_volume(combine_segments=True).array[::-1], labels[frame])
        for item in seg.PerFrameFunctionalGroupsSequence:
            (source,) = item.DerivationImageSequence[0].SourceImageSequence
            assert (source.ReferencedFrameNumber - 1) % 3 == frame


def test_a_transfer_syntax_that_does_not_exist_is_refused(tmp_path: Path, images: Images) -> None:
    paths = write_series(images, tmp_path, 1)
    paths[0].write_bytes(paths[0].read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.9.9\0", 1))
    with pytest.raises(FileLayoutError, match=r"its pixels .* cannot be read"):
        read_one(tmp_path)


def test_two_mice_with_one_series_uid_are_two(tmp_path: Path, images: Images) -> None:
    for k, name in enumerate(("A", "B")):
        paths = write_series(images[:, :, ::-1] if k else images, tmp_path / name, 1)
        for i, path in enumerate(paths):
            change([path], SOPInstanceUID=f"{scanner.ROOT}.9.{k}.{i + 1}")
    assert [scan.name for scan in find_scans(tmp_path)] == ["A", "B"]


@pytest.mark.parametrize("by", ["slice", "frame"])
def test_a_series_in_a_folder_per_slice_or_frame_stays_one(tmp_path: Path, images: Images, by: str) -> None:
    paths = write_series(images, tmp_path / "all", 1)
    n_slices = images.shape[1]
    for k, path in enumerate(paths):
        part = k % n_slices if by == "slice" else k // n_slices
        change([path], InstanceNumber=1 + (k // n_slices if by == "slice" else k % n_slices))
        (tmp_path / f"part{part}").mkdir(exist_ok=True)
        path.rename(tmp_path / f"part{part}" / path.name)
    (scan,) = find_scans(tmp_path)
    assert len(scan.paths) == images.shape[0] * n_slices
