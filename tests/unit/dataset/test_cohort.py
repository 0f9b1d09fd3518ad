import base64
import io
import pickle
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import zarr
from layout_files import lab

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort, CohortMember, fill_layout_cache
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.dataset.notebook import encode_png
from mousecmr_data.dataset.source import FileSource
from mousecmr_data.download.cache import get_file_path
from mousecmr_data.errors import ArgumentError, CacheError, ManifestError, MissingDataError, UnknownNameError
from mousecmr_data.schema.manifest import load_manifest, read_manifest


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3), "C": (1,)})


def test_a_cohort_is_a_container(source: Path) -> None:
    cohort = md.load(source=source)
    assert len(cohort) == 3
    assert cohort.mice == ("A", "B", "C")
    assert "A" in cohort
    assert "D" not in cohort
    assert [ds.attrs["mouse"] for ds in cohort.values()] == ["A", "B", "C"]
    assert cohort["B"].sizes["slice"] == 4
    assert "3 mice" in repr(cohort)
    again = pickle.loads(pickle.dumps(cohort))
    assert again["A"].identical(cohort["A"])
    with pytest.raises(UnknownNameError, match="no mouse 'Mouse4'"):
        cohort["Mouse4"]


def test_a_cohort_is_a_mapping_from_names_to_datasets(source: Path) -> None:
    cohort = md.load(source=source)
    assert isinstance(cohort, Mapping)
    assert list(cohort) == ["A", "B", "C"] == list(cohort.keys())
    by_name = dict(cohort)
    assert list(by_name) == ["A", "B", "C"]
    assert all(ds.attrs["mouse"] == name for name, ds in by_name.items())
    assert cohort.get("D") is None
    assert by_name["A"] not in cohort
    assert cohort == cohort
    assert cohort != md.load(source=source)


def read_pictures(page: str) -> list[bytes]:
    """Return the pictures in the HTML of a cohort."""
    return [base64.b64decode(data) for data in re.findall(r"data:image/png;base64,([^\"]+)", page)]


def test_a_cohort_shows_pictures_sizes_groups_and_provenance(source: Path) -> None:
    cohort = md.load(source=source)
    page = cohort._repr_html_()
    for text in (
        "3 verified",
        "mice by phenotype and split",
        "not published",
        "5 frames, 4 slices of",
        cohort.source.name,
    ):
        assert text in page
    pictures = read_pictures(page)
    assert len(pictures) == 3
    assert all(picture.startswith(b"\x89PNG") and len(picture) < 40_000 for picture in pictures)
    assert "SYNTHETIC" not in page
    assert not (cohort.opener.layouts.folder / "A").exists(), "a mouse was converted for a picture"


def test_a_picture_is_a_png_that_others_read() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is of an extra")
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(encode_png(rgb)))), rgb)


def test_showing_a_cohort_makes_and_downloads_nothing(tmp_path: Path) -> None:
    phantom = md.load("test", source="phantom", size="small", cache=tmp_path)
    page = phantom._repr_html_()
    assert "25 not made yet" in page
    assert "SYNTHETIC DATA" in page
    assert read_pictures(page) == []
    assert not list(tmp_path.rglob("*.h5"))
    real = FileSource(load_manifest(), tmp_path)
    page = Cohort(real, [CohortMember("Mouse4", "train", "not published")], FileOpener(real, None))._repr_html_()
    assert "1 missing" in page
    assert read_pictures(page) == []


def test_a_damaged_file_does_not_hide_the_cohort(source: Path) -> None:
    cohort = md.load(source=source)
    states = cohort.source.get_statuses(cohort.mice)
    cohort.source.get_path("A").write_bytes(b"damaged")
    object.__setattr__(cohort.source, "get_statuses", lambda _: states)
    assert len(read_pictures(cohort._repr_html_())) == 2


def test_filter(source: Path) -> None:
    cohort = md.load(source=source, phenotypes={"A": "control", "B": "infarct"})
    assert cohort.filter(phenotype="control").mice == ("A",)
    assert cohort.filter(phenotype=["infarct", "not published"]).mice == ("B", "C")
    assert cohort.filter(split="train", phenotype="infarct").mice == ("B",)
    assert cohort.filter(where=lambda row: len(row.labelled_frames) > 1 and row.name != "A").mice == ("B",)
    assert cohort.filter(split="test", phenotype="control").mice == ()
    assert cohort.filter().mice == cohort.mice
    with pytest.raises(UnknownNameError, match="did you mean 'control'"):
        cohort.filter(phenotype="controls")
    with pytest.raises(UnknownNameError, match="no split in this cohort: 'val'"):
        cohort.filter(split="val")


def test_filter_by_field_strength(tmp_path: Path) -> None:
    cohort = md.load(source="phantom-7T", cache=tmp_path)
    assert cohort.filter(field_strength=7).mice == cohort.mice
    assert cohort.filter(field_strength=9.4).mice == ()


def test_measure_lists_every_mouse(source: Path) -> None:
    cohort = md.load(source=source)
    table = cohort.measure()
    assert table.index.tolist() == ["A", "B", "C"]
    assert table.loc["A", "edv_ul"] == md.measure(cohort["A"]).edv_ul
    assert np.isnan(table.loc["C", "ef_percent"])  # one labelled frame: no pair
    assert table.loc["A", ["split", "synthetic"]].tolist() == ["train", False]


def test_every_dataset_has_the_accessor(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source)
    store = cohort.to_zarr(tmp_path / "store.zarr")
    expected = md.measure(cohort["A"]).ef_percent
    for ds in (cohort["A"], md.load(source=store)["A"], md.open_mouse(cohort.source.get_path("A"))):
        assert ds.mousecmr.measure().ef_percent == expected


def test_the_accessor_is_registered_when_a_dataset_is_made(source: Path) -> None:
    """By xarray's engine in a new process, too; importing the package imports no xarray."""
    path = md.load(source=source).source.get_path("A")
    code = f"""
import sys, mousecmr_data
assert "xarray" not in sys.modules
import xarray
print(xarray.open_dataset({str(path)!r}, engine="mousecmr").mousecmr.measure().mouse)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "A"


def test_a_cohort_shows_itself_in_a_notebook_without_reading_files(source: Path) -> None:
    cohort = md.load(source=source)
    for name in cohort:
        cohort.source.get_path(name).unlink()
    page = cohort._repr_html_()
    for text in ("Cohort of 3 mice", "<td>2</td>", "train", "A, B, C", "to_dataframe()"):
        assert text in page


def test_splits(source: Path) -> None:
    assert md.load("train", source=source).mice == ("A", "B")
    assert md.load("test", source=source)["C"].attrs["split"] == "test"
    assert md.load("train", mice=["B"], source=source).mice == ("B",)
    with pytest.raises(UnknownNameError, match="'train', 'test'"):
        md.load("dev", source=source)
    with pytest.raises(ArgumentError, match="in the split 'test'"):
        md.load("train", mice=["C"], source=source)
    with pytest.raises(UnknownNameError, match="did you mean"):
        md.load(mice=["Mouse13O"], source="phantom")
    with pytest.raises(UnknownNameError, match="no source 'phantoms'"):
        md.load(source="phantoms")


def test_to_dataframe(source: Path) -> None:
    table = md.load(source=source).to_dataframe()
    assert table.index.tolist() == ["A", "B", "C"]
    assert table.loc["B", ["slices", "frames", "ed_frame", "es_frame", "split"]].tolist() == [4, 5, 0, 2, "train"]
    assert table.loc["B", "labelled_frames"] == (0, 1, 2, 3)
    assert pd.isna(table.loc["C", "es_frame"])
    assert pd.isna(table.loc["C", "ed_frame"])
    assert set(table["checksum"]) == {"verified"}
    assert set(table["phenotype"]) == {"not published"}


def test_to_datatree(source: Path) -> None:
    tree = md.load(source=source).to_datatree()
    assert list(tree.children) == ["A", "B", "C"]
    assert tree["B"].to_dataset().identical(md.load(source=source)["B"])


@pytest.mark.parametrize(
    ("frames", "n"), [("labelled", 2 * 3 + 4 * 4 + 5), ("all", 5 * (3 + 4 + 5)), (["ED", "ES"], 2 * 3 + 2 * 4)]
)
def test_slices_equal_the_stacks(source: Path, frames: object, n: int) -> None:
    cohort = md.load(source=source)
    samples = cohort.slices(frames)  # type: ignore[arg-type]
    assert samples.sizes == {"sample": n, "y": 24, "x": 20}
    image, mask = samples.image.values, samples.mask.values
    assert image.dtype == np.uint16
    stacks = {ds.attrs["mouse"]: ds.load() for ds in cohort.values()}
    for i in range(n):
        s = samples.isel(sample=i)
        stack = stacks[str(s.mouse.values)].sel(frame=int(s.frame), slice=int(s.slice))
        np.testing.assert_array_equal(image[i], stack.image)
        np.testing.assert_array_equal(mask[i], stack["mask"])
        assert s.phase == stack.phase
        assert s.labelled == stack.labelled
    if frames == "labelled":
        assert bool(samples.labelled.all())


def test_slices_index_lazily(source: Path) -> None:
    samples = md.load(source=source).slices("all")
    whole = samples.image.values
    for key in [
        np.s_[7],
        np.s_[-1:3:-9],
        np.s_[[5, 0, 59, 5]],
        np.s_[2:2],
        np.s_[[3, 40], 4:9, [1, 1, 7]],
        np.s_[8, 3, 4],
    ]:
        fresh = md.load(source=source).slices("all").image[key].values
        expected = (
            whole[key] if not isinstance(key, tuple) or key[0] != [3, 40] else whole[[3, 40]][:, 4:9][:, :, [1, 1, 7]]
        )
        np.testing.assert_array_equal(fresh, expected)
    with pytest.raises(md.errors.ArgumentError, match="not a selection of frames"):
        md.load(source=source).slices("ED")  # type: ignore[arg-type]


def test_phenotypes(source: Path, tmp_path: Path) -> None:
    table = pd.DataFrame({"mouse": ["A", "B"], "phenotype": ["control", "sham"]})
    table.to_csv(tmp_path / "groups.csv", index=False)
    for phenotypes in (tmp_path / "groups.csv", table, table.set_index("mouse"), {"A": "control", "B": "sham"}):
        cohort = md.load(source=source, phenotypes=phenotypes)
        assert cohort.to_dataframe()["phenotype"].tolist() == ["control", "sham", "not published"]
        assert cohort["A"].attrs["phenotype"] == "control"
    with pytest.raises(UnknownNameError, match="'Z'"):
        md.load(source=source, phenotypes={"Z": "control"})
    with pytest.raises(ManifestError, match="twice"):
        md.load(source=source, phenotypes=pd.DataFrame({"mouse": ["A", "A"], "phenotype": ["x", "y"]}))
    with pytest.raises(ManifestError, match="columns"):
        md.load(source=source, phenotypes=pd.DataFrame({"id": ["A"]}))
    with pytest.raises(MissingDataError, match="no file"):
        md.load(source=source, phenotypes=tmp_path / "none.csv")


def test_missing_files_are_reported(source: Path) -> None:
    with pytest.raises(MissingDataError, match=r"3 of 3 files are missing(.|\n)*mousecmr fetch"):
        md.load(source=source, download=False)
    md.fetch(["A"], source=source)
    assert md.load(mice=["A"], source=source, download=False)["A"].image.sum() > 0
    get_file_path(read_manifest(source), read_manifest(source).files["A"]).unlink()
    assert len(md.load(source=source)) == 3


def test_splits_must_be_disjoint(source: Path) -> None:
    (source / "splits.toml").write_text('[upstream-notebook]\ntrain = ["A"]\ntest = ["A"]\n')
    with pytest.raises(ManifestError, match="disjoint"):
        md.load(source=source)


def test_to_zarr(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source)
    path = cohort.to_zarr(tmp_path / "store.zarr")
    group = zarr.open_group(path, mode="r")
    assert sorted(group.group_keys()) == ["A", "B", "C"]
    for ds in cohort.values():
        name = ds.attrs["mouse"]
        np.testing.assert_array_equal(group[f"{name}/image"][:], ds.image)
        np.testing.assert_array_equal(group[f"{name}/mask"][:], ds["mask"])
    with pytest.raises(CacheError, match="exists"):
        cohort.to_zarr(path)
    assert [p.name for p in tmp_path.glob(".store*")] == []


def test_frames_may_be_any_iterable(source: Path) -> None:
    cohort = md.load(source=source)
    n = cohort.slices(["ED", "ES"]).sizes["sample"]
    assert cohort.slices(p for p in ["ED", "ES"]).sizes["sample"] == n  # type: ignore[arg-type]
    assert cohort.slices(np.array(["ED", "ES"])).sizes["sample"] == n  # type: ignore[arg-type]
    with pytest.raises(md.errors.UnlabelledError, match="No mouse has a frame"):
        cohort.select(["A"]).slices(["inflow"])


def test_a_group_that_is_missing_is_not_published(source: Path) -> None:
    phenotypes = {"A": None, "B": pd.NA, "C": float("nan")}
    assert set(md.load(source=source, phenotypes=phenotypes).phenotypes.values()) == {"not published"}  # type: ignore[arg-type]


def test_a_name_comes_before_a_folder(tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Mouse5").mkdir()
    monkeypatch.chdir(tmp_path)
    assert md.open_mouse("Mouse5", source="phantom", cache=phantom_cache).attrs["mouse"] == "Mouse5"


def test_a_custom_scheme_is_the_default(source: Path, tmp_path: Path) -> None:
    (source / "splits.toml").write_text('[mine]\ntrain = ["A"]\ntest = ["B"]\n')
    assert md.load(source=source)["C"].attrs["split"] == "none"
    assert md.load("train", source=source).mice == ("A",)
    store = md.load(source=source).to_zarr(tmp_path / "custom.zarr")
    assert md.load("test", source=store).mice == ("B",)
    with pytest.raises(UnknownNameError, match="'mine'"):
        md.load(source=source, split_scheme="yours")


def test_a_cohort_has_each_mouse_once_and_a_layout_cache_only_if_it_was_asked_for(source: Path) -> None:
    cohort = md.load(source=source)
    members = [CohortMember("A", None, "control")] * 2
    with pytest.raises(ArgumentError, match="named twice"):
        Cohort(cohort.source, members, cohort.opener)
    with pytest.raises(CacheError, match=r"no layout cache(.|\n)*layout_cache=True"):
        fill_layout_cache(md.load(source=source, layout_cache=False))


def test_selection(source: Path) -> None:
    cohort = md.load(source=source)
    assert cohort.select("B").mice == ("B",)
    assert cohort.select(["C", "A"]).mice == ("C", "A")
    assert cohort[:2].mice == ("A", "B") and cohort[::-1].mice == ("C", "B", "A")
    assert cohort[:0].mice == cohort.select([]).mice == ()
    with pytest.raises(ArgumentError, match="empty"):
        _ = cohort[:0].to_dataframe()
