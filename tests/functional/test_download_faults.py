"""The table of faults in docs/download.md, one test per row: the outcome, and the cache afterwards."""

import re
from pathlib import Path

import pytest
from servers import faults
from servers.cohort import QUICK, bodies, everything, leftovers, manifest
from servers.host import Fault, Host

from mousecmr_data._utils.checksums import Checksums, compute_checksums
from mousecmr_data.download.cache import get_file_statuses
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.errors import ChecksumError, DownloadError

FILES = bodies(2, 200_000)
OLD = bodies(1, 200_000, seed=9)["Data/Mouse1.h5"]
VICTIM = "Data/Mouse1.h5"

SURVIVED = {
    "429 with Retry-After in seconds": [faults.status(429, "1")],
    "429 with Retry-After as a date": [faults.retry_at(1)],
    "429 without Retry-After": [faults.status(429)],
    "500": [faults.status(500)],
    "503 twice": [faults.status(503), faults.status(503, "0")],
    "connection reset in the body": [faults.reset],
    "stalled body": [faults.stalled(0.5)],
    "truncated body with Content-Length": [faults.truncated],
    "truncated body, chunked": [faults.truncated_chunked],
    "Range ignored": [faults.truncated, faults.range_ignored],
    "Range wrong": [faults.truncated, faults.range_wrong],
    "Range claimed, other bytes sent": [faults.truncated, faults.range_shifted],
    "ETag changed during the download": [faults.replaced(OLD, 100_000)],
    "gzip although identity was requested": [faults.gzipped],
}

FAILED: dict[str, tuple[Fault, type[Exception], str]] = {
    "always 429, Retry-After of an hour": (faults.status(429, "3600"), DownloadError, r"429.*asks to wait 3600 s"),
    "always 500": (faults.status(500), DownloadError, r"HTTP 500 .*4 tries"),
    "always stalled": (faults.stalled(0.0, 2.0), DownloadError, r"sent nothing for 0\.4 s"),
    "truncated without Content-Length": (faults.truncated_without_length, ChecksumError, "git blob SHA-1"),
    "always truncated at the same place": (faults.range_cut, DownloadError, "ended the transfer early"),
    "wrong bytes of the right size": (faults.instead(OLD), ChecksumError, "git blob SHA-1"),
    "flipped bit": (faults.flipped_byte, ChecksumError, "git blob SHA-1"),
    "HTML with status 200": (faults.html, ChecksumError, "web page"),
    "Git LFS pointer": (faults.instead(faults.POINTER), ChecksumError, "Git LFS pointer"),
    "redirect loop": (faults.redirect(f"/v/{VICTIM}"), DownloadError, "redirect loop"),
    "redirect to a local file": (faults.redirect("file:///etc/hostname"), DownloadError, "not an address"),
    "redirect to nowhere": (faults.redirect(""), DownloadError, "redirect"),
    "404": (faults.status(404), DownloadError, "404"),
    "403": (faults.status(403), DownloadError, "403.*token"),
    "endless body": (faults.endless, ChecksumError, "more than"),
}


@pytest.mark.parametrize("name", SURVIVED)
@pytest.mark.parametrize("sizes", [False, True], ids=["size unknown", "size known"])
def test_survived(name: str, sizes: bool, tmp_path: Path) -> None:
    with Host(FILES) as host:
        tiny = manifest(FILES, host.template, sizes=sizes)
        host.fail(VICTIM, *SURVIVED[name])
        done = fetch_files(tiny, cache=tmp_path, progress=False, retry_policy=QUICK)
        assert not host.faults[VICTIM], "the fault was served"
        assert len(host.gets(VICTIM)) >= len(SURVIVED[name])
    assert {p: done.paths[Path(p).stem].read_bytes() for p in FILES} == FILES
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("name", FAILED)
def test_failed_with_a_clear_error_and_an_unchanged_cache(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mousecmr_data.download.downloader.MAX_UNKNOWN_BYTES", 1_000_000)
    fault, kind, message = FAILED[name]
    with Host(FILES) as host:
        tiny = manifest(FILES, host.template)
        fetch_files(tiny, ["Mouse2"], cache=tmp_path, progress=False, retry_policy=QUICK)
        before = everything(tmp_path)
        host.fail_always(VICTIM, fault)
        with pytest.raises(kind, match="Mouse1") as e:
            fetch_files(tiny, cache=tmp_path, progress=False, retry_policy=QUICK)
        assert re.search(message, str(e.value)), str(e.value)
        assert type(e.value) is kind
        assert "Next: " in str(e.value), "the error says what to type"
        partial = {k: v for k, v in everything(tmp_path).items() if ".part/" in k}
        assert {k: v for k, v in everything(tmp_path).items() if k not in partial} == before
        assert {Path(p).name for p in leftovers(tmp_path)} <= {".Mouse1.h5.part"}

        del host.always[VICTIM]  # the host works again: remaining partial files do no harm
        done = fetch_files(tiny, cache=tmp_path, progress=False, retry_policy=QUICK)
    assert done.paths["Mouse1"].read_bytes() == FILES[VICTIM]
    assert leftovers(tmp_path) == []


def test_truncated_without_length_is_resumed_where_the_size_is_known(tmp_path: Path) -> None:
    with Host(FILES) as host:
        tiny = manifest(FILES, host.template, sizes=True)
        host.fail(VICTIM, faults.truncated_without_length)
        paths = fetch_files(tiny, ["Mouse1"], cache=tmp_path, progress=False, retry_policy=QUICK).paths
        assert paths["Mouse1"].read_bytes() == FILES[VICTIM]
        assert host.gets(VICTIM)[1].headers["range"] == f"bytes={len(FILES[VICTIM]) // 2}-"
        assert host.sent[VICTIM] == len(FILES[VICTIM])


def test_retry_after_is_waited_for_and_shown(tmp_path: Path) -> None:
    waits: list[str] = []
    with Host(FILES) as host:
        host.fail(VICTIM, faults.status(429, "1"))
        fetch_files(
            manifest(FILES, host.template),
            cache=tmp_path,
            workers=1,
            progress=lambda e: waits.append(e.text) if e.kind == "wait" else None,
            retry_policy=QUICK,
        )
        first, again, other = host.requests
    assert again.moment - first.moment >= 0.99
    assert other.path.endswith("Mouse2.h5")
    assert waits == ["HTTP 429 from 127.0.0.1 (rate limit); trying again in 1.0 s"]


def test_an_unreachable_host_is_not_tried_again_for_each_file(tmp_path: Path) -> None:
    many = bodies(30, 10)
    with Host(many) as host:
        template = host.template
    waits: list[str] = []
    with pytest.raises(DownloadError, match="no connection to 127") as e:
        fetch_files(
            manifest(many, template),
            cache=tmp_path,
            workers=1,
            progress=lambda e: waits.append(e.text) if e.kind == "wait" else None,
            retry_policy=QUICK,
        )
    assert len(waits) == QUICK.max_attempts - 1, "30 files, but the host is tried for one only"
    assert "None of 30 files" in str(e.value)
    assert len(str(e.value).splitlines()) < 6, "equal reasons are listed once"


def test_one_bad_file_does_not_lose_the_others(tmp_path: Path) -> None:
    many = bodies(8, 1000)
    with Host(many) as host:
        host.fail_always("Data/Mouse3.h5", faults.status(404))
        host.fail_always("Data/Mouse5.h5", faults.flipped_byte)
        with pytest.raises(DownloadError) as e:
            fetch_files(manifest(many, host.template), cache=tmp_path, progress=False, retry_policy=QUICK)
    text = str(e.value)
    assert "2 of 8 files" in text
    assert "Mouse3: HTTP 404" in text
    assert "Mouse5: git blob SHA-1" in text
    assert sorted(p.name for p in tmp_path.rglob("*.h5")) == [f"Mouse{n}.h5" for n in (1, 2, 4, 6, 7, 8)]


def test_connections_are_reused(tmp_path: Path) -> None:
    many = bodies(20, 1000)
    with Host(many) as host:
        fetch_files(manifest(many, host.template), cache=tmp_path, workers=2, progress=False)
        assert len(host.gets()) == 20
        assert host.connections <= 2


def test_a_file_that_changes_while_it_is_hashed_gets_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = compute_checksums

    def slow(path: Path, *rest: object) -> Checksums:
        sums = real(path, *rest)  # type: ignore[arg-type]
        body = bytearray(path.read_bytes())
        body[0] ^= 1
        path.write_bytes(body)
        return sums

    with Host(FILES) as host:
        tiny = manifest(FILES, host.template)
        path = fetch_files(tiny, ["Mouse1"], cache=tmp_path, progress=False).paths["Mouse1"]
    (tmp_path / "tiny" / tiny.version[:12] / "mousecmr-lock.json").unlink()
    monkeypatch.setattr("mousecmr_data.download.fetch.compute_checksums", slow)
    fetch_files(tiny, ["Mouse1"], cache=tmp_path, progress=False, offline=True)
    assert path.read_bytes() != FILES[VICTIM]
    assert get_file_statuses(tiny, ["Mouse1"], tmp_path) == {"Mouse1": "unverified"}


def test_the_client_names_itself_and_requests_unencoded_bytes(tmp_path: Path) -> None:
    from mousecmr_data import __version__

    with Host(FILES) as host:
        fetch_files(manifest(FILES, host.template), cache=tmp_path, progress=False)
        headers = host.gets(VICTIM)[0].headers
    assert headers["user-agent"] == f"mousecmr-data/{__version__}"
    assert headers["accept-encoding"] == "identity"
    assert "authorization" not in headers


def test_the_table_in_the_docs_has_every_fault() -> None:
    page = (Path(__file__).parents[2] / "docs" / "download.md").read_text(encoding="utf-8")
    rows = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|")}
    assert {*SURVIVED, *FAILED} - rows == set()
