"""Folders of links: DataLad, git-annex, link farms of clusters. Links are followed, and a link to nothing is named."""

import os
import shutil
from pathlib import Path

import hostile_files as hostile
import layout_files
import numpy as np
import pytest
import scanner_files
from click.testing import CliRunner

pytest.importorskip("nibabel", reason="the extra formats is not installed")
if not hasattr(os, "symlink") or os.name == "nt":
    pytest.skip("links need a right of their own on Windows", allow_module_level=True)

from mousecmr_data.api import open_mouse
from mousecmr_data.cli.main import main
from mousecmr_data.errors import MissingDataError, MouseCMRError, ReadError
from mousecmr_data.formats.discover import FoundScan, RefusedInput, collect_inputs, find_scans
from mousecmr_data.formats.read import read_scan

OBJECT = "annex/objects/xX/yY/MD5E-s99--0123/MD5E-s99--0123"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder of cines (a, b, c), as on another disk."""
    for seed, name in enumerate("abc"):
        hostile.write_nifti(tmp_path / "store" / f"{name}.nii.gz", seed)
    return tmp_path / "store"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def find(*inputs: Path) -> tuple[list[FoundScan], list[RefusedInput]]:
    with collect_inputs(inputs) as (scans, refused):
        return scans, refused


def find_names(*inputs: Path) -> list[str]:
    scans, refused = find(*inputs)
    assert refused == []
    for scan in scans:
        read_scan(scan)
    return sorted(scan.name for scan in scans)


def test_links_to_files_are_read(store: Path, study: Path) -> None:
    shutil.copy(store / "b.nii.gz", study / "own.nii.gz")
    (study / "relative.nii.gz").symlink_to("../store/a.nii.gz")
    (study / "absolute.nii.gz").symlink_to(store / "c.nii.gz")
    assert find_names(study) == ["absolute", "own", "relative"]


def test_a_folder_of_datalad(store: Path, study: Path) -> None:
    for kind, name in enumerate(("sub-1", "sub-2")):
        content = study / ".git" / OBJECT.replace("0123", name)
        content.parent.mkdir(parents=True)
        shutil.copy(store / f"{'ab'[kind]}.nii.gz", content)
        (study / name).mkdir()
        target = content if kind else Path("..") / content.relative_to(study)
        (study / name / "cine.nii.gz").symlink_to(target)
    assert find_names(study) == ["sub-1_cine", "sub-2_cine"]


def test_links_to_folders_are_read_and_loops_end(store: Path, study: Path, tmp_path: Path) -> None:
    shutil.copy(store / "a.nii.gz", study / "own.nii.gz")
    (tmp_path / "far" / "m").mkdir(parents=True)
    shutil.copy(store / "b.nii.gz", tmp_path / "far" / "m" / "b.nii.gz")
    (study / "linked").symlink_to("../far")
    (tmp_path / "far" / "back").symlink_to("../study")
    (study / "self").symlink_to(".")
    (study / "above").symlink_to("..")
    assert find_names(study) == ["linked_m_b", "own"]
    (study / "around.nii.gz").symlink_to("around.nii.gz")
    scans, (refused,) = find(study)
    assert len(scans) == 2
    assert isinstance(refused.error, ReadError)
    assert "leads back to itself" in str(refused.error)


def test_the_same_file_by_two_ways_is_one_scan(store: Path, study: Path) -> None:
    (study / "m.nii.gz").hardlink_to(store / "a.nii.gz")
    (study / "a hard link.nii.gz").hardlink_to(store / "a.nii.gz")
    (study / "0.nii.gz").symlink_to("own.nii.gz")  # before it in the order of names
    shutil.copy(store / "b.nii.gz", study / "own.nii.gz")
    (study / "again").symlink_to(".")
    assert find_names(study) == ["a_hard_link", "own"]
    assert find_names(study, study / "0.nii.gz", study / "own.nii.gz", store / "a.nii.gz") == ["a_hard_link", "own"]
    assert find_names(store / "c.nii.gz", store / "c.nii.gz") == ["c"]


def test_frames_with_the_same_content_are_all_kept(study: Path, tmp_path: Path) -> None:
    """git-annex keeps equal files once: two links to one content are two frames of a cine."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    for name in ("x", "y"):
        nib.save(
            nib.Nifti1Image(rng.integers(0, 900, (16, 16, 4)).astype(np.int16), np.eye(4)), tmp_path / f"{name}.nii"
        )
    for frame, name in enumerate("xyyx"):
        (study / f"frame{frame}.nii").symlink_to(tmp_path / f"{name}.nii")
    (scan,) = find_scans(study)
    assert len(scan.paths) == 4


def test_dicom_through_links(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    images = np.random.default_rng(0).integers(1, 999, (4, 3, 16, 16)).astype(np.uint16)
    files = scanner_files.dicom_classic(images, tmp_path / "store")
    for number, file in enumerate(files):
        (study / f"IM{number}").symlink_to(file)
    (study / "twice").symlink_to(tmp_path / "store")
    (scan,) = find_scans(study)
    assert read_scan(scan)["image"].shape == images.shape


@pytest.mark.parametrize("target", [f".git/{OBJECT}.nii.gz", f"/elsewhere/.git/{OBJECT}.nii.gz", "/elsewhere/c.nii.gz"])
def test_a_link_to_nothing_is_named(target: str, store: Path, study: Path) -> None:
    shutil.copy(store / "a.nii.gz", study / "own.nii.gz")
    gone = study / "sub 2.nii.gz"
    gone.symlink_to(target)
    (study / "notes.txt").symlink_to("/elsewhere/notes.txt")
    (study / "own_seg.nii.gz").symlink_to("/elsewhere/seg.nii.gz")
    scans, (refused,) = find(study)
    assert [s.paths for s in scans] == [(study / "own.nii.gz",)]
    with pytest.raises(MouseCMRError) as opened:
        open_mouse(gone)
    for error in (refused.error, opened.value):
        assert isinstance(error, MissingDataError)
        assert f"sub 2.nii.gz is a link to {target}, which is not there" in str(error)
        assert f"datalad get '{gone}'  (or: git annex get '{gone}')" in str(error)
        assert ("bring back" in str(error)) == ("annex" not in target)
    (study / "own.nii.gz").unlink()
    with pytest.raises(MissingDataError, match=r"sub 2\.nii\.gz is a link to"):
        find_scans(study)


def test_links_to_nothing_are_named_in_the_table(study: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for name in ("gone 1", "gone 2"):
        (study / f"{name}.nii.gz").symlink_to("/elsewhere/x.nii.gz")
    for number in range(9):
        (study / f"1.2.{number}").symlink_to("/elsewhere/x")
    _, refused = find(study)
    assert sorted(r.name for r in refused) == ["gone_1", "gone_2", "study"], "a series is one"
    assert f"datalad get {study}  (or" in str(next(r for r in refused if r.name == "study").error)
    words = ["segment", str(study), "-o", str(tmp_path / "out"), "--weights", "phantom-small", "--no-pictures"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 1
    assert "None of 3 inputs can be read" in result.output
    assert "is a link to /elsewhere/x" in result.output


def test_an_archive_and_an_hdf5_file_behind_links(store: Path, study: Path, tmp_path: Path) -> None:
    hostile.write_zip(tmp_path / "packed.zip", {"z.nii.gz": (store / "a.nii.gz").read_bytes()})
    (study / "sub").symlink_to(tmp_path / "archives")
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / "one.zip").symlink_to(tmp_path / "packed.zip")
    (study / "m.h5").symlink_to(layout_files.write(tmp_path / "far.h5"))
    scans, refused = find(study)
    assert refused == []
    assert sorted(s.kind for s in scans) == ["HDF5", "NIfTI"]
