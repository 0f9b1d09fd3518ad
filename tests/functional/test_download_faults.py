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
    "Content-Length not a number": [faults.header("Content-Length", "many")],
    "Content-Length in digits of another script": [faults.header("Content-Length", "1²")],
    "Content-Length negative": [faults.header("Content-Length", "-5")],
    "Content-Length of 5,000 digits": [faults.header("Content-Length", "9" * 5000)],
    "Content-Range not a number": [faults.truncated, faults.header("Content-Range", "bytes x-y/z")],
    "Content-Range in digits of another script": [faults.truncated, faults.header("Content-Range", "bytes ²-³/¹")],
    "Content-Range of 5,000 digits": [faults.truncated, faults.header("Content-Range", f"bytes {'9' * 5000}-1/1")],
    "Content-Range that contradicts itself": [
        faults.truncated,
        faults.header("Content-Range", "bytes 100000-99999/200001"),
    ],
    "Content-Range of a file of another size": [
        faults.truncated,
        faults.header("Content-Range", "bytes 100000-299999/300000"),
    ],
    "Range answered with more bytes than the file has": [faults.truncated, faults.range_overrun],
    "Retry-After that is not a time": [faults.status(503, "soon²")],
    "Retry-After beyond every calendar": [faults.status(503, "Mon, 01 Jan 2024 00:00:00 +99999999999999")],
    "an answer that is not HTTP": [faults.garbage],
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
    "redirect to a port that is not a number": (faults.redirect("http://a.org:80a/x"), DownloadError, "not an address"),
    "redirect to a port above 65535": (faults.redirect("https://a.org:99999/x"), DownloadError, "not an address"),
    "redirect to a broken IPv6 address": (faults.redirect("http://[::1/x"), DownloadError, "not an address"),
    "redirect to no host": (faults.redirect("http://:80/x"), DownloadError, "not an address"),
    "redirect with control characters": (faults.redirect("/\x1b[2J\x07x"), DownloadError, "not an address"),
    "redirect to a name longer than names can be": (
        faults.redirect(f"http://{'a' * 70}.example/x"),
        DownloadError,
        "cannot be requested",
    ),
    "redirect of 60,000 characters": (faults.redirect(f"/{'a' * 60_000}"), DownloadError, "HTTP 404"),
    "more headers than anybody needs": (faults.many_headers, DownloadError, "connection to 127.0.0.1 was lost"),
    "more bytes than announced": (faults.range_overrun, ChecksumError, "git blob SHA-1"),
    "Content-Length beyond every disk": (faults.header("Content-Length", "9" * 18), ChecksumError, "more than any"),
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


@pytest.mark.parametrize("name", FAILED)
def test_a_fault_is_one_of_its_source_only_and_the_next_is_tried(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mousecmr_data.download.downloader.MAX_UNKNOWN_BYTES", 1_000_000)
    with Host(FILES) as bad, Host(FILES) as good:
        bad.fail_always(VICTIM, FAILED[name][0])
        bad.fail_always(Path(VICTIM).name, FAILED[name][0])
        monkeypatch.setenv("MOUSECMR_MIRROR", bad.url)
        tiny = manifest(FILES, good.template)
        done = fetch_files(tiny, cache=tmp_path, progress=False, retry_policy=QUICK)
        sent = {Path(request.path).name for request in good.gets()}
    # A host that asks for too long a wait is not asked for the other file either, if it answers before that is begun.
    assert sent >= {Path(VICTIM).name}
    assert sent == {Path(VICTIM).name} or "Retry-After" in name
    assert {p: done.paths[Path(p).stem].read_bytes() for p in FILES} == FILES
    assert leftovers(tmp_path) == []


def test_no_control_characters_of_a_host_reach_the_terminal(tmp_path: Path) -> None:
    with Host(FILES) as host:
        host.fail_always(VICTIM, faults.redirect("ftp://a.org/\x1b[2J" + "a" * 5000))
        with pytest.raises(DownloadError) as e:
            fetch_files(manifest(FILES, host.template), ["Mouse1"], cache=tmp_path, progress=False, retry_policy=QUICK)
    assert "\x1b" not in str(e.value)
    assert max(map(len, str(e.value).splitlines())) < 500


def test_a_resumed_transfer_that_overruns_its_size_is_fetched_whole_once_more(tmp_path: Path) -> None:
    with Host(FILES) as host:
        host.fail(VICTIM, faults.truncated, faults.range_overrun)
        tiny = manifest(FILES, host.template, sizes=True)
        paths = fetch_files(tiny, ["Mouse1"], cache=tmp_path, progress=False, retry_policy=QUICK).paths
        assert [r.headers.get("range") for r in host.gets(VICTIM)] == [None, "bytes=100000-", None]
    assert paths["Mouse1"].read_bytes() == FILES[VICTIM]
    with Host(FILES) as host:  # once: a host that always overruns is not asked for ever
        host.fail(VICTIM, faults.truncated)
        host.fail_always(VICTIM, faults.range_overrun)
        with pytest.raises(ChecksumError, match="more than"):
            tiny = manifest(FILES, host.template, sizes=True)
            fetch_files(tiny, ["Mouse1"], cache=tmp_path / "other", progress=False, retry_policy=QUICK)
        assert len(host.gets(VICTIM)) == 3


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
    (tmp_path / "tiny" / tiny.version[:12] / "mousecmr-lock.journal").unlink()
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
