"""ResumingDownloader as a plug-in for other users of pooch."""

import hashlib
import threading
from pathlib import Path

import pooch
import pytest
from servers import faults
from servers.cohort import QUICK, bodies, leftovers
from servers.host import Host

from mousecmr_data._utils.progress import ProgressEvent
from mousecmr_data.download.downloader import ResumingDownloader
from mousecmr_data.download.http import RetryPolicy
from mousecmr_data.errors import DownloadError

FILES = bodies(1, 1_000_000)
PATH, BODY = next(iter(FILES.items()))
HASH = f"sha256:{hashlib.sha256(BODY).hexdigest()}"
ONCE = RetryPolicy(max_attempts=1, read_timeout=0.4)


def retrieve(host: Host, folder: Path, downloader: ResumingDownloader, known_hash: str = HASH) -> Path:
    url = host.template.format(version="1", path=PATH)
    return Path(pooch.retrieve(url, known_hash, fname="file.h5", path=folder, downloader=downloader))


def test_an_interrupted_download_is_resumed_by_a_later_run(tmp_path: Path) -> None:
    with Host(FILES) as host:
        host.fail(PATH, faults.truncated)
        with pytest.raises(DownloadError, match=r"ended the transfer early[\s\S]*it resumes"):
            retrieve(host, tmp_path, ResumingDownloader(retry_policy=ONCE))
        events: list[ProgressEvent] = []
        path = retrieve(host, tmp_path, ResumingDownloader(progress=events.append))
        assert host.sent[PATH] == len(BODY), "no byte was sent twice"
    assert path.read_bytes() == BODY
    assert leftovers(tmp_path) == []
    assert events[-1].kind == "bytes"
    assert events[-1].total == len(BODY)


def test_transient_failures_are_tried_again(tmp_path: Path) -> None:
    with Host(FILES) as host:
        host.fail(PATH, faults.truncated)
        assert retrieve(host, tmp_path, ResumingDownloader(retry_policy=QUICK)).read_bytes() == BODY


def test_pooch_checks_the_hash(tmp_path: Path) -> None:
    with Host(FILES) as host:
        with pytest.raises(ValueError, match="hash of downloaded file"):
            retrieve(host, tmp_path, ResumingDownloader(), "sha256:" + "0" * 64)
        assert leftovers(tmp_path) == []
        assert retrieve(host, tmp_path, ResumingDownloader()).read_bytes() == BODY


def test_a_registry_of_pooch_and_whether_a_file_is_available(tmp_path: Path) -> None:
    with Host(FILES) as host:
        url = host.template.format(version="1", path=PATH)
        pup = pooch.create(
            tmp_path, base_url="", registry={"a.h5": HASH, "b.h5": None}, urls={"a.h5": url, "b.h5": url + "x"}
        )
        downloader = ResumingDownloader(retry_policy=QUICK)
        assert pup.is_available("a.h5", downloader)
        assert not pup.is_available("b.h5", downloader)
        assert Path(pup.fetch("a.h5", downloader=downloader)).read_bytes() == BODY


def test_threads_that_download_the_same_file_do_not_mix_their_bytes(tmp_path: Path) -> None:
    with Host(FILES) as host:
        downloader = ResumingDownloader(retry_policy=QUICK)
        threads = [threading.Thread(target=retrieve, args=(host, tmp_path, downloader)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "file.h5").read_bytes() == BODY
