"""A 3×3 convolution of a bilinearly upsampled map at the low resolution, without a transposition.

The identity is that of :mod:`mousecmr_data.models.unet3plus`: nine 1×1 products at the low
resolution, then one fixed matrix for the columns and one for the rows. Here everything stays in
channels-last order, so that each matrix is a product from the left, and the matrices, which are nearly
empty, are cut into tiles: a tile of the fine grid needs its own part of the coarse one and one pixel more at
either side.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousecmr_data.baseline.engines.steps import in_code
from mousecmr_data.models.unet3plus import make_upsampling_matrix

TILE = 32
"""Fine pixels a tile: the fewer, the less arithmetic and the more copying. 32 and 64 hardly differ."""


class UpsampledConv(nn.Module):
    """``relu(conv3x3(upsample(x, factor)) + bias)`` for maps (N, C, h, w) of one size.

    ``weight`` (D, C, 3, 3), ``bias`` (D,). Gives (N, D, h·factor, w·factor).
    """

    columns: Tensor
    rows: Tensor
    columns_from: Tensor
    rows_from: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, size: tuple[int, int], factor: int, *, anchored: bool) -> None:
        super().__init__()
        (h, w), (d, c) = size, weight.shape[:2]
        self.fine = (h * factor, w * factor)
        self.weight = nn.Parameter(weight.permute(2, 3, 0, 1).reshape(9 * d, c, 1, 1).contiguous())  # (tap y, x, d)
        self.bias = nn.Parameter(bias.clone())
        self.weight_scale: Tensor | None = None
        # A depthwise convolution that changes nothing and adds the bias. OpenVINO takes the layout of maps from
        # convolutions; without one here it turns this map, and all it is concatenated with, around.
        self.anchor = nn.Parameter(torch.ones(d, 1, 1, 1)) if anchored else None
        near, columns = _tiles(w, factor)
        at = (torch.arange(h)[:, None, None, None] * w + near) * 3 + torch.arange(3)[:, None, None]
        self.register_buffer("columns_from", at.reshape(-1))  # of (y, x, tap y), in the order (y, tap y, tile, x)
        self.register_buffer("columns", columns)
        near, rows = _tiles(h, factor)
        self.register_buffer("rows_from", (near[:, :, None] * 3 + torch.arange(3)).reshape(-1))  # of (y, tap y)
        self.register_buffer("rows", rows)

    def forward(self, x: Tensor) -> Tensor:
        """The map at the fine resolution."""
        height, width = self.fine
        h, d = x.shape[2], self.bias.shape[0]
        low = F.conv2d(x, in_code(self.weight, self.weight_scale)).permute(0, 2, 3, 1)  # (N, h, w, tap y · tap x · d)
        low = low.reshape(-1, 3 * h * x.shape[3], 3 * d).index_select(1, self.columns_from)
        wide = self.columns @ low.reshape(-1, *self.columns.shape[::2], d)
        wide = wide.reshape(-1, 3 * h, width * d).index_select(1, self.rows_from)
        tall = self.rows @ wide.reshape(-1, *self.rows.shape[::2], width * d)
        out = tall.reshape(-1, height, width, d)
        if self.anchor is None:
            return F.relu(out + self.bias).permute(0, 3, 1, 2)
        return F.relu(F.conv2d(out.permute(0, 3, 1, 2), self.anchor, self.bias, groups=d))

    def taps(self) -> Tensor:
        """The kernel as (9 taps, D, C), a view."""
        return self.weight.view(9, -1, self.weight.shape[1])


def _tiles(size: int, factor: int) -> tuple[Tensor, Tensor]:
    """The fixed matrix of one axis in tiles: which coarse pixels each needs, and its part of the matrix.

    Indices (tiles, near), matrices (tiles, fine pixels a tile, near · 3 taps).
    """
    own = max(k for k in range(1, max(1, TILE // factor) + 1) if size % k == 0)
    whole = make_upsampling_matrix(size, factor, torch.device("cpu"), torch.float32).T.reshape(-1, 3, size)
    near = torch.arange(-1, own + 1) + own * torch.arange(size // own)[:, None]
    inside = (near >= 0) & (near < size)
    near = near.clamp(0, size - 1)
    parts = [
        (whole[k * own * factor : (k + 1) * own * factor, :, at] * there).transpose(1, 2).flatten(1)
        for k, (at, there) in enumerate(zip(near, inside, strict=True))
    ]
    return near, torch.stack(parts)
