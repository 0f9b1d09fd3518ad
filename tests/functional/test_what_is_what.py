"""What is what in a folder: masks and results are no scans, names stay, and files in other orders are read or named."""

import json
import re
import shutil
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from scipy import ndimage

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.hdf5 import read_header
from mousecmr_data.errors import FileLayoutError, MouseCMRError, UnlabelledError
from mousecmr_data.formats.discover import FoundScan, collect_inputs, find_scans
from mousecmr_data.formats.masks import LeftOutFile
from mousecmr_data.formats.read import read_scan

nib: Any = pytest.importorskip("nibabel", reason="the extra formats is not installed")

NETWORK = ("--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--no-pictures")
FRAMES, SLICES, SIDE = 8, 3, 96
ZYX = (1.0, 0.1, 0.1)
Array = NDArray[Any]


@pytest.fixture(scope="module")
def mouse(phantom_cache: Path) -> xr.Dataset:
    """A part of a synthetic mouse: 8 frames, 3 slices, 96 × 90 pixels around the heart; all frames have masks."""
    ds = mousecmr_data.open_mouse("Mouse5", source="phantom", cache=phantom_cache)
    heart = np.argwhere(ds["mask"].values == 2).mean(axis=0)[2:].astype(int) - SIDE // 2
    part = ds.isel(
        slice=slice(3, 3 + SLICES), y=slice(heart[0], heart[0] + SIDE), x=slice(heart[1], heart[1] + SIDE - 6)
    )
    part = part.isel(frame=np.linspace(0, ds.sizes["frame"] - 1, FRAMES).astype(int)).load()
    masks = [ndimage.grey_erosion(part["mask"].values[0], (1, 1 + k, 1)) for k in range(FRAMES)]
    return part.assign(mask=(part["mask"].dims, np.stack(masks)))


def save(path: Path, array: Array, zyx: tuple[float, float, float] = ZYX, frame_s: float = 0.005) -> Path:
    """Write an array (frame, slice, y, x), or without frames, as NIfTI in the usual order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array.transpose(*range(array.ndim)[::-1]), np.diag([zyx[2], zyx[1], zyx[0], 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = frame_s
    nib.save(image, path)
    return path


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def find(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the first file of each scan in ``folder`` by name, and the reason for each file that is left out."""
    left_out: list[LeftOutFile] = []
    with collect_inputs([folder], left_out=left_out) as (found, refused):
        assert refused == []
        return {s.name: s.paths[0].name for s in found}, {str(f.path.relative_to(folder)): f.reason for f in left_out}


# Masks and results


@pytest.mark.parametrize(
    "name",
    ["M1_dseg", "M1_gt", "M1_seg", "M1_SEG", "M1-label", "M1_labels", "M1_mask", "masks", "Segmentation",
     "M1_desc-brain_mask", "Segmentation_1", "M1_label-GM_probseg", "M1_ground_truth", "mask_M1", "M1_pred"],
)  # fmt: skip
def test_files_named_as_masks_are_no_scans(mouse: xr.Dataset, tmp_path: Path, name: str) -> None:
    save(tmp_path / "M1.nii.gz", mouse["image"].values)
    save(tmp_path / f"{name}.nii.gz", mouse["image"].values)
    assert find(tmp_path) == ({"M1": "M1.nii.gz"}, {f"{name}.nii.gz": "masks, by its name"})


@pytest.mark.parametrize("name", ["M1_masked", "unmasked", "WT_GT_01", "label2_M1", "Segovia", "M1"])
def test_other_names_are_scans(mouse: xr.Dataset, tmp_path: Path, name: str) -> None:
    save(tmp_path / f"{name}.nii.gz", mouse["image"].values)
    assert find(tmp_path)[0] == {name: f"{name}.nii.gz"}


def make_regions(masks: Array) -> Array:
    """Return labels of 117 regions, as TotalSegmentator writes them."""
    regions = np.zeros(masks.shape, np.uint8)
    for k in range(117):
        regions[..., 4 + k // 13 * 10 : 13 + k // 13 * 10, 2 + k % 13 * 6 : 8 + k % 13 * 6] = k + 1
    return regions


@pytest.mark.parametrize(
    "convert",
    [lambda m: m, lambda m: m.astype(np.float64), lambda m: m * 50, lambda m: (m > 0).astype(np.uint8) * 255,
     lambda m: m[0], make_regions],
    ids=["labels", "float", "scaled", "binary", "3D", "117 regions"],
)  # fmt: skip
@pytest.mark.parametrize("ending", [".nii.gz", ".nii"])
def test_files_of_few_numbers_are_masks_whatever_their_name(
    mouse: xr.Dataset, tmp_path: Path, convert: Callable[[Array], Array], ending: str
) -> None:
    save(tmp_path / "M1.nii.gz", mouse["image"].values)
    path = save(tmp_path / f"heart{ending}", convert(mouse["mask"].values))
    found, left_out = find(tmp_path)
    assert found == {"M1": "M1.nii.gz"}
    assert left_out[path.name].startswith("masks: it holds the numbers 0, ")
    with pytest.raises(FileLayoutError, match="holds masks") as e:
        find_scans(path)
    assert f"mousecmr measure {path}" in str(e.value)


def test_images_of_few_grey_levels_are_scans(mouse: xr.Dataset, tmp_path: Path) -> None:
    image = mouse["image"].values
    save(tmp_path / "eight_bits.nii", (image / image.max() * 255).astype(np.uint8))
    save(tmp_path / "cut_out.nii", np.where(mouse["mask"].values > 0, image, 0))
    assert len(find(tmp_path)[0]) == 2


def test_a_file_left_out_by_its_name_is_read_when_it_is_named(mouse: xr.Dataset, tmp_path: Path) -> None:
    path = save(tmp_path / "in" / "M1_label.nii.gz", mouse["image"].values)
    with pytest.raises(FileLayoutError, match="holds masks or results") as e:
        find_scans(path.parent)
    advised = re.search(r"mousecmr segment (\S+) -o", str(e.value))
    assert advised is not None
    assert [s.paths for s in find_scans(Path(advised[1]))] == [(path,)]


def test_results_of_segment_are_no_scans(mouse: xr.Dataset, tmp_path: Path) -> None:
    study = tmp_path / "study"
    cine = save(study / "M1.nii.gz", mouse["image"].values)
    run("segment", cine, "-o", study / "results", *NETWORK)
    results = {"masks.nii.gz", "ED_mask.nii.gz", "ES_mask.nii.gz", "images.nii.gz", "automatic_masks.nii.gz"}
    (study / "results" / "M1" / "masks.nii.gz").rename(study / "results" / "M1" / "renamed.nii.gz")
    shutil.copytree(study / "results", study / "copy")
    with zipfile.ZipFile(study / "download.zip", "w") as z:
        for path in sorted((study / "copy").rglob("*.nii.gz")):
            z.write(path, path.relative_to(study))
    found, left_out = find(study)
    assert found == {"M1": "M1.nii.gz"}
    assert left_out["results/M1/ED_mask.nii.gz"] == "written by mousecmr segment"
    assert set(left_out) == {
        f"{folder}/M1/{name}" for folder in ("results", "copy", "download.zip/copy")
        for name in (results - {"masks.nii.gz"}) | {"renamed.nii.gz"}
    }  # fmt: skip
    again = run("segment", study, "-o", tmp_path / "again", *NETWORK)
    assert "Left out of" in again.output
    listed = "ED_mask.nii.gz, ES_mask.nii.gz, automatic_masks.nii.gz, images.nii.gz (written by mousecmr segment)"
    assert listed in " ".join(again.output.split())
    manifest = json.loads((tmp_path / "again" / "manifest.json").read_text())
    assert [m["mouse"] for m in manifest["mice"]] == ["M1"]
    assert len(manifest["left_out"]) == len(left_out)
    assert "M1" in run("segment", study, "-o", tmp_path / "again", *NETWORK).output


def test_files_of_predict_and_masks_alone_are_no_scans(mouse: xr.Dataset, tmp_path: Path) -> None:
    write_hdf5(tmp_path / "M1.h5", mouse)
    run("predict", tmp_path / "M1.h5", "-o", tmp_path / "predicted", *NETWORK[:-1])
    with h5py.File(tmp_path / "truth.h5", "w") as f:
        f["Masks"] = np.zeros((4, 4, 1, 1), np.uint8)
    assert find(tmp_path) == (
        {"M1": "M1.h5"},
        {"predicted/M1.h5": "written by mousecmr predict", "truth.h5": "Masks without Images"},
    )


def test_results_of_other_programs_are_no_scans(mouse: xr.Dataset, tmp_path: Path) -> None:
    image, masks = mouse["image"].values, mouse["mask"].values
    save(tmp_path / "nnunet" / "imagesTr" / "M1_0000.nii.gz", image)
    save(tmp_path / "nnunet" / "labelsTr" / "M1.nii.gz", image)
    (tmp_path / "nnunet" / "dataset.json").write_text("{}")
    save(tmp_path / "predicted" / "fold_0" / "M1.nii.gz", image)
    for name in ("plans.json", "dataset.json"):
        (tmp_path / "predicted" / name).write_text("{}")
    save(tmp_path / "total" / "heart.nii.gz", (masks[0] > 0).astype(np.uint8))
    save(tmp_path / "total" / "liver.nii.gz", np.zeros(masks[0].shape, np.uint8))
    save(tmp_path / "derivatives" / "anything" / "sub-01" / "func" / "sub-01_desc-preproc_bold.nii.gz", image)
    save(tmp_path / "prep" / "sub-01" / "func" / "sub-01_boldref.nii.gz", image[0])
    about = {"DatasetType": "derivative", "GeneratedBy": [{"Name": "fMRIPrep"}]}
    (tmp_path / "prep" / "dataset_description.json").write_text(json.dumps(about))
    save(tmp_path / "raw" / "sub-01" / "func" / "sub-01_bold.nii.gz", image)
    (tmp_path / "raw" / "dataset_description.json").write_text('{"DatasetType": "raw", "GeneratedBy": [{"Name": "x"}]}')
    found, left_out = find(tmp_path)
    assert set(found.values()) == {"M1_0000.nii.gz", "sub-01_bold.nii.gz"}
    reasons = {name.split("/")[0] + "/" + Path(name).name.split(".")[0]: reason for name, reason in left_out.items()}
    assert reasons == {
        "nnunet/M1": "masks, by the name of the folder labelsTr",
        "predicted/M1": "results of nnU-Net",
        "total/heart": "masks: it holds the numbers 0, 1",
        "total/liver": "only zeros, beside masks",
        "derivatives/sub-01_desc-preproc_bold": "results of BIDS derivatives",
        "prep/sub-01_boldref": "results of fMRIPrep",
    }


@pytest.mark.parametrize("folders", [True, False])
def test_acdc_reads_as_one_cine_with_two_labelled_frames(mouse: xr.Dataset, tmp_path: Path, folders: bool) -> None:
    image = mouse["image"].values
    acdc = np.select([mouse["mask"].values == 1, mouse["mask"].values == 2], [2, 3]).astype(np.uint8)
    for patient, es in (("patient001", 4), ("patient002", 3)):
        folder = tmp_path / patient if folders else tmp_path
        shown = image if patient == "patient001" else image[::-1]
        save(folder / f"{patient}_4d.nii.gz", shown)
        for k in (0, es):
            save(folder / f"{patient}_frame{k + 1:02d}.nii.gz", shown[k])
            save(folder / f"{patient}_frame{k + 1:02d}_gt.nii.gz", acdc[k])
    left_out: list[LeftOutFile] = []
    first, second = find_scans(tmp_path, left_out)
    assert [s.paths[0].name for s in (first, second)] == ["patient001_4d.nii.gz", "patient002_4d.nii.gz"]
    assert sorted(f.reason for f in left_out) == sorted(
        [f"a frame of {p}_4d.nii.gz" for p in ("patient001", "patient002")] * 2 + ["masks, by its name"] * 4
    )
    for scan, es in ((first, 4), (second, 3)):
        ds = read_scan(scan)
        assert np.flatnonzero(ds["labelled"].values).tolist() == [0, es]
        assert ds["phase"].values[[0, es]].tolist() == ["ED", "ES"]
        np.testing.assert_array_equal(ds["mask"].values[[0, es]], mouse["mask"].values[[0, es]])
        assert not ds["mask"].values[1].any()
        assert ds.attrs["notes"] == ""


def test_another_cine_with_a_number_is_not_a_frame(mouse: xr.Dataset, tmp_path: Path) -> None:
    for name in ("M1", "M1_2", "M1_3"):
        save(tmp_path / f"{name}.nii.gz", mouse["image"].values)
    assert set(find(tmp_path)[0]) == {"M1", "M1_2", "M1_3"}


def test_frames_of_two_mice_in_one_folder_are_two_mice(mouse: xr.Dataset, tmp_path: Path) -> None:
    for name in ("M1", "M2"):
        for k in range(3):
            save(tmp_path / f"{name}_t{k}.nii.gz", mouse["image"].values[k])
    assert find(tmp_path)[0] == {"M1": "M1_t0.nii.gz", "M2": "M2_t0.nii.gz"}


# Names


@pytest.mark.parametrize("name", ["小鼠乙", "Мышь_1", "ποντίκι", "عكبر", "चूहा", "แมว", "Mäuse", "쥐1", "M1♀"])
def test_letters_of_every_script_stay_and_names_do_not_shift(tmp_path: Path, name: str) -> None:
    def show() -> dict[str, str]:
        return {s.name: s.paths[0].name for s in find_scans(tmp_path)}

    (tmp_path / f"{name}.nii.gz").write_bytes(b"x")
    alone = show()
    assert alone == {unicodedata.normalize("NFC", name): f"{name}.nii.gz"}
    for other in ("A.nii.gz", "小鼠一.nii.gz", "b/B.h5", "я.nii"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_bytes(b"x")
    assert alone.items() <= show().items()


def test_decomposed_letters_become_composed(tmp_path: Path) -> None:
    (tmp_path / (unicodedata.normalize("NFD", "Mäuse") + ".nii")).write_bytes(b"x")
    assert [s.name for s in find_scans(tmp_path)] == [unicodedata.normalize("NFC", "Mäuse")]


def test_one_scan_is_named_as_two_would_be(tmp_path: Path) -> None:
    for word in ("a", "b"):
        (tmp_path / word).mkdir()
        (tmp_path / word / "scan.nii").write_bytes(b"x")
        with zipfile.ZipFile(tmp_path / f"z{word}.zip", "w") as z:
            z.write(tmp_path / word / "scan.nii", "deep/scan.nii")
    with collect_inputs([tmp_path / "a"]) as (one, _):
        assert [s.name for s in one] == ["scan"]
    with collect_inputs([tmp_path / "za.zip"]) as (one, _):
        assert [s.name for s in one] == ["za_deep_scan"]
    with collect_inputs([tmp_path]) as (all_, _):
        assert {s.name for s in all_} == {"a_scan", "b_scan", "za_deep_scan", "zb_deep_scan"}


def test_same_names_are_told_apart_by_their_own_paths(tmp_path: Path) -> None:
    for name in ("a/M1.nii", "b/M1.nii", "c/m1.nii", "x/M2.nii", "x/M2.nrrd", "x/y_z.nii", "x/y/z.nii", "x/AUX.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def name_all(*folders: str) -> dict[str, str]:
        with collect_inputs([tmp_path / f for f in folders]) as (found, refused):
            assert not refused
            return {str(s.paths[0].relative_to(tmp_path)): s.name for s in found}

    assert name_all("a", "b", "c") == {"a/M1.nii": "a_M1", "b/M1.nii": "b_M1", "c/m1.nii": "c_m1"}
    assert name_all("c", "b", "a") == name_all("a", "b", "c"), "the order does not matter"
    names = name_all("x")
    assert len({n.casefold() for n in names.values()}) == 5
    assert names["x/AUX.nii"] == "AUX_"
    assert re.fullmatch(r"x_M2|M2_[0-9a-f]{6}", names["x/M2.nii"])
    (tmp_path / "x" / "A.nii").write_bytes(b"x")
    assert names.items() <= name_all("x").items()


# Axes, sizes and holes


def write_hdf5(path: Path, mouse: xr.Dataset, axes: str = "yxzt", matlab: bool = False, first: int = 0) -> Path:
    """Write a mouse with the axes in this order; ``matlab``: with the attributes that MATLAB writes."""
    order = ["tzyx".index(c) for c in axes]
    labelled = np.array([0, FRAMES // 2]) + first
    masks = np.zeros_like(mouse["mask"].values)
    masks[labelled - first] = mouse["mask"].values[labelled - first]
    with h5py.File(path, "w") as f:
        arrays = {"Images": mouse["image"].values.transpose(order), "Masks": masks.transpose(order)}
        for name, array in {**arrays, "Frames_with_ROI": labelled[None].astype(float) if matlab else labelled}.items():
            data = f.create_dataset(name, data=array, compression="gzip")
            if matlab:
                data.attrs["MATLAB_class"] = np.bytes_(b"double")
    return path


def get_edv(path: Path, *options: str) -> float:
    return float(json.loads(run("measure", path, "--json", *options).output)[0]["edv_ul"])


@pytest.mark.parametrize("first", [0, 1])
def test_files_of_matlab_are_recognised(mouse: xr.Dataset, tmp_path: Path, first: int) -> None:
    expected = write_hdf5(tmp_path / "layout.h5", mouse)
    path = write_hdf5(tmp_path / "matlab.h5", mouse, "tzxy", matlab=True, first=first)
    np.testing.assert_array_equal(mousecmr_data.open_mouse(path)["image"].values, mouse["image"].values)
    assert read_header(path).labelled_frames == (0, FRAMES // 2)
    assert get_edv(path) == get_edv(expected) > 10
    ds = read_scan(find_scans(path)[0])
    np.testing.assert_array_equal(ds["image"].values, mouse["image"].values)


@pytest.mark.parametrize("axes", ["tzyx", "tzxy", "zyxt", "tyxz", "ztyx"])
def test_other_orders_are_refused_with_the_option_that_mends_them(mouse: xr.Dataset, tmp_path: Path, axes: str) -> None:
    edv = get_edv(write_hdf5(tmp_path / "layout.h5", mouse))
    path = write_hdf5(tmp_path / "foreign.h5", mouse, axes)
    refused = " ".join(run("measure", path, code=1).output.split())
    advised = re.findall(r"--axes (\w{4})", refused)
    assert axes in advised or axes == "ztyx"  # which of two axes are the slices is a guess
    assert get_edv(path, "--axes", axes) == edv
    (scan,) = find_scans(path)
    with pytest.raises(MouseCMRError, match="--axes"):
        read_scan(scan)
    np.testing.assert_array_equal(read_scan(scan, axes=axes)["image"].values, mouse["image"].values)


def test_swapped_slices_and_frames_in_hdf5_never_give_zero(mouse: xr.Dataset, tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "swapped.h5", mouse, "yxtz")
    for message in (
        run("measure", path, code=1).output,
        get_error(*find_scans(path)),
    ):
        assert "--axes yxtz" in " ".join(message.split())
    assert get_edv(path, "--axes", "yxtz") > 10


def test_masks_in_other_frames_than_stated_never_give_zero(mouse: xr.Dataset, tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "one.h5", mouse, first=1)
    with pytest.raises(UnlabelledError, match="has no blood pool"):
        mousecmr_data.measure(mousecmr_data.open_mouse(path))


def test_an_array_of_numpy_in_nifti_is_named(mouse: xr.Dataset, tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(mouse["image"].values, np.eye(4)), tmp_path / "a.nii")
    (scan,) = find_scans(tmp_path)
    assert "--axes tzyx" in get_error(scan)
    with pytest.raises(MouseCMRError, match="--spacing"):
        read_scan(scan, axes="tzyx")
    ds = read_scan(scan, spacing=ZYX, axes="tzyx")
    np.testing.assert_array_equal(ds["image"].values, mouse["image"].values)


def get_error(scan: FoundScan) -> str:
    with pytest.raises(MouseCMRError) as e:
        read_scan(scan)
    return str(e.value)


def get_advice(scan: FoundScan, option: str) -> list[str]:
    """Return the words after ``option`` in the error of reading ``scan``."""
    match = re.search(rf"{option} ([-\d. ]+)", get_error(scan))
    assert match is not None
    return match[1].split()


@pytest.mark.parametrize("order", ["zt", "tz"])
@pytest.mark.parametrize("kind", ["NIfTI", "HDF5"])
def test_frames_stored_as_slices_are_named_and_read(phantom_cache: Path, tmp_path: Path, order: str, kind: str) -> None:
    image = mousecmr_data.open_mouse("Mouse5", source="phantom", cache=phantom_cache)["image"].values[:32:2, 1:7]
    stack = (image.swapaxes(0, 1) if order == "zt" else image).reshape(-1, *image.shape[2:])
    path = tmp_path / ("a.nii.gz" if kind == "NIfTI" else "a.h5")
    if kind == "NIfTI":
        save(path, stack)
    else:
        with h5py.File(path, "w") as f:
            f["Images"] = stack.transpose(1, 2, 0)
    (scan,) = find_scans(path)
    if kind == "NIfTI":
        assert get_advice(scan, "--frames") == ["16"]
    else:
        assert "--frames N" in get_error(scan)
    ds = read_scan(scan, frames=16)
    np.testing.assert_array_equal(ds["image"].values, image)
    with pytest.raises(MouseCMRError, match="one of 2, 3, 4, 6, 8,"):
        read_scan(scan, frames=7)
    if kind == "NIfTI":
        from mousecmr_data.formats.nifti import write_nifti_labels

        labels = (image % 3).astype(np.uint8)
        written = nib.load(write_nifti_labels(labels, tmp_path / "l.nii", ds))
        expected = (labels.swapaxes(0, 1) if order == "zt" else labels).reshape(stack.shape)
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected.transpose(2, 1, 0))
        alone = nib.load(write_nifti_labels(labels[:1], tmp_path / "ed.nii", ds))
        np.testing.assert_array_equal(np.asarray(alone.dataobj), labels[0].transpose(2, 1, 0))


@pytest.mark.parametrize("factor", [0.1, 0.001, 10, 1000])
@pytest.mark.parametrize("kind", ["NIfTI", "HDF5"])
def test_sizes_that_are_wrong_by_a_factor_are_named(
    mouse: xr.Dataset, tmp_path: Path, factor: float, kind: str
) -> None:
    if kind == "NIfTI":
        path = save(tmp_path / "a.nii", mouse["image"].values, tuple(v * factor for v in ZYX))  # type: ignore[arg-type]
    else:
        path = write_hdf5(tmp_path / "a.h5", mouse)
        with h5py.File(path, "a") as f:
            f.attrs["voxel_size_mm"] = [v * factor for v in ZYX]
    (scan,) = find_scans(path)
    advised = [float(v) for v in get_advice(scan, "--spacing")]
    np.testing.assert_allclose(advised, ZYX, rtol=1e-5)
    assert read_scan(scan, spacing=advised)["image"].shape == mouse["image"].shape
    if kind == "HDF5":
        refused = run("measure", path, code=1)
        assert "--spacing" in refused.output
        assert get_edv(path, "--spacing", *map(str, ZYX)) > 10


@pytest.mark.parametrize(("real", "factor"), [((0.3, 0.05, 0.05), 10), ((1.0, 0.25, 0.25), 0.1)])
def test_sizes_that_a_voxel_may_have_but_the_field_may_not(
    tmp_path: Path, real: tuple[float, float, float], factor: float
) -> None:
    pixels = 320 if factor > 1 else 96
    array = np.random.default_rng(0).integers(100, 4000, (1, 2, pixels, pixels)).astype(np.uint16)
    path = save(tmp_path / "a.nii.gz", array, tuple(v * factor for v in real))  # type: ignore[arg-type]
    (scan,) = find_scans(path)
    np.testing.assert_allclose([float(v) for v in get_advice(scan, "--spacing")], real, rtol=1e-5)
    assert read_scan(scan, spacing=real)["image"].size == array.size


@pytest.mark.parametrize("hole", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["NIfTI", "HDF5"])
def test_holes_outside_the_field_are_named_and_filled(
    mouse: xr.Dataset, tmp_path: Path, hole: float, kind: str
) -> None:
    image = mouse["image"].values.astype(np.float32) + np.float32(0.5)
    image[..., :5, :] = hole
    path = tmp_path / ("a.nii" if kind == "NIfTI" else "a.h5")
    if kind == "NIfTI":
        save(path, image)
    else:
        with h5py.File(path, "w") as f:
            f["Images"] = image.transpose(2, 3, 1, 0)
    (scan,) = find_scans(path)
    message = get_error(scan)
    assert "outside the field of view" in message
    assert get_advice(scan, "--fill") == ["0"]
    ds = read_scan(scan, fill=0.0)
    np.testing.assert_array_equal(ds["image"].values[..., 5:, :], image[..., 5:, :])
    assert not ds["image"].values[..., :5, :].any()
    if kind == "HDF5":
        run("segment", path, "-o", tmp_path / "out", "--fill", "0", *NETWORK)
        assert "outside" in run("segment", path, "-o", tmp_path / "none", *NETWORK, code=1).output
