import threading
from dataclasses import asdict, astuple
from pathlib import Path

import pytest
from servers.cohort import entry

from mousecmr_data._utils.atomic import write_json
from mousecmr_data._utils.checksums import add_checksum, compute_checksums
from mousecmr_data._utils.journal import update_journal
from mousecmr_data.download.cache import (
    EARLIER_LOCKFILE,
    LOCKFILE,
    LockEntry,
    make_lock_entry,
    read_lockfile,
    update_lockfile,
)


def record(n: int) -> LockEntry:
    return LockEntry(n, n, f"{n:064x}", f"{n:040x}")


def test_updates_merge(tmp_path: Path) -> None:
    assert read_lockfile(tmp_path) == {}
    assert update_lockfile(tmp_path, {"a": record(1)})
    assert update_lockfile(tmp_path, {"b": record(2)})
    assert update_lockfile(tmp_path, {"c": record(3)}, forget=["a", "unknown"])
    assert read_lockfile(tmp_path) == {"b": record(2), "c": record(3)}


def test_concurrent_writers_lose_no_records(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=update_lockfile, args=(tmp_path, {f"{n}": record(n)}), daemon=True) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert read_lockfile(tmp_path) == {f"{n}": record(n) for n in range(20)}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '{"format": 1}', '{"format": 99, "files": {"a": {}}}', '{"format": 1, "files": {"a": {}}}',
     '{"format": 1, "files": {"a": 7}}', '{"format": 1, "files": [1]}', "\udcff", "[]\n", "00000000 []\n"],
)  # fmt: skip
@pytest.mark.parametrize("name", [LOCKFILE, EARLIER_LOCKFILE])
def test_a_damaged_lockfile_counts_as_empty(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    assert read_lockfile(tmp_path) == {}
    assert update_lockfile(tmp_path, {"a": record(1)})
    assert read_lockfile(tmp_path) == {"a": record(1)}


def test_the_lockfile_of_an_earlier_release_is_taken_over(tmp_path: Path) -> None:
    write_json(tmp_path / EARLIER_LOCKFILE, add_checksum({"format": 1, "files": {"a": asdict(record(1))}}))
    assert read_lockfile(tmp_path) == {"a": record(1)}
    assert update_lockfile(tmp_path, {"b": record(2)})
    assert read_lockfile(tmp_path) == {"a": record(1), "b": record(2)}
    assert not (tmp_path / EARLIER_LOCKFILE).exists()


def test_records_of_a_later_release_are_left_out(tmp_path: Path) -> None:
    update_journal(tmp_path / LOCKFILE, {"a": [1, 2, "3", "4", "5"], "b": astuple(record(2)), "c": 7})
    assert read_lockfile(tmp_path) == {"b": record(2)}


def test_a_record_is_valid_while_size_time_and_manifest_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "Mouse1.h5"
    path.write_bytes(b"body")
    right = entry("Mouse1.h5", b"body")
    known = make_lock_entry(path.stat(), compute_checksums(path))
    assert known.matches_file(right, path.stat())
    assert not known.matches_file(entry("Mouse1.h5", b"other body"), path.stat()), "the manifest changed"
    path.write_bytes(b"b0dy")
    assert not known.matches_file(right, path.stat()), "the file changed"
