"""Each cell of the table in docs/interoperability.md: one program writes, the other reads the same voxels and mm."""

import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from layout_files import write as write_hdf5

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.model import build_dataset, get_spacing, resolve_sizes
from mousecmr_data.errors import FileLayoutError, PredictionError
from mousecmr_data.formats.discover import find_scans
from mousecmr_data.formats.nifti import read_nifti, read_nifti_labels, write_nifti_images, write_nifti_labels

nib = pytest.importorskip("nibabel", reason="the extra metaimage is not installed")
sitk = pytest.importorskip("SimpleITK", reason="the extra metaimage is not installed")
nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")

ZYX, FRAME_MS = (1.0, 0.1, 0.12), 5.0
SHAPE = (3, 4, 40, 36)
"""Frames, slices, rows, columns: all different."""
Mouse = xr.Dataset
PAGE = Path(__file__).parents[2] / "docs" / "interoperability.md"


@pytest.fixture
def mouse() -> Mouse:
    """A mouse without any symmetry: a mask that is turned in any way is another one."""
    rng = np.random.default_rng(0)
    masks = np.zeros(SHAPE, np.uint8)
    masks[:, :3, 5:20, 8:30], masks[:, :2, 7:14, 10:24] = 1, 2
    image = rng.integers(1, 4000, SHAPE).astype(np.uint16)
    about = {
        "mouse": "M1",
        "source": "test",
        "version": "1",
        "synthetic": True,
        "phenotype": "control",
        "split": "test",
    }
    return build_dataset(image, masks, [0, 2], resolve_sizes({}, ZYX, FRAME_MS), about)


def check_cine(path: Path, mouse: Mouse) -> None:
    """Check that the cine in ``path`` has the voxels, millimetres and milliseconds of ``mouse``."""
    ds = read_nifti(path)
    np.testing.assert_array_equal(ds["image"].values, mouse["image"].values)
    np.testing.assert_allclose(get_spacing(ds), ZYX)
    np.testing.assert_allclose(ds["time"].values, mouse["time"].values, rtol=1e-5)


def check_perfect(folder: Path, mouse: Mouse, labels: str | None = None) -> None:
    """Check that the masks in ``folder`` score as perfect."""
    result = mousecmr_data.evaluate(folder, [mouse], labels=labels)
    assert [f.dice for f in result.mice[0].frames] == [1.0] * 4


def get_zyx(array: Any) -> Any:
    return np.asarray(array).transpose(*range(np.ndim(array))[::-1])


def write_frames(folder: Path, mouse: Mouse, write: Callable[[Path, Any, Path], None], ending: str) -> Path:
    """Call ``write`` with an image of ours, perfect labels (slice, y, x) and the path for the mask, for each frame."""
    (folder / "masks").mkdir()
    for frame in (0, 2):
        image = write_nifti_images(mouse.isel(frame=[frame]), folder / f"M1_frame{frame:02d}_0000.nii.gz")
        write(image, mouse["mask"].values[frame], folder / "masks" / f"M1_frame{frame:02d}{ending}")
    return folder / "masks"


def test_nibabel_reads(mouse: Mouse, tmp_path: Path) -> None:
    image = nib.load(write_nifti_images(mouse, tmp_path / "a.nii.gz"))
    np.testing.assert_array_equal(get_zyx(image.dataobj), mouse["image"].values)
    np.testing.assert_allclose(image.header.get_zooms(), (0.12, 0.1, 1.0, 0.005))
    assert image.header.get_xyzt_units() == ("mm", "sec")


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "LAS", "SAR"])
def test_nibabel_writes(mouse: Mouse, tmp_path: Path, orientation: str) -> None:
    ornt = nib.orientations.axcodes2ornt(orientation)

    def write(image: Path, labels: Any, path: Path) -> None:
        mask = nib.Nifti1Image(get_zyx(labels).astype(np.float64), nib.load(image).affine)
        nib.save(mask.as_reoriented(ornt), path)

    check_perfect(write_frames(tmp_path, mouse, write, ".nii"), mouse)
    cine = nib.load(write_nifti_images(mouse, tmp_path / "cine.nii.gz"))
    nib.save(cine.as_reoriented(ornt), tmp_path / "turned.nii.gz")
    check_cine(tmp_path / "turned.nii.gz", mouse)


@pytest.mark.parametrize("kind", [nib.AnalyzeImage, nib.Spm99AnalyzeImage, nib.Nifti1Pair])
def test_analyze_is_read(mouse: Mouse, tmp_path: Path, kind: Any) -> None:
    image = kind(get_zyx(mouse["image"].values).astype(np.int16), None)
    image.header.set_zooms((0.12, 0.1, 1.0, 5.0))
    nib.save(image, tmp_path / "a.img")
    check_cine(tmp_path / "a.hdr", mouse)
    check_cine(tmp_path / "a.img", mouse)
    assert [s.name for s in find_scans(tmp_path)] == ["a"], "a pair is one scan"


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_simpleitk_reads(mouse: Mouse, tmp_path: Path, ending: str) -> None:
    image = sitk.ReadImage(str(write_nifti_images(mouse, tmp_path / f"a{ending}")))
    array = sitk.GetArrayFromImage(image)
    if ending == ".nrrd":  # frames as components, as in 3D Slicer's sequences
        array = np.moveaxis(array, -1, 0)
    np.testing.assert_array_equal(array, mouse["image"].values)
    np.testing.assert_allclose(image.GetSpacing()[:3], (0.12, 0.1, 1.0), rtol=1e-6)
    if image.GetDimension() == 4:
        np.testing.assert_allclose(image.GetSpacing()[3], 0.005, rtol=1e-6)
    check_cine(tmp_path / f"a{ending}", mouse)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_simpleitk_writes(mouse: Mouse, tmp_path: Path, ending: str) -> None:
    def write(image: Path, labels: Any, path: Path) -> None:
        mask = sitk.GetImageFromArray(labels)
        mask.CopyInformation(sitk.ReadImage(str(image)))
        sitk.WriteImage(mask, str(path), True)

    check_perfect(write_frames(tmp_path, mouse, write, ending), mouse)
    cine = sitk.ReadImage(str(write_nifti_images(mouse, tmp_path / "cine.nii.gz")))
    sitk.WriteImage(cine, str(tmp_path / f"cine{ending}"))
    check_cine(tmp_path / f"cine{ending}", mouse)
    oblique = sitk.GetImageFromArray(mouse["image"].values[0])
    oblique.SetSpacing((0.12, 0.1, 1.0))
    oblique.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.2, 0.5).GetMatrix())
    oblique.SetOrigin((3.0, -7.0, 12.0))
    sitk.WriteImage(oblique, str(tmp_path / f"o{ending}"))
    sitk.WriteImage(sitk.DICOMOrient(oblique, "RAS"), str(tmp_path / f"turned{ending}"))
    one, two = read_nifti(tmp_path / f"o{ending}"), read_nifti(tmp_path / f"turned{ending}")
    np.testing.assert_array_equal(one["image"].values, two["image"].values)
    np.testing.assert_array_equal(one["image"].values[0], mouse["image"].values[0])  # left, posterior: as viewers show


def test_nnunet_reads(mouse: Mouse, tmp_path: Path) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    path = write_nifti_images(mouse.isel(frame=[2]), tmp_path / "M1_frame02_0000.nii.gz")
    array, properties = SimpleITKIO().read_images([str(path)])
    np.testing.assert_array_equal(array[0], mouse["image"].values[2])
    np.testing.assert_allclose(properties["spacing"], ZYX, rtol=1e-6)


@pytest.mark.parametrize("name", ["SimpleITKIO", "NibabelIO", "NibabelIOWithReorient"])
def test_nnunet_writes(mouse: Mouse, tmp_path: Path, name: str) -> None:
    pytest.importorskip("nnunetv2", reason="nnU-Net is not installed")
    from nnunetv2.imageio import nibabel_reader_writer, simpleitk_reader_writer

    io = getattr(simpleitk_reader_writer, name, None) or getattr(nibabel_reader_writer, name)

    def write(image: Path, labels: Any, path: Path) -> None:
        _, properties = io().read_images([str(image)])
        truth = write_nifti_labels(labels[None], path.parent.parent / "truth.nii.gz", mouse)
        segmentation, _ = io().read_seg(str(truth))
        io().write_seg(segmentation[0].astype(np.uint8), str(path), properties)

    check_perfect(write_frames(tmp_path, mouse, write, ".nii.gz"), mouse)


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_monai_reads(mouse: Mouse, tmp_path: Path) -> None:
    transforms = pytest.importorskip("monai.transforms", reason="the extra training is not installed")
    image = transforms.LoadImage(reader="NibabelReader")(
        str(write_nifti_images(mouse.isel(frame=[0]), tmp_path / "a.nii.gz"))
    )
    np.testing.assert_array_equal(get_zyx(image), mouse["image"].values[0])
    np.testing.assert_allclose(image.pixdim[:3], (0.12, 0.1, 1.0), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:NvImgCodec")
def test_monai_writes(mouse: Mouse, tmp_path: Path) -> None:
    """As a bundle writes: a folder for each image, the image's name and a postfix, float32."""
    transforms = pytest.importorskip("monai.transforms", reason="the extra training is not installed")
    out = tmp_path / "out"
    save = transforms.SaveImage(out, output_postfix="trans", print_log=False)

    def write(image: Path, labels: Any, path: Path) -> None:  # noqa: ARG001 (SaveImage names the file)
        loaded = transforms.LoadImage(reader="NibabelReader", ensure_channel_first=True)(str(image))
        loaded.copy_(loaded.new_tensor(get_zyx(labels).astype(np.float32)))
        save(transforms.Orientation("LPI", labels=None)(loaded))

    write_frames(tmp_path, mouse, write, "")
    assert (out / "M1_frame00_0000" / "M1_frame00_0000_trans.nii.gz").is_file()
    check_perfect(out, mouse)


@pytest.mark.parametrize("cropped", [False, True])
def test_monai_writes_masks_of_samples(cropped: bool, tmp_path: Path, phantom_cache: Path) -> None:
    """SaveImage writes the masks of stacks on the grid of the mouse, also after a transform that changes the grid."""
    transforms = pytest.importorskip("monai.transforms", reason="the extra training is not installed")
    from mousecmr_data.adapters import torch as mouse_torch

    mice = mousecmr_data.load(mice=["Mouse6"], source="phantom", size="small", cache=phantom_cache)
    save = transforms.SaveImage(tmp_path, output_postfix="", output_dtype=np.uint8, resample=True, print_log=False)
    for sample in mouse_torch.dataset(mice, "stacks"):
        mask = transforms.SpatialCrop(roi_start=(0, 8, 4), roi_end=(99, 60, 62))(sample["label"]) if cropped else None
        name = tmp_path / f"{sample['mouse']}_frame{sample['frame']:02d}"
        save(sample["label"] if mask is None else mask, filename=name)
    result = mousecmr_data.evaluate(tmp_path, mice)
    assert [f.dice for f in result.mice[0].frames] == [1.0] * 4


def test_torchio_reads(mouse: Mouse, tmp_path: Path) -> None:
    torchio = pytest.importorskip("torchio", reason="TorchIO is not installed")
    for ending in (".nii.gz", ".mha", ".nrrd"):
        image = torchio.ScalarImage(write_nifti_images(mouse.isel(frame=[0]), tmp_path / f"a{ending}"))
        np.testing.assert_array_equal(get_zyx(image.data[0]), mouse["image"].values[0])
        np.testing.assert_allclose(image.spacing, (0.12, 0.1, 1.0), rtol=1e-6)


def test_torchio_writes(mouse: Mouse, tmp_path: Path) -> None:
    torchio = pytest.importorskip("torchio", reason="TorchIO is not installed")

    def write(image: Path, labels: Any, path: Path) -> None:
        subject = torchio.LabelMap(tensor=get_zyx(labels)[None].copy(), affine=torchio.ScalarImage(image).affine)
        torchio.ToCanonical()(subject).save(path)

    check_perfect(write_frames(tmp_path, mouse, write, ".nrrd"), mouse)


def test_slicer_reads(mouse: Mouse, tmp_path: Path) -> None:
    """What 3D Slicer needs: a sequence with a list axis first, and a segmentation with named segments."""
    array, header = nrrd.read(str(write_nifti_images(mouse, tmp_path / "a.seq.nrrd")), index_order="F")
    assert header["space"] == "left-posterior-superior"
    assert header["kinds"] == ["list", "domain", "domain", "domain"]
    assert np.isnan(np.asarray(header["space directions"][0], float)).all()
    np.testing.assert_allclose(np.diag(np.asarray(header["space directions"])[1:]), (-0.12, -0.1, 1.0))
    assert header["axis 0 index type"] == "numeric"
    assert header["units"][0] == "s"
    assert header["axis 0 index values"] == "0 0.005 0.01"
    np.testing.assert_array_equal(array.transpose(0, 3, 2, 1), mouse["image"].values)
    check_cine(tmp_path / "a.seq.nrrd", mouse)
    labels = write_nifti_labels(mouse["mask"].values[:1], tmp_path / "a.seg.nrrd", mouse)
    array, header = nrrd.read(str(labels), index_order="F")
    assert array.shape == SHAPE[:0:-1]
    assert (header["Segment0_Name"], header["Segment0_LabelValue"]) == ("LV myocardium", "1")
    assert (header["Segment1_Name"], header["Segment1_LabelValue"]) == ("LV blood pool", "2")
    np.testing.assert_array_equal(read_nifti_labels(labels, mouse)[0], mouse["mask"].values[0])


@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS"])
def test_slicer_writes(mouse: Mouse, tmp_path: Path, space: str) -> None:
    """A segmentation cropped to its segments, in Slicer's or another named space, also in micrometres."""
    sign = np.array([-1, -1, 1] if space != "RAS" else [1, 1, 1])

    def write(image: Path, labels: Any, path: Path) -> None:
        affine = nib.load(image).affine
        array = get_zyx(labels)[8:30, 5:20, 0:3]
        origin = (affine @ [8, 5, 0, 1])[:3]
        scale, unit = (1.0, "mm") if space != "RAS" else (1e3, "um")
        header = {
            "space": space,
            "space directions": (affine[:3, :3] * sign[:, None]).T * scale,
            "space origin": origin * sign * scale,
            "space units": [unit] * 3,
            "kinds": ["domain"] * 3,
            "Segmentation_ReferenceImageExtentOffset": "8 5 0",
            "Segment0_LabelValue": "1",
            "Segment0_Layer": "0",
        }
        nrrd.write(str(path), array, header)

    check_perfect(write_frames(tmp_path, mouse, write, ".seg.nrrd"), mouse)


def test_totalsegmentator_like_folders_are_read(mouse: Mouse, tmp_path: Path) -> None:
    """One folder per case, one binary mask per structure."""

    def write(image: Path, labels: Any, path: Path) -> None:
        path.mkdir()
        affine = nib.load(image).affine
        for name, number in (("heart_myocardium", 1), ("heart_ventricle_left", 2), ("aorta", 9)):
            nib.save(nib.Nifti1Image((get_zyx(labels) == number).astype(np.uint8), affine), path / f"{name}.nii.gz")

    check_perfect(write_frames(tmp_path, mouse, write, ""), mouse)


def test_highdicom_reads_and_writes(tmp_path: Path) -> None:
    """We make the segmentation with highdicom, which reads it; and we read what it wrote."""
    hd = pytest.importorskip("highdicom", reason="the extra dicom-seg is not installed")
    from scanner_files import dicom_classic

    from mousecmr_data.formats.dicom import read_dicom
    from mousecmr_data.formats.dicom_seg import write_dicom_seg

    images = np.random.default_rng(0).integers(1, 4000, (2, 3, 24, 20)).astype(np.uint16)
    files = dicom_classic(images, tmp_path / "in")
    ds = read_dicom(files)
    labels = np.zeros(ds["image"].shape, np.uint8)
    labels[:, 1, 5:9, 6:12], labels[:, 2, 3:8, 4:9] = 1, 2
    for number, path in enumerate(write_dicom_seg(labels, tmp_path / "seg", files, ds, "a test")):
        volume = hd.seg.segread(path).get_volume(combine_segments=True)
        np.testing.assert_allclose(volume.spacing, get_spacing(ds), rtol=1e-5)
        inside = volume.array[np.any(volume.array, axis=(1, 2))][::-1]  # highdicom's own order of slices
        np.testing.assert_array_equal(inside, labels[number][labels[number].any(axis=(1, 2))])
        np.testing.assert_array_equal(read_nifti_labels(path, ds)[0], labels[number])
        frame = mousecmr_data.measure(mousecmr_data.open_mouse(path)).frames.iloc[0]
        np.testing.assert_allclose(frame["blood_pool_ul"], 25 * np.prod(get_spacing(ds)), rtol=1e-5)


@pytest.mark.parametrize(("labels", "numbers"), [("acdc", [0, 2, 3]), ("ukbb", [0, 2, 1]), ("lv=50,myo=9", [0, 9, 50])])
def test_masks_with_other_numbers_are_measured_and_scored(
    mouse: Mouse, tmp_path: Path, labels: str, numbers: list[int]
) -> None:
    def write(image: Path, mask: Any, path: Path) -> None:
        foreign = np.array(numbers, np.uint8)[get_zyx(mask)]
        foreign[0, 0] = 1 if 1 not in numbers else 3  # the right ventricle
        nib.save(nib.Nifti1Image(foreign, nib.load(image).affine), path)

    folder = write_frames(tmp_path, mouse, write, ".nii.gz")
    check_perfect(folder, mouse, labels)
    with pytest.raises(PredictionError, match="--labels"):
        check_perfect(folder, mouse)
    words = ["measure", str(folder / "M1_frame00.nii.gz"), "--labels", labels, "--json"]
    output = CliRunner().invoke(main, words).output
    frame = mousecmr_data.measure(mouse).frames.iloc[0]
    assert json.loads(output)[0]["frames"][0]["blood_pool_ul"] == pytest.approx(frame["blood_pool_ul"])
    assert json.loads(output)[0]["frames"][0]["myocardium_ul"] == pytest.approx(frame["myocardium_ul"])


def test_other_numbers_in_hdf5(mouse: Mouse, tmp_path: Path) -> None:
    masks = np.array([0, 2, 3], np.uint8)[mouse["mask"].values].transpose(2, 3, 1, 0)
    write_hdf5(tmp_path / "M1.h5", (0, 2), mouse["image"].values.transpose(2, 3, 1, 0), masks)
    ds = mousecmr_data.open_mouse(tmp_path / "M1.h5", spacing=ZYX, labels="acdc")
    assert mousecmr_data.measure(ds).edv_ul == mousecmr_data.measure(mouse).edv_ul
    check_perfect(tmp_path, mouse, "acdc")


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_reads_netcdf(mouse: Mouse, tmp_path: Path, engine: str) -> None:
    pytest.importorskip({"h5netcdf": "h5netcdf", "netcdf4": "netCDF4"}[engine], reason=f"{engine} is not installed")
    mouse.to_netcdf(tmp_path / "a.nc", engine=engine)
    with xr.open_dataset(tmp_path / "a.nc", engine=engine) as back:
        xr.testing.assert_identical(back.load(), mouse)
    scan = read_nifti(write_nifti_images(mouse, tmp_path / "a.nii.gz"))
    scan.to_netcdf(tmp_path / "b.nc", engine=engine)
    with xr.open_dataset(tmp_path / "b.nc", engine=engine) as back:
        xr.testing.assert_identical(back.load(), scan)


def test_xarray_writes_netcdf(mouse: Mouse, tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")
    mouse.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as back:
        assert mousecmr_data.measure(back) == mousecmr_data.measure(mouse)
        path = write_nifti_images(back, tmp_path / "a.nii.gz")
    check_cine(path, mouse)


def test_cohorts_are_written_as_netcdf(tmp_path: Path, phantom_cache: Path) -> None:
    pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")
    cohort = mousecmr_data.load(mice=["Mouse5", "Mouse6"], source="phantom", cache=phantom_cache)
    slices = cohort.slices(["ED"])
    slices.to_netcdf(tmp_path / "slices.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "slices.nc", engine="h5netcdf") as back:
        xr.testing.assert_identical(back.load(), slices.load())
    tree = cohort.to_datatree().isel(frame=[0], slice=[0, 1])
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "tree.nc", engine="h5netcdf") as back_tree:
        xr.testing.assert_identical(back_tree.load(), tree.load())


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
@pytest.mark.parametrize("other", ["/etc/passwd", "../a.raw", "LIST", "missing.raw"])
def test_headers_take_pixels_from_a_file_beside_them_only(
    mouse: Mouse, tmp_path: Path, ending: str, other: str
) -> None:
    path = write_nifti_images(mouse, tmp_path / f"a{ending}")
    scan = find_scans(tmp_path)[0]
    assert scan.paths == (path,)
    assert len(scan.files) == 2, "a change of the pixels alone is seen"
    check_cine(path, mouse)
    text = re.sub(r"((?:ElementDataFile =|data file:) ).*", lambda m: m[1] + other, path.read_text())
    path.write_text(text)
    with pytest.raises(FileLayoutError, match="pixels"):
        read_nifti(path)


def test_pandas_reads(mouse: Mouse, tmp_path: Path) -> None:
    measures = mousecmr_data.measure(mouse)
    measures.frames.to_csv(tmp_path / "frames.csv", index=False)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "frames.csv"), measures.frames, check_dtype=False)


def test_pandas_writes(tmp_path: Path, phantom_cache: Path) -> None:
    table = pd.DataFrame({"mouse": ["Mouse5", "Mouse6"], "phenotype": ["control", "treated"]})
    table.to_csv(tmp_path / "groups.csv", index=False)
    for phenotypes in (table, tmp_path / "groups.csv"):
        cohort = mousecmr_data.load(mice=["Mouse6"], source="phantom", phenotypes=phenotypes, cache=phantom_cache)
        assert cohort.phenotypes == {"Mouse6": "treated"}


def test_several_workers_in_a_script_without_a_main_guard(mouse: Mouse, tmp_path: Path) -> None:
    for name in ("A", "B"):
        write_nifti_labels(mouse["mask"].values, tmp_path / f"{name}.nii.gz", mouse)
        arrays = [mouse[v].values.transpose(2, 3, 1, 0) for v in ("image", "mask")]
        write_hdf5(tmp_path / "truth" / f"{name}.h5", (0, 2), *arrays)
    script = tmp_path / "score.py"
    script.write_text(
        "import mousecmr_data as m\n"
        "mice = [m.open_mouse(f'truth/{n}.h5').assign_attrs(mouse=n) for n in 'AB']\n"
        "print(m.evaluate('.', mice, workers=2).mice[1].frames[0].dice)\n"
    )
    out = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True)
    assert out.stdout.split() == ["1.0"], out.stderr


def test_every_cell_of_the_table_has_its_test() -> None:
    tests = {name for name, _ in inspect.getmembers(sys.modules[__name__], inspect.isfunction)}
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8")))
    assert named <= tests
    assert {t for t in tests if re.fullmatch(r"test_\w+_(reads|writes)(_\w+)?", t)} <= named
