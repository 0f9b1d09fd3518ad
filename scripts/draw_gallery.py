"""Draw the pictures of docs/gallery.md with the code of that page: python scripts/draw_gallery.py [--cache FOLDER]"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import tempfile
from pathlib import Path

from PIL import Image

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?```python\n(.*?)```", re.DOTALL)
PICTURE = re.compile(r"\(images/gallery/(\S+)\)")
WIDTH = 1200
"""Wider pictures are made smaller, for the site."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", help="folder with phantom mice; default: the library's cache")
    if cache := parser.parse_args().cache:
        os.environ["MOUSECMR_CACHE"] = cache
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for skip, code in BLOCK.findall(page):
            if not skip:
                exec(compile(code, "gallery.md", "exec"), names)
        for name in PICTURE.findall(page):
            if name.endswith(".png"):
                picture = Image.open(name).convert("RGB")
                picture.thumbnail((WIDTH, WIDTH))
                picture.quantize(96, dither=Image.Dither.NONE).save(name, optimize=True)
            shutil.copyfile(name, DOCS / "images" / "gallery" / name)
            print(f"written: docs/images/gallery/{name}")


if __name__ == "__main__":
    main()
