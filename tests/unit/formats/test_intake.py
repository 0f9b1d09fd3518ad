"""Archives, and mice found in folders."""

import stat
import struct
import zipfile
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
import scanner_files as scanner
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import FileLayoutError, MissingDataError, UnitsError
from mousecmr_data.formats import archive
from mousecmr_data.formats.archive import MAX_DEPTH, unpack_archive
from mousecmr_data.formats.build import check_order, find_oddities
from mousecmr_data.formats.discover import collect_inputs, find_scans, make_scan_name
from mousecmr_data.formats.read import read_scan

Images = NDArray[np.uint16]


def write_zip(path: Path, **files: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            z.writestr(name, content)
    return path


def write_cine(path: Path, images: Images) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1, 1])), path)  # type: ignore[no-untyped-call,attr-defined]
    return path


@pytest.mark.parametrize("name", ["../evil.nii", "/etc/evil.nii", "a/../../evil.nii", "..\\evil.nii", "C:\\evil.nii"])
def test_paths_that_leave_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileLayoutError, match="leads out"):
        unpack_archive(write_zip(tmp_path / "a.zip", **{name: b"x"}), tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil*"))


def test_links_passwords_and_duplicates_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.nii")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as z:
        z.writestr(link, "/etc/passwd")
    with pytest.raises(FileLayoutError, match="link or a special file"):
        unpack_archive(tmp_path / "link.zip", tmp_path / "1")
    locked = bytearray(write_zip(tmp_path / "locked.zip", a=b"x").read_bytes())
    at = locked.index(b"PK\x01\x02")
    locked[at + 8 : at + 10] = struct.pack("<H", 1)
    (tmp_path / "locked.zip").write_bytes(locked)
    with pytest.raises(FileLayoutError, match="encrypted"):
        unpack_archive(tmp_path / "locked.zip", tmp_path / "2")
    write_zip(tmp_path / "twice.zip", **{"a/b": b"x", "a\\b": b"y"})
    with pytest.raises(FileLayoutError, match="twice"):
        unpack_archive(tmp_path / "twice.zip", tmp_path / "3")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as z, z.open("zeros.nii", "w") as f:
        for _ in range(70):
            f.write(bytes(2**20))
    with pytest.raises(FileLayoutError, match="at most 100 times"):
        unpack_archive(tmp_path / "bomb.zip", tmp_path / "1")
    assert not list((tmp_path / "1").iterdir())
    inner = write_zip(tmp_path / "0.zip", a=b"x")
    for k in range(1, MAX_DEPTH + 1):
        inner = write_zip(tmp_path / f"{k}.zip", **{f"{k}.zip": inner.read_bytes()})
    with pytest.raises(FileLayoutError, match="inside 3 others"):
        unpack_archive(inner, tmp_path / "2")
    monkeypatch.setattr(archive, "MAX_FILES", 3)
    with pytest.raises(FileLayoutError, match="4 files"):
        unpack_archive(write_zip(tmp_path / "many.zip", a=b"", b=b"", c=b"", d=b""), tmp_path / "3")
    monkeypatch.setattr(archive, "MAX_BYTES", 10)
    with pytest.raises(FileLayoutError, match="unpacked"):
        unpack_archive(write_zip(tmp_path / "big.zip", a=b"x" * 11), tmp_path / "4")
    with pytest.raises(FileLayoutError, match="not a zip archive"):
        unpack_archive(Path(__file__), tmp_path / "5")


def test_an_archive_with_wrong_sizes_is_refused(tmp_path: Path) -> None:
    content = bytearray(write_zip(tmp_path / "a.zip", a=b"x" * 5000).read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(FileLayoutError):
        unpack_archive(tmp_path / "a.zip", tmp_path / "out")


def test_mice_are_found_in_nested_folders_and_archives(tmp_path: Path, images: Images) -> None:
    folder = tmp_path / "study"
    write_cine(folder / "m1.nii.gz", images)
    write_cine(folder / "m1_mask.nii.gz", images)  # left out
    scanner.dicom_classic(images[:2], folder / "deep" / "m2")
    scanner.fdf(images[:2], folder / "m3.img")
    scanner.bruker(images[:2], folder / "m4" / "pdata" / "1")
    (folder / "notes.txt").write_text("nothing")
    (folder / "link").symlink_to("/etc")
    with zipfile.ZipFile(folder / "m5.zip", "w") as z:
        z.write(write_cine(tmp_path / "other" / "scan.nii", images), "a/b/scan.nii")
    (folder / "damaged.zip").write_bytes(b"PK, and then nothing")
    with zipfile.ZipFile(tmp_path / "nothing.zip", "w"):
        pass
    bad = tmp_path / "broken.zip"
    bad.write_bytes(b"PK\x03\x04 no")
    with collect_inputs([folder, bad, tmp_path / "none", tmp_path / "nothing.zip"], tmp_path) as (scans, refused):
        kinds = {s.name: s.kind for s in scans}
        assert kinds == {"m1": "NIfTI", "deep_m2": "DICOM", "m3": "FDF", "m4_pdata_1_2dseq": "Bruker",
                         "m5_a_b_scan": "NIfTI"}  # fmt: skip
        assert [r.name for r in refused] == ["damaged", "broken", "none", "nothing"]
        assert refused[-1].error.found.startswith("nothing.zip holds nothing")
        for scan in scans:
            assert read_scan(scan).attrs["mouse"] == scan.name
        assert list(tmp_path.glob("mousecmr-*"))
    assert not list(tmp_path.glob("mousecmr-*"))
    with pytest.raises(FileLayoutError, match=r"notes.txt.*") as e:
        find_scans(tmp_path / "study" / "notes.txt")
    assert "NIfTI" in str(e.value)
    with pytest.raises(MissingDataError):
        find_scans(tmp_path / "none")


def test_names_are_safe_and_unique() -> None:
    assert make_scan_name("../../My mouse (1).nii.gz") == "My_mouse_1"
    assert make_scan_name("...") == "mouse"


def test_swapped_slices_and_frames_are_detected(tmp_path: Path, phantom_cache: Path) -> None:
    import mousecmr_data

    ds = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
    image = ds["image"].values
    check_order("mouse", image)
    with pytest.raises(UnitsError, match="look swapped"):
        check_order("mouse", image.swapaxes(0, 1))
    path = write_cine(tmp_path / "swapped.nii", image.swapaxes(0, 1))
    (scan,) = find_scans(path)
    with pytest.raises(UnitsError, match="--axes xytz"):
        read_scan(scan)
    ds = read_scan(scan, axes="xytz", spacing=(1.0, 0.1, 0.1))
    np.testing.assert_array_equal(ds["image"].values, image)


def test_rotated_and_resampled_images_are_detected(images: Images) -> None:
    from scipy import ndimage

    assert find_oddities(images, (1.0, 0.1, 0.1)) == []
    turned = ndimage.rotate(images, 30, axes=(2, 3), reshape=False, order=0)
    assert "look rotated" in find_oddities(turned, (1.0, 0.1, 0.1))[0]
    thin = np.repeat(images, 10, axis=1)
    assert "looks resampled" in find_oddities(thin, (0.1, 0.1, 0.1))[0]
    assert "not square" in find_oddities(images, (1.0, 0.1, 0.13))[0]


def test_axes_are_advised_only_where_they_are_accepted(tmp_path: Path, images: Images) -> None:
    with h5py.File(tmp_path / "m.h5", "w") as f:
        f["Images"] = images.transpose(2, 3, 1, 0)
        f.attrs["voxel_size_mm"] = (0.1, 0.1, 1.0)  # (slice, row, column)
    paths = [*find_scans(tmp_path / "m.h5")]
    paths += find_scans(scanner.fdf(images, tmp_path / "thin.img", steps=(0.1, 0.1, 1.0))[0].parent)
    for scan in paths:
        with pytest.raises(UnitsError, match="the axes look swapped") as e:
            read_scan(scan)
        assert "--axes" not in str(e.value)
        assert "--spacing" in str(e.value)
        assert get_spacing(read_scan(scan, spacing=(1.0, 0.1, 0.1))) == (1.0, 0.1, 0.1)


def test_slices_and_frames_look_swapped_only_where_axes_can_be_named(tmp_path: Path) -> None:
    """Frames that differ more than slices: in a file whose axes are known, this is how the images are."""
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 1000, (6, 1, 64, 64)), 5, axis=1).astype(np.uint16)
    images += np.arange(5, dtype=np.uint16)[:, None, None]
    with pytest.raises(UnitsError, match="look swapped") as e:
        read_scan(find_scans(write_cine(tmp_path / "a.nii", images))[0])
    assert "--axes xyzt, if they are right as they are" in str(e.value)
    read_scan(find_scans(tmp_path / "a.nii")[0], axes="xyzt")
    for t in range(6):
        image = nibabel.Nifti1Image(images[t].transpose(2, 1, 0), np.diag([0.1, 0.1, 1, 1]))  # type: ignore[no-untyped-call,attr-defined]
        (tmp_path / "frames").mkdir(exist_ok=True)
        nibabel.save(image, tmp_path / "frames" / f"frame{t}.nii")  # type: ignore[attr-defined]
    for folder in (tmp_path / "frames", scanner.fdf(images, tmp_path / "x.img")[0].parent):
        (scan,) = find_scans(folder)
        assert read_scan(scan).sizes["frame"] == 6


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha", ".h5"])
def test_fractions_are_not_truncated(tmp_path: Path, images: Images, suffix: str) -> None:
    fractions = (images / images.max() * 0.94).astype(np.float32)
    path = tmp_path / f"a{suffix}"
    if suffix == ".nii":
        write_cine(path, fractions)  # type: ignore[arg-type]
    elif suffix == ".h5":
        with h5py.File(path, "w") as f:
            f["Images"] = fractions.transpose(2, 3, 1, 0)
    else:
        sitk = pytest.importorskip("SimpleITK")
        image = sitk.GetImageFromArray(fractions, isVector=False)
        image.SetSpacing([0.1, 0.1, 1.0, 5.0])
        sitk.WriteImage(image, str(path))
    np.testing.assert_allclose(read_scan(find_scans(path)[0])["image"].values, fractions)


def test_round_images_are_not_rotated_ones() -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    images = np.random.default_rng(0).integers(100, 1000, (3, 2, 96, 96))
    radial = np.where(np.hypot(y, x) <= 1, images, 0)
    assert find_oddities(radial, (1, 0.1, 0.1)) == []
    turned = ndimage.rotate(images, 45, axes=(2, 3), reshape=False, order=1)
    cut = np.where(np.hypot(y, x) <= 1.15, images, 0)  # corners only
    for array in (turned, cut):
        assert "look rotated" in find_oddities(array, (1, 0.1, 0.1))[0]


def test_a_zip_archive_of_paravision_has_another_ending(tmp_path: Path, images: Images) -> None:
    write_cine(tmp_path / "in" / "m.nii", images)
    inner = tmp_path / "study" / "mouse.PvDatasets"
    inner.parent.mkdir()
    with zipfile.ZipFile(inner, "w") as z:
        z.write(tmp_path / "in" / "m.nii", "m.nii")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as z:
        z.write(inner, "mouse.PvDatasets")
    for given in (inner, inner.parent, tmp_path / "all.zip"):
        with collect_inputs([given], tmp_path) as (scans, refused):
            assert (len(scans), refused) == (1, [])
            np.testing.assert_array_equal(read_scan(scans[0])["image"].values, images)
