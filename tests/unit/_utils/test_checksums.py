import hashlib
import itertools
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from servers.cohort import entry

from mousecmr_data._utils.checksums import RunningChecksums, compute_checksums, describe_mismatch

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
