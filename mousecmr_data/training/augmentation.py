"""The authors' augmentation, built from MONAI's transforms and a CLAHE, which MONAI lacks.

The order is: horizontal flip, rotation by a multiple of 90°, brightness, gamma, Gaussian noise, CLAHE, affine. Images
are rounded to 8 bits in between and min–max normalised at the end. Source: the paper and the authors' notebook; there
are two sets of strengths because the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.errors import MissingExtraError
from mousecmr_data.inference.grid import make_training_grid, normalize

try:
    from monai import transforms
    from monai.utils.type_conversion import convert_to_tensor
except ImportError as e:
    raise MissingExtraError.from_module("monai", "training") from e

t: Any = transforms
IMAGE, LABEL = "image", "label"


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


def augment(
    image: Tensor, label: Tensor, seed: int, kind: str = "paper", scaling: str = "min-max"
) -> tuple[Tensor, Tensor]:
    """Return an augmented batch: images float32 (N, C, Y, X) in [0, 1] and labels int64 (N, Y, X).

    ``image`` (N, C, Y, X) and ``label`` (N, Y, X) are uint8; ``kind`` is a key of :data:`STRENGTHS`. Probabilities as
    ``label``, (N, K, Y, X), are moved with the image and returned as float32.
    """
    soft = label.ndim == 4
    chain = _build_transforms(kind, soft)
    chain.set_random_state(seed)
    pairs = zip(image.float() / 255.0, (label if soft else label[:, None]).float(), strict=True)
    samples = [chain({IMAGE: x, LABEL: y}) for x, y in pairs]
    x, y = (torch.stack([convert_to_tensor(s[key], track_meta=False) for s in samples]) for key in (IMAGE, LABEL))
    return normalize(round_to_256_greys(x), scaling), y if soft else y[:, 0].round().long()


def round_to_256_greys(x: Tensor) -> Tensor:
    """Clip to [0, 1] and round to 256 grey values."""
    return (torch.as_tensor(x).clamp(0.0, 1.0) * 255.0).round() / 255.0


class RandGaussianNoiseRange(t.RandomizableTransform, t.MapTransform):  # type: ignore[misc]
    """Add Gaussian noise with probability 0.5; its SD is drawn from a range (MONAI's own transform starts at zero)."""

    def __init__(self, sd: tuple[float, float]) -> None:
        t.RandomizableTransform.__init__(self, 0.5)
        t.MapTransform.__init__(self, [IMAGE])
        self.sd = sd

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the sample with or without noise."""
        self.randomize(None)
        if not self._do_transform:
            return data
        x = torch.as_tensor(data[IMAGE])
        noise = self.R.normal(0.0, self.R.uniform(*self.sd), tuple(x.shape)).astype(np.float32)
        return {**data, IMAGE: x + torch.from_numpy(noise)}


@cache
def _build_transforms(kind: str, soft: bool = False) -> Any:
    s, both = STRENGTHS[kind], [IMAGE, LABEL]

    def equalize(x: Tensor) -> Tensor:
        greys = (round_to_256_greys(torch.as_tensor(x)) * 255.0).round().to(torch.uint8).numpy()
        equalized = [clahe(channel, s.clip_limit, s.tiles) for channel in greys]
        return torch.from_numpy(np.stack(equalized).astype(np.float32) / 255.0)

    return t.Compose(
        [
            t.RandFlipd(both, prob=0.5, spatial_axis=1),
            t.RandRotate90d(both, prob=0.5, max_k=3),
            t.RandShiftIntensityd([IMAGE], offsets=s.brightness, prob=0.4),
            t.Lambdad([IMAGE], func=round_to_256_greys),
            t.RandAdjustContrastd([IMAGE], gamma=s.gamma, prob=0.3),
            RandGaussianNoiseRange(s.noise_sd),
            t.Lambdad([IMAGE], func=round_to_256_greys),
            t.RandLambdad([IMAGE], func=equalize, prob=0.5),
            t.RandAffined(
                both,
                prob=0.5,
                rotate_range=float(np.deg2rad(s.rotation_deg)),
                scale_range=(s.scale, s.scale),
                translate_range=tuple(s.shift * n for n in make_training_grid().shape_yx),
                mode=("bilinear", "bilinear" if soft else "nearest"),
                padding_mode="zeros",
            ),
        ]
    )


def clahe(greys: NDArray[np.uint8], clip_limit: float = 2.0, tiles: int = 8) -> NDArray[np.uint8]:
    """Return (Y, X) uint8 after contrast-limited adaptive histogram equalisation (Zuiderveld, 1994).

    The lookup table of each of ``tiles`` × ``tiles`` tiles is its cumulative histogram, where counts above
    ``clip_limit`` times the mean count are spread over all grey values. Tables are interpolated bilinearly between the
    centres of the tiles.
    """
    rows, columns = greys.shape
    height, width = -(-rows // tiles), -(-columns // tiles)
    padded = np.pad(greys, ((0, height * tiles - rows), (0, width * tiles - columns)), mode="reflect")
    blocks = padded.reshape(tiles, height, tiles, width).transpose(0, 2, 1, 3).reshape(tiles * tiles, -1)
    flat = blocks.astype(np.int64) + 256 * np.arange(tiles * tiles)[:, None]
    counts = np.bincount(flat.ravel(), minlength=256 * tiles * tiles).reshape(-1, 256).astype(np.float64)
    limit = max(1.0, clip_limit * height * width / 256.0)
    excess = np.maximum(counts - limit, 0.0).sum(1, keepdims=True)
    counts = np.minimum(counts, limit) + excess / 256.0
    tables = (counts.cumsum(1) * 255.0 / (height * width)).reshape(tiles, tiles, 256)
    v = np.clip((np.arange(rows) + 0.5) / height - 0.5, 0, tiles - 1)
    u = np.clip((np.arange(columns) + 0.5) / width - 0.5, 0, tiles - 1)
    top, left = np.floor(v).astype(int), np.floor(u).astype(int)
    bottom, right = np.minimum(top + 1, tiles - 1), np.minimum(left + 1, tiles - 1)
    fv, fu = (v - top)[:, None], (u - left)[None, :]
    above, below, before, after = top[:, None], bottom[:, None], left[None, :], right[None, :]
    upper = tables[above, before, greys] * (1 - fu) + tables[above, after, greys] * fu
    lower = tables[below, before, greys] * (1 - fu) + tables[below, after, greys] * fu
    return np.asarray(np.clip(np.rint(upper * (1 - fv) + lower * fv), 0, 255), np.uint8)
