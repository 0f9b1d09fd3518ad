"""Verify always hashes; repair fetches bad files again, and no others."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from servers import faults
from servers.cohort import QUICK, bodies, fetch_paths, leftovers, manifest
from servers.host import Host

from mousecmr_data.download.cache import get_file_statuses
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.verify import Verdict, verify_files
from mousecmr_data.errors import DownloadError
from mousecmr_data.schema.manifest import Manifest

FILES = bodies(6, 20_000)
OTHER = bodies(6, 20_000, seed=2)
"""Another version of the same mice."""


@pytest.fixture
def host() -> Host:  # type: ignore[misc]
    with Host(FILES) as host:
        yield host


@pytest.fixture
def tiny(host: Host, tmp_path: Path) -> Manifest:
    """Fetched into tmp_path, then damaged: Mouse1 silently, Mouse2 removed, Mouse3 a copy of Mouse4, Mouse5 old."""
    tiny = manifest(FILES, host.template)
    paths = fetch_paths(tiny, cache=tmp_path, progress=False)
    with Host(OTHER) as old_host:
        old = replace(manifest(OTHER, old_host.template), version="fedcba9876543210")
        old_paths = fetch_paths(old, cache=tmp_path, progress=False)
    body, stat = bytearray(paths["Mouse1"].read_bytes()), paths["Mouse1"].stat()
    body[77] ^= 1
    paths["Mouse1"].write_bytes(body)
    os.utime(paths["Mouse1"], ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a failing disk does not change the time
    paths["Mouse2"].unlink()
    paths["Mouse3"].write_bytes(FILES["Data/Mouse4.h5"])
    paths["Mouse5"].write_bytes(old_paths["Mouse5"].read_bytes())
    (paths["Mouse1"].parent / "notes.txt").write_text("mine")
    (paths["Mouse1"].parents[1] / "link").symlink_to(tmp_path)
    host.requests.clear()
    return tiny


def test_verdicts(tiny: Manifest, host: Host, tmp_path: Path) -> None:
    assert get_file_statuses(tiny, ["Mouse1"], tmp_path)["Mouse1"] == "verified", "the record cannot show this damage"
    results = verify_files(tiny, cache=tmp_path, progress=False)
    assert [(r.mouse, r.verdict) for r in results] == [
        ("Mouse1", Verdict.CORRUPT),
        ("Mouse2", Verdict.MISSING),
        ("Mouse3", Verdict.CORRUPT),
        ("Mouse4", Verdict.OK),
        ("Mouse5", Verdict.WRONG_VERSION),
        ("Mouse6", Verdict.OK),
        (None, Verdict.UNKNOWN),
        (None, Verdict.UNKNOWN),
    ]
    assert "git blob SHA-1" in results[0].detail
    assert results[2].detail == "holds the bytes of Mouse4"
    assert results[4].detail == "holds the bytes of version fedcba987654, Data/Mouse5.h5"
    assert {r.path.name for r in results[6:]} == {"notes.txt", "link"}
    assert [r.has_problem for r in results] == [True, True, True, False, True, False, False, False]
    assert get_file_statuses(tiny, ["Mouse1"], tmp_path)["Mouse1"] == "unverified", "verify found it"
    assert host.requests == []


def test_records_that_a_killed_write_left_belong_to_the_cache(host: Host, tmp_path: Path) -> None:
    tiny = manifest(FILES, host.template)
    folder = fetch_paths(tiny, cache=tmp_path, progress=False)["Mouse1"].parents[1]
    (folder / ".part-0123abcd-mousecmr-lock.journal").write_text("{")
    (folder / ".part-0123abcd-mousecmr-lock.json").write_text("{")
    (folder / ".part-0123abcd-other.json").write_text("{")
    unknown = [r.path.name for r in verify_files(tiny, cache=tmp_path, progress=False) if r.verdict == Verdict.UNKNOWN]
    assert unknown == [".part-0123abcd-other.json"]


def test_repair_fetches_bad_files_and_no_others(tiny: Manifest, host: Host, tmp_path: Path) -> None:
    results = verify_files(tiny, cache=tmp_path, repair=True, progress=False)
    assert sorted(r.path.rsplit("/", 1)[1] for r in host.gets()) == [f"Mouse{n}.h5" for n in (1, 2, 3, 5)]
    assert {r.verdict for r in results if r.mouse} == {Verdict.OK}
    assert [r.mouse for r in results if r.repaired] == ["Mouse1", "Mouse2", "Mouse3", "Mouse5"]
    assert results[0].detail.startswith("repaired; was corrupt: git blob SHA-1")
    assert {f"Data/{r.path.name}": r.path.read_bytes() for r in results if r.mouse} == FILES
    assert leftovers(tmp_path) == []
    assert (results[0].path.parent / "notes.txt").read_text() == "mine"


def test_a_failed_repair_loses_nothing_and_leaves_no_corrupt_file_visible(
    tiny: Manifest, host: Host, tmp_path: Path
) -> None:
    for path in FILES:
        host.fail_always(path, faults.status(503))
    with pytest.raises(DownloadError, match="set aside"):
        verify_files(tiny, ["Mouse1"], cache=tmp_path, repair=True, progress=False, retry_policy=QUICK)
    data = next(tmp_path.rglob("Mouse6.h5")).parent.parent.parent / "0123456789ab" / "Data"
    assert not (data / "Mouse1.h5").exists()
    damaged = data / ".Mouse1.h5.corrupt"
    assert len(damaged.read_bytes()) == len(FILES["Data/Mouse1.h5"])
    host.always.clear()
    fetch_paths(tiny, ["Mouse1"], cache=tmp_path, progress=False)
    assert (data / "Mouse1.h5").read_bytes() == FILES["Data/Mouse1.h5"]
    assert not damaged.exists()


def test_fetch_replaces_a_damaged_file_and_notes_it(tiny: Manifest, tmp_path: Path) -> None:
    done = fetch_files(tiny, ["Mouse3"], cache=tmp_path, progress=False)
    assert done.paths["Mouse3"].read_bytes() == FILES["Data/Mouse3.h5"]
    assert len(done.notes) == 1
    assert "Mouse3: the file on disk was damaged" in done.notes[0]


def test_a_file_that_cannot_be_read(tiny: Manifest, tmp_path: Path) -> None:
    path = next((tmp_path / "tiny" / "0123456789ab").rglob("Mouse6.h5"))
    path.unlink()
    path.mkdir()
    result = verify_files(tiny, ["Mouse6"], cache=tmp_path, progress=False)[0]
    assert result.verdict is Verdict.UNREADABLE
    assert result.has_problem


def test_an_empty_cache(tmp_path: Path) -> None:
    results = verify_files(manifest(FILES), cache=tmp_path / "none", progress=False)
    assert {r.verdict for r in results} == {Verdict.MISSING}
    assert not (tmp_path / "none").exists(), "verify creates no folder"
