"""What notebooks show of mice: HTML with small pictures, and ``ds.mousecmr``, the accessor of xarray.

The HTML is made of what is on this disk: nothing is downloaded, made or converted for it.
:func:`~mousecmr_data.dataset.model.build_dataset` imports this module, so every mouse has the accessor.
"""

from __future__ import annotations

import base64
import html
import struct
import zlib
from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import mousecmr_data
from mousecmr_data._utils.text import SYNTHETIC_DATA
from mousecmr_data.schema.labels import COLOURS
from mousecmr_data.schema.variables import IMAGE, MASK

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mousecmr_data.metrics.volumes import Measures
    from mousecmr_data.plotting import Movie

N_PICTURES = 6
"""Of a cohort or dataset in a notebook."""
PICTURE_PIXELS = 96
TINT = 0.35
"""Share of a label's colour in its pixels."""


@xr.register_dataset_accessor("mousecmr")  # type: ignore[no-untyped-call]
class MouseAccessor:
    """``ds.mousecmr`` of a dataset of the cine model."""

    def __init__(self, ds: xr.Dataset) -> None:
        self._ds = ds

    def plot(self, kind: Literal["montage", "volume"] = "montage", *, mask: str = MASK) -> Figure:
        """Plot the labelled frames with outlines, or the volumes over time; see :func:`mousecmr_data.plot`."""
        return mousecmr_data.plot(self._ds, kind, mask=mask)

    def movie(self, path: str | PathLike[str] | None = None, *, mask: str = MASK) -> Movie:
        """Return all frames with the outlines of ``mask`` as a movie that a notebook plays; also write it to ``path``.

        The ending of ``path`` is .webp or .gif. Raises OutputError if it exists and may not be replaced.
        """
        return mousecmr_data.make_movie(self._ds, path, mask=mask)

    def measure(self, **options: Any) -> Measures:
        """Return EDV, ESV, SV, EF and mass; ``options`` are those of :func:`mousecmr_data.measure`."""
        return mousecmr_data.measure(self._ds, **options)


def draw_mouse(ds: xr.Dataset) -> str:
    """Return the middle slice of the first labelled frame as HTML; reads only this slice."""
    labelled = np.flatnonzero(ds["labelled"].values)
    plane = ds.isel(frame=int(labelled[0]) if labelled.size else 0, slice=ds.sizes["slice"] // 2)
    mask = plane[MASK].values if MASK in ds and labelled.size else None
    n = ds.sizes
    lines = [
        ds.attrs["phenotype"],
        ", ".join(f"{n[axis]} {axis}{'s'[: n[axis] != 1]}" for axis in ("frame", "slice")) + f" of {n['y']} × {n['x']}",
    ]
    return draw_picture(plane[IMAGE].values, mask, [ds.attrs["mouse"], *lines])


def draw_picture(image: NDArray[Any], mask: NDArray[Any] | None, caption: Iterable[str]) -> str:
    """Return an image (y, x) with tinted labels (y, x) as HTML, cut to the heart, with lines of text below."""
    mask = np.zeros(image.shape, np.uint8) if mask is None else mask
    known = np.isin(mask, list(COLOURS))
    centres = [n.mean() for n in np.nonzero(known)] if known.any() else [n / 2 for n in image.shape]
    window = []
    for centre, n in zip(centres, image.shape, strict=True):
        start = int(np.clip(centre - PICTURE_PIXELS / 2, 0, max(0, n - PICTURE_PIXELS)))
        window.append(slice(start, start + PICTURE_PIXELS))
    image, mask = image[tuple(window)].astype(np.float32), mask[tuple(window)]
    low, high = np.percentile(image, (0.5, 99.7))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)[..., None] * np.full(3, 255.0)
    for label, colour in COLOURS.items():
        rgb = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)])
        grey[mask == label] = (1 - TINT) * grey[mask == label] + TINT * rgb
    data = base64.b64encode(encode_png(grey.astype(np.uint8))).decode()
    text = "<br>".join(map(html.escape, caption))
    return (
        '<figure style="display:inline-block;margin:4px;vertical-align:top;text-align:center;font-size:11px">'
        f'<img alt="" width="{PICTURE_PIXELS}" src="data:image/png;base64,{data}">'
        f'<figcaption style="max-width:140px">{text}</figcaption></figure>'
    )


def encode_png(rgb: NDArray[np.uint8]) -> bytes:
    """Return an image (y, x, 3) as PNG. Pillow comes with an extra; cohorts show themselves without it."""
    height, width = rgb.shape[:2]
    rows = np.pad(rgb.reshape(height, -1), ((0, 0), (1, 0))).tobytes()  # each row begins with its filter: none
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(rows),
        b"IEND": b"",
    }
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    return b"\x89PNG\r\n\x1a\n" + body


def format_block(title: str, facts: Mapping[str, str], parts: Iterable[str], synthetic: bool) -> str:
    """Return a title, the notice of synthetic data, a table of facts, and parts of HTML as one block."""
    notice = f'<p style="color:#a04000"><b>{SYNTHETIC_DATA}</b></p>' if synthetic else ""
    rows = "".join(
        f'<tr><th style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<div><p><b>{html.escape(title)}</b></p>{notice}<table>{rows}</table>{''.join(parts)}</div>"
