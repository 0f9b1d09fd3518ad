"""The page of the leaderboard in a browser: it sorts, filters and opens the mice of an entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import layout_files
import numpy as np
import pytest

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytest.importorskip("jinja2", reason="the extra evaluation is not installed")

import small_protocol
from page_app import IN_BROWSER, open_chromium

import mousecmr_data as md
from mousecmr_data.evaluation import protocols
from mousecmr_data.evaluation.leaderboard import check_leaderboard, submit, write_leaderboard
from mousecmr_data.evaluation.protocols import read_protocol

pytestmark = IN_BROWSER
SCRIPT = "<script>document.title = 'taken over'</script>"


@pytest.fixture
def page_file(tmp_path: Path, phantom_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the page of three entries: the truth, moved by one, two and three pixels."""
    small_protocol.write_protocol(tmp_path, "browser")
    monkeypatch.setattr(protocols, "PROTOCOLS_FOLDER", tmp_path)
    mice = md.load(mice=small_protocol.MICE["test"], source=small_protocol.SOURCE, cache=phantom_cache)
    for by in (1, 2, 3):
        for name, ds in mice.items():
            labelled = np.flatnonzero(ds["labelled"].values).tolist()
            masks = np.roll(ds["mask"].values, by, axis=3).transpose(2, 3, 1, 0)
            for condition in ("clean", "noise-5"):
                masks[0, 0, :, labelled] = condition == "noise-5"  # masks of other images differ
                path = tmp_path / f"moved-{by}" / condition / f"{name}.h5"
                layout_files.write(path, labelled, np.zeros(masks.shape, np.uint16), masks)
        where = (tmp_path / f"moved-{by}", f"moved-{by}", read_protocol("browser"), small_protocol.SOURCE)
        card: dict[str, Any] = {"method": f"moved {by} {SCRIPT}", "licence": "CC0-1.0"}
        submit(*where, tmp_path / "board", **card, about={"parameters": 10 - by}, cache=phantom_cache)
    return write_leaderboard(check_leaderboard(tmp_path / "board"), tmp_path / "index.html")


def test_the_page_sorts_filters_and_opens_mice(page_file: Path) -> None:
    with open_chromium() as chromium:
        page = chromium.new_page()
        errors: list[Any] = []
        page.on("pageerror", lambda error: errors.append(error))
        page.goto(page_file.as_uri())

        def list_names() -> list[str]:
            return [name.inner_text() for name in page.locator("tbody:visible > tr:first-child strong").all()]

        assert list_names() == ["moved-1", "moved-2", "moved-3"]
        page.get_by_role("button", name="Dice").click()
        assert list_names() == ["moved-3", "moved-2", "moved-1"]
        page.get_by_role("button", name="parameters").click()
        page.get_by_role("button", name="parameters").click()
        assert list_names() == ["moved-1", "moved-2", "moved-3"]
        page.get_by_role("searchbox").fill("moved-2")
        assert list_names() == ["moved-2"]
        assert not page.get_by_text("Mouse12").first.is_visible()
        page.locator("tbody:visible summary").click()
        page.locator("tbody:visible").get_by_text("Mouse12").wait_for()  # the event that opens them comes later
        page.get_by_role("checkbox").check()
        assert list_names() == []
        assert page.title() == "Leaderboard of pre-clinical cardiac MRI" and not errors
