"""Mirrors, tokens and offline mode: which hosts are used, in which order, and which tokens they get."""

import base64
import shutil
from pathlib import Path

import pytest
from servers import faults
from servers.cohort import QUICK, VERSION, bodies, fetch_paths, manifest
from servers.host import Host

from mousecmr_data.download.fetch import fetch_files, log
from mousecmr_data.errors import ChecksumError, DownloadError, MissingDataError

FILES = bodies(2, 5000)
SECRET = "s3cret-t0ken"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mirror that is a folder."""
    mirror = tmp_path / "mirror folder"
    for path, body in FILES.items():
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(body)
    return mirror


def right(paths: dict[str, Path]) -> bool:
    return {f"Data/{p.name}": p.read_bytes() for p in paths.values()} == FILES


def test_a_mirror_is_tried_before_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as upstream, Host(FILES) as mirror:
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url + "/")
        assert right(fetch_paths(manifest(FILES, upstream.template), cache=tmp_path, progress=False))
        assert [r.path for r in sorted(mirror.requests, key=lambda r: r.path)] == list(FILES)
        assert upstream.requests == []


def test_upstream_is_tried_when_all_mirrors_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as upstream, Host({}) as one, Host({}) as two:
        monkeypatch.setenv("MOUSECMR_MIRROR", f"{one.url}, {two.url};")
        assert right(fetch_paths(manifest(FILES, upstream.template), cache=tmp_path, progress=False))
        assert {r.path for r in one.requests} == {*FILES, "Mouse1.h5", "Mouse2.h5"}, "the bare name is tried too"
        assert len(two.requests) == 4
        assert {r.path for r in upstream.requests} == {f"{VERSION}/{p}" for p in FILES}


def test_upstream_can_be_switched_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as upstream, Host({}) as mirror:
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url)
        monkeypatch.setenv("MOUSECMR_UPSTREAM", "0")
        with pytest.raises(DownloadError, match="404"):
            fetch_paths(manifest(FILES, upstream.template), cache=tmp_path, progress=False)
        assert upstream.requests == []


def test_a_flat_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host({Path(p).name: b for p, b in FILES.items()}) as mirror:
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url)
        assert right(fetch_paths(manifest(FILES), cache=tmp_path, progress=False))


def test_a_host_that_serves_wrong_bytes_is_reported_and_the_next_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Host(FILES) as bad, Host(FILES) as good:
        bad.fail_always("Data/Mouse1.h5", faults.flipped_byte)
        monkeypatch.setenv("MOUSECMR_MIRROR", f"{bad.url} {good.url}")
        with caplog.at_level("WARNING", log.name):
            done = fetch_files(manifest(FILES), cache=tmp_path, progress=False)
        assert right(done.paths)
        assert len(done.notes) == 1
        assert f"127.0.0.1:{bad.port}/Data/Mouse1.h5" in done.notes[0]
        assert "wrong bytes" in done.notes[0]
        assert done.notes[0] in caplog.text
        assert bad.sent["Data/Mouse1.h5"] == len(FILES["Data/Mouse1.h5"]), "it is not tried twice"


def test_a_folder_as_mirror(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = folder.with_name("plain")
    shutil.copytree(folder, plain)
    for n, mirror in enumerate((folder.as_uri(), str(plain))):
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror)
        assert right(fetch_paths(manifest(FILES), cache=tmp_path / f"cache{n}", progress=False))


def test_a_cache_is_a_mirror(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", folder.as_uri())
    first = fetch_paths(manifest(FILES), cache=tmp_path / "one", progress=False)
    monkeypatch.setenv("MOUSECMR_MIRROR", str(first["Mouse1"].parents[1]))
    assert right(fetch_paths(manifest(FILES), cache=tmp_path / "two", progress=False))


def test_a_damaged_folder_mirror(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "Data" / "Mouse1.h5").write_bytes(bytes(5001))
    monkeypatch.setenv("MOUSECMR_MIRROR", folder.as_uri())
    with pytest.raises(ChecksumError, match="Mouse1: git blob SHA-1"):
        fetch_paths(manifest(FILES), cache=tmp_path / "cache", progress=False)


def test_a_hugging_face_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", SECRET)
        monkeypatch.setenv("MOUSECMR_TOKEN", "of-another-host")
        monkeypatch.setenv("MOUSECMR_MIRROR", "hf://datasets/lab/mice")
        assert right(fetch_paths(manifest(FILES), cache=tmp_path, progress=False))
        assert {r.path for r in hub.requests} == {f"datasets/lab/mice/resolve/main/{p}" for p in FILES}
        assert {r.headers["authorization"] for r in hub.requests} == {f"Bearer {SECRET}"}


def test_the_token_goes_to_its_mirror_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as upstream, Host({}) as mirror, Host({}) as second:
        monkeypatch.setenv("MOUSECMR_TOKEN", SECRET)
        monkeypatch.setenv("MOUSECMR_MIRROR", f"{mirror.url} {second.url}")
        fetch_paths(manifest(FILES, upstream.template), cache=tmp_path, progress=False)
        assert {r.headers.get("authorization") for r in mirror.requests} == {f"Bearer {SECRET}"}
        assert {r.headers.get("authorization") for r in (*second.requests, *upstream.requests)} == {None}


def test_a_redirect_to_another_host_drops_the_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TLS and with a token set: the bytes are accepted, because they are verified; the token is not sent."""
    with Host(FILES) as mirror, Host(FILES) as elsewhere:
        mirror.fail("Data/Mouse1.h5", faults.redirect(f"{elsewhere.url}/Data/Mouse1.h5"))
        mirror.fail("Data/Mouse2.h5", faults.redirect("/again/Data/Mouse2.h5"))  # to itself
        # A redirect back to the mirror: a token once dropped stays dropped.
        elsewhere.fail("Data/Mouse1.h5", faults.redirect(f"{mirror.url}/back/Data/Mouse1.h5"))
        monkeypatch.setenv("MOUSECMR_TOKEN", SECRET)
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url)
        assert right(fetch_paths(manifest(FILES), cache=tmp_path, progress=False))
        assert [r.headers.get("authorization") for r in elsewhere.requests] == [None]
        sent = {r.path: r.headers.get("authorization") for r in mirror.requests}
        assert sent["Data/Mouse1.h5"] == f"Bearer {SECRET}"
        assert sent["again/Data/Mouse2.h5"] == f"Bearer {SECRET}"
        assert sent["back/Data/Mouse1.h5"] is None


def test_secrets_are_never_shown_or_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    events: list[str] = []
    with Host(FILES) as mirror:
        mirror.fail_always("Data/Mouse1.h5", faults.truncated)
        mirror.fail_always("Data/Mouse2.h5", faults.redirect("/x?signature=" + SECRET))
        monkeypatch.setenv("MOUSECMR_TOKEN", SECRET + "\n")
        monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url.replace("//", f"//user:{SECRET}@"))
        with caplog.at_level("DEBUG"), pytest.raises(DownloadError) as e:
            fetch_paths(manifest(FILES), cache=tmp_path, progress=lambda e: events.append(repr(e)), retry_policy=QUICK)
        used = {r.headers.get("authorization") for r in mirror.requests}
    assert used == {f"Bearer {SECRET}"}, "the token was sent"
    chain = [str(x) for x in (e.value, e.value.__cause__, e.value.__context__) if x is not None]
    stored = b"".join(p.read_bytes() for p in tmp_path.rglob("*.json"))
    basic = base64.b64encode(f"user:{SECRET}".encode()).decode()
    printed = [r.getMessage() for r in caplog.records if not r.name.startswith("urllib3")]
    for text in (*chain, *events, *printed, *capfd.readouterr(), stored.decode()):
        assert SECRET not in text
        assert basic not in text


def test_offline_makes_no_request_and_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = bodies(12, 100)
    with Host(many) as host:
        tiny = manifest(many, host.template)
        have = fetch_paths(tiny, ["Mouse3"], cache=tmp_path, progress=False)
        n_requests = len(host.requests)
        monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
        assert fetch_paths(tiny, ["Mouse3"], cache=tmp_path) == have
        with pytest.raises(MissingDataError, match="11 files are not in") as e:
            fetch_paths(tiny, cache=tmp_path)
        assert len(host.requests) == n_requests
    for text in ("Mouse1, Mouse2, Mouse4", "and 3 more", "MOUSECMR_OFFLINE", "mousecmr bundle import"):
        assert text in str(e.value)


def test_offline_still_reads_a_folder(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as host:
        monkeypatch.setenv("MOUSECMR_OFFLINE", "yes")
        monkeypatch.setenv("MOUSECMR_MIRROR", f"{host.url} {folder.as_uri()}")
        assert right(fetch_paths(manifest(FILES, host.template), cache=tmp_path / "cache", progress=False))
        assert host.requests == []


def test_nothing_to_download_from(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="names no URL") as e:
        fetch_paths(manifest(FILES), cache=tmp_path)
    assert "export MOUSECMR_MIRROR=" in str(e.value)


@pytest.mark.parametrize(
    "word", ["htps://a.org", "https://a.org:80a0", "http://[::1/x", "hf://datasets/lab", "file:///mnt/%00"]
)
def test_a_mirror_with_a_typo_is_named_and_the_next_source_is_tried(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Host(FILES) as upstream:
        monkeypatch.setenv("MOUSECMR_MIRROR", word)
        monkeypatch.setenv("MOUSECMR_TOKEN", SECRET)
        done = fetch_files(manifest(FILES, upstream.template), cache=tmp_path, progress=False)
    assert right(done.paths)
    if not word.startswith("file:"):  # a valid address: no file is there
        (note,) = done.notes  # once, not for each file
        assert word in note
        assert note in caplog.text


def test_an_invalid_address_of_the_hub_is_a_fault_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as upstream:
        monkeypatch.setenv("HF_ENDPOINT", "http://[hub")
        monkeypatch.setenv("HF_TOKEN", SECRET)
        assert right(fetch_paths(manifest(FILES, upstream.template), cache=tmp_path, progress=False))


def test_nothing_for_this_computer_goes_through_a_proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would see the token of a mirror at 127.0.0.1 or localhost, which is sent without TLS."""
    with Host(FILES) as mirror, Host({}) as proxy:
        for variable in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(variable, proxy.url)
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("MOUSECMR_TOKEN", SECRET)
        for name in ("127.0.0.1", "localhost"):
            monkeypatch.setenv("MOUSECMR_MIRROR", mirror.url.replace("127.0.0.1", name))
            assert right(fetch_paths(manifest(FILES), cache=tmp_path / name, progress=False))
        assert proxy.requests == []
        assert {r.headers.get("authorization") for r in mirror.requests} == {f"Bearer {SECRET}"}
        monkeypatch.setenv("MOUSECMR_MIRROR", "http://mirror.example.org")
        with pytest.raises(DownloadError, match="404"):
            fetch_paths(manifest(FILES), cache=tmp_path / "proxied", progress=False)
        assert proxy.requests, "other hosts are reached through the proxy"


def test_a_word_that_is_not_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", f"ftp://user:{SECRET}@old.example.org")
    with pytest.raises(DownloadError, match="not a mirror") as e:
        fetch_paths(manifest(FILES), cache=tmp_path)
    assert SECRET not in str(e.value)
    assert "Next: correct MOUSECMR_MIRROR" in str(e.value)
