"""Converters that are killed, or that run at the same time, never leave a wrong or incomplete store."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xarray as xr
from layout_files import arrays, lab, write

import mousecmr_data as md
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.layout_cache import LayoutCache
from mousecmr_data.dataset.zarr_store import SHARD_PATH

KILLS = 30 if os.environ.get("MOUSECMR_STRESS") else 2
MICE = {"A": (0, 2), "B": (0, 1, 2, 3), "C": (1, 2), "D": (0, 4)}


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Mice large enough for a conversion to take measurable time."""
    folder = lab(tmp_path, MICE)
    rows = (folder / "files.csv").read_text().splitlines()
    import hashlib

    for i, (mouse, frames) in enumerate(MICE.items(), start=1):
        path = write(tmp_path / "files" / f"{mouse}.h5", frames, *arrays((96, 96, 6, 12), seed=i))
        rows[i] = f"{mouse},{mouse}.h5,,{hashlib.sha256(path.read_bytes()).hexdigest()},{path.stat().st_size}"
    (folder / "files.csv").write_text("\n".join(rows) + "\n")
    monkeypatch.setenv("MOUSECMR_MIRROR", (tmp_path / "files").as_uri())
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    md.fetch(source=folder)
    return folder


def start(source: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "mousecmr_data.cli.main", "convert", "--source", str(source), *arguments]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> int:
    """Return the exit code; pytest shows the error output if the test fails."""
    print(process.communicate()[1].decode())
    return process.returncode


def check(cohort: Cohort, plain: Cohort) -> None:
    assert cohort.mice == plain.mice
    for a, b in zip(cohort.values(), plain.values(), strict=True):
        xr.testing.assert_identical(a.load(), b.load())


def duration(source: Path, *arguments: str) -> float:
    begin = time.perf_counter()
    assert finish(start(source, *arguments)) == 0
    return time.perf_counter() - begin


@pytest.mark.stress
def test_killed_while_filling_the_cache(source: Path, tmp_path: Path) -> None:
    plain = md.load(source=source, layout_cache=False)
    folder = tmp_path / "cache" / "layouts" / "zarr-2" / "lab" / "1"
    seconds = duration(source, "--workers", "2")
    rng = random.Random(1)
    for i in range(KILLS):
        for mouse in rng.sample(sorted(MICE), 2):  # so that the next conversion has work to do
            plain.source.get_path(mouse).touch()
            with plain.source.get_path(mouse).open("ab") as f:
                f.write(b"\0")  # HDF5 ignores it; the store must detect it
        process = start(source, "--workers", "1" if i % 2 else "2")
        time.sleep(rng.uniform(0.3, 1.0) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        entries = LayoutCache(folder).read_entries()
        assert all((folder / mouse / "image" / SHARD_PATH).exists() for mouse in entries), "the index is right"
        check(md.load(source=source, download=False), plain)
    assert finish(start(source)) == 0
    assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == [".locks"]


@pytest.mark.stress
def test_killed_while_writing_a_store(source: Path, tmp_path: Path) -> None:
    plain = md.load(source=source, layout_cache=False)
    target = tmp_path / "out.zarr"
    seconds = duration(source, "-o", str(target))
    rng = random.Random(2)
    for i in range(KILLS):
        if target.exists():
            target.rename(tmp_path / f"done{i}.zarr")
        process = start(source, "-o", str(target), "--workers", "1" if i % 2 else "2")
        time.sleep(rng.uniform(0.4, 1.05) * seconds)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if target.exists():
            check(md.load(source=target), plain)
    target.rename(tmp_path / "last.zarr") if target.exists() else None
    assert finish(start(source, "-o", str(target))) == 0
    check(md.load(source=target), plain)
    assert list(tmp_path.glob(".out.zarr*")) == []


@pytest.mark.stress
def test_two_converters_at_once(source: Path, tmp_path: Path) -> None:
    plain = md.load(source=source, layout_cache=False)
    for i in range(max(1, KILLS // 10)):
        pair = [start(source, "--workers", "2") for _ in range(2)]
        assert [finish(p) for p in pair] == [0, 0]
        check(md.load(source=source), plain)
        target = str(tmp_path / f"pair{i}.zarr")
        pair = [start(source, "-o", target) for _ in range(2)]
        codes = sorted(finish(p) for p in pair)
        assert codes == [0, 1], "one of them finds that the store exists"
        check(md.load(source=target), plain)
    assert list(tmp_path.glob(".pair*")) == []
