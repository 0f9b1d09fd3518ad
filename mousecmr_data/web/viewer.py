"""Write a result for the page's viewer: per slice, one picture of all frames and one of their masks; and numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from mousecmr_data._utils.atomic import to_json_value
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.formats.build import ATTR_FRAME_TIME_KNOWN
from mousecmr_data.pipeline.analysis import AnalysisResult
from mousecmr_data.plotting import MARGIN_MM, find_crop
from mousecmr_data.schema.labels import COLOURS, MEANINGS
from mousecmr_data.schema.variables import DIMS, IMAGE, PREDICTED

MAX_PIXELS = 12_000_000
"""Limit of a picture with all frames of a slice; larger ones are shown at a half, a third, ... of their resolution."""
INSIDE_ALPHA = 50
"""Opacity (of 255) of a mask inside its outline."""
WEBP_QUALITY = 88
PALETTE = [0, 0, 0] + [int(c[k : k + 2], 16) for c in COLOURS.values() for _ in range(2) for k in (1, 3, 5)]
"""Background; then, for each label, the colour of its inside and of its outline."""
PALETTE_ALPHA = bytes([0, *(INSIDE_ALPHA, 255) * len(COLOURS)])


@dataclass(frozen=True)
class ViewerData:
    """The viewer's data as a JSON object, and its pictures by name."""

    about: dict[str, Any]
    files: dict[str, Path]


def write_viewer(result: AnalysisResult, folder: Path, prefix: str) -> ViewerData:
    """Write the pictures of ``result`` to ``folder``, named ``prefix``-slice, and return the viewer's data.

    Each picture is a grid of frames, row by row. Grey values range from the 0.5th to the 99.7th percentile of the cine,
    as in the montage and the movie.
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
        frames = images[:, k, ::step, ::step].astype(np.float32)
        grey = (np.clip((frames - low) / max(float(high - low), 1e-6), 0, 1) * 255).astype(np.uint8)
        cine, masks = f"{prefix}-{k}.webp", f"{prefix}-{k}.png"
        files |= {cine: folder / cine, masks: folder / masks}
        Image.fromarray(_tile(grey, columns)).save(files[cine], quality=WEBP_QUALITY, method=0)
        overlay = Image.fromarray(_tile(_draw_masks(labels[:, k, ::step, ::step]), columns)).convert("P")
        overlay.putpalette(PALETTE)
        overlay.save(files[masks], transparency=PALETTE_ALPHA, compress_level=3)
    return ViewerData({**_describe_result(result, step), "columns": columns, "prefix": prefix}, files)


def _describe_result(result: AnalysisResult, step: int) -> dict[str, Any]:
    ds, frames = result.ds, result.frames
    dz, dy, dx = get_spacing(ds)
    labels = ds[PREDICTED].transpose(*DIMS).values
    rows, columns = find_crop(labels, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    frame_time_known = bool(ds.attrs.get(ATTR_FRAME_TIME_KNOWN, True))
    first_frame = result.mouse["ed_frame"] or 0  # the viewer opens at end-diastole, in the slice with most of the heart
    first_slice = np.argmax(np.count_nonzero(ds[PREDICTED].values[first_frame], axis=(1, 2)))
    about: dict[str, Any] = {
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
        "time_ms": ds["time"].values.tolist() if frame_time_known else None,
        "frame_ms": float(ds["time"].attrs["frame_time"]),
        "phase": frames["phase"].tolist(),
        "volume_ul": frames["blood_pool_ul"].tolist(),
        "smoothed_ul": frames["blood_pool_smoothed_ul"].tolist(),
        "flags": [vars(f) for f in result.flags if f.level != "mouse"],
        "start": {"frame": int(first_frame), "slice": int(first_slice)},
        "weights": result.mouse["weights"],
        "synthetic": bool(ds.attrs.get("synthetic")),
        "marks": list(result.marks),
        "legend": [{"name": MEANINGS[label], "colour": colour} for label, colour in COLOURS.items()],
    }
    return dict(to_json_value(about))


def _tile(tiles: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return tiles (n, y, x) as one picture, row by row; unused places are zero."""
    n, n_y, n_x = tiles.shape
    columns = min(columns, n)
    rows = -(-n // columns)
    padded = np.concatenate([tiles, np.zeros((rows * columns - n, n_y, n_x), np.uint8)])
    return padded.reshape(rows, columns, n_y, n_x).swapaxes(1, 2).reshape(rows * n_y, columns * n_x)


def _draw_masks(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return masks (n, y, x) as palette indices: inside and outline of each label, 0 elsewhere."""
    out = np.zeros_like(labels)
    cross = ndimage.generate_binary_structure(2, 1)[None]
    for number, label in enumerate(COLOURS):
        inside = labels >= label
        out[labels == label] = 1 + 2 * number
        out[inside & ~ndimage.binary_erosion(inside, cross)] = 2 + 2 * number
    return out
