"""The commands fetch, verify, lock and bundle, as a user types them."""

import csv
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from servers import faults
from servers.cohort import QUICK, bodies, fetch_paths, git_blob_sha1, manifest, write_manifest
from servers.host import Host

from mousecmr_data.cli.main import main
from mousecmr_data.download.fetch import fetch_weights
from mousecmr_data.download.verify import check_upstream
from mousecmr_data.errors import ChecksumError, MissingDataError, UnknownNameError
from mousecmr_data.schema.manifest import Weights

FILES = bodies(3, 5000)
Run = Callable[..., Result]


@pytest.fixture
def host() -> Iterator[Host]:
    with Host(FILES) as host:
        yield host


@pytest.fixture
def run(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`mousecmr` with the cache set."""
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    folder = write_manifest(tmp_path / "manifest", FILES, host.template)

    def run(*words: str, source: bool = True) -> Result:
        return CliRunner().invoke(main, [*words, *(["--source", str(folder)] if source else [])])

    return run


def test_fetch(run: Run, tmp_path: Path) -> None:
    first = run("fetch", "Mouse2")
    assert first.exit_code == 0, first.output
    assert "1 file on this disk, verified; 1 downloaded now." in first.stdout
    answer = json.loads(run("fetch", "--json").stdout)
    assert answer["downloaded"] == ["Mouse1", "Mouse3"]
    assert {f"Data/{Path(p).name}": Path(p).read_bytes() for p in answer["paths"].values()} == FILES
    assert all(p.startswith(str(tmp_path / "cache")) for p in answer["paths"].values())


def test_fetch_reports_hosts_that_serve_wrong_bytes(run: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host(FILES) as bad:
        bad.fail_always("Data/Mouse1.h5", faults.html)
        monkeypatch.setenv("MOUSECMR_MIRROR", bad.url)
        result = run("fetch", "Mouse1")
    assert result.exit_code == 0
    assert "wrong bytes: a web page instead of the file" in result.stderr
    assert len(host.gets()) == 1


def test_errors_have_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    result = run("fetch")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: tiny 0123456789ab: 3 files are not in")
    assert run("fetch", "Mouse77").exit_code == 1


def test_verify_and_repair(run: Run, host: Host, tmp_path: Path) -> None:
    run("fetch")
    assert run("verify", "--no-content").exit_code == 0
    path = next((tmp_path / "cache").rglob("Mouse3.h5"))
    path.write_bytes(b"damaged")
    result = run("verify", "--no-content")
    assert result.exit_code == 1
    assert "corrupt" in result.stdout
    assert "3 files: 2 valid, 1 with problems." in result.stdout
    assert "mousecmr verify --repair" in result.stdout
    before = len(host.requests)
    rows = json.loads(run("verify", "--no-content", "--repair", "--json").stdout)
    assert [r["bytes"] for r in rows] == ["ok", "ok", "ok"]
    assert rows[2]["detail"].startswith("repaired; was corrupt: ")
    assert len(host.requests) == before + 1
    assert path.read_bytes() == FILES["Data/Mouse3.h5"]


def test_verify_audits_content(run: Run) -> None:
    """The bytes match the manifest, but are not a mouse."""
    run("fetch")
    result = run("verify", "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)
    assert [r["bytes"] for r in rows] == ["ok", "ok", "ok"]
    assert all(r["problems"] and r["trouble"] for r in rows)


def test_lock_export(run: Run, tmp_path: Path) -> None:
    run("fetch", "Mouse2")
    text = run("lock", "export").stdout
    rows = list(csv.DictReader(text.splitlines()))
    body = FILES["Data/Mouse2.h5"]
    assert rows[1] == {
        "mouse": "Mouse2",
        "path": "Data/Mouse2.h5",
        "git_blob_sha1": git_blob_sha1(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "size": str(len(body)),
    }
    assert (rows[0]["sha256"], rows[0]["size"]) == ("", "")
    (tmp_path / "manifest" / "files.csv").write_text(text)  # the output can replace files.csv
    assert run("fetch").exit_code == 0
    assert json.loads(run("lock", "export", "--json").stdout)[0]["size"] == len(FILES["Data/Mouse1.h5"])


def test_bundle(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("fetch")
    made = run("bundle", "create", str(tmp_path / "mice.zip"), "Mouse1", "Mouse3")
    assert made.exit_code == 0, made.output
    assert "mousecmr bundle import mice.zip" in made.stdout
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    result = run("bundle", "import", str(tmp_path / "mice.zip"))
    assert "2 files of tiny on this disk, verified; 2 new." in result.stdout
    assert run("fetch", "Mouse1", "Mouse3").exit_code == 0
    assert "1 file is not in" in run("fetch").stderr
    refused = run("bundle", "import", str(tmp_path / "mice.zip"), source=False)
    assert refused.exit_code == 1
    assert "has no manifest" in refused.stderr


def test_check_upstream_downloads_nothing(run: Run, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_MIRROR", "http://127.0.0.1:9")  # a mirror is not upstream
    result = run("fetch", "--check-upstream")
    assert result.exit_code == 0, result.output
    assert "3 of 3 files are available." in result.stdout
    assert {r.method for r in host.requests} == {"HEAD"}
    assert sum(host.sent.values()) == 0
    host.fail_always("Data/Mouse2.h5", faults.status(404))
    result = run("fetch", "--check-upstream")
    assert result.exit_code == 1
    assert "Mouse2" in result.stdout
    assert "2 of 3 files are available." in result.stdout
    answers = json.loads(run("fetch", "--check-upstream", "--json").stdout)
    assert [a["size"] for a in answers] == [len(FILES["Data/Mouse1.h5"]), None, len(FILES["Data/Mouse3.h5"])]
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    assert run("fetch", "--check-upstream").exit_code == 1


def test_check_upstream_notices_another_size_and_a_busy_host(host: Host) -> None:
    tiny = manifest(FILES, host.template, sizes=True)
    other = replace(tiny, files=tiny.files | {"Mouse1": replace(tiny.files["Mouse1"], size=7)})
    host.fail_always("Data/Mouse3.h5", faults.status(503))
    answers = check_upstream(other, retry_policy=QUICK)
    assert [a.answers for a in answers] == [False, True, False]
    assert answers[0].trouble == "5,001 bytes instead of 7"
    assert answers[2].trouble == "HTTP 503 from 127.0.0.1 (4 tries)"


NETWORK = bytes(range(256)) * 40


def test_weights_and_their_git_lfs_pointer(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(NETWORK).hexdigest()
    with Host({"ModelWeights/net.h5": NETWORK}) as host:
        weights = Weights("net", "ModelWeights/net.h5", host.template, sha256, len(NETWORK), "", (1,), ("a",), "", "")
        tiny = replace(manifest(FILES), weights={"net": weights})
        host.fail("ModelWeights/net.h5", faults.instead(faults.POINTER, "text/plain"))
        with pytest.raises(ChecksumError, match="Git LFS pointer"):
            fetch_weights(tiny, "net", cache=tmp_path, progress=False, retry_policy=QUICK)
        path = fetch_weights(tiny, cache=tmp_path, progress=False)
        assert path == tmp_path / "weights" / "net" / sha256[:12] / "net.h5"
        assert path.read_bytes() == NETWORK
        requests = len(host.requests)
        assert fetch_weights(tiny, "net", cache=tmp_path) == path
        assert len(host.requests) == requests
    with pytest.raises(UnknownNameError, match="no file of weights 'other'"):
        fetch_weights(tiny, "other", cache=tmp_path)
    with pytest.raises(MissingDataError):
        fetch_weights(tiny, "net", cache=tmp_path / "empty", offline=True)


def test_fetch_accepts_no_mouse_at_all(tmp_path: Path) -> None:
    assert fetch_paths(manifest(FILES), [], cache=tmp_path) == {}
