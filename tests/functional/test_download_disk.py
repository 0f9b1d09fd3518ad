"""Full disks and folders that are not writable."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.cohort import VERSION, bodies, everything, fetch_paths, leftovers, manifest, write_manifest
from servers.host import Host

from mousecmr_data.download import downloader
from mousecmr_data.download.downloader import _write_all
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.errors import CacheError

FILES = bodies(4, 300_000)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, if this user may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or sys.platform != "linux":
        pytest.skip("no way to mount a tmpfs here (the injected fault is tested above)")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("this user may not mount a tmpfs (the injected fault is tested above)")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_fills_up_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = _write_all, [0]

    def failing(sink: object, data: bytes) -> None:
        if written[0] > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        written[0] += len(data)
        write(sink, data)  # type: ignore[arg-type]

    with Host(FILES) as host:
        tiny = manifest(FILES, host.template)
        fetch_paths(tiny, ["Mouse2"], cache=tmp_path, progress=False)
        before = everything(tmp_path)
        monkeypatch.setattr(downloader, "_write_all", failing)
        with pytest.raises(CacheError, match="The disk is full: Mouse1") as e:
            fetch_paths(tiny, cache=tmp_path, progress=False, workers=1)
        assert "Mouse3, Mouse4: not tried: the disk is full" in str(e.value)
        assert "MOUSECMR_CACHE=" in str(e.value)
        assert everything(tmp_path) == before, "the disk is unchanged"
        assert leftovers(tmp_path) == []
        monkeypatch.undo()
        assert len(fetch_paths(tiny, cache=tmp_path, progress=False)) == 4


@pytest.mark.parametrize("lengths", [True, False], ids=["size given", "size not given"])
def test_a_small_disk(lengths: bool, small_disk: Path) -> None:
    with Host(FILES, lengths=lengths) as host:
        tiny = manifest(FILES, host.template)
        fetch_paths(tiny, ["Mouse1", "Mouse2"], cache=small_disk, progress=False)
        before = everything(small_disk)
        free = shutil.disk_usage(small_disk).free
        with pytest.raises(CacheError, match="The disk is full") as e:
            fetch_paths(tiny, cache=small_disk, progress=False, workers=1)
        assert leftovers(small_disk) == []
        now = everything(small_disk)
        assert {k: v for k, v in now.items() if k.endswith(("Mouse1.h5", "Mouse2.h5"))}.items() <= before.items()
        if "Mouse3" in str(e.value).splitlines()[1]:  # nothing more fitted
            assert shutil.disk_usage(small_disk).free >= free - 8192


def test_files_that_do_not_fit_are_refused_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mousecmr_data._utils.atomic.shutil.disk_usage", lambda _: Usage(10**6, 10**6, 1_000_000))
    with Host(FILES) as host:
        tiny = manifest(FILES, host.template, sizes=True)
        with pytest.raises(CacheError, match=r"1\.2 MB are to be downloaded, but .* has 1\.0 MB free"):
            fetch_paths(tiny, cache=tmp_path, progress=False)
        assert host.requests == []
        assert len(fetch_paths(tiny, ["Mouse1", "Mouse2", "Mouse3"], cache=tmp_path, progress=False)) == 3


def test_the_plan_names_files_size_and_folder(tmp_path: Path) -> None:
    plans: list[str] = []

    def watch(event: object) -> None:
        if getattr(event, "kind", "") == "plan":
            plans.append(event.text)  # type: ignore[attr-defined]

    with Host(FILES) as host:
        fetch_files(manifest(FILES, host.template, sizes=True), ["Mouse1"], cache=tmp_path, progress=watch)
        fetch_files(manifest(FILES, host.template), cache=tmp_path, progress=watch)
        fetch_files(manifest(FILES, host.template), cache=tmp_path, progress=watch)
    assert len(plans) == 2, "no plan if nothing is missing"
    where = f"from 127.0.0.1:{host.port} to {tmp_path / 'tiny' / VERSION[:12]}; "
    assert plans[0].startswith(f"tiny 0123456789ab: 1 file, 300.0 kB, {where}")
    assert plans[1].startswith("tiny 0123456789ab: 3 files, about 120.0 MB (an estimate: sizes are not published)")


READER = """
import json, os, sys
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.schema.manifest import read_manifest
from mousecmr_data.download import fetch
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.cache import get_file_statuses
from mousecmr_data.download.verify import verify_files
if os.geteuid() == 0:  # root may write anywhere: become nobody
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
hashed, real = [], fetch.compute_checksums
fetch.compute_checksums = lambda *a: hashed.append(1) or real(*a)
m, cache, mice = read_manifest(sys.argv[1]), sys.argv[2], sys.argv[3].split()
out = {"present": list(get_file_statuses(m, mice, cache).values())}
try:
    out["paths"] = len(fetch_files(m, mice, cache=cache, progress=False).paths)
except MouseCMRError as e:
    out["error"], out["kind"] = str(e), type(e).__name__
out["hashed"] = len(hashed)
out["verify"] = [v.verdict for v in verify_files(m, mice, cache=cache, progress=False)]
print(json.dumps(out))
"""


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[object]:
    """Run READER on a shared cache as a user who may not write to it."""
    if os.name != "posix":
        pytest.skip("permissions are POSIX modes")
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o77 == 0:
            folder.chmod(0o755)
    closed: list[Path] = []

    def run(manifest_folder: Path, cache: Path, mice: str) -> dict[str, object]:
        for path in (cache, *cache.rglob("*")):
            if path.is_dir():
                path.chmod(0o555)
                closed.append(path)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MOUSECMR_")}
        done = subprocess.run(
            [sys.executable, "-B", "-c", READER, str(manifest_folder), str(cache), mice],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment | {"HOME": "/nonexistent"},
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, object] = json.loads(done.stdout)
        return answer

    yield run
    for path in closed:
        path.chmod(0o755)


def test_a_shared_read_only_cache(tmp_path: Path, reader: object) -> None:
    with Host(FILES) as host:
        folder = write_manifest(tmp_path / "manifest", FILES, host.template)
        cache = tmp_path / "cache"
        fetch_paths(manifest(FILES, host.template), ["Mouse1", "Mouse2", "Mouse3"], cache=cache, progress=False)
        os.utime(next(cache.rglob("Mouse2.h5")), (1, 1))  # as if copied: its record is no longer valid
        before = everything(cache)
        answer = reader(folder, cache, "Mouse1 Mouse2")  # type: ignore[operator]
        assert answer["present"] == ["verified", "unverified"]
        assert answer["paths"] == 2
        assert answer["hashed"] == 1, "one hash, which cannot be recorded"
        assert answer["verify"] == ["ok", "ok"]
        answer = reader(folder, cache, "Mouse1 Mouse4")  # type: ignore[operator]
        assert answer["kind"] == "CacheError"
        assert "cannot be written (Permission denied)" in str(answer["error"])
        assert "free some space" not in str(answer["error"])
        assert answer["verify"] == ["ok", "missing"]
    assert everything(cache) == before


def test_a_cache_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("no folder")
    with Host(FILES) as host, pytest.raises(CacheError, match="cannot be written") as e:
        fetch_paths(manifest(FILES, host.template), cache=tmp_path / "cache", progress=False)
    assert "free some space" not in str(e.value)
    assert (tmp_path / "cache").read_text() == "no folder"
