"""Domain randomisation of phantom slices in the manner of SynthSeg (Billot et al., 2023).

Every range is wider than the variation of scanners, so that the network learns the shape of a ventricle and not the
phantom's grey values. The steps are: pose and shape, contrast, hot spots, bias field, blur, noise and gamma. All
random numbers come from one generator, of the processor, so the same seed gives the same batch on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mousecmr_data._utils.environment import copy_to_device
from mousecmr_data.inference.grid import normalize, normalize_min_max
from mousecmr_data.schema.labels import Label


@dataclass(frozen=True)
class RandomizationRanges:
    """Limits of the random draws. Lengths are shares of the field of view, which is 25.6 mm for the phantom."""

    zoom: float = 0.28
    """Largest logarithm of the scale."""
    stretch: float = 0.12
    """Largest logarithm of the anisotropic scale."""
    shear: float = 0.12
    shift: float = 0.16
    warp: float = 0.022
    """SD of the smooth displacement at its coarsest."""
    tissue: float = 0.22
    """SD of the logarithm of the factor on each label's signal."""
    tone: float = 0.38
    """SD of the logarithm of the exponent (gamma)."""
    field: float = 0.45
    """SD of the logarithm of the bias field."""
    blur: float = 1.1
    """Largest SD of the blur, in pixels of the coarse grid."""
    noise: float = 0.08
    """Largest SD of the noise, as a share of the range."""


def randomize(
    image: Tensor,
    label: Tensor,
    g: Generator,
    ranges: RandomizationRanges | None = None,
    reduce: int = 1,
    scaling: str = "min-max",
    natural: float = 0.0,
    soft: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return a randomised batch of slices with their neighbours.

    ``image`` uint8 or float (N, C, Y, X) and ``label`` (N, C, Y, X), the slice in the middle, become float32 (N, C, Y,
    X), scaled slice by slice to [0, 1], and int64 (N, Y, X). All slices of a sample get the same pose, contrast and
    field, as in a scan, and their own noise. For a network that averages ``reduce`` × ``reduce`` pixels, grey values
    are computed on that coarse grid and repeated; labels keep the fine grid. A share ``natural`` of the samples gets a
    new pose only, and keeps its grey values. Probabilities ``soft`` (N, K, Y, X), if there are any, are moved with the
    image and returned as float32 instead of labels.
    """
    r = ranges or RandomizationRanges()
    grid = _make_pose(image, g, r)
    coarse = F.avg_pool2d(grid.movedim(-1, 1), reduce).movedim(1, -1)
    middle = image.shape[1] // 2
    if soft is None:
        y = _sample(label[:, middle : middle + 1].float(), grid, "nearest")[:, 0].long()
    else:
        y = _sample(soft.float(), grid, "bilinear")
    x = _sample(F.avg_pool2d(image.float() / 255.0, reduce), coarse, "bilinear")
    labels = _sample(label.float(), coarse, "nearest")
    sampled = x
    x = _randomize_contrast(x, labels, g, r)
    x = _add_hot_spots(x, labels, g)
    x = x * torch.exp(_make_smooth_field(x, g, 3, r.field))
    x = _blur(x, g, r)
    x = normalize_min_max(_add_noise(x, g, r))
    x = x ** torch.exp(_draw_normal(x, g) * r.tone)
    x = normalize(torch.where(_draw_chance(x, g, natural) > 0, sampled, x), scaling)
    if reduce > 1:
        x = F.interpolate(x, scale_factor=float(reduce), mode="nearest")
    return x, y


def _draw_uniform(x: Tensor, g: Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    return copy_to_device(torch.rand((len(x), 1, 1, 1), generator=g) * (high - low) + low, x.device)


def _draw_normal(x: Tensor, g: Generator) -> Tensor:
    return _draw_field(x, g, 1, 1, 1)


def _draw_field(x: Tensor, g: Generator, *shape: int) -> Tensor:
    return copy_to_device(torch.randn((len(x), *shape), generator=g), x.device)


def _draw_chance(x: Tensor, g: Generator, p: float) -> Tensor:
    return (_draw_uniform(x, g) < p).float()


def _make_smooth_field(x: Tensor, g: Generator, cells: int, sd: float, channels: int = 1) -> Tensor:
    """Return a smooth random field (N, channels, Y, X); the SD of each sample is drawn from 0 to ``sd``."""
    coarse = _draw_field(x, g, channels, cells, cells) * _draw_uniform(x, g, 0.0, sd)
    rows, columns = (copy_to_device(_make_spread_matrix(cells, size), x.device) for size in x.shape[-2:])
    return rows @ coarse @ columns.T


@lru_cache(maxsize=16)
def _make_spread_matrix(cells: int, size: int) -> Tensor:
    """Return the matrix (size, cells) of bicubic interpolation from ``cells`` to ``size`` points."""
    return F.interpolate(torch.eye(cells)[None, None], (size, cells), mode="bicubic", align_corners=True)[0, 0]


def _make_pose(x: Tensor, g: Generator, r: RandomizationRanges) -> Tensor:
    """Make the coordinates (N, Y, X, 2) of any rotation, a mirror, scale, stretch, shear, shift and a smooth warp."""
    n = len(x)
    turn = (_draw_uniform(x, g) * 2 * torch.pi)[:, 0, 0, 0]
    cos, sin = torch.cos(turn), torch.sin(turn)
    rotation = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    zoom, stretch = torch.exp(_draw_uniform(x, g, -r.zoom, r.zoom)), _draw_uniform(x, g, -r.stretch, r.stretch)
    flip = 1.0 - 2.0 * _draw_chance(x, g, 0.5)
    shape = torch.zeros(n, 2, 2, device=x.device)
    shape[:, 0, 0] = (flip * zoom * torch.exp(stretch))[:, 0, 0, 0]
    shape[:, 1, 1] = (zoom * torch.exp(-stretch))[:, 0, 0, 0]
    shape[:, 0, 1] = _draw_uniform(x, g, -r.shear, r.shear)[:, 0, 0, 0]
    # grid_sample uses coordinates from -1 to 1: the field of view is 2 wide.
    shift = copy_to_device((torch.rand((n, 2, 1), generator=g) * 2 - 1) * 2 * r.shift, x.device)
    grid = F.affine_grid(torch.cat([rotation @ shape, shift], 2), list(x.shape), align_corners=False)
    warp = _make_smooth_field(x, g, 5, 2 * r.warp, 2) + _make_smooth_field(x, g, 10, r.warp, 2)
    return grid + warp.permute(0, 2, 3, 1)


def _sample(x: Tensor, grid: Tensor, mode: str) -> Tensor:
    """Sample maps at the coordinates; zero outside the field of view."""
    return F.grid_sample(x, grid, mode=mode, padding_mode="zeros", align_corners=False)


def _randomize_contrast(x: Tensor, labels: Tensor, g: Generator, r: RandomizationRanges) -> Tensor:
    """Multiply the signal of each label by a factor; edges are softened as by a point spread function."""
    factors = _draw_field(x, g, len(Label), 1, 1, 1) * r.tissue
    change = sum((labels == float(label)) * factors[:, label] for label in Label)
    softened = F.avg_pool2d(F.pad(torch.as_tensor(change), (1, 1, 1, 1), mode="replicate"), 3, 1)
    return x * torch.exp(softened)


def _add_hot_spots(x: Tensor, labels: Tensor, g: Generator, spots: int = 3) -> Tensor:
    """Add bright or dark smooth spots outside the ventricle: fat, vessels and skin, which the phantom lacks."""
    rows, columns = x.shape[-2:]
    v = torch.linspace(-1, 1, rows, device=x.device)[None, None, :, None]
    u = torch.linspace(-1, 1, columns, device=x.device)[None, None, None, :]
    outside = (labels == float(Label.BACKGROUND)).float()
    for _ in range(spots):
        at_v, at_u = _draw_uniform(x, g, -1, 1), _draw_uniform(x, g, -1, 1)
        size_v, size_u = (torch.exp(_draw_uniform(x, g, -4.0, -1.6)) for _ in range(2))
        spot = torch.exp(-(((v - at_v) / size_v) ** 2) - ((u - at_u) / size_u) ** 2)
        signal = 0.3 + 0.7 * (x > 0.02).float()
        x = x + _draw_chance(x, g, 0.4) * _draw_uniform(x, g, -0.4, 1.2) * spot * outside * signal
    return x.clamp_min(0.0)


def _blur(x: Tensor, g: Generator, r: RandomizationRanges) -> Tensor:
    """Blur along each axis with a Gaussian whose width is drawn per sample: coarser voxels, motion."""
    reach = max(1, int(2.5 * r.blur))
    offset = torch.arange(-reach, reach + 1, device=x.device).float()
    n = len(x)
    out = x.transpose(0, 1)
    for axis in (2, 3):
        sd = _draw_uniform(x, g, 0.0, r.blur) * _draw_chance(x, g, 0.6) + 0.05
        kernel = torch.exp(-0.5 * (offset / sd[:, 0, 0]) ** 2)
        kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]
        kernel = kernel[..., None] if axis == 2 else kernel[:, :, None, :]
        out = F.conv2d(out, kernel, padding="same", groups=n)
    return out.transpose(0, 1)


def _add_noise(x: Tensor, g: Generator, r: RandomizationRanges) -> Tensor:
    """Add Rician noise, part of it at half the resolution, as in zero-filled k-space."""
    rows, columns = x.shape[-2:]
    sd = _draw_uniform(x, g, 0.0, r.noise) * _draw_chance(x, g, 0.8) * x.amax((1, 2, 3), keepdim=True)
    share = _draw_uniform(x, g)
    n = x.shape[1]
    coarse = _draw_field(x, g, 2 * n, rows // 2, columns // 2)
    fine = _draw_field(x, g, 2 * n, rows, columns)
    noise = share * F.interpolate(coarse, (rows, columns), mode="bilinear", align_corners=False) * 1.6
    noise = (noise + (1.0 - share) * fine) * sd
    return torch.sqrt((x + noise[:, :n]) ** 2 + noise[:, n:] ** 2)
