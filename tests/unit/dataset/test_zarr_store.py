import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from layout_files import lab, write

import mousecmr_data as md
from mousecmr_data.dataset import layout_cache
from mousecmr_data.dataset.cohort import Cohort, fill_layout_cache, write_store
from mousecmr_data.dataset.layout_cache import FileOpener, LayoutCache
from mousecmr_data.dataset.zarr_store import MouseEntry, write_index, write_mouse
from mousecmr_data.errors import CacheError, FileLayoutError, MissingDataError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3), "C": (1,)})


def layouts(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "layouts" / "zarr-2" / "lab" / "1"


def assert_same(one: Cohort, two: Cohort) -> None:
    assert one.mice == two.mice
    for a, b in zip(one.values(), two.values(), strict=True):
        xr.testing.assert_identical(a.load(), b.load())


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_a_store_gives_the_same_mice(source: Path, tmp_path: Path, kind: str) -> None:
    cohort = md.load(source=source)
    path = cohort.to_zarr(tmp_path / "lab.zarr")
    if kind == "zip":
        path = Path(shutil.make_archive(str(tmp_path / "lab"), "zip", path))
    stored = md.load(source=path)
    assert_same(cohort, stored)
    assert (
        stored.to_dataframe()
        .drop(columns=["file", "checksum"])
        .equals(cohort.to_dataframe().drop(columns=["file", "checksum"]))
    )
    assert md.load("test", source=path).mice == ("C",)
    assert [md.measure(ds).frames.equals(md.measure(cohort[ds.attrs["mouse"]]).frames) for ds in stored.values()] == [
        True
    ] * 3


def test_plain_xarray_reads_a_mouse(source: Path, tmp_path: Path) -> None:
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    ds = xr.open_zarr(path / "A", chunks=None, consolidated=True)
    np.testing.assert_array_equal(ds.image, md.load(source=source)["A"].image)
    assert ds.image.dims == ("frame", "slice", "y", "x")
    assert ds.attrs["mouse"] == "A"


def test_layout_on_disk(source: Path, tmp_path: Path) -> None:
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    array = zarr.open_array(path / "B" / "image", mode="r")
    assert array.metadata.zarr_format == 3
    assert array.chunks == (1, 4, 24, 20)
    assert array.shards == array.shape
    assert (
        sum(f.is_file() for f in (path / "B").rglob("*")) == 5
    )  # the group's metadata; metadata and a shard for each array
    assert {f.stat().st_mode & 0o777 for f in path.rglob("*") if f.is_file()} == {0o644}
    assert path.stat().st_mode & 0o777 == 0o755


def test_a_failed_write_leaves_nothing_behind(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = md.load(source=source)
    original = write_mouse

    def fails(folder: Path, name: str, ds: xr.Dataset) -> MouseEntry:
        if name == "B":
            raise OSError(28, "No space left on device")
        return original(folder, name, ds)

    monkeypatch.setattr("mousecmr_data.dataset.cohort.write_mouse", fails)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="disk is full"):
        cohort.to_zarr(tmp_path / "lab.zarr")
    assert sorted(tmp_path.iterdir()) == before


def test_leftovers_of_a_killed_process_are_removed(source: Path, tmp_path: Path) -> None:
    (tmp_path / ".part-0123abcd-lab.zarr" / "A").mkdir(parents=True)
    md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    assert list(tmp_path.glob(".*")) == []
    with pytest.raises(CacheError, match="exists"):
        md.load(source=source).to_zarr(tmp_path / "lab.zarr")


def test_images_are_converted_when_read(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source)
    plain = md.load(source=source, layout_cache=False)
    md.measure(cohort["A"])
    assert not (layouts(tmp_path) / "A").exists(), "masks alone are read from the file"
    ds = cohort["A"]
    np.testing.assert_array_equal(ds.image[3], plain["A"].image[3])
    assert {p.name for p in layouts(tmp_path).iterdir()} == {"A", "frames.journal", "index.journal", ".locks"}
    plain["B"].image.load()
    assert not (layouts(tmp_path) / "B").exists()
    assert_same(cohort, plain)
    assert_same(cohort, plain)  # now from the store


def test_a_converted_mouse_is_opened_without_its_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = md.load(source=source)
    fill_layout_cache(cohort)
    monkeypatch.setattr("h5py.File", None)
    fresh = md.load(source=source)
    assert fresh["B"].image.values.any()
    assert fresh["B"].phase.values.tolist() == ["ED", "inflow", "ES", "inflow", "unlabelled"]


def test_rebuilt_when_the_source_changes(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source, cache=tmp_path / "cache")
    fill_layout_cache(cohort)
    file = cohort.source.get_path("A")
    cache = LayoutCache(layouts(tmp_path))
    assert cache.find_entry("A", file) is not None
    file.touch()
    assert cache.find_entry("A", file) is not None, "another modification time, the same bytes"
    with file.open("r+b") as f:
        f.seek(file.stat().st_size - 1)
        last = f.read(1)
        f.seek(-1, 1)
        f.write(bytes([last[0] ^ 1]))
    assert cache.find_entry("A", file) is None
    images = np.full((24, 20, 3, 5), 7, np.uint16)
    write(file, (0, 2), images)
    assert (cohort["A"].image.values == 7).all()
    assert cache.find_entry("A", file) is not None
    assert sorted(p.name for p in layouts(tmp_path).iterdir() if p.name.startswith(".")) == [".locks"]


def test_phenotypes_and_splits_are_not_kept_in_the_cache(source: Path) -> None:
    fill_layout_cache(md.load(source=source, phenotypes={"A": "control"}))
    assert md.load(source=source)["A"].attrs["phenotype"] == "not published"
    assert md.load(source=source, phenotypes={"A": "sham"})["A"].attrs["phenotype"] == "sham"


def test_an_index_without_a_mouse_is_repaired(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source)
    fill_layout_cache(cohort)
    index = layouts(tmp_path) / "index.journal"
    for text in ("", "{", "{}\n"):
        index.write_text(text)
        assert_same(md.load(source=source), md.load(source=source, layout_cache=False))
    fill_layout_cache(cohort)
    assert set(LayoutCache(layouts(tmp_path)).read_entries()) == {"A", "B", "C"}


def test_an_index_of_an_earlier_release_is_taken_over(source: Path, tmp_path: Path, monkeypatch: Any) -> None:
    cohort = md.load(source=source)
    fill_layout_cache(cohort)
    cache = LayoutCache(layouts(tmp_path))
    entries = cache.read_entries()
    del entries["C"]
    write_index(cache.folder, entries)
    (cache.folder / "index.journal").unlink()
    with monkeypatch.context() as m:
        m.setattr("h5py.File", None)
        assert md.load(source=source)["B"].image.values.any()
    assert cache.read_entries() == entries
    fill_layout_cache(cohort)
    assert set(cache.read_entries()) == {"A", "B", "C"}
    assert not (cache.folder / "zarr.json").exists()


def test_a_read_only_cache_still_reads(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = md.load(source=source)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("mousecmr_data.dataset.layout_cache.write_mouse", fail)
    assert_same(cohort, md.load(source=source, layout_cache=False))


def test_threads_convert_once(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[str] = []
    original = write_mouse
    monkeypatch.setattr(layout_cache, "write_mouse", lambda f, n, *a: converted.append(n) or original(f, n, *a))
    cohort = md.load(source=source)
    threads = [threading.Thread(target=lambda: cohort["A"].image.load()) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert converted == ["A"]


def test_processes_convert_in_parallel(source: Path, tmp_path: Path) -> None:
    cohort = md.load(source=source)
    counts: list[int] = []
    write_store(cohort, tmp_path / "two.zarr", workers=2, progress=counts.append)
    assert counts == [1, 1, 1]
    assert_same(cohort, md.load(source=tmp_path / "two.zarr"))


def test_paths_that_are_not_stores_are_reported(source: Path, tmp_path: Path) -> None:
    with pytest.raises((MissingDataError, FileLayoutError), match=r"none\.zarr"):
        md.load(source=tmp_path / "none.zarr")
    zarr.create_group(tmp_path / "other.zarr", zarr_format=3)
    with pytest.raises(FileLayoutError, match="not a store of this library"):
        md.load(source=tmp_path / "other.zarr")
    (tmp_path / "bad.zip").write_bytes(b"PK")
    with pytest.raises(FileLayoutError, match="cannot be opened"):
        md.load(source=tmp_path / "bad.zip")
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    shard = next((path / "A" / "image" / "c").rglob("0"))
    while shard.is_dir():
        shard = next(shard.iterdir())
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(FileLayoutError, match="cannot be read"):
        md.load(source=path)["A"].image.load()


def test_headers_are_read_when_files_arrive(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table opens only B, whose masks decide which of its four labelled frames is ES."""
    cohort, opened = md.load(source=source), []
    read_parts = FileOpener.read_parts
    monkeypatch.setattr(FileOpener, "read_parts", lambda o, mouse: opened.append(mouse) or read_parts(o, mouse))
    assert cohort.to_dataframe().index.tolist() == ["A", "B", "C"]
    assert opened == ["B"]


def test_the_table_of_all_mice_again_opens_no_file(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = md.load(source=source).to_dataframe()
    assert first.equals(md.load(source=source, layout_cache=False).to_dataframe())
    changed = md.load(source=source).source.get_path("B")
    with monkeypatch.context() as m:
        m.setattr("h5py.File", None)
        assert md.load(source=source).to_dataframe().equals(first)
    images = np.full((24, 20, 4, 6), 7, np.uint16)
    write(changed, (0, 3), images, np.ones(images.shape, np.uint8))
    again = md.load(source=source, download=False).to_dataframe()
    assert again.loc["B", ["slices", "frames", "labelled_frames"]].tolist() == [4, 6, (0, 3)]
    assert again.drop("B").equals(first.drop("B"))
