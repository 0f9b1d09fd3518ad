"""The authors' augmentation, with MONAI's transforms; CLAHE, which MONAI lacks, in a few lines of our own.

In this order: horizontal flip, rotation by a multiple of 90°, brightness, gamma, Gaussian noise, CLAHE,
affine. Images pass through 8 bits and are min–max normalised again afterwards (source: the paper and the
authors' notebook; where the two differ, there are two sets of strengths).
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
from mousecmr_data.inference.grid import make_training_grid
from mousecmr_data.inference.preprocessing import normalize_min_max

try:
    from monai import transforms, utils
except ImportError as e:
    raise MissingExtraError.from_module("monai", "training") from e

t: Any = transforms
u: Any = utils
IMAGE, LABEL = "image", "label"


@dataclass(frozen=True)
class AugmentationStrengths:
    """How far the draws go; images run from 0 to 1."""

    noise_sd: tuple[float, float]
    brightness: float = 0.17
    gamma: tuple[float, float] = (0.70, 1.20)
    clip_limit: float = 2.0
    tiles: int = 8
    scale: float = 0.10
    rotation_deg: float = 10.0
    shift: float = 0.0625
    """Share of the field. The notebook's call shifts by exactly +6.25 % each time, a bug of its library's
    version; both sets use the paper's ±6.25 %."""


STRENGTHS = {
    "paper": AugmentationStrengths(noise_sd=(30.0**0.5 / 255.0, 100.0**0.5 / 255.0)),
    "notebook": AugmentationStrengths(noise_sd=(0.1, 0.4)),
}


def augment(image: Tensor, label: Tensor, seed: int, kind: str = "paper") -> tuple[Tensor, Tensor]:
    """A batch augmented: uint8 (N, Y, X) twice become float32 (N, 1, Y, X) in [0, 1] and int64 (N, Y, X)."""
    chain = _build_transforms(kind)
    chain.set_random_state(seed)
    made = [chain({IMAGE: i[None].float() / 255.0, LABEL: k[None].float()}) for i, k in zip(image, label, strict=True)]
    x, y = (torch.stack([u.convert_to_tensor(m[key], track_meta=False) for m in made]) for key in (IMAGE, LABEL))
    return normalize_min_max(round_to_256_greys(x)), y[:, 0].round().long()


def round_to_256_greys(x: Tensor) -> Tensor:
    """Clipped to [0, 1] and rounded to 256 greys."""
    return (torch.as_tensor(x).clamp(0.0, 1.0) * 255.0).round() / 255.0


class RandGaussianNoiseRange(t.RandomizableTransform, t.MapTransform):  # type: ignore[misc]
    """Gaussian noise whose SD is drawn from a range, p 0.5; MONAI's own draws it from zero."""

    def __init__(self, sd: tuple[float, float]) -> None:
        t.RandomizableTransform.__init__(self, 0.5)
        t.MapTransform.__init__(self, [IMAGE])
        self.sd = sd

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        """The sample with or without noise."""
        self.randomize(None)
        if not self._do_transform:
            return data
        x = torch.as_tensor(data[IMAGE])
        noise = self.R.normal(0.0, self.R.uniform(*self.sd), tuple(x.shape)).astype(np.float32)
        return {**data, IMAGE: x + torch.from_numpy(noise)}


@cache
def _build_transforms(kind: str) -> Any:
    s, both = STRENGTHS[kind], [IMAGE, LABEL]

    def equalised(x: Tensor) -> Tensor:
        greys = (round_to_256_greys(torch.as_tensor(x))[0] * 255.0).round().to(torch.uint8).numpy()
        return torch.from_numpy(clahe(greys, s.clip_limit, s.tiles).astype(np.float32) / 255.0)[None]

    return t.Compose(
        [
            t.RandFlipd(both, prob=0.5, spatial_axis=1),
            t.RandRotate90d(both, prob=0.5, max_k=3),
            t.RandShiftIntensityd([IMAGE], offsets=s.brightness, prob=0.4),
            t.Lambdad([IMAGE], func=round_to_256_greys),
            t.RandAdjustContrastd([IMAGE], gamma=s.gamma, prob=0.3),
            RandGaussianNoiseRange(s.noise_sd),
            t.Lambdad([IMAGE], func=round_to_256_greys),
            t.RandLambdad([IMAGE], func=equalised, prob=0.5),
            t.RandAffined(
                both,
                prob=0.5,
                rotate_range=float(np.deg2rad(s.rotation_deg)),
                scale_range=(s.scale, s.scale),
                translate_range=tuple(s.shift * n for n in make_training_grid().shape_yx),
                mode=("bilinear", "nearest"),
                padding_mode="zeros",
            ),
        ]
    )


def clahe(greys: NDArray[np.uint8], clip_limit: float = 2.0, tiles: int = 8) -> NDArray[np.uint8]:
    """Contrast-limited adaptive histogram equalisation of (Y, X) uint8 (Zuiderveld, 1994).

    Each of ``tiles`` × ``tiles`` tiles gets the cumulative histogram as its table, counts above
    ``clip_limit`` times the mean count being spread over all greys; tables are interpolated bilinearly
    between the tiles' centres.
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
