"""Damaged derived files are found by `mousecmr verify`, removed by `--repair`, and made again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from bad_files import flip_bit
from click.testing import CliRunner, Result
from layout_files import lab

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.dataset.cohort import fill_layout_cache
from mousecmr_data.dataset.memmap import make_frame_files
from mousecmr_data.dataset.zarr_store import SHARD_PATH
from mousecmr_data.download.cache import LOCKFILE, list_verified_entries, read_lockfile
from mousecmr_data.inference.engines.base import get_cache_path, write_cache_file
from mousecmr_data.phantom import make_plans
from mousecmr_data.phantom.source import make_manifest

PHANTOM = "phantom-11.7T"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    folder = lab(tmp_path, {"A": (0, 2), "B": (0, 1, 2, 3)})
    md.fetch(source=folder, progress=False)
    return folder


def verify(source: Path | str, *options: str) -> Result:
    return CliRunner().invoke(main, ["verify", "--no-content", "--source", str(source), *options])


def test_verify_finds_damaged_derived_files_and_repair_removes_them(source: Path) -> None:
    cohort, rng = md.load(source=source), random.Random(0)
    layouts = fill_layout_cache(cohort)
    frames = [make_frame_files(cohort, mouse, all_frames=False).folder for mouse in cohort]
    network = get_cache_path({}, "openvino")
    write_cache_file(network, b"a network")
    assert verify(source).exit_code == 0
    assert "6 derived files and folders: 6 intact, 0 damaged." in verify(source).output
    damaged = [layouts / "B", layouts / "index.journal", frames[1], network]
    for file in (damaged[0] / "mask" / SHARD_PATH, damaged[1], frames[1] / "mask.npy", network):
        flip_bit(file, rng)
    result = verify(source, "A")
    assert result.exit_code == 0, "nothing of this mouse is damaged"
    result = verify(source)
    assert result.exit_code == 1, result.output
    assert "6 derived files and folders: 2 intact, 4 damaged." in result.output
    assert "2 files: 2 valid, 0 with problems." in result.output
    assert "verify --repair" in result.output
    assert {r.path for r in md.verify(source=source, content=False) if r.has_problem} == set(damaged)
    assert "checksum" in next(r.detail for r in md.verify(source=source) if r.path == layouts / "B")
    assert verify(source, "--repair").exit_code == 0
    assert not any(path.exists() for path in damaged)
    assert verify(source).exit_code == 0
    plain = md.load(source=source, layout_cache=False)["B"]["mask"].values
    assert (md.load(source=source)["B"]["mask"].values == plain).all()


def test_formats_that_are_no_longer_read_are_removed_by_repair(source: Path, tmp_path: Path) -> None:
    old = tmp_path / "cache" / "layouts" / "zarr-1"
    (old / "lab" / "1" / "A").mkdir(parents=True)
    assert verify(source).exit_code == 0
    assert "no longer read" in verify(source).output
    assert old.exists()
    verify(source, "--repair")
    assert not old.exists()


def test_verify_reads_a_store(source: Path, tmp_path: Path) -> None:
    store = md.load(source=source).to_zarr(tmp_path / "lab.zarr")
    assert "2 mice of a store: 2 valid, 0 with problems." in verify(store).output
    flip_bit(store / "A" / "image" / SHARD_PATH, random.Random(0))
    result = verify(store)
    assert result.exit_code == 1
    assert "2 mice of a store: 1 valid, 1 with problems." in result.output
    assert "--repair" not in result.output, "a store cannot be made again"
    assert verify(store, "B").exit_code == 0


def test_a_damaged_phantom_file_is_made_again_when_it_is_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mouse = min(make_plans(PHANTOM).values(), key=lambda p: p.n_slices * p.n_frames).mouse
    path = md.fetch([mouse], source=PHANTOM, cache=tmp_path)[mouse]
    whole = path.read_bytes()
    flip_bit(path, random.Random(0))
    (result,) = md.verify([mouse], source=PHANTOM, cache=tmp_path, content=False)
    assert result.bytes == "corrupt"
    other = tmp_path / "other" / PHANTOM
    shutil.copytree(tmp_path / PHANTOM, other)
    md.load(mice=[mouse], source=PHANTOM, cache=tmp_path / "other")[mouse].image.load()
    repaired = other / path.relative_to(tmp_path / PHANTOM)
    assert repaired.read_bytes() == whole
    assert [r.getMessage() for r in caplog.records] == [
        f"{repaired} is damaged, or of an earlier version: it is made again from its source."
    ]
    (result,) = md.verify([mouse], source=PHANTOM, cache=tmp_path, content=False, repair=True)
    assert result.bytes == "made here"
    assert path.read_bytes() == whole
    assert make_manifest(PHANTOM).files[mouse].sha256 is None


def test_a_damaged_record_of_checksums_is_not_used(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "lab" / "1"
    records, rng = read_lockfile(folder), random.Random(0)
    whole = (folder / LOCKFILE).read_bytes()
    assert set(records) == {"A.h5", "B.h5"}
    for _ in range(100):
        flip_bit(folder / LOCKFILE, rng)
        assert read_lockfile(folder).items() <= records.items()
        (folder / LOCKFILE).write_bytes(whole)
    assert list_verified_entries(md.load(source=source).source.manifest)[0].size
