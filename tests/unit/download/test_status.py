import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.cohort import bodies, fetch_paths, manifest

from mousecmr_data._utils.checksums import hashlib
from mousecmr_data.download.cache import FileStatus, get_file_statuses, select_entries
from mousecmr_data.errors import UnknownNameError
from mousecmr_data.schema.manifest import Manifest

FILES = bodies(130, 1000)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Manifest, Path]]:
    """A cache of 130 verified files."""
    root = tmp_path_factory.mktemp("full")
    for path, body in FILES.items():
        (root / "mirror" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "mirror" / path).write_bytes(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", str(root / "mirror"))
        fetch_paths(manifest(FILES), cache=root / "cache", progress=False)
    yield manifest(FILES), root / "cache"


def test_130_verified_files_are_recognised_without_hashing_or_opening_them(
    full: tuple[Manifest, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = io.open
    monkeypatch.setattr(hashlib, "sha256", lambda *_: pytest.fail("hashed"))
    monkeypatch.setattr(io, "open", lambda *a, **k: opened.append(str(a[0])) or real(*a, **k))
    times = []
    for _ in range(5):
        start = time.perf_counter()
        states = get_file_statuses(full[0], cache=full[1])
        paths = fetch_paths(full[0], cache=full[1], progress=False)
        times.append(time.perf_counter() - start)
    assert len(paths) == 130
    assert set(states.values()) == {FileStatus.VERIFIED}
    assert {Path(p).name for p in opened} == {"mousecmr-lock.journal"}
    print(f"get_file_statuses() and fetch_paths() of 130 verified files: {min(times) * 1000:.1f} ms")
    assert min(times) < 0.5


def test_states(full: tuple[Manifest, Path], tmp_path: Path) -> None:
    tiny = full[0]
    assert get_file_statuses(tiny, ["Mouse3"], tmp_path) == {"Mouse3": FileStatus.MISSING}
    path = full[1] / "tiny" / tiny.version[:12] / "Data" / "Mouse7.h5"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert get_file_statuses(tiny, ["Mouse7", "Mouse8"], full[1]) == {
        "Mouse7": FileStatus.UNVERIFIED,
        "Mouse8": FileStatus.VERIFIED,
    }
    fetch_paths(tiny, "Mouse7", cache=full[1], offline=True)  # one hash, no download
    assert get_file_statuses(tiny, "Mouse7", full[1]) == {"Mouse7": FileStatus.VERIFIED}


def test_selection() -> None:
    tiny = manifest(bodies(3, 1))
    assert list(select_entries(tiny)) == ["Mouse1", "Mouse2", "Mouse3"]
    assert list(select_entries(tiny, ["Mouse3", "Mouse1"])) == ["Mouse3", "Mouse1"]
    assert list(select_entries(tiny, "Mouse2")) == ["Mouse2"]
    with pytest.raises(UnknownNameError, match="no mouse 'Rat1'"):
        select_entries(tiny, ["Mouse1", "Rat1"])
