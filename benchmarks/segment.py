"""Time a scan from file to zip: the web page in a browser, and the command line. All sides in one run.

    python benchmarks/segment.py [--weights PATH] [--engine auto] [--rounds 5] [--cache DIR] [--json FILE]

A cine of 9 slices and 22 frames (phantom Mouse6) as NIfTI. The page is driven in headless Chromium. Two times are
measured: from the drop of the file until it is listed, and from the press of the button until the zip is on the disk,
with tables, movie and pictures. The first round uses a page that was just started, and whatever the cache of engines
holds (nothing on a new machine). ``--weights`` replaces the published weights. "Command" is ``mousecmr segment`` as a
separate process. Medians and ranges, in seconds.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from playwright.sync_api import sync_playwright
from record import make_parser, summarize, write_record
from region import cine

from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.inference.predictor import load_model
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS
from mousecmr_data.web.app import create_app
from mousecmr_data.web.config import ServerConfig

ARGS = ["--headless=new", "--no-sandbox", "--disable-gpu"]
TIMEOUT_MS = 600_000


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", default=SMALL_WEIGHTS)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        mouse = Path(scratch) / "mouse.nii.gz"
        write_nifti_images(cine("Mouse6"), mouse)
        page, command = page_times(args, mouse), []
        for k in range(args.rounds):
            command.append(command_time(args, mouse, Path(scratch) / f"out{k}"))
    times = {
        "drop to listed": [a for a, _ in page[1:]],
        "button to zip": [b for _, b in page[1:]],
        "drop to zip": [a + b for a, b in page[1:]],
        "command": command,
    }
    numbers = {"weights": args.weights, "engine": args.engine, "first job": sum(page[0])}
    write_record(args, {**numbers, **{k: summarize(v) for k, v in times.items()}}, "torch", "openvino")


def page_times(args: argparse.Namespace, mouse: Path) -> list[tuple[float, float]]:
    """Return, for one page per round and the first job, the seconds from drop to listed and from button to zip."""
    times = []
    with serve_page(args) as address, sync_playwright() as p:
        browser = p.chromium.launch(executable_path=args.chromium, args=ARGS)
        for _ in range(args.rounds + 1):
            page = browser.new_context(accept_downloads=True).new_page()
            page.set_default_timeout(TIMEOUT_MS)
            page.goto(address)
            page.wait_for_selector("#segment:enabled")
            start = time.perf_counter()
            page.set_input_files("[data-input=files]", str(mouse))
            page.wait_for_selector("#seen .m-expected")
            listed = time.perf_counter() - start
            start = time.perf_counter()
            page.click("#segment")
            page.wait_for_selector("#status .m-done")
            with page.expect_download() as download:
                page.click("#download a")
            download.value.save_as(mouse.with_name("results.zip"))
            times.append((listed, time.perf_counter() - start))
            page.close()
        browser.close()
    return times


@contextmanager
def serve_page(args: argparse.Namespace) -> Iterator[str]:
    """Serve the page and yield its address; weights other than phantom-small take the place of the published ones."""
    options = ServerConfig(
        weights=SMALL_WEIGHTS if args.weights == SMALL_WEIGHTS else PUBLISHED_WEIGHTS, cache=args.cache
    )
    app: Any = create_app(options)
    predictor = load_model(args.weights, engine=args.engine, cache=args.cache)
    app.state.service.predictors[options.weights] = predictor
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join(20)


def command_time(args: argparse.Namespace, mouse: Path, folder: Path) -> float:
    """Return the seconds of ``mousecmr segment``."""
    command = [str(Path(sys.executable).with_name("mousecmr")), "segment", str(mouse), "--weights", args.weights]
    command += ["--engine", args.engine, "-o", str(folder), *(["--cache", str(args.cache)] if args.cache else [])]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
