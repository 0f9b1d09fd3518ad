"""A second run resumes where the first stopped, and requests no byte twice."""

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from servers import faults
from servers.cohort import QUICK, VERSION, bodies, fetch_paths, leftovers, manifest, write_manifest
from servers.host import Host
from servers.process import start

from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.http import RetryPolicy
from mousecmr_data.errors import DownloadError

FILES = bodies(1, 1_000_000)
PATH, BODY = next(iter(FILES.items()))
ONCE = RetryPolicy(max_attempts=1, read_timeout=0.4)


def interrupt(host: Host, cache: Path, *, sizes: bool = False) -> None:
    """Make a run that ends in the middle of the file."""
    host.fail(PATH, faults.truncated)
    with pytest.raises(DownloadError, match="ended the transfer early"):
        fetch_paths(manifest(FILES, host.template, sizes=sizes), cache=cache, progress=False, retry_policy=ONCE)


def test_the_rest_is_requested_with_a_range_and_a_validator(tmp_path: Path) -> None:
    with Host(FILES) as host:
        interrupt(host, tmp_path)
        assert host.sent[PATH] == len(BODY) // 2
        done = fetch_files(manifest(FILES, host.template), cache=tmp_path, progress=False)
        assert host.gets()[1].headers["range"] == f"bytes={len(BODY) // 2}-"
        assert host.gets()[1].headers["if-range"] == host.served[PATH].etag
        assert host.sent[PATH] == len(BODY), "no byte was sent twice"
    assert done.paths["Mouse1"].read_bytes() == BODY
    assert done.downloaded == ("Mouse1",)
    assert leftovers(tmp_path) == []


def test_files_are_readable_by_all_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        with Host(FILES) as host:
            path = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False)["Mouse1"]
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_weak_etag_is_not_used_as_validator(tmp_path: Path) -> None:
    with Host(FILES) as host:
        host.served[PATH].etag = 'W/"weak"'
        interrupt(host, tmp_path)
        fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False)
        assert "if-range" not in host.gets()[1].headers
        assert host.sent[PATH] == len(BODY)


def test_a_host_without_ranges_sends_the_whole_again(tmp_path: Path) -> None:
    with Host(FILES, ranges=False) as host:
        interrupt(host, tmp_path)
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False)
        assert host.sent[PATH] == len(BODY) // 2 + len(BODY)
    assert paths["Mouse1"].read_bytes() == BODY


def test_a_host_without_lengths(tmp_path: Path) -> None:
    with Host(FILES, lengths=False) as host:
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False)
    assert paths["Mouse1"].read_bytes() == BODY


@pytest.mark.parametrize("sizes", [False, True])
def test_damage_to_the_partial_file_is_found_and_the_file_fetched_whole(sizes: bool, tmp_path: Path) -> None:
    with Host(FILES) as host:
        interrupt(host, tmp_path, sizes=sizes)
        content = next(tmp_path.rglob("content"))
        content.write_bytes(bytes(len(content.read_bytes())))
        paths = fetch_paths(
            manifest(FILES, host.template, sizes=sizes), cache=tmp_path, progress=False, retry_policy=QUICK
        )
    assert paths["Mouse1"].read_bytes() == BODY


@pytest.mark.parametrize("extra", [0, 1, 500], ids=["complete", "a byte too long", "far too long"])
def test_a_partial_file_of_full_length(extra: int, tmp_path: Path) -> None:
    with Host(FILES) as host:
        interrupt(host, tmp_path)
        next(tmp_path.rglob("content")).write_bytes(BODY + bytes(extra))
        n_requests = len(host.requests)
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False, retry_policy=QUICK)
        assert len(host.requests) == n_requests + (1 if extra else 0), "a complete file needs no request"
    assert paths["Mouse1"].read_bytes() == BODY


def test_a_partial_file_of_full_length_of_unknown_size(tmp_path: Path) -> None:
    with Host(FILES) as host:
        interrupt(host, tmp_path)
        next(tmp_path.rglob("content")).write_bytes(BODY)
        next(tmp_path.rglob("origin.json")).write_text("{ broken")
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False, retry_policy=QUICK)
    assert paths["Mouse1"].read_bytes() == BODY


def test_files_of_a_killed_process_are_used(tmp_path: Path) -> None:
    """Killed between pooch's two renames: the verified bytes have pooch's temporary name."""
    with Host(FILES) as host:
        interrupt(host, tmp_path)
        content = next(tmp_path.rglob("content"))
        content.unlink()
        (content.parent / "tmpa1b2c3d4").write_bytes(BODY)
        (content.parent / "tmpempty").touch()
        n_requests = len(host.requests)
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False)
        assert len(host.requests) == n_requests
    assert paths["Mouse1"].read_bytes() == BODY
    assert leftovers(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize("planted", ["content", "hard link", "origin.json", "folder", "temporary file"])
def test_links_planted_in_a_shared_cache_are_removed_and_never_followed(planted: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "diary.txt").write_bytes(b"dear diary")
    with Host(FILES) as host:
        interrupt(host, tmp_path / "cache")
        folder = next((tmp_path / "cache").rglob(".Mouse1.h5.part"))
        match planted:
            case "content":
                (folder / "content").unlink()
                (folder / "content").symlink_to(home / "diary.txt")
            case "hard link":
                (folder / "content").unlink()
                (folder / "content").hardlink_to(home / "diary.txt")
            case "origin.json":
                (folder / "origin.json").unlink()
                (folder / "origin.json").symlink_to(home / "diary.txt")
            case "folder":
                shutil.rmtree(folder)
                folder.symlink_to(home)
            case _:
                (folder / "tmpabc").symlink_to(home)
        paths = fetch_paths(
            manifest(FILES, host.template), cache=tmp_path / "cache", progress=False, retry_policy=QUICK
        )
    assert paths["Mouse1"].read_bytes() == BODY
    assert {p.name: p.read_bytes() for p in home.iterdir()} == {"diary.txt": b"dear diary"}
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize(
    "info",
    ['{"url": 1, "validator": 2, "size": "x"}', '{"url": "u", "validator": "a\\r\\nB: c", "size": 9}', "[]", "{"],
)
def test_a_damaged_record_of_the_origin_is_not_used(info: str, tmp_path: Path) -> None:
    with Host(FILES) as host:
        interrupt(host, tmp_path)
        next(tmp_path.rglob("origin.json")).write_text(info)
        paths = fetch_paths(manifest(FILES, host.template), cache=tmp_path, progress=False, retry_policy=QUICK)
    assert paths["Mouse1"].read_bytes() == BODY


def test_another_mirror_resumes_the_download_of_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as first, Host(FILES) as second:
        monkeypatch.setenv("MOUSECMR_MIRROR", f"{first.url} {second.url}")
        first.fail(PATH, faults.truncated)
        first.fail_always(PATH, faults.status(500))
        fetch_paths(manifest(FILES), cache=tmp_path, progress=False, retry_policy=QUICK)
        assert second.sent[PATH] == len(BODY) - len(BODY) // 2
        assert "if-range" not in second.gets()[0].headers, "an ETag has no meaning on another host"


def test_ctrl_c_ends_at_once_and_the_next_run_resumes(tmp_path: Path) -> None:
    """A stalled host must not block the terminal."""
    with Host(FILES) as host:
        tree = write_manifest(tmp_path / "manifest", FILES, host.template)
        host.fail(PATH, faults.stalled(0.5, 15.0))
        process = start(tree, tmp_path / "cache")
        content = tmp_path / "cache" / "tiny" / VERSION[:12] / "Data" / ".Mouse1.h5.part" / "content"
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline and not (content.exists() and content.stat().st_size == len(BODY) // 2):
            time.sleep(0.02)
        start_time = time.monotonic()
        os.kill(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=15)
        assert time.monotonic() - start_time < 5
        assert stderr.rstrip().endswith("KeyboardInterrupt")
        fetch_paths(manifest(FILES, host.template), cache=tmp_path / "cache", progress=False)
        assert host.sent[PATH] == len(BODY)


def test_ctrl_c_in_a_program_that_continues(tmp_path: Path) -> None:
    """The transfers end soon after, and leave no lock behind."""
    many = bodies(8, 200_000)
    with Host(many, rate=100_000, chunk=1000) as host:
        tiny = manifest(many, host.template)
        alarm = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
        alarm.start()
        with pytest.raises(KeyboardInterrupt):
            fetch_paths(tiny, cache=tmp_path, progress=False)
        alarm.join()
        before = host.sent.copy()
        assert 0 < sum(before.values()) < sum(map(len, many.values()))
        host.rate = None
        paths = fetch_paths(tiny, cache=tmp_path, progress=False)
    assert {f"Data/{p.name}": p.read_bytes() for p in paths.values()} == many
    assert leftovers(tmp_path) == []
