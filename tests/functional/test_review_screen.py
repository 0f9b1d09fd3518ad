"""The review screen in a real browser: from the drop to the corrected zip; changes by mouse, touch and keys; kills."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from page_app import IN_BROWSER, open_chromium, served_page
from small_mouse import FRAMES, SLICES, write_small_mouse

from mousecmr_data.inference.predictor import load_model
from mousecmr_data.pipeline.batch import segment_batch
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.pipeline.review import open_result
from mousecmr_data.web.config import ServerConfig

pytest.importorskip("gradio", reason="the web extra is not installed: pip install 'mousecmr-data[web]'")
pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
nibabel: Any = pytest.importorskip("nibabel")

PATIENCE_MS = 60_000
DENSITY = 1.05
"""Of the myocardium, mg/µL."""
SERVE = "from mousecmr_data.cli.main import main; main()"
pytestmark = IN_BROWSER


@pytest.fixture(scope="module")
def segmented(phantom_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder of the small mouse."""
    folder = tmp_path_factory.mktemp("segmented")
    mouse = write_small_mouse(phantom_cache, folder / "mouse.nii.gz")
    predictor = load_model("phantom-small", engine="eager", device="cpu")
    config = SegmentConfig(weights="phantom-small", pictures=False)
    segment_batch([mouse], folder / "results", config, predictor=predictor)
    return folder / "results"


@pytest.fixture
def results(segmented: Path, tmp_path: Path) -> Path:
    return shutil.copytree(segmented, tmp_path / "results")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with open_chromium() as chromium:
        yield chromium


def start_review(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    """Run ``mousecmr review``; return its process and the address that it prints."""
    command = [sys.executable, "-c", SERVE, "review", str(folder), "--no-browser", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stderr is not None
    line = process.stderr.readline()
    address = re.search(r"http://\S+", line)
    assert address, line + process.stderr.read()
    return process, address[0]


def stop(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> str:
    """End the process; return what it wrote."""
    process.send_signal(number)
    assert process.stderr is not None
    text = process.stderr.read()
    process.wait(30)
    process.stderr.close()
    return text


@pytest.fixture
def review(results: Path, browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens the screen of ``results``. No other address may be requested, and no script may fail."""
    process, address = start_review(results)
    contexts, problems = [], []

    def open_page(**options: Any) -> Any:
        context = browser.new_context(viewport={"width": 1300, "height": 1000}, accept_downloads=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda r: r.url.startswith((address, "data:")) or problems.append(f"request to {r.url}"))
        page.on("pageerror", lambda e: problems.append(f"script error {e}"))
        page.on("console", lambda m: m.type == "error" and problems.append(m.text))
        page.goto(address)
        wait_until_shown(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    stop(process)
    assert problems == []


def open_screen(results: Path, browser: Any) -> tuple[subprocess.Popen[str], Any]:
    """Run ``mousecmr review`` and open its screen; return the process and the page."""
    process, address = start_review(results)
    page = browser.new_context(viewport={"width": 1300, "height": 1000}).new_page()
    page.goto(address)
    wait_until_shown(page)
    return process, page


def wait_until_shown(page: Any) -> None:
    page.wait_for_selector("body[data-shown$=image]")
    page.wait_for_selector("#saved[data-state=saved]")


def wait_until_saved(page: Any) -> None:
    page.wait_for_timeout(50)
    page.wait_for_selector("#saved[data-state=saved]")
    assert page.is_hidden("#error"), page.inner_text("#error")


def go_to(page: Any, frame: int, slice_: int) -> None:
    page.locator("#frame").fill(str(frame))
    page.locator("#slice").fill(str(slice_))
    page.wait_for_selector(f'body[data-shown="{frame}/{slice_}/image"]')


def find_point(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the image, in pixels, is in the window; the pixels are square."""
    page.locator("#view").scroll_into_view_if_needed()
    box = page.locator("#view").bounding_box()
    centre_x, centre_y, scale = (float(v) for v in page.get_attribute("#view", "data-place").split())
    return (
        box["x"] + box["width"] / 2 + (x - centre_x) * scale,
        box["y"] + box["height"] / 2 + (y - centre_y) * scale,
    )


def draw(page: Any, *points: tuple[float, float]) -> None:
    """Draw a line through points of the image with the chosen tool."""
    page.mouse.move(*find_point(page, *points[0]))
    page.mouse.down()
    for point in points:
        page.mouse.move(*find_point(page, *point), steps=3)
    page.mouse.up()


def find_centre(mask: NDArray[np.uint8]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()) + 0.5, float(rows.mean()) + 0.5


def read_shown(page: Any) -> dict[str, float]:
    cells = page.locator("#final td").evaluate_all("cells => cells.map((c) => [c.dataset.number, +c.dataset.value])")
    return dict(cells)


def measure_independently(path: Path, ed: int, es: int) -> dict[str, float]:
    """Count voxels of a file of masks (x, y, slice, frame), with nothing of this library."""
    image = nibabel.load(path)
    array = np.asarray(image.dataobj)
    voxel = float(np.prod(image.header.get_zooms()[:3]))
    pool, muscle = ([float(np.sum(array[..., f] == label)) * voxel for f in (ed, es)] for label in (2, 1))
    return {
        "edv_ul": pool[0],
        "esv_ul": pool[1],
        "sv_ul": pool[0] - pool[1],
        "ef_percent": 100 * (pool[0] - pool[1]) / pool[0],
        "mass_ed_mg": muscle[0] * DENSITY,
        "mass_es_mg": muscle[1] * DENSITY,
    }


def get_frames(page: Any) -> tuple[int, int]:
    """Return the frames of ED and ES."""
    ed, es = (page.get_attribute(f".marker[data-phase={p}]", "aria-valuenow") for p in ("ed", "es"))
    return int(ed), int(es)


def test_from_the_drop_to_the_corrected_zip(phantom_cache: Path, browser: Any, tmp_path: Path) -> None:
    mouse = write_small_mouse(phantom_cache, tmp_path / "our mouse.nii.gz")
    options = ServerConfig(weights="phantom-small", cache=phantom_cache)
    with served_page(options) as (host, _):
        context = browser.new_context(viewport={"width": 1300, "height": 1000}, accept_downloads=True)
        first = context.new_page()
        first.set_default_timeout(PATIENCE_MS)
        first.goto(f"http://{host}/")
        first.wait_for_selector("#segment:enabled")
        first.set_input_files("[data-input=files]", [str(mouse)])
        first.wait_for_selector("#seen table")
        first.click("#segment")
        with context.expect_page() as opening:
            first.click("a.m-review")
        page = opening.value
        page.set_default_timeout(PATIENCE_MS)
        wait_until_shown(page)
        page.fill("#reader", "A. Reader")
        before = read_shown(page)
        ed, es = get_frames(page)
        base = int(page.locator("#stack-ed li").first.get_attribute("data-slice"))
        apex = SLICES - 1 - base

        page.locator("#stack-ed input").first.uncheck()  # exclude the basal slice at ED
        page.wait_for_selector("#stack-ed li:first-child[data-status=excluded]")
        wait_until_saved(page)
        assert read_shown(page)["edv_ul"] < before["edv_ul"]
        go_to(page, ed, apex)
        page.keyboard.press("x")  # erase in the apical slice, then draw
        x, y = (float(v) for v in page.get_attribute("#view", "data-place").split()[:2])
        draw(page, (x - 8, y), (x + 8, y))
        wait_until_saved(page)
        erased = read_shown(page)
        assert erased["edv_ul"] < before["edv_ul"]
        page.keyboard.press("b")
        page.keyboard.press("2")
        draw(page, (x - 5, y), (x + 5, y))
        wait_until_saved(page)
        assert read_shown(page)["edv_ul"] > erased["edv_ul"]
        page.locator(".marker[data-phase=es]").focus()  # move ES by one frame
        page.keyboard.press("ArrowRight" if es < FRAMES - 1 and es + 1 != ed else "ArrowLeft")
        page.wait_for_selector(f".marker[data-phase=es]:not([aria-valuenow='{es}'])")
        moved = get_frames(page)[1]
        for button, frame in (("undo", es), ("redo", moved)):
            page.click(f"[data-do={button}]")
            page.wait_for_selector(f".marker[data-phase=es][aria-valuenow='{frame}']")
        go_to(page, moved, apex)
        page.keyboard.press("Shift+ArrowUp")  # copy from the neighbour
        wait_until_saved(page)
        shown = read_shown(page)
        with page.expect_download() as waiting:
            page.click("#download")
        waiting.value.save_as(tmp_path / "results.zip")
        with first.expect_download() as waiting:  # the link of the first page gives the same
            first.click("#download a")
        waiting.value.save_as(tmp_path / "again.zip")
        context.close()

    for archive in ("results.zip", "again.zip"):
        folder = tmp_path / archive.partition(".")[0]
        with zipfile.ZipFile(tmp_path / archive) as z:
            z.extractall(folder)
        (masks,) = folder.rglob("masks.nii.gz")
        measured = measure_independently(masks, ed, moved)
        row = pd.read_csv(next(folder.rglob("mice.csv"))).iloc[0]
        frames = pd.read_csv(masks.with_name("frames.csv")).set_index("phase")
        assert (row["ed_frame"], row["es_frame"], row["readers"]) == (ed, moved, "A. Reader")
        for name, value in measured.items():
            assert shown[name] == pytest.approx(value, rel=1e-6), name
            assert row[name] == pytest.approx(value, abs=1e-3), name
            assert row[f"{name}_auto"] == pytest.approx(before[name], abs=1e-3), name
        assert frames.loc["ED", "blood_pool_ul"] == pytest.approx(measured["edv_ul"], abs=1e-3)
        reviewed = json.loads(masks.with_name("review.json").read_text())
        found = {(s["frame"], s["slice"]): s["status"] for s in reviewed["slices"]}
        assert found == {(ed, base): "excluded", (ed, apex): "edited", (moved, apex): "edited"}


def test_edits_are_exact_to_the_pixel_and_undone_without_limit(review: Callable[..., Any], results: Path) -> None:
    page = review()
    folder = results / "mouse"
    original = open_result(folder).masks.copy()
    ed, _ = get_frames(page)
    go_to(page, ed, 1)
    x, y = find_centre(original[ed, 1])
    x, y = np.floor(x) + 0.5, np.floor(y) + 0.5
    page.locator("#radius").fill("0.5")
    page.keyboard.press("1")
    page.mouse.click(*find_point(page, x, y))
    wait_until_saved(page)
    one = open_result(folder).masks
    changed = np.argwhere(one != original)
    assert changed.tolist() == [[ed, 1, int(y), int(x)]]
    assert one[ed, 1, int(y), int(x)] == 1

    page.keyboard.press("p")  # a square of 5 × 4 pixels by clicks
    page.keyboard.press("2")
    left, top = 10, 12
    go_to(page, ed, 1)
    page.keyboard.press("9")
    page.wait_for_timeout(100)
    for corner in ((left, top), (left + 5, top), (left + 5, top + 4), (left, top + 4)):
        page.mouse.click(*find_point(page, *corner), delay=5)
        page.wait_for_timeout(400)  # no double click
    page.keyboard.press("Shift+Enter")
    wait_until_saved(page)
    two = open_result(folder).masks
    inside = np.zeros_like(two[ed, 1], bool)
    inside[top : top + 4, left : left + 5] = True
    assert (two[ed, 1][inside] == 2).all()
    assert np.array_equal(two[ed, 1][~inside], one[ed, 1][~inside])

    page.keyboard.press("g")
    wait_until_saved(page)
    assert open_result(folder).masks[ed, 1, top - 1, left] == 2
    page.keyboard.press("k")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Delete")
    page.keyboard.press("Shift+Delete")
    wait_until_saved(page)
    emptied = open_result(folder)
    assert not emptied.masks[:, 1].any()
    assert (emptied.review.get_status(original.shape[:2])[:, 1] == "excluded").all()
    while page.is_enabled("[data-do=undo]"):
        page.keyboard.press("Control+z")
        page.wait_for_timeout(60)
    wait_until_saved(page)
    back = open_result(folder)
    assert np.array_equal(back.masks, original)
    assert (back.review.get_status(original.shape[:2]) == "auto").all()
    while page.is_enabled("[data-do=redo]"):
        page.keyboard.press("Control+Shift+Z")
        page.wait_for_timeout(60)
    wait_until_saved(page)
    assert np.array_equal(open_result(folder).masks, emptied.masks)


def test_ticks_confirmations_and_the_network_s_mask(review: Callable[..., Any], results: Path) -> None:
    page = review()
    folder = results / "mouse"
    original = open_result(folder).masks.copy()
    _, es = get_frames(page)
    tick = page.locator("#stack-es li[data-slice='1'] input")
    tick.uncheck()
    wait_until_saved(page)
    assert open_result(folder).masks[:, 1].any(axis=(1, 2)).sum() == FRAMES - 1
    page.keyboard.press("t")  # also in the frames near ES
    page.wait_for_selector("#said:has-text('were excluded')")
    wait_until_saved(page)
    carried = open_result(folder)
    assert page.inner_text("#said").startswith(f"{int((~carried.masks[:, 1].any(axis=(1, 2))).sum()) - 1} ")
    while page.is_enabled("[data-do=undo]"):
        page.keyboard.press("Control+z")
        page.wait_for_timeout(60)
    tick.uncheck()
    wait_until_saved(page)
    page.reload()  # what was excluded is read again, and the tick brings the network's mask back
    wait_until_shown(page)
    assert not tick.is_checked()
    tick.check()
    page.wait_for_selector("#stack-es li[data-slice='1'][data-status=auto]")
    wait_until_saved(page)
    assert np.array_equal(open_result(folder).masks, original)
    page.fill("#reader", "B. Reader")
    page.locator("#stack-es li[data-slice='1'] button").click()
    page.locator("#view").focus()
    page.keyboard.press("c")
    wait_until_saved(page)
    (entry,) = open_result(folder).review.slices
    assert (entry.frame, entry.slice, entry.status, entry.reader) == (es, 1, "confirmed", "B. Reader")
    assert "confirmed by B. Reader" in page.inner_text("#history")


def test_a_tick_on_a_slice_without_a_mask_proposes_one(review: Callable[..., Any], results: Path) -> None:
    folder = results / "mouse"
    _, es = open_result(folder).pair or (0, 0)
    for name in ("masks.nii.gz", "automatic_masks.nii.gz"):
        image = nibabel.load(folder / name)
        masks = np.asarray(image.dataobj).copy()
        masks[:, :, 1, es] = 0
        nibabel.save(nibabel.Nifti1Image(masks, image.affine, image.header), folder / name)
    page = review()
    before = read_shown(page)["esv_ul"]
    page.locator("#stack-es li[data-slice='1'] label").click()
    page.wait_for_selector("#stack-es li[data-slice='1'][data-status=edited]")
    wait_until_saved(page)
    assert "beside it" in page.inner_text("#said")
    assert read_shown(page)["esv_ul"] > before
    result = open_result(folder)
    assert (result.masks[es, 1] == 2).any()
    assert result.review.get_status(result.masks.shape[:2])[es, 1] == "edited"
    assert "edited by" in page.get_attribute("#stack-es li[data-slice='1'] .about", "title")
    page.keyboard.press("Control+z")
    wait_until_saved(page)
    assert not open_result(folder).masks[es, 1].any()
    page.keyboard.press("v")  # the same by a key
    page.wait_for_selector("#stack-es li[data-slice='1'][data-status=edited]")
    wait_until_saved(page)
    assert np.array_equal(open_result(folder).masks[es, 1], result.masks[es, 1])


def test_a_blind_review_shows_codes(results: Path, browser: Any) -> None:
    shutil.copytree(results / "mouse", results / "infarct 7")
    process, address = start_review(results, "--reader", "A. Reader", "--blind")
    page = browser.new_page()
    page.goto(address)
    wait_until_shown(page)
    key = json.loads((results / "blinding.json").read_text())["readers"]["A. Reader"]["codes"]
    shown = page.locator("#mouse option").evaluate_all("options => options.map((o) => o.dataset.mouse)")
    assert shown == list(key.values()) and set(key) == {"mouse", "infarct 7"}
    assert page.input_value("#reader") == "A. Reader" and not page.is_editable("#reader")
    assert page.is_hidden("#download")
    assert "Blind review" in page.inner_text("#marks")
    page.select_option("#mouse", index=1)
    wait_until_shown(page)
    page.keyboard.press("c")
    wait_until_saved(page)
    text = page.content() + page.url
    page.close()
    assert "infarct" not in text
    output = stop(process)
    assert "1 of the mice" in output and "infarct" not in output
    second = next(name for name, code in key.items() if code == shown[1])
    assert open_result(results / second).review.readers == ("A. Reader",)


def test_a_correction_is_propagated_to_the_other_frames(review: Callable[..., Any], results: Path) -> None:
    page = review()
    folder = results / "mouse"
    original = open_result(folder).masks.copy()
    go_to(page, 1, 1)
    for _ in range(3):
        page.keyboard.press("g")
    page.keyboard.press("r")
    page.wait_for_selector("#said:has-text('other frames')")
    wait_until_saved(page)
    masks = open_result(folder).masks
    assert (masks[[0, 2], 1] == 2).sum() > (original[[0, 2], 1] == 2).sum()
    page.keyboard.press("Control+z")  # one step
    wait_until_saved(page)
    assert np.array_equal(open_result(folder).masks[[0, 2, 3]], original[[0, 2, 3]])


def test_a_flag_leads_to_its_place_and_markers_are_dragged(review: Callable[..., Any], results: Path) -> None:
    record = json.loads((results / "mouse" / "result.json").read_text())
    flag = {"level": "slice", "flag": "check_slice", "message": "Look at slice 2.", "frame": 1, "slice": 2}
    record["flags"] = [flag, {**flag, "flag": "curve_jump", "slice": None, "frame": 3}]
    (results / "mouse" / "result.json").write_text(json.dumps(record))
    page = review()
    page.locator("#flags button").first.click()
    page.wait_for_selector("body[data-shown='1/2/image']")
    page.keyboard.press("n")
    page.keyboard.press("n")
    page.wait_for_selector("body[data-shown^='3/']")
    ed, es = get_frames(page)
    target = next(f for f in range(FRAMES) if f not in (ed, es))
    curve = page.locator("#curve").bounding_box()
    marker = page.locator(".marker[data-phase=es] rect").bounding_box()
    page.mouse.move(marker["x"] + marker["width"] / 2, marker["y"] + 5)
    page.mouse.down()
    x = curve["x"] + curve["width"] * (44 + (440 - 44) * target / (FRAMES - 1)) / 460
    page.mouse.move(x, marker["y"] + 5, steps=8)
    page.mouse.up()
    wait_until_saved(page)
    assert get_frames(page) == (ed, target)
    assert open_result(results / "mouse").pair == (ed, target)


def test_a_phone_draws_with_one_finger_and_zooms_with_two(review: Callable[..., Any], results: Path) -> None:
    page = review(has_touch=True)
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(200)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("#final td").evaluate_all("cells => cells.forEach((c) => (c.textContent = '1234.5'))")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    original = open_result(results / "mouse").masks.copy()
    page.locator("[data-label='1']").click()
    devtools = page.context.new_cdp_session(page)
    x, y = find_point(page, *(float(v) for v in page.get_attribute("#view", "data-place").split()[:2]))

    def touch(kind: str, *points: tuple[float, float]) -> None:
        touched = [{"x": px, "y": py, "id": k} for k, (px, py) in enumerate(points)]
        devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touched})

    touch("touchStart", (x, y))
    touch("touchMove", (x + 30, y))
    touch("touchEnd")
    wait_until_saved(page)
    drawn = open_result(results / "mouse").masks.copy()
    assert (drawn != original).any()
    before = float(page.get_attribute("#view", "data-place").split()[2])
    touch("touchStart", (x - 20, y))
    touch("touchStart", (x - 20, y), (x + 20, y))
    touch("touchMove", (x - 50, y), (x + 50, y))
    touch("touchEnd")
    page.wait_for_timeout(100)
    assert float(page.get_attribute("#view", "data-place").split()[2]) > 1.5 * before
    wait_until_saved(page)
    assert np.array_equal(open_result(results / "mouse").masks, drawn)  # two fingers draw nothing


def test_a_kill_in_mid_edit_loses_at_most_one_stroke(results: Path, browser: Any) -> None:
    process, page = open_screen(results, browser)
    context = page.context
    original = open_result(results / "mouse").masks.copy()
    frame, slice_ = (int(v) for v in page.get_attribute("body", "data-shown").split("/")[:2])
    page.keyboard.press("9")
    page.wait_for_timeout(100)
    page.keyboard.press("2")
    page.locator("#radius").fill("1")
    strokes = 6
    for k in range(strokes):
        draw(page, (8, 8 + 6 * k), (20, 8 + 6 * k))
    stop(process, signal.SIGKILL)
    context.close()
    masks = open_result(results / "mouse").masks
    kept = [bool((masks[frame, slice_, 8 + 6 * k, 8:20] == 2).all()) for k in range(strokes)]
    assert kept[:-1] == [True] * (strokes - 1)
    rest = np.ones(masks.shape, bool)
    rest[frame, slice_] = False
    assert np.array_equal(masks[rest], original[rest])
    process, _ = start_review(results)  # and work goes on
    text = stop(process)
    assert "measured again" in text


def test_the_page_says_that_a_change_is_not_saved_and_sends_it_again(results: Path, browser: Any) -> None:
    process, page = open_screen(results, browser)
    context = page.context
    context.set_offline(True)
    page.keyboard.press("Delete")
    page.wait_for_selector("#saved[data-state=failed]")
    assert "does not answer" in page.inner_text("#error")
    context.set_offline(False)
    page.wait_for_selector("#saved[data-state=saved]", timeout=PATIENCE_MS)
    assert len(open_result(results / "mouse").review.slices) == 1
    context.close()
    stop(process)


def test_a_wrong_token_and_wrong_names_give_404(review: Callable[..., Any]) -> None:
    page = review()
    get = page.context.request.get
    address = page.url
    token = re.search("/mice/([^/]+)/", address)[1]  # type: ignore[index]
    for path in ("", "mice", "results.zip", "static/review.js", "mice/mouse/masks"):
        assert get(address + path).status == 200
        assert get(address.replace(token, token[:-1] + "!") + path).status == 404
    for path in ("mice/other/meta", "mice/..%2f/meta", "static/page.css", "mice/mouse/images/99", "none"):
        assert get(address + path).status == 404
    put = page.context.request.put
    assert put(f"{address}mice/mouse/slices/0/0?status=edited", data=b"123").status == 400
    assert put(f"{address}mice/mouse/slices/0/0?status=perfect").status == 400
    assert put(f"{address}mice/mouse/slices/0/0?status=edited", data=b"\x07" * 128 * 128).status == 400
    assert put(f"{address}mice/mouse/slices/0/0?status=edited", data=b"\x00" * 5_000_000).status == 413
    assert put(f"{address}mice/mouse/phases?ed=1&es=1").status == 400
