"""The page below a path and behind a reverse proxy, in a real browser."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_app import IN_BROWSER, open_chromium, served_page
from servers.reverse_proxy import reverse_proxy
from small_mouse import SLICES, write_small_mouse

from mousecmr_data.web.config import ServerConfig

gradio = pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PREFIX = "/user/ann/proxy/7860"
TOKEN = "a-secret-of-the-link"
pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def target(phantom_cache: Path) -> Iterator[str]:
    """The page's own host and port."""
    options = ServerConfig(weights="phantom-small", cache=phantom_cache, root_path=PREFIX, token=TOKEN)
    with served_page(options) as (host, _):
        yield host


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


@pytest.mark.parametrize(
    ("strip", "keep_host"),
    [
        pytest.param(True, True, id="Jupyter"),
        pytest.param(True, False, id="nginx"),
        pytest.param(False, True, id="Open OnDemand"),
        pytest.param(False, False, id="path and host of its own"),
    ],
)
def test_a_mouse_from_drop_to_zip_through_a_proxy(
    strip: bool, keep_host: bool, target: str, browser: Any, phantom_cache: Path, tmp_path: Path
) -> None:
    mouse, problems = write_small_mouse(phantom_cache, tmp_path / "our mouse.nii.gz"), []
    with reverse_proxy(target, PREFIX, strip=strip, keep_host=keep_host) as address:
        context = browser.new_context(viewport={"width": 1200, "height": 1000}, accept_downloads=True)
        page = context.new_page()
        page.set_default_timeout(60_000)
        local = (f"{address}{PREFIX}/", "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(local) or problems.append(f"request to {r.url}"))
        page.on("pageerror", lambda e: problems.append(f"script error {e}"))
        page.on("console", lambda m: "Refused" in m.text and problems.append(m.text))
        assert page.goto(f"{address}{PREFIX}/").status == 403, "without the link"
        page.goto(f"{address}{PREFIX}/?token={TOKEN}")
        assert page.url == f"{address}{PREFIX}/", "the token leaves the address bar"
        page.wait_for_selector("#segment:enabled")
        cookie = context.cookies()[0]
        assert cookie["path"] == PREFIX, "other pages of this host do not get it"
        page.set_input_files("[data-input=files]", [str(mouse)])
        page.wait_for_function(f"document.querySelector('#seen').innerText.includes('{4 * SLICES} slices')")
        page.click("#segment")
        page.wait_for_selector("#status .m-done")
        page.wait_for_function("document.querySelector('.m-viewer').dataset.drawn?.endsWith('/true/true')")
        page.screenshot(path=tmp_path / "page.png", full_page=True)
        with page.expect_download() as waiting:
            page.click("#download a")
        waiting.value.save_as(tmp_path / "results.zip")
        assert any(n.endswith("masks.nii.gz") for n in zipfile.ZipFile(tmp_path / "results.zip").namelist())
        context.close()
    favicon = f"{address}/favicon.ico"
    assert [p for p in problems if favicon not in p and "manifest.json" not in p] == []
