"""A remote store needs few requests and few bytes, and gives the same pixels as a local one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from servers.host import Host
from servers.hub import Hub

import mousecmr_data as md

pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*[Ee]vent loop:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, phantom_cache: Path) -> Path:
    cohort = md.load(mice=["Mouse1", "Mouse2"], source="phantom", cache=phantom_cache)
    return cohort.to_zarr(tmp_path_factory.mktemp("remote") / "phantom.zarr")


@pytest.fixture
def host(folder: Path) -> Iterator[Host]:
    files = {f"phantom.zarr/{p.relative_to(folder)}": p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    with Host(files) as server:
        yield server


def test_one_slice_needs_few_requests(host: Host, folder: Path) -> None:
    cohort = md.load(source=f"{host.url}/phantom.zarr")
    ds = cohort["Mouse1"]
    assert ds.attrs["synthetic"] == 1
    middle = ds.image[3, 4].values
    requests, sent = len(host.requests), sum(host.sent.values())
    np.testing.assert_array_equal(middle, md.load(source=folder)["Mouse1"].image[3, 4])
    assert requests <= 8
    assert sent <= 1_500_000


def test_everything_over_http_equals_the_folder(host: Host, folder: Path) -> None:
    remote = md.load(source=f"{host.url}/phantom.zarr")
    local = md.load(source=folder)
    assert remote.mice == local.mice
    for a, b in zip(remote.values(), local.values(), strict=True):
        assert a.load().identical(b.load())
        assert md.measure(a) == md.measure(b)
    assert set(remote.to_dataframe()["checksum"]) == {"remote store"}


def test_an_address_without_a_store_is_reported(host: Host) -> None:
    for wrong in ("/nothing.zarr", "/phantom.zarr/Mouse1"):
        with pytest.raises(md.errors.FileLayoutError, match=r"127\.0\.0\.1"):
            md.load(source=host.url + wrong)


def test_any_fsspec_file_system(folder: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(folder), "/phantom.zarr", recursive=True)
    try:
        remote = md.load(source="memory://phantom.zarr", storage_options={"nested": {"use": "none"}})
        assert remote["Mouse2"].mask.load().identical(md.load(source=folder)["Mouse2"].mask.load())
    finally:
        memory.rm("/phantom.zarr", recursive=True)


def test_a_store_on_a_hugging_face_hub(folder: Path, tmp_path: Path) -> None:
    """The hub runs on this machine; the store is read in a process that can reach no other hub."""
    pytest.importorskip("huggingface_hub", reason="the extra huggingface is not installed")
    code = """
import json, sys
import mousecmr_data as md
cohort = md.load(source="hf://datasets/lab/mice/phantom.zarr")
image = cohort["Mouse2"].image[3, 4].values
print(json.dumps([list(cohort.mice), image.tolist(), md.measure(cohort["Mouse1"]).edv_ul]))
"""
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "phantom.zarr").symlink_to(folder, target_is_directory=True)
    copied = shutil.copytree(tmp_path / "repository", tmp_path / "copied")
    with Hub() as hub:
        hub.add("lab/mice", copied)
        mice, image, edv = hub.run(code, tmp_path)
    local = md.load(source=folder)
    assert tuple(mice) == local.mice
    np.testing.assert_array_equal(image, local["Mouse2"].image[3, 4])
    assert edv == md.measure(local["Mouse1"]).edv_ul
