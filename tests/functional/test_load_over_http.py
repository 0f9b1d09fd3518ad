"""`load(split="train")` from a host that has the real dataset's layout, with phantom files."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from servers import faults
from servers.cohort import everything, git_blob_sha1
from servers.host import Fault, Host

import mousecmr_data as md
from mousecmr_data.phantom import make_plans, write_phantom
from mousecmr_data.schema import DEFAULT_DATASET
from mousecmr_data.schema import manifest as manifests
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER

MICE = ("Mouse1", "Mouse2", "Mouse5")
"""Two of the split "train", one of "validation"."""


@pytest.fixture(scope="module")
def bodies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("upstream")
    for mouse in MICE:
        write_phantom(make_plans("phantom")[mouse], folder / f"{mouse}.h5")
    return {f"Data/{m}.h5": (folder / f"{m}.h5").read_bytes() for m in MICE}


@pytest.fixture
def manifest(tmp_path: Path, bodies: dict[str, bytes]) -> Path:
    """The embedded manifest with these three files in place of the 130."""
    folder = tmp_path / "manifests" / DEFAULT_DATASET
    shutil.copytree(MANIFESTS_FOLDER / DEFAULT_DATASET, folder)
    rows = ["mouse,path,git_blob_sha1,sha256,size"]
    rows += [f"{Path(path).stem},{path},{git_blob_sha1(body)},," for path, body in bodies.items()]
    (folder / "files.csv").write_text("\n".join(rows) + "\n")
    (folder / "splits.toml").write_text(
        '[upstream-notebook]\ntrain = ["Mouse1", "Mouse2"]\nvalidation = ["Mouse5"]\ntest = []\n'
    )
    return folder


@pytest.fixture
def default_manifest(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make these three files the default dataset of the package."""
    monkeypatch.setattr(manifests, "MANIFESTS_FOLDER", manifest.parent)
    return manifest


@pytest.mark.usefixtures("default_manifest")
def test_load_downloads_verifies_and_loads(
    bodies: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    with Host(bodies) as host:
        monkeypatch.setenv("MOUSECMR_MIRROR", host.url)
        cohort = md.load(split="train")
        assert sorted({r.path for r in host.gets()}) == ["Data/Mouse1.h5", "Data/Mouse2.h5"]
        assert cohort.mice == ("Mouse1", "Mouse2")
        assert set(cohort.to_dataframe()["checksum"]) == {"verified"}
        ds = cohort["Mouse1"]
        assert ds.attrs["synthetic"] == 1, "the files have this attribute"
        assert ds.image.shape[2:] == (256, 256)
        assert md.measure(ds).ef_percent > 0
        before = len(host.requests)
        again = md.load(split="train")
        np.testing.assert_array_equal(again["Mouse1"].image[0], ds.image[0])
        assert len(host.requests) == before, "a verified file is not requested again"
    modes = [p.stat().st_mode & 0o777 for p in (tmp_path / "cache").rglob("*.h5")]
    assert modes == [0o644] * 2
    assert len(md.load(split="train")) == 2, "the host is no longer needed"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (faults.flipped_byte, "Mouse1"),
        (faults.truncated, "Mouse1"),
        (faults.status(404), "404"),
        (faults.html, "Mouse1"),
    ],
    ids=["flipped byte", "truncated body", "404", "HTML page"],
)
def test_bad_answers_leave_the_cache_unchanged(
    fault: Fault, message: str, manifest: Path, bodies: dict[str, bytes], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    cache = tmp_path / "cache"
    with Host(bodies) as host:
        monkeypatch.setenv("MOUSECMR_MIRROR", host.url)
        text = (manifest / "dataset.toml").read_text()
        (manifest / "dataset.toml").write_text(text.replace("https://raw.githubusercontent.com/mrphys", host.url))
        md.fetch(["Mouse2"], source=manifest, cache=cache)
        before = {k: v for k, v in everything(cache).items() if k.endswith(".h5")}
        host.fail_always("Data/Mouse1.h5", fault)
        with pytest.raises(md.errors.DownloadError, match=message) as e:
            md.load(split="train", source=manifest, cache=cache)
        assert "Mouse1" in str(e.value)
        assert {k: v for k, v in everything(cache).items() if k.endswith(".h5")} == before
