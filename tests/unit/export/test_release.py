from pathlib import Path

import pytest
import ragged

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.export.release import check_repo_id, make_release


def test_synthetic_mice_cannot_be_published_as_real(tmp_path: Path) -> None:
    synthetic = ragged.cohort(tmp_path, synthetic=True)
    with pytest.raises(md.errors.ArgumentError, match="lab/mice-synthetic"):
        make_release(synthetic, "lab/mice")
    with pytest.raises(md.errors.ArgumentError, match="does not say so"):
        make_release(synthetic, "synthetic-lab/mice")
    release = make_release(synthetic, "lab/Mice-Synthetic")
    assert release.synthetic
    assert release.title.startswith("SYNTHETIC")


def test_a_phantom_with_a_manifest_that_calls_it_real_is_refused(tmp_path: Path) -> None:
    folder = ragged.manifest(tmp_path, synthetic=True)
    text = (folder / "dataset.toml").read_text()
    (folder / "dataset.toml").write_text(text.replace("synthetic = true", "synthetic = false"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
        disguised = md.load(source=folder, cache=tmp_path / "cache", progress=False)
    with pytest.raises(md.errors.ManifestError, match="None says that it is SYNTHETIC"):
        make_release(disguised, "lab/mice")
    with pytest.raises(md.errors.ManifestError, match="synthetic = true"):
        make_release(disguised, "lab/mice-synthetic")


def test_a_store_made_from_a_phantom_stays_synthetic(tmp_path: Path) -> None:
    ragged.cohort(tmp_path, synthetic=True).select(["Pair"]).to_zarr(tmp_path / "mice.zarr")
    with pytest.raises(md.errors.ArgumentError, match="does not say so"):
        make_release(md.load(source=tmp_path / "mice.zarr"), "lab/mice")


def test_a_release_holds_the_facts_of_its_mice(cohort: Cohort) -> None:
    release = make_release(cohort, "lab/ragged")
    assert {split: [m.name for m in mice] for split, mice in release.splits.items()} == ragged.SPLITS
    assert release.mice[1].labelled_frames == (0, 2)
    assert release.mice[1].checksum.startswith("sha256:")
    assert release.whole
    assert not make_release(cohort.select(["Pair"]), "lab/ragged").whole
    with pytest.raises(md.errors.ArgumentError, match="empty"):
        make_release(cohort.select([]), "lab/ragged")


@pytest.mark.parametrize("name", ["mice", "lab/mice/more", "lab/", "/mice", "lab/mi ce", "lab/..", "lab/mice--x", ""])
def test_names_that_hubs_do_not_accept(name: str) -> None:
    with pytest.raises(md.errors.ArgumentError, match="ORG/NAME"):
        check_repo_id(name)


def test_names_that_hubs_accept() -> None:
    assert check_repo_id("my-lab/Mouse_Cines.v2") == "my-lab/Mouse_Cines.v2"
