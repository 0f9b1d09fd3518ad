"""A result as the page's viewer takes it: per slice one picture of all frames, one of their masks, and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data._utils.json import to_json_value
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.pipeline.analysis import AnalysisResult
from mousecmr_data.plotting import MARGIN_MM, find_crop
from mousecmr_data.schema.labels import COLOURS, MEANINGS
from mousecmr_data.schema.variables import DIMS, IMAGE, PREDICTED

MAX_PIXELS = 12_000_000
"""Of a picture with all frames of a slice; larger ones are shown at a half, a third, ... of their resolution."""
INSIDE_ALPHA = 50
"""Opacity (of 255) of a mask within its outline."""
WEBP_QUALITY = 88
PALETTE = [0, 0, 0] + [int(c[k : k + 2], 16) for c in COLOURS.values() for _ in range(2) for k in (1, 3, 5)]
"""Nothing; then of each label the colour of its inside and of its outline."""
PALETTE_ALPHA = bytes([0, *(INSIDE_ALPHA, 255) * len(COLOURS)])


@dataclass(frozen=True)
class ViewerData:
    """What the viewer is told (JSON), and the files that it may fetch, by name."""

    about: dict[str, Any]
    files: dict[str, Path]


def write_viewer(result: AnalysisResult, folder: Path, prefix: str) -> ViewerData:
    """Write the pictures of ``result`` to ``folder``, named ``prefix``-slice; returns what the viewer needs.

    Frames lie in a grid, row by row. Grey values run from the 0.5th to the 99.7th percentile of the cine, as in the
    montage and the movie.
    """
    from PIL import Image

    ds = result.ds
    images = ds[IMAGE].transpose(*DIMS).values
    labels = ds[PREDICTED].transpose(*DIMS).values
    n_frames, n_slices, n_y, n_x = images.shape
    step = math.ceil(math.sqrt(max(1.0, n_frames * n_y * n_x / MAX_PIXELS)))
    low, high = np.percentile(images, (0.5, 99.7))
    columns = math.ceil(math.sqrt(n_frames * n_y / n_x))
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, Path] = {}
    for k in range(n_slices):
        part = images[:, k, ::step, ::step].astype(np.float32)
        grey = (np.clip((part - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)
        cine, masks = f"{prefix}-{k}.webp", f"{prefix}-{k}.png"
        files |= {cine: folder / cine, masks: folder / masks}
        Image.fromarray(_tile(grey, columns)).save(files[cine], quality=WEBP_QUALITY, method=0)
        drawn = Image.fromarray(_tile(_draw_masks(labels[:, k, ::step, ::step]), columns)).convert("P")
        drawn.putpalette(PALETTE)
        drawn.save(files[masks], transparency=PALETTE_ALPHA, compress_level=3)
    return ViewerData({**_describe_result(result, step), "columns": columns, "prefix": prefix}, files)


def _describe_result(result: AnalysisResult, step: int) -> dict[str, Any]:
    ds, frames = result.ds, result.frames
    dz, dy, dx = get_spacing(ds)
    labels = ds[PREDICTED].transpose(*DIMS).values
    rows, columns = find_crop(labels, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    known = bool(ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True))
    about = {
        "name": result.name,
        "frames": ds.sizes["frame"],
        "slices": ds.sizes["slice"],
        "height": -(-ds.sizes["y"] // step),
        "width": -(-ds.sizes["x"] // step),
        "heart": [columns.start // step, rows.start // step, -(-columns.stop // step), -(-rows.stop // step)],
        "aspect": dy / dx,
        "pixel_mm": dx * step,
        "slice_mm": dz,
        "shrunk": step,
        "time_ms": ds["time"].values.tolist() if known else None,
        "frame_ms": float(ds["time"].attrs["frame_time"]),
        "phase": frames["phase"].tolist(),
        "volume_ul": frames["blood_pool_ul"].tolist(),
        "smoothed_ul": frames["blood_pool_smoothed_ul"].tolist(),
        "flags": [
            {"frame": f.frame, "slice": f.slice, "flag": f.flag, "message": f.message}
            for f in result.flags
            if f.level != "mouse"
        ],
        "start": _choose_start(result),
        "weights": result.mouse["weights"],
        "synthetic": bool(ds.attrs.get("synthetic")),
        "marks": list(result.marks),
        "legend": [{"name": MEANINGS[label], "colour": colour} for label, colour in COLOURS.items()],
    }
    made: dict[str, Any] = to_json_value(about)
    return made


def _choose_start(result: AnalysisResult) -> dict[str, int]:
    """Where the viewer opens: end-diastole, the slice with most of the heart."""
    frame = result.mouse["ed_frame"] or 0
    areas = np.count_nonzero(result.ds[PREDICTED].values[frame], axis=(1, 2))
    return {"frame": int(frame), "slice": int(np.argmax(areas))}


def _tile(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Tiles (n, y, x) as one picture, row by row; what is left over stays zero."""
    n, n_y, n_x = tiles.shape
    page = np.zeros((-(-n // columns) * n_y, min(columns, n) * n_x), np.uint8)
    for i, tile in enumerate(tiles):
        row, column = divmod(i, columns)
        page[row * n_y : (row + 1) * n_y, column * n_x : (column + 1) * n_x] = tile
    return page


def _draw_masks(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Masks (n, y, x) as palette entries: of each label its inside and its outline, nothing elsewhere."""
    out = np.zeros_like(labels)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    for number, label in enumerate(COLOURS):
        inside = labels >= label
        out[labels == label] = 1 + 2 * number
        out[inside & ~ndimage.binary_erosion(inside, cross)] = 2 + 2 * number
    return out
