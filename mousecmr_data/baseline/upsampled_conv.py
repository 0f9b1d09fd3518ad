"""A 3×3 convolution of a bilinearly upsampled map, computed at the low resolution: same numbers, less work.

Bilinear upsampling is linear and acts on each channel alone, so ``conv3x3(upsample(x))`` is the sum over
the nine taps of ``shift(upsample(conv1x1_tap(x)))``. The nine 1×1 products are taken at low resolution;
upsampling and shifting (with the zero border of "same" padding) is a small fixed matrix for the rows and
one for the columns. Pays from a factor of 4 on.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

PAYS_FROM = 4
"""Upsampling factor from which the low-resolution form is the faster one (measured on a CPU)."""


def upsampled_conv3x3(x: Tensor, weight: Tensor, bias: Tensor | None, factor: int) -> Tensor:
    """``conv2d(upsample(x, factor), weight, bias, padding=1)``, equal up to rounding.

    ``x`` (N, C, h, w), ``weight`` (D, C, 3, 3), ``bias`` (D,); returns (N, D, h·factor, w·factor).
    """
    n, c, h, w = x.shape
    d = weight.shape[0]
    taps = weight.permute(2, 3, 0, 1).reshape(9 * d, c, 1, 1)
    low = F.conv2d(x, taps).reshape(n, 3, 3, d, h, w)
    columns = shifted(w, factor, x.device, x.dtype)  # (3·w, W), tap by tap
    wide = low.permute(0, 1, 3, 4, 2, 5).reshape(n, 3, d * h, 3 * w) @ columns  # (N, 3, D·h, W)
    rows = shifted(h, factor, x.device, x.dtype)  # (3·h, H)
    tall = wide.reshape(n, 3, d, h, -1).transpose(1, 2).reshape(n, d, 3 * h, -1)
    out = rows.T @ tall
    return out if bias is None else out + bias[:, None, None]


@lru_cache(maxsize=64)
def shifted(size: int, factor: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Upsampling by ``factor`` and shifting by -1, 0, +1 with a zero border: (3·size, size·factor)."""
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        identity = torch.eye(size, dtype=torch.float64)[:, None, :]
        up = F.interpolate(identity, scale_factor=float(factor), mode="linear", align_corners=False)[:, 0]
        padded = F.pad(up, (1, 1))
        fine = size * factor
        return torch.cat([padded[:, k : k + fine] for k in range(3)]).to(device, dtype)
