"""What the page says and does, without gradio or a browser."""

import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bad_files import bomb, png
from small_mouse import SLICES, write_small_mouse

from mousecmr_data.inference.predictor import load_model
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.html import render_results, render_table
from mousecmr_data.web.service import PageService
from mousecmr_data.web.sessions import Session, SessionStore

SMALL = ("phantom-small", "", "", "")


@pytest.fixture
def desk(phantom_cache: Path) -> Iterator[PageService]:
    made = PageService(ServerConfig(cache=phantom_cache), SessionStore())
    made.predictors["phantom-small"] = load_model("phantom-small", engine="eager", device="cpu")
    yield made
    made.rooms.close()


@pytest.fixture
def room(desk: PageService) -> Session:
    return desk.rooms.open("session", "browser")


def put(room: Session, name: str, content: bytes = b"") -> Path:
    target = room.place(0, name)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return target


def quiet(_: float, __: str) -> None:
    pass


def test_a_job_from_look_to_zip(desk: PageService, room: Session, phantom_cache: Path) -> None:
    write_small_mouse(phantom_cache, put(room, "lab <b>mouse.nii.gz"))
    said = desk.look(room, *SMALL)
    assert f"{4 * SLICES} slices" in said
    assert "a guess" in said
    assert "<b>mouse" not in said  # cleaned or escaped
    told: list[tuple[float, str]] = []
    status, outcome = desk.segment(room, lambda *a: told.append(a), *SMALL)
    assert outcome is not None, status
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert any("12 of 12 slices" in text or "all slices done" in text for _, text in told)
    tables = render_results(outcome)
    assert "trained on synthetic mice only" in tables
    assert "For research, not for clinical use." in tables
    assert "a guess" not in desk.look(room, *SMALL)
    assert room.download is not None
    with zipfile.ZipFile(room.download) as z:
        names = set(z.namelist())
        place = next(n for n in names if n.endswith("masks.nii.gz")).removesuffix("masks.nii.gz")
        assert {f"{place}{n}" for n in ("frames.csv", "slices.csv", "movie.webp", "montage.png", "curve.png")} <= names
        assert {f"mousecmr-results/{n}" for n in ("mice.csv", "frames.csv", "flags.csv", "manifest.json")} <= names
        everything = b"".join(z.read(n) for n in names)
    assert str(room.folder).encode() not in everything
    assert sorted(p.name for p in room.folder.iterdir()) == ["in", "out", "results.zip", "view"]
    desk.empty(room)
    assert list(room.folder.iterdir()) == []


def test_closing_the_page_ends_its_job_and_removes_everything(
    desk: PageService, room: Session, phantom_cache: Path
) -> None:
    write_small_mouse(phantom_cache, put(room, "mouse.nii"))
    texts: list[str] = []

    def tell(_: float, text: str) -> None:
        texts.append(text)
        if "reading" in text:
            desk.rooms.leave("session")

    assert desk.segment(room, tell, *SMALL) == ("", None)
    assert not any("slices" in text for text in texts)
    assert not room.folder.exists()


def test_absent_weights_stop_with_both_ways_on(
    desk: PageService, room: Session, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    write_small_mouse(phantom_cache, put(room, "mouse.nii"))
    said, outcome = desk.segment(room, quiet, "mousecmr-9.4T-unet3plus", "", "", "")
    assert outcome is None
    assert "neither in the cache nor reachable" in said
    assert "bring the file to" in said
    assert "choose phantom-small under Weights" in said


def test_the_example_says_that_it_is_synthetic(desk: PageService, room: Session) -> None:
    put(room, "before.nii")
    said = desk.example(room, *SMALL)
    assert "SYNTHETIC" in said
    assert "before" not in said
    assert len(room.inputs()) == 1


def test_nothing_to_segment(desk: PageService, room: Session) -> None:
    assert "nothing to segment" in desk.segment(room, quiet, *SMALL)[0]


def test_bad_files_get_plain_words(desk: PageService, room: Session) -> None:
    put(room, "broken.zip", b"PK\x03\x04 and then nothing")
    assert bomb(room.place(0, "bomb.zip")).stat().st_size < 100_000
    put(room, "picture.nii", png())
    start = time.monotonic()
    said = desk.look(room, *SMALL)
    assert time.monotonic() - start < 20
    assert "Traceback" not in said
    assert str(room.folder) not in said
    for name in ("broken", "bomb", "picture"):
        assert name in said
    assert said.count("m-bad") >= 1
    assert sorted(p.name for p in room.folder.iterdir()) == ["in"]


def test_an_unknown_error_is_a_number_in_the_log(
    desk: PageService, room: Session, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put(room, "mouse.nii")
    monkeypatch.setattr("mousecmr_data.web.service.inspect_inputs", lambda *_: 1 / 0)
    said = desk.look(room, *SMALL)
    assert "ZeroDivision" not in said
    number = caplog.records[0].args
    assert isinstance(number, tuple)
    assert str(number[0]) in said


def test_names_from_files_are_escaped() -> None:
    table = render_table(["<i>"], [["<script>alert(1)</script>", np.nan, pd.NA, 1.25]])
    assert "<script>" not in table
    assert "&lt;i&gt;" in table
    assert table.count("–") == 2
