import hashlib
import itertools
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.cohort import entry

from mousecmr_data._utils.checksums import (
    RunningChecksums,
    add_checksum,
    append_checksum,
    compute_checksums,
    describe_mismatch,
    has_checksum,
    has_checksums,
    is_intact,
    read_intact,
    report_damage,
    write_checksums,
)

BODY = b"a mouse\n" * 1000


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5))
def test_a_stream_in_any_pieces_has_the_same_checksums(body: bytes, cuts: list[int]) -> None:
    running = RunningChecksums(len(body))
    edges = [0, *sorted(min(c, len(body)) for c in cuts), len(body)]
    for a, b in itertools.pairwise(edges):
        running.update(body[a:b])
    sums = running.finish()
    assert sums is not None
    assert sums.git_blob_sha1 == hashlib.sha1(b"blob " + str(len(body)).encode() + b"\0" + body).hexdigest()
    assert sums.sha256 == hashlib.sha256(body).hexdigest()
    assert sums.matches(entry("Data/Mouse1.h5", body, sizes=True, sha256=True))


def test_the_blob_checksum_equals_that_of_git(tmp_path: Path) -> None:
    git = shutil.which("git")
    if git is None:
        pytest.skip("git is not installed")
    (tmp_path / "file").write_bytes(BODY)
    done = subprocess.run([git, "hash-object", "file"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert compute_checksums(tmp_path / "file").git_blob_sha1 == done.stdout.strip()


@pytest.mark.parametrize("size", [None, 0, len(BODY) - 1, len(BODY) + 1])
def test_no_checksums_if_the_size_is_unknown_or_wrong(size: int | None) -> None:
    running = RunningChecksums(size)
    running.update(BODY)
    assert running.finish() is None


def test_every_known_checksum_must_agree(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)
    sums, right = compute_checksums(tmp_path / "file"), entry("Data/Mouse1.h5", BODY, sizes=True, sha256=True)
    assert sums.matches(right)
    for wrong, text in (
        (replace(right, size=7), "8,000 bytes instead of 7"),
        (replace(right, sha256="0" * 64), f"SHA-256 {sums.sha256[:12]}… instead of 000000000000…"),
        (replace(right, git_blob_sha1="0" * 40), "git blob SHA-1"),
    ):
        assert not sums.matches(wrong)
        assert text in describe_mismatch(sums, wrong)


def test_hashing_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BODY)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute_checksums(tmp_path / "file", stop)


def flip_each_bit(data: bytes) -> list[bytes]:
    number = int.from_bytes(data, "little")
    return [(number ^ 1 << bit).to_bytes(len(data), "little") for bit in range(8 * len(data))]


@pytest.mark.parametrize("content", [b"", b"a mouse"])
def test_any_flipped_bit_of_a_derived_file_is_found(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert not is_intact(path)
    append_checksum(path)
    whole = path.read_bytes()
    assert is_intact(path)
    assert read_intact(path) == content
    for damaged in (*flip_each_bit(whole), whole[:-1], whole + b"\n", b""):
        path.write_bytes(damaged)
        assert not is_intact(path)
        assert read_intact(path) is None
    path.unlink()
    assert not is_intact(path)
    assert read_intact(path) is None


def test_numpy_and_hdf5_read_files_with_a_checksum(tmp_path: Path) -> None:
    values = np.arange(1000, dtype=np.uint16)
    np.save(tmp_path / "a.npy", values)
    with h5py.File(tmp_path / "a.h5", "w") as f:
        f["a"] = values
    for path in tmp_path.iterdir():
        append_checksum(path)
        assert is_intact(path)
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), values)
    with h5py.File(tmp_path / "a.h5") as f:
        np.testing.assert_array_equal(f["a"][()], values)


def test_any_changed_value_of_a_table_is_found() -> None:
    table = {"b": [1, 2.5, float("nan"), (3,)], "a": {"x": None}}
    stored = json.loads(json.dumps(add_checksum(table)))
    assert has_checksum(stored)
    assert not has_checksum({**stored, "a": {"y": None}})
    assert not has_checksum({**stored, "b": [1, 2.25, float("nan"), [3]]})
    assert not has_checksum(json.loads(json.dumps(table)))


def test_checksums_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.arrow").write_bytes(BODY)
    (tmp_path / "b.lock").write_bytes(b"")
    assert not has_checksums(tmp_path)
    write_checksums(tmp_path, (".arrow",))
    (tmp_path / "b.lock").write_bytes(b"changed")
    assert has_checksums(tmp_path)
    (tmp_path / "sub" / "a.arrow").write_bytes(BODY[:-1] + b"x")
    assert not has_checksums(tmp_path)
    (tmp_path / "sub" / "a.arrow").unlink()
    assert not has_checksums(tmp_path)


def test_damage_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "a"):
        report_damage(tmp_path / name)
    assert [r.getMessage() for r in caplog.records] == [
        f"{tmp_path / name} is damaged, or of an earlier version: it is made again from its source." for name in "ab"
    ]
