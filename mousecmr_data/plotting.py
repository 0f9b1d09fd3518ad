"""Figures of mice: ED/ES montage with mask outlines, volumes over time, the moving slices as a GIF or WebP, samples.

``plot_…`` functions take a dataset of the cine model and return a matplotlib ``Figure``; ``save_figure`` writes it.
Every figure of synthetic data says so.
"""

from __future__ import annotations

import base64
import html
import io
import math
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.environment import import_matplotlib
from mousecmr_data._utils.outputs import write_file
from mousecmr_data._utils.text import SYNTHETIC
from mousecmr_data.dataset.model import check_not_empty, get_spacing
from mousecmr_data.errors import ArgumentError, UnlabelledError
from mousecmr_data.metrics.volumes import measure, smooth_curve
from mousecmr_data.schema.labels import COLOURS, MEANINGS, Label
from mousecmr_data.schema.variables import DIMS, ED, ES, IMAGE, INFLOW, MASK, NOT_PUBLISHED, UNKNOWN, UNLABELLED

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image


MARGIN_MM = 2.5
"""Tissue shown around the left ventricle."""
MIN_MONTAGE_INCHES = 4.0
"""Narrower pictures would cut their title."""
CHARACTERS_PER_INCH = 18
"""Of the smallest text, on average."""


Kind = Literal["montage", "volume"]
Picture = tuple[NDArray[Any], NDArray[Any], str]
"""Image (y, x), labels (y, x) and title."""


def plot(what: Any, kind: Kind = "montage", *, mask: str = MASK, limit: int = 12) -> Figure:
    """Plot a mouse, a cohort, or what a loader gives; the figure shows itself in a notebook.

    Parameters
    ----------
    what
        A dataset of the cine model: its labelled frames, or with ``kind="volume"`` its volumes over time. A cohort: the
        middle slice at ED of its first mice, which are opened. A sample or a batch of ``adapters.torch``, also after a
        transform: a mapping with ``image`` and, if it has one, ``label``, arrays or tensors; a list of samples; or a
        batch (image (n, channel, y, x), label (n, y, x)). Of several channels, the middle one is drawn; labels may be
        one-hot. What is not labelled has no outline. ``cohort.slices()``: a batch, too.
    mask
        Of a dataset: the variable with the masks to outline.
    limit
        The largest number of pictures of a cohort or batch.

    Raises ArgumentError for anything else, MissingExtraError without matplotlib.
    """
    from mousecmr_data.dataset.cohort import Cohort  # imports zarr, which the figures of one mouse do not need

    if kind not in get_args(Kind):
        raise ArgumentError.from_name("kind of plot", kind, get_args(Kind))
    if isinstance(what, xr.Dataset) and "sample" in what.dims:
        part = what.isel(sample=slice(limit))
        batch: dict[str, Any] = {
            "image": part[IMAGE].values[:, None],
            **{n: part[n].values for n in ("slice", "phase")},
        }
        batch |= {"mouse": part["mouse"].values.tolist(), "synthetic": [part.attrs["synthetic"]] * part.sizes["sample"]}
        if MASK in part:
            batch["label"] = np.where(part["labelled"].values[:, None, None], part[MASK].values, 0)[:, None]
        return _draw_pictures(_list_batch(batch, limit))
    if isinstance(what, xr.Dataset):
        if kind == "volume":
            return plot_volume_curve(what, mask)
        if mask not in (MASK, *what):
            raise UnlabelledError(f"{what.attrs.get('mouse', 'This mouse')} has no variable {mask!r}.", "masks to draw")
        return plot_montage(what if mask == MASK else what.assign({MASK: what[mask]}))
    if isinstance(what, Cohort):
        check_not_empty(what)
        return _draw_pictures([_take_middle(what[name]) for name in what.mice[:limit]])
    if isinstance(what, tuple) and len(what) == 2:
        what = {"image": what[0], "label": what[1], "mouse": [""] * len(what[0])}
    samples = [what] if isinstance(what, Mapping) else what if isinstance(what, Sequence) else []
    if not samples or not all(isinstance(sample, Mapping) and IMAGE in sample for sample in samples):
        raise ArgumentError(
            f"plot() got a {type(what).__name__}.",
            "a dataset of one mouse, a cohort, or a sample or batch with the key 'image'",
            "mousecmr_data.plot(cohort), or plot(next(iter(loader)))",
        )
    return _draw_pictures([p for sample in samples for p in _list_batch(sample, limit)][:limit])


def _take_middle(ds: xr.Dataset) -> Picture:
    """Return the middle slice of the first labelled frame, or of the first frame."""
    labelled = np.flatnonzero(ds["labelled"].values)
    plane = ds.isel(frame=labelled[0] if labelled.size else 0, slice=ds.sizes["slice"] // 2)
    image = plane[IMAGE].values
    has_mask = MASK in ds and labelled.size
    title = make_title(ds).replace(f", {ds.attrs['source']}", "")
    return image, plane[MASK].values if has_mask else np.zeros(image.shape, np.uint8), title


def _list_batch(batch: Mapping[str, Any], limit: int) -> list[Picture]:
    """Return the pictures of a sample or batch: of a slice one, of a stack its slices, of a cine its frames."""
    mouse = batch.get("mouse")
    if mouse is None:
        is_batch = isinstance(batch[IMAGE], list) or (np.ndim(batch[IMAGE]) > 3 and np.shape(batch[IMAGE])[1] == 1)
    else:
        is_batch = not isinstance(mouse, str)
    pictures: list[Picture] = []
    for i in range(min(limit, len(batch[IMAGE]))) if is_batch else [None]:
        facts = {k: v if i is None else v[i] for k, v in batch.items() if k in SHOWN}
        image, label = np.asarray(facts[IMAGE]), facts.get("label")
        image = image[len(image) // 2]  # the channel
        label = np.zeros(image.shape, np.uint8) if label is None else np.asarray(label)
        if label.ndim > image.ndim:
            label = label.argmax(0) if len(label) > 1 else label[0]
        mark = f" ({SYNTHETIC})" if facts.get("synthetic") else ""
        name = f"{facts.get('mouse', '')}{mark}"
        kind, phase = ("slice" if image.ndim < 4 else "frame"), facts.get("phase", "")
        if image.ndim == 4:  # a cine: the frames of its middle slice
            image, label = image[:, image.shape[1] // 2], label[:, label.shape[1] // 2]
        first = max(0, int(facts.get("slice", 0)))
        planes = [(image, label)] if image.ndim == 2 else list(zip(image, label, strict=True))
        for k, (plane, labels) in enumerate(planes):
            parts = [name, f"{kind} {first + k}", str(phase[k] if kind == "frame" and phase else phase)]
            pictures.append((plane, labels, ", ".join(filter(None, parts))))
    return pictures[:limit]


SHOWN = (IMAGE, "label", "mouse", "slice", "phase", "synthetic")
"""Keys of samples that a picture shows."""
PICTURE_COLUMNS = 4


def _draw_pictures(pictures: Sequence[Picture]) -> Figure:
    """Draw pictures in a grid, with the outlines of their labels; numbers that are no structure have none."""
    columns = min(PICTURE_COLUMNS, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    figure = create_figure(figsize=(max(2.4 * columns, MIN_MONTAGE_INCHES), 2.8 * rows), facecolor="black")
    axes = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=1 - 0.45 / (2.8 * rows), wspace=0.05, hspace=0.2)
    for ax in axes.flat:
        ax.axis("off")
    for ax, (image, label, title) in zip(axes.flat, pictures, strict=False):
        low, high = np.percentile(image, (0.5, 99.7))
        ax.imshow(image, cmap="gray", vmin=low, vmax=high)
        _draw_outlines(ax, np.where(np.isin(label, list(COLOURS)), label, 0))
        ax.set_title("\n".join(textwrap.wrap(escape_math(title), 40)[:2]), color="white", fontsize=7, pad=3)
    return figure


def _draw_outlines(ax: Any, mask: NDArray[Any]) -> None:
    for level, label in ((0.5, Label.MYOCARDIUM), (1.5, Label.BLOOD_POOL)):
        if (mask > level).any():
            ax.contour(mask.astype(np.float32), [level], colors=[COLOURS[label]], linewidths=0.8)


def plot_montage(ds: xr.Dataset, note: str = "") -> Figure:
    """Plot all slices (columns) of the labelled frames, at most ED, ES and two more (rows), and ``note`` below them.

    An unlabelled mouse shows its first frame, without outlines. Reads only these frames.
    """
    labelled, phases = np.flatnonzero(ds["labelled"].values).tolist(), ds["phase"].values
    selected = ds.isel(frame=sorted(labelled, key=lambda i: phases[i] not in (ED, ES))[:4] or [0])
    images = selected[IMAGE].transpose(*DIMS).values
    has_mask = MASK in ds and bool(labelled)
    masks = selected[MASK].transpose(*DIMS).values if has_mask else np.zeros(images.shape, np.uint8)
    dy, dx = get_spacing(ds)[1:]
    crop = (..., *find_crop(masks, round(MARGIN_MM / dy), round(MARGIN_MM / dx)))
    images, masks = images[crop], masks[crop]
    n_rows, n_slices = images.shape[:2]
    height = images.shape[2] * dy / (images.shape[3] * dx)
    # Lengths in inches: the margins hold text, whose size does not depend on the number of slices.
    width = max(1.5 * n_slices + 0.5, MIN_MONTAGE_INCHES)
    lines = textwrap.wrap(note, round(CHARACTERS_PER_INCH * width))
    above, below = 0.55, 0.32 + 0.14 * len(lines)
    total = 1.5 * height * n_rows + above + below
    figure = create_figure(figsize=(width, total), facecolor="black")
    spacing = {"left": 0.45 / width, "right": (1.5 * n_slices + 0.45) / width, "wspace": 0.03, "hspace": 0.03}
    spacing |= {"top": 1 - above / total, "bottom": below / total}
    axes = figure.subplots(n_rows, n_slices, squeeze=False, gridspec_kw=spacing)
    window = np.percentile(images, (0.5, 99.7))
    for row in range(n_rows):
        for column in range(n_slices):
            ax = axes[row, column]
            ax.imshow(images[row, column], cmap="gray", vmin=window[0], vmax=window[1], aspect=dy / dx)
            _draw_outlines(ax, masks[row, column])
            ax.set(xticks=[], yticks=[])
            if row == 0:
                ax.set_title(f"slice {int(selected['slice'].values[column])}", color="0.7", fontsize=7, pad=2)
        phase, time = str(selected["phase"].values[row]), float(selected["time"].values[row])
        name = "frame" if phase in (UNLABELLED, UNKNOWN) else phase
        number = int(selected["frame"].values[row])
        axes[row, 0].set_ylabel(escape_math(f"{name} {number}\n{time:.0f} ms"), color="white", fontsize=8)
    axes[-1, -1].plot([4, 4 + 2.0 / dx], [images.shape[2] - 5] * 2, color="white", lw=2)
    axes[-1, -1].text(4, images.shape[2] - 8, "2 mm", color="white", fontsize=7)
    figure.text(0.08 / width, 1 - 0.1 / total, escape_math(make_title(ds)), color="white", fontsize=10, va="top")
    legend = [(f"— {MEANINGS[label]}", COLOURS[label]) for label in COLOURS] if has_mask else []
    for i, (text, colour) in enumerate(legend or [("no frame is labelled", "0.7")]):
        figure.text((0.08 + 1.45 * i) / width, (below - 0.1) / total, text, color=colour, fontsize=9, va="top")
    figure.text(0.08 / width, 0.06 / total, escape_math("\n".join(lines)), color="0.75", fontsize=7)
    return figure


def plot_volume_curve(ds: xr.Dataset, mask: str = MASK, note: str = "") -> Figure:
    """Plot blood-pool volume and myocardial mass over the cine, and ``note`` below them.

    Of the experts' ``mask``, only labelled frames have values; the others are marked, not interpolated. Any other
    variable is assumed to have masks in all frames; the line of its volumes is the smoothed curve, on which ED and ES
    were found.
    """
    measures = measure(ds, mask=mask)
    frames, by_experts = measures.frames, mask == MASK
    is_timed = bool(ds.attrs.get("frame_time_known", True))
    column = "time_ms" if is_timed else "frame"
    x, all_x = frames[column], ds["time" if is_timed else "frame"].values
    figure = create_figure(figsize=(6.4, 4.6))
    margins = {"left": 0.13, "right": 0.97, "top": 0.86, "bottom": 0.16 if note else 0.13}
    volume, mass = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2), gridspec_kw=margins)
    main = frames["phase"] != INFLOW
    blank = all_x[~ds["labelled"].values]
    for ax, name, label, ylabel in (
        (volume, "blood_pool_ul", Label.BLOOD_POOL, "blood pool (µL)"),
        (mass, "mass_mg", Label.MYOCARDIUM, "mass (mg)"),
    ):
        values, colour = frames[name].to_numpy(), COLOURS[label]
        line = values if by_experts or ax is mass else smooth_curve(values)
        ax.plot(x[main], line[main], "--" if by_experts else "-", color=colour, lw=1)
        ax.plot(x[main], values[main], "o", color=colour, ms=6 if by_experts else 4)
        ax.plot(x[~main], values[~main], "o", mfc="none", color=colour, ms=5)
        ax.set_ylabel(ylabel)
        ax.set_ylim(0, max(1.0, 1.35 * float(values.max())))
        ax.spines[["top", "right"]].set_visible(False)
        if blank.size:
            ax.plot(blank, np.zeros(blank.size), "|", color="0.6", ms=8, mew=1.5, clip_on=False)
            ax.tick_params(axis="x", length=0)
    for row in frames[main & (by_experts | frames["phase"].isin([ED, ES]))].itertuples():
        name = str(row.phase) if row.phase in (ED, ES) else "labelled"
        at = getattr(row, column)
        volume.annotate(
            f"{name} {row.blood_pool_ul:.1f} µL", (at, row.blood_pool_ul), (0, -15 if row.phase == ES else 9),
            textcoords="offset points", fontsize=8, ha="left" if at == all_x[0] else "center",
        )  # fmt: skip
    texts = ["time after the trigger (ms)" if is_timed else "frame (the time between frames is unknown)"]
    texts += ["grey: frames that nobody segmented"] if blank.size else []
    texts += ["open: frames with inflow artefacts"] if (~main).any() else []
    mass.set_xlabel("; ".join(texts), fontsize=8)
    step = float(all_x[1] - all_x[0]) if all_x.size > 1 else 5.0
    mass.set_xlim(float(all_x[0]) - step, max(float(all_x[-1]), float(all_x[0]) + 4 * step) + step)
    numbers = f"SV {measures.sv_ul:.1f} µL, EF {measures.ef_percent:.1f} %"
    if not np.isfinite(measures.ef_percent):
        numbers = "EF: no ED/ES pair"
    if not by_experts:
        numbers += f"; masks: {ds[mask].attrs.get('weights', mask)}"
    figure.text(0.02, 0.97, escape_math(f"{make_title(ds)}\n{numbers}"), fontsize=9, va="top")
    figure.text(0.02, 0.015, escape_math(note.replace(". ", ".\n", 1)), fontsize=6.5, color="0.35", va="bottom")
    return figure


def save_figure(figure: Figure, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
    """Write ``figure`` as PNG at 150 dots per inch; missing folders are created.

    Raises OutputError if ``path`` exists, unless this library wrote it and nobody edited it, or with ``overwrite``.
    """
    with write_file(path, overwrite=overwrite) as partial:
        figure.savefig(partial, dpi=150, facecolor=figure.get_facecolor())
    return Path(path)


def escape_math(text: str) -> str:
    """Return ``text`` for a figure so that matplotlib draws each ``$`` and takes nothing for a formula.

    Every text with foreign words (names, groups, weights) goes through this function. Control characters, which no font
    has, become spaces.
    """
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text).replace("$", r"\$")


def create_figure(**options: Any) -> Figure:
    """Create an empty matplotlib figure without pyplot and its backends; notebooks show it all the same.

    The error for a missing matplotlib names the extra.
    """
    import_matplotlib()
    from matplotlib.figure import Figure

    figure: Any = Figure(**options)
    figure._repr_png_ = partial(_encode_figure, figure)  # IPython knows figures of pyplot only
    return figure  # type: ignore[no-any-return]


def _encode_figure(figure: Figure) -> bytes:
    figure.savefig(buffer := io.BytesIO(), format="png", dpi=100, facecolor=figure.get_facecolor())
    return buffer.getvalue()


def make_title(ds: xr.Dataset) -> str:
    """Return name, source and group of a mouse, and the mark of synthetic data."""
    synthetic = " (SYNTHETIC)" if ds.attrs.get("synthetic") else ""
    phenotype = ds.attrs.get("phenotype", NOT_PUBLISHED)
    group = "" if phenotype == NOT_PUBLISHED else f", {phenotype}"
    return f"{ds.attrs.get('mouse', 'mouse')}{synthetic}, {ds.attrs.get('source', '')}{group}"


def find_crop(masks: NDArray[np.uint8], margin_y: int, margin_x: int) -> tuple[slice, slice]:
    """Return the rows and columns to show: the left ventricle and a margin, or everything if no mask is set."""
    n_y, n_x = masks.shape[-2:]
    rows, columns = np.nonzero(masks.any(axis=(0, 1)))
    if rows.size == 0:
        return slice(0, n_y), slice(0, n_x)
    half = max(np.ptp(rows) / 2 + margin_y, np.ptp(columns) / 2 + margin_x)
    y, x = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    return (
        slice(max(0, int(y - half)), min(n_y, int(y + half) + 1)),
        slice(max(0, int(x - half)), min(n_x, int(x + half) + 1)),
    )


ZOOM = 2
N_GREYS = 120
"""Palette entries for grey; the colours of the outlines follow them."""
MOVIE_COLUMNS = 5
HEADER_PIXELS = 38
"""Pixels above the images for two lines of text."""
SLOW_DOWN = 20
"""Factor by which a heart beat of a tenth of a second is slowed down."""


def write_movie(
    ds: xr.Dataset, path: str | PathLike[str], mask: str = MASK, note: str = "", *, overwrite: bool = False
) -> Path:
    """Write all frames of ``ds`` with the outlines of the variable ``mask`` to ``path``, and ``note`` below the images.

    The suffix of ``path`` selects an animated GIF or WebP (a sixth of the size). Of the experts' ``mask``, only
    labelled frames are drawn and counted; any other variable is assumed to have masks in all frames. The text shows
    the time and the blood pool's volume. Raises :class:`UnlabelledError` if the variable does not exist, OutputError as
    :func:`save_figure` does.
    """
    import_matplotlib()  # brings Pillow and a font with it
    if mask not in ds:
        raise UnlabelledError(f"{ds.attrs.get('mouse', 'This mouse')} has no variable {mask!r}.", "masks to draw")
    images = ds[IMAGE].transpose(*DIMS).values
    labels = ds[mask].transpose(*DIMS).values
    has_mask = ds["labelled"].values if mask == MASK else np.ones(len(images), bool)
    dz, dy, dx = get_spacing(ds)
    crop = (..., *find_crop(labels[has_mask], round(MARGIN_MM / dy), round(MARGIN_MM / dx)))
    images, labels = images[crop], labels[crop]
    low, high = np.percentile(images, (0.5, 99.7))
    grey = (np.clip((images - low) / max(high - low, 1.0), 0, 1) * (N_GREYS - 1)).astype(np.uint8)
    volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * dz * dy * dx
    heading = make_title(ds) + ("" if mask == MASK else f"; masks: {ds[mask].attrs.get('weights', mask)}")
    tiled = _tile_slices(grey, np.where(has_mask[:, None, None, None], labels, 0))
    missing = round(_load_font().getlength(heading)) + 12 - tiled.shape[2]  # a small grid is narrower than its text
    tiled = np.pad(tiled, ((0, 0), (0, 0), (0, max(0, missing))))
    pages = []
    for frame, time in enumerate(ds["time"].values):
        volume = f"blood pool {volumes[frame]:.1f} µL" if has_mask[frame] else "not segmented"
        time_text = f"{time:.0f} ms" if ds.attrs.get("frame_time_known", True) else f"frame {frame}"
        pages.append(_add_text(tiled[frame], f"{heading}\n{time_text}   {volume}", note))
    step = float(np.diff(ds["time"].values).mean()) if len(pages) > 1 else 5.0
    duration = max(20, round(step * SLOW_DOWN))
    with write_file(path, overwrite=overwrite) as partial:
        pages[0].save(partial, save_all=True, append_images=pages[1:], duration=duration, loop=0)
    return Path(path)


@dataclass(frozen=True)
class Movie:
    """An animated picture, which notebooks play."""

    data: bytes
    format: str
    """webp or gif."""
    title: str

    def _repr_html_(self) -> str:
        data = base64.b64encode(self.data).decode("ascii")
        return f'<img alt="{html.escape(self.title)}" src="data:image/{self.format};base64,{data}">'


def make_movie(
    ds: xr.Dataset,
    path: str | PathLike[str] | None = None,
    *,
    mask: str = MASK,
    note: str = "",
    overwrite: bool = False,
) -> Movie:
    """Make the movie of :func:`write_movie` for a notebook, as WebP, or as the file that is written to ``path``.

    Raises what :func:`write_movie` raises.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = write_movie(ds, path or Path(folder) / "movie.webp", mask, note, overwrite=overwrite)
        return Movie(file.read_bytes(), file.suffix[1:].lower(), f"Moving slices of {make_title(ds)}")


def _tile_slices(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrange the slices of each frame (frame, slice, y, x) in a grid of palette entries, below empty rows for text."""
    n_frames, n, n_y, n_x = images.shape
    columns = min(MOVIE_COLUMNS, n)
    height, width = n_y * ZOOM, n_x * ZOOM
    tiles = _enlarge(images)
    enlarged = labels.repeat(ZOOM, axis=2).repeat(ZOOM, axis=3)
    for number, label in enumerate(COLOURS):
        inside = np.pad(enlarged >= label, ((0, 0), (0, 0), (1, 1), (1, 1)))
        deep = inside[..., :-2, 1:-1] & inside[..., 2:, 1:-1] & inside[..., 1:-1, :-2] & inside[..., 1:-1, 2:]
        tiles[inside[..., 1:-1, 1:-1] & ~deep] = N_GREYS + number
    pages = np.zeros((n_frames, HEADER_PIXELS + math.ceil(n / columns) * height, columns * width), np.uint8)
    for i in range(n):
        row, column = divmod(i, columns)
        top, left = HEADER_PIXELS + row * height, column * width
        pages[:, top : top + height, left : left + width] = tiles[:, i]
    return pages


def _enlarge(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (..., y, x) with twice the rows and columns, interpolated linearly.

    The same as ``ndimage.zoom(order=1, grid_mode=True, mode="nearest")`` (a test compares), for all images at once.
    """
    out = images.astype(np.uint16)
    for _ in range(2):  # columns, then rows
        padded = np.concatenate([out[..., :1], out, out[..., -1:]], axis=-1)
        pairs = np.stack([3 * out + padded[..., :-2], 3 * out + padded[..., 2:]], axis=-1)
        out = pairs.reshape(*out.shape[:-1], ZOOM * out.shape[-1]).swapaxes(-1, -2)
    return ((out + 8) // 16).astype(np.uint8)


def _add_text(page: NDArray[np.uint8], above: str, below: str) -> Image.Image:
    """Make an image of the page with its palette, with text above, and the wrapped lines of ``below`` under it."""
    from PIL import Image, ImageDraw

    font = _load_font()
    lines: list[str] = []
    for word in below.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= page.shape[1] - 12:
            lines[-1] = longer
        else:
            lines.append(word)
    page = np.pad(page, ((0, 16 * len(lines) + 6 * bool(lines)), (0, 0)))
    image = Image.fromarray(page).convert("P")
    greys = [round(v * 255 / (N_GREYS - 1)) for v in range(N_GREYS) for _ in range(3)]
    image.putpalette(greys + [int(c[k : k + 2], 16) for c in COLOURS.values() for k in (1, 3, 5)])
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(above.splitlines()):
        draw.text((6, 3 + 16 * i), line, fill=N_GREYS - 1, font=font)
    for i, line in enumerate(reversed(lines)):
        draw.text((6, image.height - 18 - 16 * i), line, fill=N_GREYS - 1, font=font)
    return image


@cache
def _load_font() -> Any:
    from matplotlib.font_manager import findfont
    from PIL import ImageFont

    return ImageFont.truetype(findfont("DejaVu Sans"), 12)


def mark_title(title: str, synthetic: bool) -> str:
    """Return ``title``, with SYNTHETIC in front if the data are synthetic."""
    return f"{SYNTHETIC} mice: {title}" if synthetic else title
