"""The authors' augmentation, of a whole batch at once and on the device where the batch is.

The order is: horizontal flip, rotation by a multiple of 90°, brightness, gamma, Gaussian noise, CLAHE, affine. Images
are rounded to 8 bits in between and min–max normalised at the end. Source: the paper and the authors' notebook; there
are two sets of strengths because the two differ. Each transform is MONAI's of the same name, with the same numbers
(a test compares them); MONAI has no CLAHE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mousecmr_data._utils.environment import copy_to_device
from mousecmr_data.inference.grid import make_training_grid, normalize


@dataclass(frozen=True)
class AugmentationStrengths:
    """Limits of the random draws, for images in [0, 1]."""

    noise_sd: tuple[float, float]
    brightness: float = 0.17
    gamma: tuple[float, float] = (0.70, 1.20)
    clip_limit: float = 2.0
    tiles: int = 8
    scale: float = 0.10
    rotation_deg: float = 10.0
    shift: float = 0.0625
    """Share of the field of view. The notebook's call always shifts by exactly +6.25 %, a bug in its version of the
    library; both sets use the paper's ±6.25 %."""


STRENGTHS = {
    "paper": AugmentationStrengths(noise_sd=(30.0**0.5 / 255.0, 100.0**0.5 / 255.0)),
    "notebook": AugmentationStrengths(noise_sd=(0.1, 0.4)),
}

Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class AugmentationDraws:
    """What is done to each sample of a batch: arrays of (N,), and the noise."""

    flip: NDArray[np.bool_]
    turns: NDArray[np.int64]
    """Number of rotations by 90°, 0 to 3."""
    brightness: Numbers
    """Added to the image; 0 where it stays as it is."""
    gamma: Numbers
    """The exponent; 1 where the image stays as it is."""
    noise_sd: Numbers
    """0 where there is no noise."""
    noise: Tensor
    """Noise of SD 1 of the samples that have any, (samples with noise, C, Y, X)."""
    equalize: NDArray[np.bool_]
    move: NDArray[np.bool_]
    """Whether the affine transform is done."""
    rotation: Numbers
    """Angle in radians."""
    shift: Numbers
    """Along Y and X, (N, 2), in pixels."""
    scale: Numbers
    """Along Y and X, (N, 2)."""


def augment(
    image: Tensor, label: Tensor, seed: int, kind: str = "paper", scaling: str = "min-max"
) -> tuple[Tensor, Tensor]:
    """Return an augmented batch: images float32 (N, C, Y, X) in [0, 1] and labels int64 (N, Y, X).

    ``image`` (N, C, Y, X) and ``label`` (N, Y, X) are uint8, of slices with as many rows as columns; ``kind`` is a key
    of :data:`STRENGTHS`. The same seed gives the same batch, on another device but for rounding.
    Probabilities as ``label``, (N, K, Y, X), are moved with the image and returned as float32.
    """
    draws = draw_augmentation(np.random.default_rng(seed), STRENGTHS[kind], tuple(image.shape))
    return apply_augmentation(image, label, draws, STRENGTHS[kind], scaling)


def draw_augmentation(rng: np.random.Generator, s: AugmentationStrengths, shape: tuple[int, ...]) -> AugmentationDraws:
    """Draw what is done to each sample of a batch of ``shape`` (N, C, Y, X), by the article's probabilities."""
    n = shape[0]

    def draw_chance(p: float) -> NDArray[np.bool_]:
        return np.asarray(rng.random(n) < p)

    def draw_uniform(low: float, high: float, *axes: int) -> Numbers:
        return rng.uniform(low, high, (n, *axes)).astype(np.float32)

    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))  # three times as fast as NumPy's
    noise_sd = np.where(draw_chance(0.5), draw_uniform(*s.noise_sd), np.float32(0.0))
    return AugmentationDraws(
        flip=draw_chance(0.5),
        turns=np.where(draw_chance(0.5), rng.integers(1, 4, n), 0),
        brightness=np.where(draw_chance(0.4), draw_uniform(-s.brightness, s.brightness), np.float32(0.0)),
        gamma=np.where(draw_chance(0.3), draw_uniform(*s.gamma), np.float32(1.0)),
        noise_sd=noise_sd,
        noise=torch.randn((int(np.count_nonzero(noise_sd)), *shape[1:]), generator=generator),
        equalize=draw_chance(0.5),
        move=draw_chance(0.5),
        rotation=draw_uniform(-np.deg2rad(s.rotation_deg), np.deg2rad(s.rotation_deg)),
        shift=draw_uniform(-s.shift, s.shift, 2) * np.array(make_training_grid().shape_yx, np.float32),
        scale=draw_uniform(1.0 - s.scale, 1.0 + s.scale, 2),
    )


def apply_augmentation(
    image: Tensor, label: Tensor, draws: AugmentationDraws, s: AugmentationStrengths, scaling: str = "min-max"
) -> tuple[Tensor, Tensor]:
    """Return the batch of :func:`augment` with what was drawn for it."""
    soft, n = label.ndim == 4, image.shape[1]
    both = torch.cat([image, label if soft else label[:, None]], 1)
    _change(both, draws.flip, lambda part: part.flip(-1))
    for k in (1, 2, 3):
        _change(both, draws.turns == k, lambda part, k=k: part.rot90(k, (-2, -1)))
    x, y = both[:, :n].float(), both[:, n:].float()
    has_gamma, has_noise = draws.gamma != 1.0, draws.noise_sd > 0.0
    noise = copy_to_device(draws.noise, x.device)
    _change(
        x, draws.brightness != 0.0, lambda part, offset: round_to_256_greys(part + 255.0 * offset), draws.brightness
    )
    _change(x, has_gamma, _adjust_gamma, draws.gamma)
    _change(x, has_noise, lambda part, sd: part.addcmul_(noise, 255.0 * sd), draws.noise_sd)
    _change(x, has_gamma | has_noise, round_to_256_greys)  # the others have 256 grey values
    _change(x, draws.equalize, lambda part: equalize(part, s.clip_limit, s.tiles))
    if draws.move.any():
        mode = "bilinear" if soft else "nearest"
        theta = _make_matrices(draws, x.shape[-2:])[draws.move]
        grid = _make_grid(copy_to_device(torch.from_numpy(theta), x.device), x.shape[-2:])
        _change(x, draws.move, lambda part: F.grid_sample(part, grid, "bilinear", align_corners=False))
        _change(y, draws.move, lambda part: F.grid_sample(part, grid, mode, align_corners=False))
    return normalize(round_to_256_greys(x), scaling), y if soft else y[:, 0].long()


def _change(x: Tensor, chosen: NDArray[np.bool_], change: Callable[..., Tensor], values: Numbers | None = None) -> None:
    """Replace the ``chosen`` samples of ``x`` by what ``change`` makes of copies of them, and of their ``values``."""
    if chosen.any():
        places = np.flatnonzero(chosen)
        part = x.index_select(0, copy_to_device(torch.from_numpy(places), x.device))
        of_them = (
            () if values is None else [copy_to_device(torch.from_numpy(values[chosen]), x.device)[:, None, None, None]]
        )
        for k, changed in zip(places.tolist(), change(part, *of_them), strict=True):
            x[k] = changed  # x[places] = … copies pixel by pixel


def round_to_256_greys(x: Tensor) -> Tensor:
    """Clip to [0, 255] and round to 256 grey values."""
    return x.clamp(0.0, 255.0).round_()


def _adjust_gamma(x: Tensor, gamma: Tensor) -> Tensor:
    low, high = (extreme((1, 2, 3), keepdim=True) for extreme in (x.amin, x.amax))
    span = high - low
    return ((x - low) / (span + 255e-7)).pow_(gamma).mul_(span).add_(low)


def _make_matrices(draws: AugmentationDraws, shape_yx: tuple[int, ...]) -> Numbers:
    """Return the matrices (N, 2, 3) from a pixel's place in the new image to that in the old one.

    Places are (x, y) from −1 to 1. In pixels (y, x) from the middle: scaled, then shifted, then rotated.
    """
    sin, cos = np.sin(draws.rotation), np.cos(draws.rotation)
    rotation = np.stack([np.stack([cos, -sin], 1), np.stack([sin, cos], 1)], 1)
    half = np.array(shape_yx, np.float32) / 2.0
    linear = rotation * draws.scale[:, None] * half / half[:, None]
    shift = rotation @ draws.shift[..., None] / half[:, None]
    return np.concatenate([linear[:, ::-1, ::-1], shift[:, ::-1]], 2).astype(np.float32)


def _make_grid(theta: Tensor, shape_yx: tuple[int, ...]) -> Tensor:
    """Return the places (n, Y, X, 2) of all pixels: as ``F.affine_grid``, in a tenth of its time on a processor."""
    v, u = ((2.0 * torch.arange(size, device=theta.device) + 1.0) / size - 1.0 for size in shape_yx)
    of_rows, of_columns = theta[:, :, 1:2] * v + theta[:, :, 2:], theta[:, :, :1] * u
    grid = theta.new_empty(len(theta), *shape_yx, 2)
    for k in (0, 1):
        torch.add(of_rows[:, k, :, None], of_columns[:, k, None], out=grid[..., k])
    return grid


def equalize(x: Tensor, clip_limit: float = 2.0, tiles: int = 8) -> Tensor:
    """Return float images (N, C, Y, X) of 256 grey values, 0…255, after contrast-limited adaptive histogram
    equalisation (Zuiderveld, 1994); the result has 256 grey values, too.

    The lookup table of each of ``tiles`` × ``tiles`` tiles is its cumulative histogram, where counts above
    ``clip_limit`` times the mean count are spread over all grey values. Tables are interpolated bilinearly between the
    centres of the tiles.
    """
    rows, columns = x.shape[-2:]
    height, width = -(-rows // tiles), -(-columns // tiles)
    greys = padded = x.flatten(0, 1)
    if (height * tiles, width * tiles) != (rows, columns):
        padded = F.pad(greys, (0, width * tiles - columns, 0, height * tiles - rows), mode="reflect")
    every = torch.arange(tiles, dtype=torch.int32, device=x.device)
    places = _number(padded, every.repeat_interleave(height), every.repeat_interleave(width), tiles)
    counts = torch.zeros(256 * len(greys) * tiles**2, dtype=torch.int32, device=x.device)
    one = torch.ones((), dtype=torch.int32, device=x.device).expand(places.numel())
    counts = counts.scatter_add_(0, places.flatten().long(), one).reshape(-1, 256).double()  # bincount waits for a GPU
    limit = max(1.0, clip_limit * height * width / 256.0)
    excess = (counts - limit).clamp_min_(0.0).sum(1, keepdim=True)
    counts = counts.clamp_max_(limit) + excess / 256.0
    tables = (counts.cumsum(1) * (255.0 / (height * width))).float().reshape(-1, tiles, tiles, 256)
    # Beyond the centres of the outermost tiles, their tables are repeated.
    around = torch.arange(-1, tiles + 1, device=x.device).clamp(0, tiles - 1)
    flat = tables.index_select(1, around).index_select(2, around).flatten()
    row, column = (
        (torch.arange(size, device=x.device) + 0.5) / step + 0.5 for size, step in ((rows, height), (columns, width))
    )
    places = _number(greys, row.int(), column.int(), tiles + 2).flatten()

    def look_up(down: int, right: int) -> Tensor:
        """Look up all pixels in the tables so many tiles from those that begin at or before them."""
        return flat[256 * (down * (tiles + 2) + right) :].index_select(0, places).reshape(greys.shape)

    upper = look_up(0, 0).lerp_(look_up(0, 1), column.frac())
    lower = look_up(1, 0).lerp_(look_up(1, 1), column.frac())
    return upper.lerp_(lower, row.frac()[:, None]).round_().clamp_(0.0, 255.0).reshape(x.shape)


def _number(greys: Tensor, row: Tensor, column: Tensor, tiles: int) -> Tensor:
    """Number the grey values of all tables, 256 of each of ``tiles`` × ``tiles`` of each image: return each pixel's.

    ``greys`` are (n, Y, X), ``row`` (Y,) and ``column`` (X,) those of the tables in their image; the result is int32.
    """
    images = torch.arange(len(greys), dtype=torch.int32, device=greys.device)[:, None, None]
    return greys.int().add_(256 * (row[:, None] * tiles + column)).add_(256 * tiles**2 * images)
