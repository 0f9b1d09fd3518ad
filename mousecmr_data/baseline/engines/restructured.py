"""The network's prediction with less arithmetic: the same numbers up to rounding.

BatchNorm is folded, heads that only training uses are gone, and convolutions of upsampled maps are taken at
the low resolution: 47 instead of 103 GFLOP for a slice at full width. Made for one size of image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousecmr_data.baseline.engines.folded import folded
from mousecmr_data.baseline.engines.steps import Step, eight_bits
from mousecmr_data.baseline.engines.upsampling import UpsampledConv
from mousecmr_data.models.unet3plus import LEVELS, UNet3Plus

DIRECT = {(2, 1)}
"""Upsampled branches (from level, to level) that are convolved at the fine resolution nevertheless: there the
fixed matrices are the largest, and the convolution has the fewest channels (measured)."""


class Restructured(nn.Module):
    """Images (N, 1, Y, X), of the one size ``shape_yx``, to logits (N, classes, Y, X)."""

    def __init__(self, network: UNet3Plus, shape_yx: tuple[int, int], *, anchored: bool = False) -> None:
        """``anchored``: with the depthwise steps that OpenVINO wants (see :class:`UpsampledConv`)."""
        super().__init__()
        self.reduce, self.quantised = network.reduce, False
        parts = folded(network)
        levels = range(1, LEVELS + 1)
        size = {k: tuple(n // network.reduce >> (k - 1) for n in shape_yx) for k in levels}
        self.encoder = nn.ModuleDict(
            {str(k): nn.ModuleList(Step(*parts[f"encoder.{k}.{i}"]) for i in (0, 1)) for k in levels}
        )
        self.skip = nn.ModuleDict()
        for d in levels[:-1]:
            for u in levels:
                affine = parts[f"skip.{u}_{d}"]
                low = u > d and (u, d) not in DIRECT
                self.skip[f"{u}_{d}"] = (
                    UpsampledConv(*affine, (size[u][0], size[u][1]), 2 ** (u - d), anchored=anchored)
                    if low
                    else Step(*affine)
                )
        self.decoder = nn.ModuleDict({str(d): Step(*parts[f"decoder.{d}"]) for d in levels[:-1]})
        self.head = nn.ModuleList(Step(*parts[f"head.{i}"], relu=False) for i in (0, 1))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        x = self._entered(x)
        encoded: dict[tuple[int, int], Tensor] = {}  # encoder u, pooled to level d
        for level in range(1, LEVELS + 1):
            x = x if level == 1 else encoded[level - 1, level]
            first, second = self.encoder[str(level)].children()
            encoded[level, level] = x = self._kept(self._point(second(self._kept(first(x)))))
            for d in range(level + 1, LEVELS + 1):
                encoded[level, d] = F.max_pool2d(encoded[level, d - 1], 2)  # pools of pools: the same maxima
        decoded = {LEVELS: x}
        for d in range(LEVELS - 1, 0, -1):
            branches = []
            for u in range(1, LEVELS + 1):
                source = encoded[u, d] if u <= d else decoded[u] if u == d + 1 else encoded[u, u]
                if (u, d) in DIRECT:
                    source = self._kept(_upsampled(source, 2 ** (u - d)))
                branches.append(self._kept(self.skip[f"{u}_{d}"](source)))
            decoded[d] = self._kept(self._point(self.decoder[str(d)](torch.cat(branches, 1))))
        return self._point(self.head[1](_upsampled(self.head[0](decoded[1]), self.reduce)))

    def _entered(self, x: Tensor) -> Tensor:
        """What the first convolution sees."""
        return F.avg_pool2d(x, self.reduce) if self.reduce > 1 else x

    def _point(self, x: Tensor) -> Tensor:
        """The end of a level, encoder 1–5, decoder 4–1, and the logits: where the region of interest adds."""
        return x

    def _kept(self, x: Tensor) -> Tensor:
        """A map as it is handed on."""
        return eight_bits(x) if self.quantised else x


def _upsampled(x: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
