"""Draw the pictures of docs/phantom.md, and the moving heart of README.md: python scripts/draw_phantom.py

With --real FILE, a mouse's HDF5 file, also draw its first frame above the synthetic slices, to phantom_and_real.png in
--folder. Do not commit that picture.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.font_manager import findfont
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy import ndimage

import mousecmr_data
from mousecmr_data import phantom
from mousecmr_data.schema.labels import COLOURS, FOREGROUND

COHORT = ("Mouse3", "Mouse17", "Mouse21", "Mouse40", "Mouse64")
ENDS = ("Mouse54", "Mouse49", "Mouse43", "Mouse47", "Mouse45")
"""End-systole: stacks that begin above the valve plane, and apices in muscle, liver and lung."""
BEAT = "Mouse17"
SIDE = 104
"""Side in pixels of the square around the heart."""
HEART_SIDE = 260
"""The same square in the moving picture."""
OUTLINES = tuple(ImageColor.getrgb(COLOURS[label]) for label in FOREGROUND)
"""Colours of the outline of the ventricle, and of its blood pool."""


def draw_slice(image: NDArray[np.floating], labels: NDArray[np.uint8] | None, white: float) -> NDArray[np.uint8]:
    """Return a slice (y, x) as RGB; ``labels`` are drawn as outlines."""
    grey = (np.clip(image / white, 0.0, 1.0) * 255).astype(np.uint8)
    out = np.repeat(grey[..., None], 3, axis=2)
    if labels is not None:
        for threshold, colour in enumerate(OUTLINES):
            inside = labels > threshold
            out[inside & ~ndimage.binary_erosion(inside)] = colour
    return out


def cut_heart(volume: NDArray[Any], centre: tuple[int, int]) -> NDArray[Any]:
    """Cut the square around the heart out of (slice, y, x), with zeros beyond the field."""
    half = SIDE // 2
    padded = np.pad(volume, ((0, 0), (half, half), (half, half)))
    return padded[:, centre[0] : centre[0] + SIDE, centre[1] : centre[1] + SIDE]


def draw_row(image: NDArray[Any], labels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Draw a stack (slice, y, x) slice by slice, around its ventricle."""
    rows, columns = np.nonzero(labels.any(0))
    centre = int(rows.mean()), int(columns.mean())
    image, labels = cut_heart(image, centre), cut_heart(labels, centre)
    white = float(np.percentile(image, 99.5))
    return [draw_slice(i, k, white) for i, k in zip(image, labels, strict=True)]


def save_tiles(rows: list[list[NDArray[np.uint8]]], title: str, path: Path) -> None:
    """Write rows of tiles of one size below a title."""
    height, width = rows[0][0].shape[:2]
    page = np.zeros((len(rows) * height + 22, max(map(len, rows)) * width, 3), np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            page[22 + r * height : 22 + (r + 1) * height, c * width : (c + 1) * width] = tile
    picture = Image.fromarray(page)
    ImageDraw.Draw(picture).text((6, 4), title, fill=(255, 255, 255))
    picture.quantize(128).save(path, optimize=True)
    print(f"written: {path}")


def render_base_first(name: str, frames: str) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """Render a mouse and return image and labels of its "ed" or "es" frame, or of all frames; base first."""
    plan = phantom.make_plans("phantom")[name]
    rendering = phantom.render(plan)
    order = slice(None, None, -1 if plan.pose.apex_first else 1)
    chosen = {"ed": plan.ed_frame, "es": plan.es_frame}.get(frames, slice(None))
    return rendering.image[chosen][..., order, :, :], rendering.truth[chosen][..., order, :, :]


def draw_cohort(folder: Path) -> None:
    """Draw whole fields of five mice at end-diastole, at half the resolution."""
    rows = []
    for name in COHORT:
        image, _ = render_base_first(name, "ed")
        half = image.reshape(len(image), 128, 2, 128, 2).mean((2, 4))[:8]
        rows.append([draw_slice(i, None, float(np.percentile(half, 99.7))) for i in half])
    save_tiles(rows, "SYNTHETIC: five mice of the phantom, end-diastole, base to apex", folder / "phantom_cohort.png")


def draw_beat(folder: Path) -> None:
    """Draw every second frame of a mouse in three slices."""
    image, labels = render_base_first(BEAT, "all")
    filled = np.flatnonzero(labels[0].any((1, 2)))
    slices = [filled[1], filled[len(filled) // 2], filled[-2]]
    rows = [draw_row(image[::2, k], labels[::2, k]) for k in slices]
    save_tiles(rows, f"SYNTHETIC: one beat of the phantom's {BEAT}, with the truth", folder / "phantom_beat.png")


def draw_ends(folder: Path, real: Path | None) -> None:
    """Draw all slices of five mice at end-systole, with the truth; with a real stack, also beside that."""
    rows = [draw_row(*render_base_first(name, "es")) for name in ENDS]
    title = "SYNTHETIC: end-systole, all slices, base to apex, with the truth"
    save_tiles(rows, title, folder / "phantom_ends.png")
    if real is not None:
        ds = mousecmr_data.open_mouse(str(real)).isel(frame=0).transpose("slice", "y", "x")
        rows.insert(0, draw_row(ds["image"].values.astype(float), ds["mask"].values))
        save_tiles(rows, "First row: a real stack. Others: SYNTHETIC, end-systole", folder / "phantom_and_real.png")


def draw_heart(folder: Path) -> None:
    """Draw one beat of three slices as a moving picture with filled masks, and its first frame as a still one."""
    image, labels = render_base_first(BEAT, "all")
    filled = np.flatnonzero(labels[0].any((1, 2)))
    chosen = [filled[1], filled[len(filled) // 2], filled[-2]]
    rows, columns = np.nonzero(labels.any((0, 1)))
    centre = int(rows.mean()), int(columns.mean())
    white = float(np.percentile(image, 99.7))
    font = ImageFont.truetype(findfont("DejaVu Sans"), 13)
    frames = []
    for volume, truth in zip(image[:, chosen], labels[:, chosen], strict=True):
        page = np.zeros((HEART_SIDE, 0, 3), np.uint8)
        for plane, mask in zip(cut_heart(volume, centre), cut_heart(truth, centre), strict=True):
            zoom = HEART_SIDE / SIDE
            grey = ndimage.zoom(np.clip(plane / white, 0, 1), zoom, order=3, mode="nearest", grid_mode=True).clip(0, 1)
            tile = np.repeat(grey[..., None] * 255, 3, axis=2)
            for threshold, colour in enumerate(OUTLINES):
                inside = (
                    ndimage.zoom((mask > threshold).astype(float), zoom, order=1, mode="nearest", grid_mode=True) > 0.5
                )
                edge = inside & ~ndimage.binary_erosion(inside, iterations=2)
                tile[inside] = 0.78 * tile[inside] + 0.22 * np.array(colour)
                tile[edge] = colour
            page = np.concatenate([page, tile.astype(np.uint8)], axis=1)
        frame = Image.fromarray(page)
        text = "SYNTHETIC mouse (phantom): muscle yellow, blood red; base, middle, apex"
        ImageDraw.Draw(frame).text((8, 6), text, fill=(255, 255, 255), font=font)
        frames.append(frame)
    frames[0].save(folder / "heart.webp", save_all=True, append_images=frames[1:], duration=70, loop=0, quality=62)
    frames[0].quantize(128).save(folder / "heart.png", optimize=True)
    print(f"written: {folder / 'heart.webp'}, {folder / 'heart.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parents[1] / "docs" / "images")
    parser.add_argument("--real", type=Path)
    args = parser.parse_args()
    draw_cohort(args.folder)
    draw_beat(args.folder)
    draw_ends(args.folder, args.real)
    draw_heart(args.folder)


if __name__ == "__main__":
    main()
