import re
import shutil
from pathlib import Path

import pytest

from mousecmr_data.errors import ManifestError, UnknownNameError
from mousecmr_data.phantom.plan import PROTOCOLS
from mousecmr_data.schema import DEFAULT_DATASET, PHANTOMS, PUBLISHED_WEIGHTS, SPLIT_SCHEME
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, format_files_csv, load_manifest, read_manifest

# Copied from the description of the dataset, not from the script that makes the manifest.
VALIDATION = "5 19 25 33 34 35 39 61 63 64 80 82 92 93 128"
TEST = "6 10 12 15 29 36 46 49 56 60 65 71 74 75 78 79 87 89 91 99 100 111 117 118 125"


def names(numbers: str) -> set[str]:
    return {f"Mouse{n}" for n in numbers.split()}


def test_130_unique_mice_with_well_formed_checksums() -> None:
    files = load_manifest().files
    assert set(files) == {f"Mouse{i}" for i in range(1, 131)}
    sums = [f.git_blob_sha1 or "" for f in files.values()]
    assert len(set(sums)) == 130
    assert all(re.fullmatch("[0-9a-f]{40}", s) for s in sums)
    assert files["Mouse4"].git_blob_sha1 == "5a5e8f52cc6a965c41e8042bf9a7282ca4e0ccfb"


def test_url_is_pinned_to_the_commit() -> None:
    m = load_manifest()
    assert m.file_url(m.files["Mouse4"]) == (
        "https://raw.githubusercontent.com/mrphys/Open-Source_Pre-Clinical_Segmentation/"
        "97252ef6bbb06cf255c438dae1375959ec4972a4/Data/Mouse4.h5"
    )
    weights = m.weights["mousecmr-9.4T-unet3plus"]
    assert m.file_url(weights).startswith("https://media.githubusercontent.com/media/mrphys/")
    assert weights.size == 156_245_288


def test_splits_equal_the_published_lists() -> None:
    scheme = load_manifest().split_scheme("upstream-notebook")
    assert set(scheme.mice["validation"]) == names(VALIDATION)
    assert set(scheme.mice["test"]) == names(TEST)
    all_mice = {f"Mouse{i}" for i in range(1, 131)}
    assert set(scheme.mice["train"]) == all_mice - names(VALIDATION) - names(TEST)
    assert len(scheme.mice["train"]) == 90
    assert dict(scheme.labelled_images_2d) == {"train": 1858, "validation": 280, "test": 695}


def test_unpublished_split_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="not published"):
        load_manifest().split_scheme("paper")
    with pytest.raises(UnknownNameError, match="upstream-notebook"):
        load_manifest().split_scheme("mine")


def test_groups_are_counts() -> None:
    assert [g.n_mice for g in load_manifest().groups] == [39, 11, 51, 29]


def test_published_table_matches_the_paper() -> None:
    published = load_manifest().published
    assert published is not None
    edv, esv, sv, ef, ed_mass, es_mass = published.measures
    assert (edv.truth, edv.bias, edv.limits_of_agreement) == ((65.6, 10.0), 0.6, (-6.0, 7.1))
    assert (esv.model, sv.p, ef.bias) == ((27.7, 10.7), 0.696, -0.2)
    assert (ed_mass.limits_of_agreement, es_mass.truth) == ((-12.8, 17.4), (111.2, 15.6))
    assert {(d.structure, d.phase): d.mean for d in published.dice}[("LV myocardium", "ED")] == 0.89


def test_every_constant_has_a_source() -> None:
    m = load_manifest()
    assert all(c.source for c in m.acquisition.values())
    assert all(i.text and i.source for i in m.known_issues)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(MANIFESTS_FOLDER / DEFAULT_DATASET, tmp_path / "manifest"))


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("files.csv", "Mouse2,Data", "Mouse1,Data", "unique names"),
        ("files.csv", "Data/Mouse2.h5", "../Mouse2.h5", "leaves the dataset"),
        ("files.csv", "822ea70ce0928a8f70889121da8d7c5280be3c08", "822ea7", "hex digits"),
        ("files.csv", "822ea70ce0928a8f70889121da8d7c5280be3c08", "", "at least one"),
        ("files.csv", "0be3c08,,", "0be3c08,,many", "a number of bytes"),
        ("files.csv", "Mouse2,Data/Mouse2.h5", "Mouse2,Data/Mouse1.h5", "unique names and paths"),
        ("files.csv", "Mouse2,Data/Mouse2.h5", "zarr.json,Data/Mouse2.h5", "can be a file's"),
        ("files.csv", "Mouse2,Data/Mouse2.h5", "..,Data/Mouse2.h5", "can be a file's"),
        ("files.csv", "Mouse2,Data/Mouse2.h5", "Mouse2,.", "leaves the dataset"),
        ("files.csv", "Mouse2,Data/Mouse2.h5", "Mouse2,mousecmr-lock.json", "leaves the dataset"),
        ("dataset.toml", "{version}/{path}", "{version}/{paht}", "not a template"),
        ("dataset.toml", 'name = "mousecmr-130"', 'name = "phantom"', "reserved by this library"),
        ("dataset.toml", 'name = "mousecmr-130"', 'name = "layouts"', "reserved by this library"),
        ("dataset.toml", 'name = "mousecmr-130"', 'name = "segment"', "reserved by this library"),
        ("splits.toml", "validation = [", 'oops = "Mouse1"\nvalidation = [', "is not a list"),
        ("dataset.toml", 'name = "mousecmr-130"', 'name = "../x"', "folder name"),
        ("dataset.toml", 'version = "972', 'nothing = "972', "version"),
        ("dataset.toml", "n_mice = 39", "mice = 39", "unknown keys"),
        ("dataset.toml", "synthetic = false", "synthetic = maybe", "not valid TOML"),
        ("splits.toml", '"Mouse5",', '"Mouse6",', "'validation' and 'test'"),
        ("splits.toml", '"Mouse5",', '"Mouse500",', "not in files.csv"),
    ],
)
def test_the_error_names_the_fault_of_a_manifest(folder: Path, file: str, old: str, new: str, message: str) -> None:
    replace(folder / file, old, new)
    with pytest.raises(ManifestError, match=message):
        read_manifest(folder)


def test_a_manifest_lists_at_least_one_file(folder: Path) -> None:
    (folder / "files.csv").write_text("mouse,path,git_blob_sha1,sha256,size\n")
    with pytest.raises(ManifestError, match="lists no files"):
        read_manifest(folder)


def test_only_two_files_are_required(folder: Path) -> None:
    for name in ("splits", "weights", "published", "known_issues"):
        (folder / f"{name}.toml").unlink()
    assert len(read_manifest(folder).files) == 130
    (folder / "files.csv").unlink()
    with pytest.raises(ManifestError, match=r"no files\.csv"):
        read_manifest(folder)


def test_the_text_of_files_csv_is_read_back(folder: Path) -> None:
    entries = [FileEntry("Mouse1", "a/b.h5", None, "0" * 64, 7), FileEntry("Mouse2", "c.h5", "1" * 40)]
    (folder / "splits.toml").unlink()
    (folder / "files.csv").write_text(format_files_csv(entries))
    assert list(read_manifest(folder).files.values()) == entries
    text = (MANIFESTS_FOLDER / DEFAULT_DATASET / "files.csv").read_text()
    assert format_files_csv(load_manifest().files.values()) == text


def test_defaults_exist() -> None:
    manifest = load_manifest()
    assert manifest.name == DEFAULT_DATASET
    assert PUBLISHED_WEIGHTS in manifest.weights
    assert manifest.split_scheme(SPLIT_SCHEME).mice
    assert tuple(PROTOCOLS) == PHANTOMS
    assert manifest.published is not None
    assert f"{manifest.published.n_mice} test mice" in manifest.published.source


def test_encodings(folder: Path) -> None:
    text = (folder / "files.csv").read_text()
    (folder / "files.csv").write_text("\ufeff" + text, encoding="utf-8")
    assert len(read_manifest(folder).files) == 130
    (folder / "files.csv").write_bytes(text.replace("Mouse2,", "M\xe4use,").encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        read_manifest(folder)
