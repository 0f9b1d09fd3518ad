"""Several processes that want the same files at the same moment."""

import os
import threading
from pathlib import Path

import pytest
from servers.cohort import bodies, fetch_paths, leftovers, manifest, write_manifest
from servers.host import Host
from servers.process import finish, start

from mousecmr_data.download.cache import get_file_statuses
from mousecmr_data.schema.manifest import read_manifest

ROUNDS = 10 if os.environ.get("MOUSECMR_STRESS") == "1" else 1
FILES = bodies(12, 300_000)


@pytest.mark.stress
@pytest.mark.parametrize("turn", range(ROUNDS))
def test_four_processes_at_once_and_each_file_is_sent_once(turn: int, tmp_path: Path) -> None:
    with Host(FILES, rate=2_000_000) as host:
        folder = write_manifest(tmp_path / "manifest", FILES, host.template)
        processes = [start(folder, tmp_path / "cache") for _ in range(4)]
        assert [finish(p) for p in processes] == ["", "", "", ""]
        assert dict(host.sent) == {path: len(body) for path, body in FILES.items()}
        assert len(host.requests) == len(FILES)
    assert set(get_file_statuses(read_manifest(folder), cache=tmp_path / "cache").values()) == {"verified"}, (
        f"round {turn}"
    )
    assert leftovers(tmp_path / "cache") == []


def test_four_threads_with_a_fetch_each(tmp_path: Path) -> None:
    results: list[dict[str, Path]] = []
    with Host(FILES, rate=5_000_000) as host:
        tiny = manifest(FILES, host.template)
        threads = [
            threading.Thread(
                target=lambda: results.append(fetch_paths(tiny, cache=tmp_path, progress=False)), daemon=True
            )
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(host.requests) == len(FILES)
    assert len(results) == 4
    assert all(r == results[0] for r in results)
