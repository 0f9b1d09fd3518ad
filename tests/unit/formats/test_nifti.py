import gzip
import re
import struct
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

import mousecmr_data
from mousecmr_data.dataset.hdf5 import open_mouse_file
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError, LabelError, MissingDataError, UnitsError
from mousecmr_data.formats.nifti import (
    group_nifti_files,
    read_nifti,
    read_nifti_files,
    read_nifti_labels,
    read_nifti_masks,
    write_nifti_images,
    write_nifti_labels,
)

nib: Any = nibabel
Images = NDArray[np.uint16]


def save(
    path: Path,
    images: NDArray[Any],
    scale: float = 1.0,
    units: tuple[str, str] = ("mm", "sec"),
    steps: tuple[float, ...] = (0.12, 0.1, 1.0, 0.005),
    code: int = 2,
    position: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Any:
    """(x, y, slice, frame) with a diagonal affine, the first voxel at ``position``."""
    array = images.transpose(3, 2, 1, 0)
    affine = np.diag([*(scale * s for s in steps[:3]), 1.0])
    affine[:3, 3] = position
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units(*units)
    image.header["pixdim"][4] = steps[3]
    image.set_sform(image.affine, code)
    image.set_qform(image.affine, code)
    nib.save(image, path)
    return image


def test_a_mouse_of_the_dataset_is_read_back_unchanged(tmp_path: Path, phantom_cache: Path) -> None:
    ds = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
    path = write_nifti_images(ds, tmp_path / "m.nii.gz")
    back = read_nifti(path)
    np.testing.assert_array_equal(back["image"].values, ds["image"].values)
    assert back["image"].dtype == np.uint16
    assert get_spacing(back) == get_spacing(ds)
    np.testing.assert_allclose(back["time"].values, ds["time"].values)
    assert back.attrs["synthetic"], "the header says that the images are synthetic"
    assert nib.load(path).shape == tuple(ds.sizes[d] for d in ("x", "y", "slice", "frame"))
    labels = write_nifti_labels(ds["mask"].values, tmp_path / "l.nii.gz", back, "somebody")
    np.testing.assert_array_equal(read_nifti_labels(labels), ds["mask"].values)
    assert b"SYNTHETIC" in nib.load(labels).header["descrip"].item()
    assert sorted(p.name for p in tmp_path.glob("[!.]*")) == ["l.nii.gz", "m.nii.gz"]


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SAR", "PIL"])
def test_any_storage_order_gives_the_same_cine_and_masks_are_written_in_it(
    tmp_path: Path, images: Images, orientation: str
) -> None:
    stored = save(tmp_path / "ras.nii", images)
    turned = stored.as_reoriented(
        nib.orientations.ornt_transform(
            nib.orientations.io_orientation(stored.affine), nib.orientations.axcodes2ornt(orientation)
        )
    )
    nib.save(turned, tmp_path / "turned.nii.gz")
    ds = read_nifti(tmp_path / "turned.nii.gz")
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.12)
    labels = (images % 3).astype(np.uint8)
    written = nib.load(write_nifti_labels(labels, tmp_path / "l.nii.gz", ds))
    assert written.shape == turned.shape
    np.testing.assert_allclose(written.affine, turned.affine)
    canonical = nib.as_closest_canonical(written)  # by nibabel, not by the code under test
    np.testing.assert_array_equal(np.asarray(canonical.dataobj), labels.transpose(3, 2, 1, 0))


@pytest.mark.parametrize("code", [1, 2, 4])
def test_grids_that_were_placed_in_space_lie_as_viewers_show_them(tmp_path: Path, images: Images, code: int) -> None:
    save(tmp_path / "a.nii", images, code=code, position=(-3.0, 2.0, 8.0))  # columns to the right, rows to anterior
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii")["image"].values, images[..., ::-1, ::-1])


@pytest.mark.parametrize("code", [0, 1, 2, 3, 4])
def test_arrays_that_nobody_placed_are_taken_as_stored_whoever_wrote_them(
    tmp_path: Path, images: Images, code: int
) -> None:
    image = save(tmp_path / "a.nii", images, code=code)
    ds = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(ds["image"].values, images)
    written = nib.load(write_nifti_labels(np.zeros(images.shape, np.uint8), tmp_path / "l.nii", ds))
    np.testing.assert_allclose(written.affine, nib.load(tmp_path / "a.nii").affine)  # viewers overlay the two
    assert int(written.header["sform_code"]) == code == int(image.header["sform_code"])


@pytest.mark.parametrize(("unit", "scale"), [("micron", 1000.0), ("meter", 0.001), ("mm", 1.0)])
def test_units_of_length_that_the_header_states(tmp_path: Path, images: Images, unit: str, scale: float) -> None:
    stored = save(tmp_path / "a.nii", images, scale, (unit, "msec"), (0.12, 0.1, 1.0, 5.0))
    ds = read_nifti(tmp_path / "a.nii")
    assert get_spacing(ds) == (1.0, 0.1, 0.12)
    assert ds["time"].values.tolist() == [0.0, 5.0, 10.0]
    written = nib.load(write_nifti_labels(np.zeros(images.shape, np.uint8), tmp_path / "l.nii", ds))
    np.testing.assert_allclose(written.affine, stored.affine)
    assert written.header.get_xyzt_units() == (unit, "msec")


@pytest.mark.parametrize(
    ("steps", "message", "next_step"),
    [
        ((120.0, 100.0, 1000.0, 0.005), "µm written as mm", "--spacing 1 0.1 0.12"),
        ((0.00012, 0.0001, 0.001, 0.005), "metres written as mm", "--spacing 1 0.1 0.12"),
        ((1.0, 1.0, 1.0, 0.005), "never written", "--spacing"),
        ((1.4, 1.4, 8.0, 0.03), "not those of a mouse", "--spacing"),
    ],
)
def test_impossible_sizes_are_named(
    tmp_path: Path, images: Images, steps: tuple[float, ...], message: str, next_step: str
) -> None:
    save(tmp_path / "a.nii", images, steps=steps)
    with pytest.raises(UnitsError, match=message) as e:
        read_nifti(tmp_path / "a.nii")
    assert next_step in str(e.value)
    ds = read_nifti(tmp_path / "a.nii", spacing=(0.8, 0.15, 0.15))
    assert get_spacing(ds) == (0.8, 0.15, 0.15)


def test_slices_and_frames_in_another_order_are_read_with_axes(tmp_path: Path, images: Images) -> None:
    swapped = images.swapaxes(0, 1)  # (x, y, frame, slice) in the file
    save(tmp_path / "a.nii", swapped)
    ds = read_nifti(tmp_path / "a.nii", axes="xytz", spacing=(1.0, 0.1, 0.12), frame_time_ms=4.0)
    np.testing.assert_array_equal(ds["image"].values, images)
    assert nib.load(write_nifti_labels(np.zeros(images.shape, np.uint8), tmp_path / "l.nii", ds)).shape == (
        72,
        80,
        3,
        4,
    )
    for wrong in ("xyz", "xyzz", "abcd"):
        with pytest.raises(ArgumentError, match="axes"):
            read_nifti(tmp_path / "a.nii", axes=wrong)


def test_an_impossible_frame_time_is_not_used(tmp_path: Path, images: Images) -> None:
    save(tmp_path / "a.nii", images, steps=(0.1, 0.1, 1.0, 5.0))  # five seconds
    ds = read_nifti(tmp_path / "a.nii")
    assert not ds.attrs["frame_time_known"]
    assert "--frame-time" in ds.attrs["notes"].splitlines()[0]
    assert read_nifti(tmp_path / "a.nii", frame_time_ms=6.0).attrs["frame_time_known"]


def test_numbers_other_than_uint16(tmp_path: Path, images: Images) -> None:
    for array, dtype in ((images.astype(np.float32), np.uint16), (images * 0.5 - 300, np.float32)):
        nib.save(
            nib.Nifti1Image(array.transpose(3, 2, 1, 0).astype(np.float32), np.diag([0.1, 0.1, 1, 1])),
            tmp_path / "a.nii",
        )
        ds = read_nifti(tmp_path / "a.nii")
        assert ds["image"].dtype == dtype
        np.testing.assert_allclose(ds["image"].values, array)
    array[0, 0, 0, 0] = np.nan
    nib.save(
        nib.Nifti1Image(array.transpose(3, 2, 1, 0).astype(np.float32), np.diag([0.1, 0.1, 1, 1])), tmp_path / "a.nii"
    )
    with pytest.raises(FileLayoutError, match="1 pixels are not finite"):
        read_nifti(tmp_path / "a.nii")
    array[0, 0, 0, 0] = 1e30
    save(tmp_path / "a.nii", array.astype(np.float32))
    with pytest.raises(FileLayoutError, match=r"values up to 1e\+30"):
        read_nifti(tmp_path / "a.nii")


def test_files_other_than_cines_are_refused(tmp_path: Path, images: Images) -> None:
    with pytest.raises(MissingDataError):
        read_nifti(tmp_path / "none.nii")
    png = tmp_path / "picture.nii"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(400))
    with pytest.raises(FileLayoutError, match="not NIfTI: it does not begin with a header"):
        read_nifti(png)
    save(tmp_path / "a.nii.gz", images)
    (tmp_path / "half.nii.gz").write_bytes((tmp_path / "a.nii.gz").read_bytes()[:2000])
    with pytest.raises(FileLayoutError, match="damaged"):
        read_nifti(tmp_path / "half.nii.gz")
    nib.save(nib.Nifti1Image(np.full((8, 8, 3), 7, np.int16), np.diag([0.1, 0.1, 1, 1])), tmp_path / "flat.nii")
    with pytest.raises(MissingDataError, match="no image"):
        read_nifti(tmp_path / "flat.nii")
    sheared = np.diag([0.1, 0.1, 1.0, 1.0])
    sheared[0, 1] = 0.05
    image = nib.Nifti1Image(images.transpose(3, 2, 1, 0), sheared)
    image.set_qform(None, 0)
    nib.save(image, tmp_path / "sheared.nii")
    with pytest.raises(FileLayoutError, match="right angles"):
        read_nifti(tmp_path / "sheared.nii")
    bomb = nib.Nifti1Header()
    bomb["dim"] = [4, 32000, 32000, 30, 30, 1, 1, 1]
    bomb["datatype"], bomb["bitpix"], bomb["magic"], bomb["vox_offset"] = 512, 16, b"n+1", 352
    (tmp_path / "huge.nii").write_bytes(bomb.binaryblock + bytes(1000))
    with pytest.raises(FileLayoutError, match=r"at most 2.00 GB"):
        read_nifti(tmp_path / "huge.nii")
    nib.save(nib.Nifti1Image(np.full((8, 8, 3), 7, np.int16), np.diag([0.1, 0.1, 1, 1])), tmp_path / "l.nii")
    with pytest.raises(LabelError, match=r"holds the label 7\."):
        read_nifti_labels(tmp_path / "l.nii")
    with pytest.raises(ArgumentError, match="does not lie on the grid"):
        write_nifti_labels(np.zeros((3, 4, 5, 6), np.uint8), tmp_path / "x.nii", read_nifti(tmp_path / "a.nii.gz"))


def test_files_of_one_frame_or_one_slice_make_a_mouse(tmp_path: Path, images: Images) -> None:
    frames, slices = tmp_path / "frames", tmp_path / "slices"
    frames.mkdir()
    slices.mkdir()
    many = np.concatenate([images] * 4)[:11]  # 9 before 10, sorted as numbers
    many[:, 0, 0, 0] = np.arange(11)
    for t in range(11):
        nib.save(nib.Nifti1Image(many[t].transpose(2, 1, 0), np.diag([0.1, 0.1, 1, 1])), frames / f"f{t}.nii")
    for z in range(4):
        affine = np.diag([0.1, 0.1, 1, 1])
        affine[2, 3] = z
        nib.save(nib.Nifti1Image(images[:, z : z + 1].transpose(3, 2, 1, 0), affine), slices / f"{9 - z}.nii")
    for folder, expected in ((frames, many), (slices, images)):
        (group,) = group_nifti_files(sorted(folder.iterdir()))
        ds = read_nifti_files(group)
        np.testing.assert_array_equal(ds["image"].values, expected)
        assert get_spacing(ds) == (1.0, 0.1, 0.1)
        assert "taken as one mouse" in ds.attrs["notes"].splitlines()[-1]
        labels = write_nifti_labels((expected % 3).astype(np.uint8), folder / "l.nii", ds)
        np.testing.assert_array_equal(read_nifti_labels(labels), expected % 3)


@pytest.mark.parametrize("sizes", [(0.1, 0.1, 1.0), (0.12, 0.1, 0.8)])
def test_without_a_place_in_space_the_array_is_that_of_hdf5(
    tmp_path: Path, images: Images, sizes: tuple[float, ...]
) -> None:
    """Both codes 0, whatever else the header holds: as stored, as in the dataset's own layout."""
    array = images.transpose(3, 2, 1, 0)
    affine = np.array([[-sizes[0], 0, 0, 9.4], [0, sizes[1], 0, -9.4], [0, 0, sizes[2], -1.3], [0, 0, 0, 1]])
    for kind in (nib.Nifti1Image, nib.Nifti1Pair, nib.Nifti2Image):
        image = kind(array, affine)
        image.header["pixdim"][0] = -1
        image.set_sform(affine, 0)
        image.set_qform(affine, 0)
        path = tmp_path / ("a.hdr" if kind is nib.Nifti1Pair else f"{kind.__name__}.nii")
        nib.save(image, path)
        assert nib.load(path).header["sform_code"] == nib.load(path).header["qform_code"] == 0
        np.testing.assert_array_equal(read_nifti(path, spacing=(1.0, 0.1, 0.1))["image"].values, images)
    with h5py.File(tmp_path / "m.h5", "w") as f:
        f["Images"] = array.swapaxes(0, 1)  # (row, column, slice, frame)
    np.testing.assert_array_equal(open_mouse_file(tmp_path / "m.h5")["image"].values, images)


def test_a_frame_time_that_was_never_written_is_not_known(tmp_path: Path, images: Images) -> None:
    array = images.transpose(3, 2, 1, 0)
    nib.save(nib.Nifti1Image(array, np.diag([0.1, 0.1, 1, 1])), tmp_path / "a.nii")
    assert nib.load(tmp_path / "a.nii").header["pixdim"][4] == 1
    ds = read_nifti(tmp_path / "a.nii")
    assert not ds.attrs["frame_time_known"]
    written = nib.load(write_nifti_labels(np.zeros(images.shape, np.uint8), tmp_path / "l.nii", ds))
    assert written.header["pixdim"][4] == 1
    assert written.header.get_xyzt_units()[1] == "unknown"
    assert read_nifti(tmp_path / "a.nii", frame_time_ms=5.0)["time"].values.tolist() == [0.0, 5.0, 10.0]
    save(tmp_path / "b.nii", images, units=("mm", "msec"), steps=(0.1, 0.1, 1.0, 1.0))  # a stated unit counts
    assert read_nifti(tmp_path / "b.nii")["time"].values.tolist() == [0.0, 1.0, 2.0]
    for suffix in (".mha", ".nrrd"):
        sitk = pytest.importorskip("SimpleITK")
        pytest.importorskip("nrrd")
        image = sitk.GetImageFromArray(images, isVector=False)
        image.SetSpacing([0.1, 0.1, 1.0, 1.0])
        sitk.WriteImage(image, str(tmp_path / f"c{suffix}"))
        assert not read_nifti(tmp_path / f"c{suffix}").attrs["frame_time_known"]


def test_a_header_whose_pixels_are_missing_or_layered_says_what_to_do(tmp_path: Path, images: Images) -> None:
    """NRRD and MetaImage keep pixels in a second file; 3D Slicer keeps segments that overlap in layers."""
    sitk, nrrd = pytest.importorskip("SimpleITK"), pytest.importorskip("nrrd")
    sitk.WriteImage(sitk.GetImageFromArray(images[:, 0]), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(FileLayoutError, match=r"a\.raw, is missing(.|\n)*both files in one folder"):
        read_nifti(tmp_path / "a.mhd")
    (tmp_path / "b.mhd").write_text("NDims = 3\nDimSize = 2 2 2\n")
    with pytest.raises(FileLayoutError, match="no ElementDataFile"):
        read_nifti(tmp_path / "b.mhd")
    layers = np.zeros((2, 4, 4, 2), np.uint8)
    nrrd.write(str(tmp_path / "c.seg.nrrd"), layers, {"Segment0_Layer": "0", "Segment1_Layer": "1"})
    with pytest.raises(FileLayoutError, match=r"segments that overlap(.|\n)*as a labelmap"):
        read_nifti(tmp_path / "c.seg.nrrd")


def test_a_name_that_no_format_has_is_refused_before_writing(tmp_path: Path, images: Images) -> None:
    save(tmp_path / "a.nii", images)
    with pytest.raises(ArgumentError, match=r"a\.txt is not a name for an image file(.|\n)*\.nii\.gz"):
        write_nifti_images(read_nifti(tmp_path / "a.nii"), tmp_path / "a.txt")
    assert not (tmp_path / "a.txt").exists()


def test_contradicting_voxel_sizes_are_refused(tmp_path: Path, images: Images) -> None:
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(images.transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1, 1])), path)
    content = bytearray(path.read_bytes())
    content[80:88] = struct.pack("<2f", 0.2, 0.2)
    path.write_bytes(content)
    with pytest.raises(
        UnitsError, match=r"two voxel sizes .* 1 0.1 0.1 mm by its affine .* 1 0.2 0.2 mm by its pixdim"
    ) as e:
        read_nifti(path)
    first, second = re.findall(r"--spacing ([\d. ]+)", str(e.value))
    for text in (first, second):
        spacing = tuple(float(v) for v in text.split())
        assert get_spacing(read_nifti(path, spacing=spacing)) == spacing
    nib.save(nib.Nifti1Image((images % 3).astype(np.uint8).transpose(3, 2, 1, 0), np.diag([0.1, 0.1, 1, 1])), path)
    content = bytearray(path.read_bytes())
    content[80:88] = struct.pack("<2f", 0.2, 0.2)
    path.write_bytes(content)
    with pytest.raises(UnitsError, match="two voxel sizes"):
        read_nifti_masks(path)


def test_a_file_of_five_axes(tmp_path: Path, images: Images) -> None:
    array = images.transpose(3, 2, 1, 0)[:, :, :, None]
    image = nib.Nifti1Image(array, np.diag([0.1, 0.1, 1, 1]))
    image.header["pixdim"][4:6] = 5, 1
    image.header.set_xyzt_units("mm", "msec")
    nib.save(image, tmp_path / "a.nii")
    ds = read_nifti(tmp_path / "a.nii")
    np.testing.assert_array_equal(ds["image"].values, images)
    assert not ds.attrs["frame_time_known"]
    assert "frames are number 5" in ds.attrs["notes"]


@pytest.mark.parametrize("packed", [True, False])
def test_compression_counts_and_not_the_name(tmp_path: Path, images: Images, packed: bool) -> None:
    save(tmp_path / "a.nii", images)
    content = (tmp_path / "a.nii").read_bytes()
    path = tmp_path / ("b.nii" if packed else "b.nii.gz")
    path.write_bytes(gzip.compress(content) if packed else content)
    np.testing.assert_array_equal(read_nifti(path)["image"].values, images)


def write_analyze(folder: Path, images: Images, order: str, **fields: object) -> Path:
    header = nib.AnalyzeHeader(endianness=order)
    header.set_data_shape(images.shape[::-1])
    header.set_data_dtype(np.int16)
    header["pixdim"][1:5] = 0.1, 0.1, 1, 5
    for name, value in fields.items():
        header[name] = value
    (folder / "a.hdr").write_bytes(header.binaryblock)
    (folder / "a.img").write_bytes(images.astype(f"{order}i2").tobytes())
    return folder / "a.hdr"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "fields", [{}, {"sizeof_hdr": 0}, {"bitpix": 0}, {"datatype": 132}, {"datatype": 512}, {"vox_offset": np.nan}]
)
def test_headers_of_analyze_with_gaps(tmp_path: Path, images: Images, order: str, fields: dict[str, object]) -> None:
    ds = read_nifti(write_analyze(tmp_path, images, order, **fields))
    np.testing.assert_array_equal(ds["image"].values, images)
    assert get_spacing(ds) == (1.0, 0.1, 0.1)
    assert ds["time"].values.tolist() == [0.0, 5.0, 10.0]


def test_a_pair_that_does_not_fit_is_refused(tmp_path: Path, images: Images) -> None:
    header = write_analyze(tmp_path, images, "<", sizeof_hdr=0)
    pixels = tmp_path / "a.img"
    pixels.write_bytes(pixels.read_bytes() + bytes(100))
    with pytest.raises(FileLayoutError):
        read_nifti(header)
    pixels.unlink()
    with pytest.raises(FileLayoutError, match=r"its pixels \(\.img\) are missing"):
        read_nifti(header)
    header.rename(pixels)
    with pytest.raises(FileLayoutError, match=r"its header \(\.hdr\) is missing"):
        read_nifti(pixels)
