"""Results that stay: ``mousecmr serve --keep FOLDER``, without a browser."""

import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from page_app import page_app
from small_mouse import write_small_mouse

from mousecmr_data.cli.main import main
from mousecmr_data.errors import OutputError
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.html import render_kept
from mousecmr_data.web.kept import KeptResults
from mousecmr_data.web.middleware import COOKIE_NAME
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
testclient = pytest.importorskip("starlette.testclient")
TestClient = partial(testclient.TestClient, base_url="http://127.0.0.1:7860")
SMALL = ("phantom-small", "", "", "")
pytestmark = [  # warnings of gradio and the test client
    pytest.mark.filterwarnings("ignore:.*no_silent_downcasting"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def keep(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def client(keep: Path) -> Iterator[Any]:
    """The page with kept results, opened by a browser."""
    with page_app(ServerConfig(keep=keep)) as app, TestClient(app, raise_server_exceptions=False) as client:
        client.get("/")
        yield client


def open_session(client: Any, cache: Path, tmp_path: Path, *mice: str) -> tuple[PageService, Session]:
    service: PageService = client.app.state.service
    session = service.sessions.open("session", client.cookies[COOKIE_NAME].rpartition(".")[0])
    for k, name in enumerate(mice):
        target = session.uploads.get_path(k, f"{name}.nii")
        target.parent.mkdir(parents=True)
        target.write_bytes(write_small_mouse(cache, tmp_path / "mouse.nii").read_bytes())
    return service, session


def wait_until_gone(folder: Path) -> None:
    end = time.monotonic() + 60
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert not folder.exists()


def test_a_job_goes_on_when_its_page_is_closed_and_its_results_stay(
    client: Any, keep: Path, phantom_cache: Path, tmp_path: Path
) -> None:
    service, session = open_session(client, phantom_cache, tmp_path, "M1", "M2")
    seen: list[str] = []

    def report(_: float, text: str) -> None:
        if text.startswith("M2: reading"):
            service.sessions.close_session("session", session.owner)
            seen.append(service.describe_kept(session.owner))
            seen.append(service.describe_kept("another"))

    status, outcome = service.segment(session, report, *SMALL).result(120)
    assert outcome is not None, status
    wait_until_gone(session.folder)  # the uploads are deleted
    assert "running: M2: reading" in seen[0] and "data-cancel" in seen[0] and "M1" in seen[0]
    assert "review" not in seen[0], "results that are being written cannot be changed"
    assert "data-cancel" not in seen[1]
    (folder,) = (p for p in keep.iterdir() if p.name != ".locks")
    assert re.fullmatch(r"\d{4}(-\d\d){2}_\d\d(-\d\d){2}", folder.name)
    assert {p.name for p in folder.iterdir()} >= {"M1", "M2", "mice.csv", "manifest.json"}
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    with page_app(ServerConfig(keep=keep)) as app, TestClient(app) as later:  # a restart
        later.get("/")
        text = app.state.service.describe_kept("somebody")
        assert "M1, M2" in text and "finished" in text and "running" not in text
        address = re.search('href="(mice/[^"]+/results.zip)"', text)
        assert address is not None
        assert later.get(f"/{address[1]}").status_code == 200
        (tmp_path / "results.zip").write_bytes(later.get(f"/{address[1]}").content)
        names = zipfile.ZipFile(tmp_path / "results.zip").namelist()
        assert {f"mousecmr-results/{m}/masks.nii.gz" for m in ("M1", "M2")} <= set(names)
        assert not list(app.state.service.sessions.folder.glob("*.zip"))
        assert [m["mouse"] for m in later.get(f"/{address[1].replace('results.zip', 'mice')}").json()] == ["M1", "M2"]
        guessed = re.sub("mice/[^/]+", "mice/guess", address[1])
        assert later.get(f"/{guessed}").status_code == 404
        later.cookies.clear()
        assert later.get(f"/{address[1]}").status_code == 404, "the page must be opened first"
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_cancelled_job_keeps_its_whole_mice_and_an_empty_folder_is_removed(
    client: Any, keep: Path, phantom_cache: Path, tmp_path: Path
) -> None:
    service, session = open_session(client, phantom_cache, tmp_path, "M1", "M2")
    for word in ("M1: reading", "M2: reading"):

        def report(_: float, text: str, word: str = word) -> None:
            if text == word:
                assert session.job is not None
                (run,) = (r for r in service.kept.list_runs() if r.job is session.job)  # type: ignore[union-attr]
                service.cancel_kept(run.token, "another browser")
                assert not session.job.cancelled()
                service.cancel_kept(run.token, session.owner)
                assert session.job.cancelled()

        service.segment(session, report, *SMALL)
        service.jobs.add(lambda _: None, 99).result(60)
    (folder,) = (p for p in keep.iterdir() if p.name != ".locks")
    assert [p.name for p in folder.iterdir()] == ["M1"]
    text = service.describe_kept(session.owner)
    assert "M1" in text and "unfinished" in text and "Review" in text
    assert [p.name for p in session.folder.iterdir()] == ["in1"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from mousecmr_data.inference.predictor import load_model
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.kept import KeptResults
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import SessionStore
service = PageService(ServerConfig(), SessionStore(), kept=KeptResults(Path(sys.argv[2])))
service.predictors["phantom-small"] = load_model("phantom-small", engine="eager", device="cpu")
session = service.sessions.open("session", "browser")
for k in (1, 2):
    target = session.uploads.get_path(k, f"M{k}.nii")
    target.parent.mkdir(parents=True)
    target.write_bytes(Path(sys.argv[3]).read_bytes())
def report(share, text):
    if text.startswith("M2: all slices done"):
        run = service.kept.list_runs()[0]
        (run.folder / ".part-01234567-M2").mkdir()
        (run.folder / ".part-01234567-M2" / "masks.nii.gz").write_bytes(b"half")
        print(KeptResults(Path(sys.argv[2])).list_runs()[0].folder.name, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
service.segment(session, report, "phantom-small", "", "", "").result()
"""


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_a_killed_program_leaves_whole_mice_which_the_next_one_lists_as_unfinished(
    keep: Path, phantom_cache: Path, tmp_path: Path
) -> None:
    mouse = write_small_mouse(phantom_cache, tmp_path / "mouse.nii")
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parents[2]), str(keep), str(mouse)]
    killed = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = KeptResults(keep)
    (run,) = kept.list_runs()
    assert [p.name for p in run.folder.iterdir()] == ["M1"]
    text = render_kept([(run, kept.is_running(run))], "browser")
    assert "M1" in text and "unfinished" in text


def test_another_program_does_not_disturb_a_running_job(keep: Path) -> None:
    kept, other = KeptResults(keep), None
    run = kept.start("browser")
    part = run.folder / ".part-01234567-M1"
    with kept.hold(run):
        part.mkdir()
        script = "import sys; from pathlib import Path; from mousecmr_data.web.kept import KeptResults\n"
        script += "kept = KeptResults(Path(sys.argv[1])); print([kept.is_running(r) for r in kept.list_runs()])"
        other = subprocess.run([sys.executable, "-c", script, str(keep)], capture_output=True, text=True, timeout=300)
        assert other.stdout == "[True]\n", other.stderr
        assert part.exists()
    KeptResults(keep)
    assert not part.exists()


def test_two_jobs_of_one_second_have_two_folders_and_other_folders_are_not_listed(keep: Path, tmp_path: Path) -> None:
    kept = KeptResults(keep)
    runs = [kept.start("browser") for _ in range(3)]
    assert len({run.folder for run in runs}) == 3
    (keep / "our notes").mkdir()
    (keep / "2026-01-01_00-00-00").symlink_to(tmp_path)
    assert {run.folder for run in KeptResults(keep).list_runs()} == {run.folder for run in runs}


@pytest.mark.parametrize("kind", ["file", "below a file", "not writable"])
def test_a_folder_that_cannot_be_written_is_an_error_at_the_start(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    folder = {"file": tmp_path / "file", "below a file": tmp_path / "file" / "kept", "not writable": Path("/proc/kept")}
    if kind == "not writable" and not Path("/proc/self").exists():
        pytest.skip("there is no /proc")
    with pytest.raises(OutputError, match="--keep ANOTHER/FOLDER") as error:
        KeptResults(folder[kind])
    assert str(folder[kind]) in str(error.value)
    result = CliRunner().invoke(main, ["serve", "--port", "0", "--no-browser", "--keep", str(folder[kind])])
    assert result.exit_code == 1 and "--keep ANOTHER/FOLDER" in result.output and "Traceback" not in result.output
    assert (tmp_path / "file").read_text() == "x"
