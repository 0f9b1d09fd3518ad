"""A mouse in motion: all slices side by side, outlines of a mask, as an animated GIF."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import MissingExtraError, UnlabelledError
from mousecmr_data.evaluate.figures import MARGIN_MM, box, title
from mousecmr_data.schema.labels import COLOURS, Label
from mousecmr_data.schema.variables import DIMS, IMAGE, MASK

if TYPE_CHECKING:
    from PIL import Image

ZOOM = 2
GREYS = 120
"""Palette entries for grey; the outlines' colours follow."""
COLUMNS = 5
HEADER = 38
"""Pixels above the images for two lines of text."""
SLOWED = 20
"""A heart beat of a tenth of a second is shown this many times slower."""


def movie(ds: xr.Dataset, path: str | PathLike[str], mask: str = MASK, note: str = "") -> Path:
    """Write every frame of ``ds`` with the outlines of the variable ``mask`` to ``path``, a GIF or, by its
    ending, an animated WebP (a sixth of the size). ``note`` is written below the images.

    Of the experts' ``mask``, only labelled frames are drawn and counted; any other variable is taken to have
    every frame. The text shows the time and the blood pool's volume. Raises :class:`UnlabelledError` where
    there is no such variable.
    """
    try:
        import matplotlib  # noqa: F401 (brings Pillow and a font with it)
    except ImportError as e:
        raise MissingExtraError.of("matplotlib", "evaluation") from e
    if mask not in ds:
        raise UnlabelledError(f"{ds.attrs.get('mouse', 'This mouse')} has no variable {mask!r}.", "masks to draw")
    images = ds[IMAGE].transpose(*DIMS).values
    labels = ds[mask].transpose(*DIMS).values
    known = ds["labelled"].values if mask == MASK else np.ones(len(images), bool)
    dz, dy, dx = get_spacing(ds)
    part = box(labels[known], round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    images, labels = images[..., part[0], part[1]], labels[..., part[0], part[1]]
    low, high = np.percentile(images, (0.5, 99.7))
    grey = (np.clip((images - low) / max(high - low, 1.0), 0, 1) * (GREYS - 1)).astype(np.uint8)
    volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * dz * dy * dx
    heading = title(ds) + ("" if mask == MASK else f"; masks: {ds[mask].attrs.get('weights', mask)}")
    pages = []
    for frame, time in enumerate(ds["time"].values):
        volume = f"blood pool {volumes[frame]:.1f} µL" if known[frame] else "not segmented"
        when = f"{time:.0f} ms" if ds.attrs.get("frame_time_known", True) else f"frame {frame}"
        page = _page(grey[frame], labels[frame] if known[frame] else np.zeros_like(labels[frame]))
        pages.append(_written(page, f"{heading}\n{when}   {volume}", note))
    step = float(np.diff(ds["time"].values).mean()) if len(pages) > 1 else 5.0
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    pages[0].save(target, save_all=True, append_images=pages[1:], duration=max(20, round(step * SLOWED)), loop=0)
    return target


def _page(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The slices (n, y, x) of one frame as a grid of palette entries, below room for text."""
    n, n_y, n_x = images.shape
    columns = min(COLUMNS, n)
    rows = -(-n // columns)
    page = np.zeros((HEADER + rows * n_y * ZOOM, columns * n_x * ZOOM), np.uint8)
    for i in range(n):
        row, column = divmod(i, columns)
        tile = ndimage.zoom(images[i], ZOOM, order=1, grid_mode=True, mode="nearest")
        enlarged = labels[i].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        for number, label in enumerate(COLOURS):
            inside = enlarged >= label
            tile[inside & ~ndimage.binary_erosion(inside)] = GREYS + number
        top, left = HEADER + row * n_y * ZOOM, column * n_x * ZOOM
        page[top : top + n_y * ZOOM, left : left + n_x * ZOOM] = tile
    return page


def _written(page: NDArray[np.uint8], above: str, below: str) -> Image.Image:
    """The page as a picture with its palette, with text above, and below as many lines as it takes."""
    from matplotlib.font_manager import findfont
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.truetype(findfont("DejaVu Sans"), 12)
    lines: list[str] = []
    for word in below.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= page.shape[1] - 12:
            lines[-1] = longer
        else:
            lines.append(word)
    page = np.pad(page, ((0, 16 * len(lines) + 6 * bool(lines)), (0, 0)))
    image = Image.fromarray(page).convert("P")
    greys = [round(v * 255 / (GREYS - 1)) for v in range(GREYS) for _ in range(3)]
    image.putpalette(greys + [int(c[k : k + 2], 16) for c in COLOURS.values() for k in (1, 3, 5)])
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(above.splitlines()):
        draw.text((6, 3 + 16 * i), line, fill=GREYS - 1, font=font)
    for i, line in enumerate(reversed(lines)):
        draw.text((6, image.height - 18 - 16 * i), line, fill=GREYS - 1, font=font)
    return image
