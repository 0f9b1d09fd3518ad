"""A cache with missing or damaged data is repaired, a store is rejected; neither returns zeros instead."""

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from bad_files import flip_bit
from layout_files import lab

import mousecmr_data as md
from mousecmr_data.dataset import zarr_store
from mousecmr_data.dataset.cohort import Cohort, fill_layout_cache
from mousecmr_data.dataset.layout_cache import FileOpener
from mousecmr_data.dataset.zarr_store import SHARD_PATH
from mousecmr_data.errors import CacheError, FileLayoutError


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    return lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3)})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def overwrite(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[10 : len(body) - 300] = bytes(len(body) - 310)
    path.write_bytes(body)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "group missing": lambda f: shutil.rmtree(f / "A"),
    "image missing": lambda f: (f / "A/image" / SHARD_PATH).unlink(),
    "mask missing": lambda f: (f / "A/mask" / SHARD_PATH).unlink(),
    "shard truncated": lambda f: truncate(f / "A/image" / SHARD_PATH),
    "shard overwritten": lambda f: overwrite(f / "A/image" / SHARD_PATH),
    "metadata missing": lambda f: (f / "A/image/zarr.json").unlink(),
    "bit of a shard": lambda f: flip_bit(f / "A/image" / SHARD_PATH, random.Random(0)),
    "bit of the index": lambda f: flip_bit(f / "index.journal", random.Random(0)),
    "index is a list": lambda f: (f / "index.journal").write_text("[]\n"),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.filterwarnings("ignore:.*Object at .* is not recognized")
def test_the_layout_cache_repairs_itself(source: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    plain = md.load(source=source, layout_cache=False)["A"].load()
    folder = fill_layout_cache(md.load(source=source))
    DAMAGE[damage](folder)
    for _ in range(2):  # the second time, from the repaired cache
        ds = md.load(source=source)["A"]
        np.testing.assert_array_equal(ds.image.values, plain.image)
        np.testing.assert_array_equal(ds["mask"].values, plain["mask"])
        assert md.measure(md.load(source=source)["A"]).edv_ul == md.measure(plain).edv_ul
    fill_layout_cache(md.load(source=source))
    assert (folder / "A/image" / SHARD_PATH).exists()
    damaged = folder / ("index.journal" if "index" in damage else "A")
    assert [r.getMessage() for r in caplog.records] == [
        f"{damaged} is damaged, or of an earlier version: it is made again from its source."
    ]


def write_version_1(cohort: Cohort, path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a store as this library did before there were checksums."""
    with monkeypatch.context() as m:
        m.setattr(zarr_store, "STORE_VERSION", 1)
        m.setattr(zarr_store, "CODECS", zarr_store.CODECS[:1])
        m.setattr(zarr_store, "add_checksum", dict)
        return cohort.to_zarr(path)


def test_stores_without_checksums_are_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = md.load(source=source, layout_cache=False)
    path = write_version_1(cohort, tmp_path / "old.zarr", monkeypatch)
    assert "crc32c" not in (path / "zarr.json").read_text()
    assert (path / "A/image/zarr.json").read_text().count("crc32c") == 1, "of the shard's index"
    packed = Path(shutil.make_archive(str(tmp_path / "old"), "zip", path))
    for store in (path, packed):
        for name, ds in md.load(source=store).items():
            xr.testing.assert_identical(ds.load(), cohort[name].load())


@pytest.mark.parametrize("packed", [False, True])
def test_a_damaged_store_is_an_error_that_names_the_array(source: Path, tmp_path: Path, packed: bool) -> None:
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    flip_bit(path / "A/mask" / SHARD_PATH, random.Random(0))
    store = Path(shutil.make_archive(str(tmp_path / "lab"), "zip", path)) if packed else path
    ds = md.load(source=store)["A"]
    assert ds.image.values.any()
    with pytest.raises(FileLayoutError, match="A/mask cannot be read") as e:
        ds["mask"].load()
    assert "mousecmr convert -o" in str(e.value)
    index = path / "zarr.json"
    index.write_text(index.read_text().replace('"split": "train"', '"split": "tRain"'))
    with pytest.raises(FileLayoutError, match="index is damaged"):
        md.load(source=path)


def test_a_store_with_missing_data_is_an_error(source: Path, tmp_path: Path) -> None:
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    for name in ("image", "mask"):
        (path / "A" / name / SHARD_PATH).unlink()
    packed = Path(shutil.make_archive(str(tmp_path / "lab"), "zip", path))
    for store in (path, packed):
        with pytest.raises(FileLayoutError, match="missing"):
            md.measure(md.load(source=store)["A"])
        with pytest.raises(FileLayoutError, match="missing"):
            md.load(source=store)["A"].image.load()
        assert md.load(source=store)["B"].image.values.any()


def test_frames_that_are_zero_are_zero(source: Path, tmp_path: Path) -> None:
    path = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    assert not md.load(source=path)["A"]["mask"][1].values.any(), "this frame was not segmented"


def test_sizes_follow_the_current_manifest(source: Path) -> None:
    before = md.measure(md.load(source=source)["A"])
    fill_layout_cache(md.load(source=source))
    with (source / "dataset.toml").open("a") as f:
        f.write('[acquisition]\nslice_thickness = { value = 2.0, unit = "mm", source = "the lab" }\n')
        f.write('pixel_spacing = { value = 0.2, unit = "mm", source = "the lab" }\n')
    after = [md.measure(md.load(source=source, layout_cache=cache)["A"]) for cache in (True, False)]
    assert after[0] == after[1]
    assert after[0].voxel_size_mm == pytest.approx((2.0, 0.2, 0.2))
    assert after[0].edv_ul == pytest.approx(8 * before.edv_ul)
    assert "the lab" in after[0].voxel_size_source


def test_a_zip_is_not_written_as_a_folder(source: Path, tmp_path: Path) -> None:
    with pytest.raises(CacheError, match="zip -0 -r"):
        md.load(source=source).to_zarr(tmp_path / "lab.zip")


def test_an_older_cache_does_not_keep_an_older_rule_for_es(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort = md.load(source=source)
    fill_layout_cache(cohort)
    expected = cohort["B"]["phase"].values.tolist()
    assert isinstance(cohort.opener, FileOpener) and cohort.opener.layouts
    entry = cohort.opener.layouts.find_entry("B", cohort.source.get_path("B"))
    assert entry is not None
    stale = replace(entry, phases=("ED", "inflow", "inflow", "inflow", "ES"))
    monkeypatch.setattr(type(cohort.opener.layouts), "find_entry", lambda *_: stale)
    assert expected != list(stale.phases)
    assert cohort["B"]["phase"].values.tolist() == expected
