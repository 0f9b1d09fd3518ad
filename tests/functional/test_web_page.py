"""The page in a real browser: upload, segment, view, download; two visitors; bad files; no other server requested."""

from __future__ import annotations

import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from bad_files import bomb, png
from page_app import IN_BROWSER, open_chromium, served_page
from small_mouse import FLAT_FRAMES, SLICES, write_flat_mouse, write_small_mouse

from mousecmr_data.web.config import ServerConfig

gradio = pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

PATIENCE_MS = 60_000
pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def served(phantom_cache: Path) -> Iterator[tuple[str, Any]]:
    """The address of the page, and its service."""
    options = ServerConfig(weights="phantom-small", cache=phantom_cache)
    with served_page(options) as (host, service):
        yield f"http://{host}/", service


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


@pytest.fixture
def visit(served: tuple[str, Any], browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens the page as a new visitor. No other address may be requested, and no script may fail."""
    contexts, problems = [], []

    def open_page(**options: Any) -> Any:
        options = {"viewport": {"width": 1200, "height": 1000}, "accept_downloads": True} | options
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        local = (served[0], "data:", "blob:")
        page.on("request", lambda r: r.url.startswith(local) or problems.append(f"request to {r.url}"))
        page.on("pageerror", lambda e: problems.append(f"script error {e}"))
        page.goto(served[0])
        page.wait_for_selector("#drop .m-drop")
        page.wait_for_selector("#segment:enabled")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def drop(page: Any, *paths: Path) -> str:
    """Choose files like the button does; return the page's description of them."""
    script = "(document.querySelector('#seen .m-seen')?.innerText ?? '')"
    before = page.evaluate(script)
    page.set_input_files("[data-input=files]", [str(p) for p in paths])
    page.wait_for_function(f"b => ![b, ''].includes({script})", arg=before)
    text: str = page.evaluate(script)
    return text


def drawn(page: Any) -> str:
    """Slice, frame, masks, whether all is loaded."""
    found: str = page.get_attribute(".m-viewer", "data-drawn")
    return found


def pixels(page: Any) -> str:
    code = "document.querySelector('.m-viewer canvas').toDataURL()"
    found: str = page.evaluate(code)
    return found


def slide(page: Any, name: str, value: int) -> None:
    page.locator(f"[data-slide={name}]").fill(str(value))


@pytest.fixture
def held(served: tuple[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Jobs stay at the loading of weights until this is set."""
    yield from hold_jobs(served[1], monkeypatch)


def hold_jobs(service: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    goes_on, load = threading.Event(), service.get_predictor

    def wait_and_load(config: Any) -> Any:
        assert goes_on.wait(120)
        return load(config)

    monkeypatch.setattr(service, "get_predictor", wait_and_load)
    yield goes_on
    goes_on.set()


def segment(page: Any, *paths: Path) -> None:
    """Drop files, segment them, and wait for the results."""
    drop(page, *paths)
    page.click("#segment")
    page.wait_for_selector("#status .m-done")
    page.wait_for_function("document.querySelector('.m-viewer').dataset.drawn?.endsWith('/true/true')")


def asks_before_leaving(page: Any) -> bool:
    """Try to leave the page; return whether it asked, and was told to stay."""
    asked: list[str] = []

    def stay(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    page.once("dialog", stay)
    page.evaluate("setTimeout(() => { location.href = 'favicon.ico'; }, 0)")
    end = time.monotonic() + 10
    while not asked and page.url.endswith("/") and time.monotonic() < end:
        page.wait_for_timeout(100)
    return asked == ["beforeunload"]


def find_violations(page: Any) -> list[Any]:
    """Return what axe finds: rule and elements."""
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    return [(v["id"], [n["html"][:200] for n in v["nodes"]]) for v in page.evaluate("axe.run()")["violations"]]


def gone(folder: Path) -> bool:
    end = time.monotonic() + 30
    while folder.exists() and time.monotonic() < end:
        time.sleep(0.1)
    return not folder.exists()


def test_two_visitors_at_once_from_drop_to_zip(
    visit: Callable[..., Any], served: tuple[str, Any], phantom_cache: Path, tmp_path: Path
) -> None:
    service = served[1]
    mouse = write_small_mouse(phantom_cache, tmp_path / "our mouse.nii.gz")
    pages = [visit(), visit()]
    assert "For research, not for clinical use." in pages[0].inner_text("body")
    for page in pages:
        text = drop(page, mouse)
        assert f"{4 * SLICES} slices" in text
        assert "about" in text
    for page in pages:
        page.evaluate(  # record all texts of the status
            """() => { window.statusTexts = []; new MutationObserver(() => window.statusTexts.push(
            document.querySelector('#status').innerText)).observe(document.querySelector('#status'),
            {subtree: true, childList: true, characterData: true}); }"""
        )
        page.click("#segment")
    for page in pages:
        page.wait_for_selector("#status .m-done")
        page.wait_for_function("document.querySelector('.m-viewer').dataset.drawn?.endsWith('/true/true')")
        assert "slices" in " ".join(page.evaluate("window.statusTexts"))
    assert any("queue" in s for s in pages[1].evaluate("window.statusTexts"))  # its place during the other job

    page = pages[0]
    with_masks = pixels(page)
    page.uncheck("[data-switch=masks]")
    without = pixels(page)
    assert without != with_masks
    slide(page, "slice", 0)
    slide(page, "frame", 2)
    page.wait_for_function("document.querySelector('.m-viewer').dataset.drawn === '0/2/false/true'")
    assert pixels(page) != without
    assert page.locator(".m-viewer svg circle").count() == 4
    assert "Frame 2" in page.inner_text(".m-viewer-now")
    page.check("[data-switch=masks]")
    page.click("[data-do=play]")
    page.wait_for_function("!document.querySelector('.m-viewer').dataset.drawn.startsWith('0/2/')")
    page.click("[data-do=play]")

    tables = page.inner_text("#results")
    assert "trained on synthetic mice only" in tables
    assert "EF" in tables
    with page.expect_download() as waiting:
        page.click("#download a")
    waiting.value.save_as(tmp_path / "results.zip")
    with zipfile.ZipFile(tmp_path / "results.zip") as z:
        names = [n.rpartition("/")[2] for n in z.namelist()]
        assert {"masks.nii.gz", "mice.csv", "frames.csv", "movie.webp", "manifest.json"} <= set(names)
        assert "our_mouse" in z.namelist()[0] + "".join(z.namelist())
        assert b"trained on synthetic mice only" in z.read("mousecmr-results/mice.csv")

    # The other visitor cannot use the link.
    address = page.eval_on_selector("#download a", "a => a.href")
    assert page.context.request.get(address).status == 200
    assert pages[1].context.request.get(address).status == 404
    assert len(service.sessions) == 2
    session = service.sessions._by_token[re.search("/mice/([^/]+)/", address)[1]]  # type: ignore[index]
    assert session.folder.exists()
    page.close()
    assert gone(session.folder)
    assert len(service.sessions) == 1


def test_one_folder_is_dropped_and_another_one_chosen(
    visit: Callable[..., Any], phantom_cache: Path, tmp_path: Path
) -> None:
    study = tmp_path / "study"
    for name in ("first", "second"):
        (study / name / "scans").mkdir(parents=True)
        write_small_mouse(phantom_cache, study / name / "scans" / f"{name}.nii.gz")
    (study / ".DS_Store").write_bytes(b"of a Mac")
    page = visit()
    box = page.locator("#drop .m-drop").bounding_box()
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        data = {"items": [], "files": [str(study)], "dragOperationsMask": 1}
        devtools.send("Input.dispatchDragEvent", {"type": kind, **point, "data": data})
    page.wait_for_selector("#seen .m-expected")
    text = page.inner_text("#seen")
    assert "2 mice" in text
    assert "first" in text
    assert "second" in text
    page.set_input_files("[data-input=folder]", str(study / "first"))
    page.wait_for_function("document.querySelector('#seen').innerText.includes('3 mice')")


def test_bad_files_get_plain_messages_and_the_page_still_works(
    visit: Callable[..., Any], phantom_cache: Path, tmp_path: Path
) -> None:
    page = visit()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "picture.nii").write_bytes(png())
    description = drop(page, tmp_path / "broken.zip", bomb(tmp_path / "bomb.zip"), tmp_path / "picture.nii")
    for name in ("broken", "bomb", "picture"):
        assert name in description
    assert "unpacked" in description
    page.click("#segment")
    page.wait_for_selector("#status .m-bad")
    page.wait_for_selector("#segment:enabled")  # the job has ended
    text = page.inner_text("body")
    assert not re.search(r"Traceback|\b[A-Z]\w+Error\b|/tmp/", text)
    page.click("#remove")
    page.wait_for_function("document.querySelector('#seen').innerText.trim() === ''")
    assert f"{4 * SLICES} slices" in drop(page, write_small_mouse(phantom_cache, tmp_path / "good.nii"))


def test_advice_is_followed_in_the_fields_of_the_page(
    visit: Callable[..., Any], phantom_cache: Path, tmp_path: Path
) -> None:
    page = visit()
    text = drop(page, write_flat_mouse(phantom_cache, tmp_path / "flat.nii"))
    for name, field, value in (("Fill value", "#fill", "0"), ("Frames", "#frames", FLAT_FRAMES)):
        hint = re.search(r"fill in (.*) under “(.*)”", text)
        assert hint is not None and name in hint[1], text
        box = page.locator(f"{field} input, {field} textarea")
        if not box.is_visible():
            page.get_by_text(hint[2]).last.click()
        assert page.inner_text(field).startswith(name)
        box.fill(str(value))
        box.press("Tab")
        page.wait_for_function("b => (document.querySelector('#seen .m-seen')?.innerText ?? b) !== b", arg=text)
        text = page.inner_text("#seen")
    assert f"{FLAT_FRAMES} × {SLICES}" in text
    page.click("#segment")
    page.wait_for_selector("#status .m-done")


def test_the_example_in_a_narrow_window(visit: Callable[..., Any]) -> None:
    page = visit()
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_timeout(300)
    page.click("#example")
    page.wait_for_selector("#seen table")
    assert "SYNTHETIC" in page.inner_text("#seen")
    assert page.evaluate("document.documentElement.scrollWidth") <= 420


def test_cancel_is_answered_at_once_and_later_drops_are_spared(
    visit: Callable[..., Any], held: threading.Event, phantom_cache: Path, tmp_path: Path
) -> None:
    page = visit()
    drop(page, write_small_mouse(phantom_cache, tmp_path / "old.nii"))
    page.click("#segment")
    page.wait_for_selector("#status progress")
    assert page.is_disabled("#example") and page.is_disabled("#segment")
    assert asks_before_leaving(page)
    page.click("#cancel")
    page.wait_for_selector("#status .m-cancelled")  # the thread still loads
    page.wait_for_selector("#cancel", state="detached")
    page.click("#segment")  # waits for the step of the cancelled job
    page.wait_for_function("document.querySelector('#status').innerText.includes('In the queue: 1 job before yours')")
    page.click("#remove")
    page.wait_for_selector("#status .m-cancelled")
    page.wait_for_function("document.querySelector('#seen').innerText.trim() === ''")
    assert "new" in drop(page, write_small_mouse(phantom_cache, tmp_path / "new.nii"))
    held.set()
    page.click("#segment")
    page.wait_for_selector("#status .m-done")
    text = page.inner_text("#results")
    assert "new" in text and "old" not in text


def test_results_come_first_and_leaving_them_asks(
    visit: Callable[..., Any], phantom_cache: Path, tmp_path: Path
) -> None:
    page = visit()
    segment(page, write_small_mouse(phantom_cache, tmp_path / "M1.nii"))
    assert not page.is_visible("#drop .m-drop")
    assert page.locator("#results table").bounding_box()["y"] < 800
    assert page.locator("#results tbody tr").count() == 1
    with page.expect_popup() as opened:
        page.click("#flags a >> text=slice 0")
    review = opened.value
    review.wait_for_selector("#saved[data-state=saved]")
    address = page.locator("#flags a >> text=slice 0").get_attribute("href")
    frame = re.search(r"#mouse=M1&slice=0&frame=(\d+)$", address)
    assert frame is not None, address
    assert review.get_attribute("body", "data-shown") == f"{frame[1]}/0/image"
    review.evaluate("location.hash = '#mouse=M1&slice=2&frame=3'")  # a second link, in the same tab
    review.wait_for_selector("body[data-shown='3/2/image']")
    review.close()
    assert asks_before_leaving(page)
    page.click("#inputs > button")
    page.wait_for_selector("#drop .m-drop")
    drop(page, write_small_mouse(phantom_cache, tmp_path / "M2.nii"))
    page.wait_for_function("document.querySelector('#seen').innerText.includes('2 mice')")
    page.click("#remove")
    page.wait_for_function("document.querySelector('#results').innerText.trim() === ''")
    assert not asks_before_leaving(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_window(
    scheme: str, width: int, visit: Callable[..., Any], phantom_cache: Path, tmp_path: Path
) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    page = visit(viewport={"width": width, "height": 900}, color_scheme=scheme)

    def check(shown: Any) -> None:
        shown.wait_for_timeout(500)  # colours change smoothly
        assert find_violations(shown) == []
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        too_wide = "[...document.querySelectorAll('.m-table')].filter((e) => e.scrollWidth > e.clientWidth).length"
        assert shown.evaluate(too_wide) == 0

    page.click("#weights label >> nth=0")
    page.wait_for_selector("#note .m-note >> text=not on this computer")
    check(page)
    page.click("#weights label >> nth=1")
    page.wait_for_selector("#note .m-note", state="detached")
    drop(page, write_small_mouse(phantom_cache, tmp_path / "M1.nii"), png_file(tmp_path))
    check(page)
    page.click("#segment")
    page.wait_for_selector("#status .m-done")
    page.wait_for_function("document.querySelector('.m-viewer').dataset.drawn?.endsWith('/true/true')")
    check(page)
    page.click("#foot summary")
    page.click("#inputs > button")
    check(page)
    with page.expect_popup() as opened:
        page.click("#download .m-review")
    opened.value.wait_for_selector("#saved[data-state=saved]")
    check(opened.value)


def png_file(folder: Path) -> Path:
    (folder / "picture.nii").write_bytes(png())
    return folder / "picture.nii"


def test_kept_results_outlive_their_page(
    browser: Any, phantom_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ServerConfig(weights="phantom-small", cache=phantom_cache, keep=tmp_path / "kept")
    mouse = write_small_mouse(phantom_cache, tmp_path / "M1.nii")
    with served_page(options) as (host, service):
        jobs = hold_jobs(service, monkeypatch)
        held = next(jobs)
        context = browser.new_context(accept_downloads=True)

        def visit() -> Any:
            page = context.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"http://{host}/")
            page.wait_for_selector("#segment:enabled")
            return page

        for _ in range(2):
            page = visit()
            drop(page, mouse)
            page.click("#segment")
            page.wait_for_selector("#status progress")
            assert not asks_before_leaving(page)
        page = visit()
        page.wait_for_function("document.querySelector('#kept').innerText.includes('running')")
        assert find_violations(page) == []
        page.click("#kept [data-cancel] >> nth=0")  # the newer one, which waits
        page.wait_for_function("document.querySelectorAll('#kept [data-cancel]').length === 1")
        held.set()
        page.wait_for_selector("#kept a >> text=Review")
        assert "finished" in page.inner_text("#kept")
        assert find_violations(page) == []
        with page.expect_popup() as opened:
            page.click("#kept a >> text=Review")
        opened.value.wait_for_selector("#saved[data-state=saved]")
        with page.expect_download() as waiting:
            page.click("#kept a >> text=Zip")
        assert any(n.endswith("M1/masks.nii.gz") for n in zipfile.ZipFile(waiting.value.path()).namelist())
        page.reload()
        page.wait_for_selector("#kept a >> text=Review")
        other = browser.new_context().request  # has not opened the page
        assert other.get(f"http://{host}/{page.get_attribute('#kept a', 'href')}").status == 404
        assert len(service.sessions) == 1
        context.close()
        next(jobs, None)
