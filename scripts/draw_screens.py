"""Draw the pictures of docs/reviewing.md: python scripts/draw_screens.py [--results FOLDER]

A synthetic mouse is segmented by phantom-small, and slices are ticked as the caption of the first picture says;
Chromium takes the pictures. --results: a folder that this script filled before; nothing is segmented again.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

import mousecmr_data
from mousecmr_data.formats.nifti import write_nifti_images

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MOUSE = "Mouse10"
WEIGHTS = "phantom-small"
WIDTH, COLOURS = 1000, 256
"""The most that a picture has: its file stays below 300 kB."""


def segment_mouse(folder: Path) -> None:
    """Segment the mouse into ``folder``."""
    scan = folder.parent / f"{MOUSE}.nii.gz"
    write_nifti_images(mousecmr_data.open_mouse(MOUSE, source="phantom"), scan)
    mousecmr_data.segment(scan, folder, weights=WEIGHTS, pictures=False)


def open_screen(browser: Any, address: str, width: int, scheme: str) -> Any:
    """Return the screen in a window of ``width``, once it shows images."""
    page = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme).new_page()
    page.goto(address)
    page.wait_for_selector("body[data-shown$=image]")
    return page


def tick_slices(page: Any) -> None:
    """Exclude and confirm slices, and carry the exclusions to all frames, as a reader would."""
    page.fill("#reader", "A. Reader")
    page.locator("#stack-ed li[data-slice='0'] input").uncheck()
    page.locator("#stack-es li[data-slice='1'] input").uncheck()
    page.locator("#stack-ed li[data-slice='4'] button").click()
    page.locator("#view").focus()
    page.keyboard.press("c")
    page.keyboard.press("t")
    page.wait_for_selector("#said:has-text('were excluded')")
    page.locator("#stack-es li[data-slice='5'] button").click()
    page.wait_for_selector("#saved[data-state=saved]")


def take_picture(page: Any, name: str) -> None:
    """Write the whole page as a small PNG."""
    page.wait_for_timeout(1000)
    path = IMAGES / f"review_{name}.png"
    page.screenshot(path=path, full_page=True)
    picture = Image.open(path).convert("RGB")
    picture.thumbnail((WIDTH, picture.height))
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"written: docs/images/{path.name}, {path.stat().st_size // 1000} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--results", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        results = Path(scratch) / "results"
        if args.results and args.results.exists():
            shutil.copytree(args.results, results)
        else:
            segment_mouse(results)
            if args.results:
                shutil.copytree(results, args.results)
        program = "from mousecmr_data.cli.main import main; main()"
        command = [sys.executable, "-uc", program, "review", str(results), "--no-browser"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server, sync_playwright() as p:
            try:
                line = server.stderr.readline() if server.stderr else ""
                address = line[line.index("http://") :].split()[0]
                browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = open_screen(browser, address, 1300, "light")
                tick_slices(page)
                take_picture(page, "wide")
                for name, width, scheme in (("dark", 1300, "dark"), ("phone", 390, "light")):
                    take_picture(open_screen(browser, address, width, scheme), name)
                browser.close()
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
