"""Time a stroke on the review screen in headless Chromium: until it is drawn, until the numbers follow, until saved.

    python benchmarks/review_screen.py [--sizes 256 512] [--strokes 10] [--json FILE]

A cine of 22 frames and 9 slices of rings in noise. A stroke is made of mouse moves of the browser itself. Times are in
ms, of each move: "drawn" from the start of the screen's handler to the end of the frame in which it was drawn,
"since the mouse" from the time stamp of the event, which also waits for the next frame of the display; "numbers" from
the handler to the change of EDV. "saved" is from the end of a stroke until the masks are on the disk. Without a GPU,
Chromium draws on the processor: a display with one is faster.
"""

from __future__ import annotations

import secrets
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from playwright.sync_api import Page, sync_playwright
from record import make_parser, write_record

from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.pipeline import SegmentConfig, measure_masks
from mousecmr_data.pipeline.writers import write_result
from mousecmr_data.schema.variables import DIMS, PREDICTED
from mousecmr_data.web.config import ServerConfig
from mousecmr_data.web.connections import get_server_options, open_listener
from mousecmr_data.web.review import create_app

FRAMES, SLICES = 22, 9
MOVES = 20
ARGS = ["--headless=new", "--no-sandbox", "--disable-gpu"]
RECORD = """() => {
  window.times = { drawn: [], "since the mouse": [], numbers: [] };
  let moved = 0;
  const channel = new MessageChannel();
  const waiting = [];
  channel.port1.onmessage = () => {
    const { start, stamp } = waiting.shift();
    window.times.drawn.push(performance.now() - start);
    window.times["since the mouse"].push(performance.now() - stamp);
  };
  window.addEventListener("pointermove", (event) => {
    if (!event.buttons) return;
    const start = performance.now();
    moved = start;
    requestAnimationFrame(() => {
      waiting.push({ start, stamp: event.timeStamp });
      channel.port2.postMessage(0);
    });
  }, true);
  new MutationObserver(() => {
    if (moved) window.times.numbers.push(performance.now() - moved);
    moved = 0;
  }).observe(document.querySelector("#final [data-number=edv_ul]"), { attributes: true });
}"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--strokes", type=int, default=10)
    args = parser.parse_args()
    times: dict[str, Any] = {}
    with sync_playwright() as p, tempfile.TemporaryDirectory() as scratch:
        chromium = p.chromium.launch(executable_path="/usr/bin/chromium", args=ARGS)
        for size in args.sizes:
            folder = Path(scratch) / str(size)
            write_rings(folder / "mouse", size)
            times[str(size)] = measure_strokes(chromium, folder, args.strokes)
        chromium.close()
    write_record(args, {"frames": FRAMES, "slices": SLICES, "times_ms": times}, "playwright")


def write_rings(folder: Path, size: int) -> None:
    """Write a result of a beating ring in noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] - size / 2
    distance = np.hypot(y, x)
    masks = np.zeros((FRAMES, SLICES, size, size), np.uint8)
    for frame in range(FRAMES):
        for slice_ in range(SLICES):
            inner = size * (0.1 + 0.03 * np.cos(2 * np.pi * frame / FRAMES)) * (1 - 0.06 * slice_)
            masks[frame, slice_] = np.where(distance < inner, 2, np.where(distance < size * 0.17, 1, 0))
    images = (rng.normal(300, 60, masks.shape) + 400.0 * masks).clip(0).astype(np.uint16)
    sizes = PhysicalSizes((1.0, 25.6 / size, 25.6 / size), "the benchmark", 5.0, "the benchmark")
    ds = build_dataset(images, None, (), sizes, {"mouse": "mouse", "synthetic": True})
    network = {"weights": "none", "trained_on": "nothing", "synthetic_training": True}
    result = measure_masks(ds.assign({PREDICTED: (DIMS, masks, network)}))
    write_result(result, folder, SegmentConfig(pictures=False))


def measure_strokes(chromium: Any, folder: Path, strokes: int) -> dict[str, dict[str, float]]:
    """Return the median and 95th percentile of each time, in ms."""
    token = secrets.token_urlsafe(8)
    with open_listener("127.0.0.1", 0) as listener:
        app = create_app(folder, token, folder.with_suffix(".zip"), ServerConfig())
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", **get_server_options()))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        page = chromium.new_page(viewport={"width": 1400, "height": 1100})
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}/mice/{token}/review/")
        page.wait_for_selector("body[data-shown$=image]")
        page.wait_for_selector("#saved[data-state=saved]")
        page.wait_for_timeout(5000)  # all frames are loaded
        times = draw_strokes(page, strokes)
        page.close()
        server.should_exit = True
        thread.join()
    return {
        name: {"median": statistics.median(values), "95 %": float(np.percentile(values, 95))}
        for name, values in times.items()
    }


def draw_strokes(page: Page, strokes: int) -> dict[str, list[float]]:
    """Draw lines of :data:`MOVES` moves through the ring, by turns with both structures."""
    page.locator("#view").scroll_into_view_if_needed()
    box = page.locator("#view").bounding_box() or {}
    page.locator("#radius").fill("8")
    page.evaluate(RECORD)
    saved = []
    for k in range(strokes):
        page.keyboard.press("12"[k % 2])
        left, y = box["x"] + box["width"] * 0.3, box["y"] + box["height"] * (0.3 + 0.4 * k / strokes)
        page.mouse.move(left, y)
        page.mouse.down()
        for move in range(MOVES):
            page.mouse.move(left + box["width"] * 0.4 * move / MOVES, y)
            page.wait_for_timeout(20)
        page.mouse.up()
        start = time.perf_counter()
        page.wait_for_selector("#saved[data-state=saved]")
        saved.append(1000 * (time.perf_counter() - start))
    times: dict[str, list[float]] = page.evaluate("window.times")
    return {**times, "saved": saved}


if __name__ == "__main__":
    main()
