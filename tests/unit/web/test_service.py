"""The actions of the page, without gradio or a browser."""

import re
import shlex
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from bad_files import bomb, png
from click.testing import CliRunner
from small_mouse import FLAT_FRAMES, SLICES, write_flat_mouse, write_small_mouse

from mousecmr_data.cli.main import main
from mousecmr_data.download.cache import get_weights_folder
from mousecmr_data.inference.predictor import load_model
from mousecmr_data.schema import PUBLISHED_WEIGHTS
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.html import render_results, render_table
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session, SessionStore, inspect_inputs

SMALL = ("phantom-small", "", "", "")


@pytest.fixture
def service(phantom_cache: Path) -> Iterator[PageService]:
    service = PageService(ServerConfig(cache=phantom_cache), SessionStore())
    service.predictors["phantom-small"] = load_model("phantom-small", engine="eager", device="cpu")
    yield service
    service.sessions.close()


@pytest.fixture
def session(service: PageService) -> Session:
    return service.sessions.open("session", "browser")


def put(session: Session, name: str, content: bytes = b"") -> Path:
    target = session.uploads.get_path(0, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def mouse(cache: Path, folder: Path, name: str) -> bytes:
    """Return the small mouse as a file of this name."""
    return write_small_mouse(cache, folder / name).read_bytes()


def ignore_progress(_: float, __: str) -> None:
    pass


def test_a_job_from_inspection_to_zip(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path
) -> None:
    put(session, "lab <b>mouse.nii.gz", mouse(phantom_cache, tmp_path, "lab <b>mouse.nii.gz"))
    text = service.inspect(session, *SMALL)
    assert f"{4 * SLICES} slices" in text
    assert "a guess" in text
    assert "<b>mouse" not in text  # cleaned or escaped
    reports: list[tuple[float, str]] = []
    status, outcome = service.segment(session, lambda *a: reports.append(a), *SMALL).result(60)
    assert outcome is not None, status
    shares = [share for share, _ in reports]
    assert shares == sorted(shares)
    assert any("12 of 12 slices" in text or "all slices done" in text for _, text in reports)
    tables = render_results(outcome)
    assert "trained on synthetic mice only" in tables
    assert "For research, not for clinical use." in tables
    assert "a guess" not in service.inspect(session, *SMALL)
    assert session.download is not None
    with zipfile.ZipFile(session.download) as z:
        names = set(z.namelist())
        folder = next(n for n in names if n.endswith("/masks.nii.gz")).removesuffix("masks.nii.gz")
        assert {f"{folder}{n}" for n in ("frames.csv", "slices.csv", "movie.webp", "montage.png", "curve.png")} <= names
        assert {f"mousecmr-results/{n}" for n in ("mice.csv", "frames.csv", "flags.csv", "manifest.json")} <= names
        everything = b"".join(z.read(n) for n in names)
    assert str(session.folder).encode() not in everything
    assert sorted(p.name for p in session.folder.iterdir()) == [".locks", "in1", "out", "results.zip", "view"]
    session.remove_files()
    assert list(session.folder.iterdir()) == []


def test_closing_the_page_ends_its_job_and_removes_everything(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path
) -> None:
    put(session, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))
    texts: list[str] = []

    def report(_: float, text: str) -> None:
        texts.append(text)
        if "reading" in text:
            service.sessions.close_session("session", "browser")

    job = service.segment(session, report, *SMALL)
    with pytest.raises(CancelledError):
        job.result(60)
    wait_for_all(service)
    assert not any("slices" in text for text in texts)
    assert not session.folder.exists()


class Pause:
    """A report of progress that waits at the first text with ``word``, until :meth:`go_on`."""

    def __init__(self, word: str) -> None:
        self.word, self._reached, self._goes_on = word, threading.Event(), threading.Event()

    def __call__(self, _: float, text: str) -> None:
        if self.word in text and not self._reached.is_set():
            self._reached.set()
            assert self._goes_on.wait(60)

    def wait(self) -> None:
        assert self._reached.wait(60)

    def go_on(self) -> None:
        self._goes_on.set()


def wait_for_all(service: PageService) -> None:
    """Wait until the thread of the jobs has nothing to do."""
    service.jobs.add(lambda _: None, 99).result(60)


@pytest.mark.parametrize("word", ["Loading", "reading", "measuring", "done", "Packing"])
def test_a_cancelled_job_ends_at_its_next_step_and_leaves_nothing(
    word: str, service: PageService, session: Session, phantom_cache: Path, tmp_path: Path
) -> None:
    put(session, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))
    pause = Pause(word)
    job = service.segment(session, pause, *SMALL)
    pause.wait()
    job.cancel()
    with pytest.raises(CancelledError):  # at once: its thread still waits
        job.result(0)
    pause.go_on()
    wait_for_all(service)
    assert [p.name for p in session.folder.iterdir()] == ["in1"]
    status, outcome = service.segment(session, ignore_progress, *SMALL).result(60)
    assert outcome is not None, status


def test_jobs_that_wait_are_counted_and_can_be_cancelled(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path
) -> None:
    put(session, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))
    others = [service.sessions.open(name, "browser") for name in "abc"]
    for other in others:
        put(other, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))
    pause = Pause("reading")
    running = service.segment(session, pause, *SMALL)
    pause.wait()
    waiting = [service.segment(other, ignore_progress, *SMALL) for other in others]
    assert [service.jobs.count_before(job) for job in [running, *waiting]] == [0, 1, 2, 3]
    waiting[0].cancel()
    service.sessions.close_session("b", "browser")
    assert not others[1].folder.exists()
    running.cancel()
    assert service.jobs.count_before(waiting[2]) == 1, "its thread is still at a step"
    pause.go_on()
    status, outcome = waiting[2].result(60)
    assert outcome is not None, status
    assert [p.name for p in others[0].folder.iterdir()] == ["in1"]


def test_too_many_waiting_jobs_are_refused(service: PageService, session: Session) -> None:
    put(session, "mouse.nii", b"x")
    pause = Pause("x")
    for _ in range(service.config.max_queue + 1):
        service.jobs.add(lambda _: pause(0, "x"), service.config.max_queue)
    status, outcome = service.segment(session, ignore_progress, *SMALL).result(0)
    assert outcome is None and "10 jobs are waiting already" in status and "try again" in status
    pause.go_on()


@pytest.mark.parametrize("is_example", [False, True])
def test_removing_files_cancels_the_job_and_spares_what_comes_later(
    is_example: bool, service: PageService, session: Session, phantom_cache: Path, tmp_path: Path
) -> None:
    put(session, "old.nii", mouse(phantom_cache, tmp_path, "old.nii"))
    session.uploads.reserve_bytes(1000, 2000, new=True)
    pause = Pause("reading")
    job = service.segment(session, pause, *SMALL)
    pause.wait()
    if is_example:
        assert "SYNTHETIC" in service.load_example(session, *SMALL)
    else:
        session.remove_files()
        assert (session.uploads.bytes, session.uploads.files) == (0, 0)
        put(session, "new.nii", mouse(phantom_cache, tmp_path, "new.nii"))
    assert job.cancelled()
    pause.go_on()
    wait_for_all(service)
    assert [p.name for p in session.folder.iterdir()] == ["in2"]
    assert "old" not in service.inspect(session, *SMALL)
    status, outcome = service.segment(session, ignore_progress, *SMALL).result(300)
    assert outcome is not None, status
    assert len(outcome.mice) == 1


def test_an_inspection_of_removed_files_describes_those_that_came_later(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(session, "old.nii", mouse(phantom_cache, tmp_path, "old.nii"))

    def inspect_and_replace(*args: Any) -> Any:
        found = inspect_inputs(*args)
        if found[0].name == "old":
            session.remove_files()
            put(session, "new.nii", mouse(phantom_cache, tmp_path, "new.nii"))
        return found

    monkeypatch.setattr("mousecmr_data.web.service.inspect_inputs", inspect_and_replace)
    text = service.inspect(session, *SMALL)
    assert "new" in text and "old" not in text
    assert [m.name for m in session.inspected] == ["new"]


def test_missing_weights_are_said_with_a_command_that_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = PageService(ServerConfig(cache=tmp_path), SessionStore())
    assert service.describe_weights("phantom-small") == ""
    assert service.describe_weights("/etc/passwd") == ""
    text = service.describe_weights(PUBLISHED_WEIGHTS)
    assert "not on this computer" in text and "156.2 MB" in text and "choose phantom-small" in text
    command = re.search("<code>mousecmr (.*?)</code>", text)
    assert command is not None
    monkeypatch.setenv("MOUSECMR_MIRROR", str(tmp_path / "mirror"))
    assert "switched off" not in text
    fetched = CliRunner().invoke(main, shlex.split(command[1]))
    assert "No such" not in fetched.output and "Usage" not in fetched.output, "options that exist"
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    assert "switched off" in service.describe_weights(PUBLISHED_WEIGHTS)
    weights = load_manifest().weights[PUBLISHED_WEIGHTS]
    folder = get_weights_folder(weights, tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{PUBLISHED_WEIGHTS}.safetensors").write_bytes(b"")
    assert service.describe_weights(PUBLISHED_WEIGHTS) == ""


def test_closing_the_page_during_an_inspection_removes_everything(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(session, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))

    def close_and_inspect(*args: Any) -> Any:
        service.sessions.close_session("session", "browser")
        assert session.folder.exists()
        return inspect_inputs(*args)

    monkeypatch.setattr("mousecmr_data.web.service.inspect_inputs", close_and_inspect)
    service.inspect(session, *SMALL)
    assert not session.folder.exists()
    service.load_example(session, *SMALL)  # requested just before
    assert not session.folder.exists()


def test_missing_weights_stop_the_job_with_both_next_steps(
    service: PageService, session: Session, phantom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    put(session, "mouse.nii", mouse(phantom_cache, tmp_path, "mouse.nii"))
    text, outcome = service.segment(session, ignore_progress, "mousecmr-9.4T-unet3plus", "", "", "").result(60)
    assert outcome is None
    assert "neither in the cache nor reachable" in text
    assert "bring the file to" in text
    assert "choose phantom-small under Weights" in text


def test_the_example_is_marked_synthetic(service: PageService, session: Session) -> None:
    put(session, "before.nii")
    text = service.load_example(session, *SMALL)
    assert "SYNTHETIC" in text
    assert "before" not in text
    assert len(session.uploads.list_inputs()) == 1


def test_nothing_to_segment(service: PageService, session: Session) -> None:
    assert "nothing to segment" in service.segment(session, ignore_progress, *SMALL).result(60)[0]


def test_bad_files_get_plain_messages(service: PageService, session: Session) -> None:
    put(session, "broken.zip", b"PK\x03\x04 and then nothing")
    assert bomb(session.uploads.get_path(0, "bomb.zip")).stat().st_size < 100_000
    put(session, "picture.nii", png())
    start = time.monotonic()
    text = service.inspect(session, *SMALL)
    assert time.monotonic() - start < 20
    assert "Traceback" not in text
    assert str(session.folder) not in text
    for name in ("broken", "bomb", "picture"):
        assert name in text
    assert text.count("m-bad") >= 1
    assert sorted(p.name for p in session.folder.iterdir()) == ["in1"]


def test_messages_name_the_fields_of_the_page_and_the_fields_cure_them(
    service: PageService, session: Session, phantom_cache: Path
) -> None:
    write_flat_mouse(phantom_cache, put(session, "flat.nii"))
    fields = ["phantom-small", "", "", "", "", ""]
    text = service.inspect(session, *fields)
    assert "Fill value: 0" in text and "fill in Fill value under" in text and "--" not in text
    fields[5] = "0"
    text = service.inspect(session, *fields)
    assert f": {FLAT_FRAMES}" in text and "Frames" in text.partition("On this page:")[2] and "--" not in text
    fields[4] = str(FLAT_FRAMES)
    assert f"{FLAT_FRAMES} × {SLICES}" in service.inspect(session, *fields)
    status, outcome = service.segment(session, ignore_progress, *fields).result(60)
    assert outcome is not None and not outcome.errors, status


def test_an_unexpected_error_is_shown_as_a_number_in_the_log(
    service: PageService, session: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(session, "mouse.nii")
    monkeypatch.setattr("mousecmr_data.web.service.inspect_inputs", lambda *_: 1 / 0)
    text = service.inspect(session, *SMALL)
    assert "ZeroDivision" not in text
    number = caplog.records[0].args
    assert isinstance(number, tuple)
    assert str(number[0]) in text


def test_names_from_files_are_escaped() -> None:
    table = render_table(["<i>", "a", "b", "c"], [["<script>alert(1)</script>", np.nan, pd.NA, 1.25]])
    assert "<script>" not in table
    assert "&lt;i&gt;" in table
    assert table.count("–") == 2
