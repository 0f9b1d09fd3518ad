"""The network's prediction with less arithmetic: the same numbers up to rounding.

BatchNorm is folded, heads that only training uses are gone, and convolutions of upsampled maps are taken at
the low resolution: 47 instead of 103 GFLOP for a slice at full width. Made for one size of image.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousecmr_data.models.unet3plus import LEVELS, ConvBlock, UNet3Plus, make_upsampling_matrix

# MERGED inference.engines.fused: One step of a restructured network, and what 8 bits make of its numbers.


class FusedConv(nn.Module):
    """A convolution with bias and, for all but the head's, ReLU: (N, C, Y, X) to (N, D, Y, X)."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = nn.Parameter(weight.clone()), nn.Parameter(bias.clone()), relu
        self.weight_scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The step of ``x``."""
        out = F.conv2d(x, quantize_weight(self.weight, self.weight_scale), self.bias, padding=1)
        return F.relu(out) if self.relu else out

    def taps(self) -> Tensor:
        """The kernel as (9 taps, D, C), a view."""
        return self.weight.flatten(2).movedim(2, 0)


def quantize_weight(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A kernel (D, C, y, x) whose values are whole multiples, -127 to 127, of ``scale`` (D,): marked as such."""
    if scale is None:
        return weight
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(scale.shape[0], dtype=torch.int32), 0, -127, 127
    )


def quantize_map(x: Tensor) -> Tensor:
    """A map in 8 bits, 0 to 255 for 0 to 1; what is above is cut off."""
    return torch.fake_quantize_per_tensor_affine(x, 1 / 255, 0, 0, 255)


# MERGED inference.engines.fused: A 3×3 convolution of a bilinearly upsampled map at the low resolution, without a transposition.
#
# The identity is that of :mod:`mousecmr_data.models.unet3plus`: nine 1×1 products at the low
# resolution, then one fixed matrix for the columns and one for the rows. Here everything stays in
# channels-last order, so that each matrix is a product from the left, and the matrices, which are nearly
# empty, are cut into tiles: a tile of the fine grid needs its own part of the coarse one and one pixel more at
# either side.


TILE_PIXELS = 32
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
        near, columns = _make_tiles(w, factor)
        at = (torch.arange(h)[:, None, None, None] * w + near) * 3 + torch.arange(3)[:, None, None]
        self.register_buffer("columns_from", at.reshape(-1))  # of (y, x, tap y), in the order (y, tap y, tile, x)
        self.register_buffer("columns", columns)
        near, rows = _make_tiles(h, factor)
        self.register_buffer("rows_from", (near[:, :, None] * 3 + torch.arange(3)).reshape(-1))  # of (y, tap y)
        self.register_buffer("rows", rows)

    def forward(self, x: Tensor) -> Tensor:
        """The map at the fine resolution."""
        height, width = self.fine
        h, d = x.shape[2], self.bias.shape[0]
        low = F.conv2d(x, quantize_weight(self.weight, self.weight_scale)).permute(
            0, 2, 3, 1
        )  # (N, h, w, tap y · tap x · d)
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


def _make_tiles(size: int, factor: int) -> tuple[Tensor, Tensor]:
    """The fixed matrix of one axis in tiles: which coarse pixels each needs, and its part of the matrix.

    Indices (tiles, near), matrices (tiles, fine pixels a tile, near · 3 taps).
    """
    own = max(k for k in range(1, max(1, TILE_PIXELS // factor) + 1) if size % k == 0)
    whole = make_upsampling_matrix(size, factor, torch.device("cpu"), torch.float32).T.reshape(-1, 3, size)
    near = torch.arange(-1, own + 1) + own * torch.arange(size // own)[:, None]
    inside = (near >= 0) & (near < size)
    near = near.clamp(0, size - 1)
    parts = [
        (whole[k * own * factor : (k + 1) * own * factor, :, at] * there).transpose(1, 2).flatten(1)
        for k, (at, there) in enumerate(zip(near, inside, strict=True))
    ]
    return near, torch.stack(parts)


# MERGED inference.engines.fused: BatchNorm folded into the convolution before it: what is left of a network for inference.


Affine = tuple[Tensor, Tensor]
"""Weight (D, C, 3, 3) and bias (D,), float32."""


def fold_batchnorm(network: UNet3Plus) -> dict[str, Affine]:
    """The convolutions of ``network`` that its prediction needs, by name.

    "encoder.L.0", "encoder.L.1" (level L), "skip.U_D" (level U to level D), "decoder.D", "head.0", "head.1".
    The four heads that only training uses are left out. Folding is done in float64.
    """
    found: dict[str, Affine] = {}
    for level in range(1, LEVELS + 1):
        blocks = network.encoder[str(level)]
        assert isinstance(blocks, nn.Sequential)  # noqa: S101 (for the type checker)
        for number, block in enumerate(blocks):
            found[f"encoder.{level}.{number}"] = _fold_block(block)
    found |= {f"skip.{name}": _fold_block(block) for name, block in network.skip.items()}
    found |= {f"decoder.{name}": _fold_block(block) for name, block in network.decoder.items()}
    head = network.head["1"]
    for number, part in enumerate((head.first, head.second)):
        assert isinstance(part, nn.Conv2d) and part.bias is not None  # noqa: S101 (for the type checker)
        found[f"head.{number}"] = (_to_float32(part.weight), _to_float32(part.bias))
    return found


def _fold_block(block: nn.Module) -> Affine:
    assert isinstance(block, ConvBlock)  # noqa: S101 (for the type checker)
    conv, bn = block.conv, block.bn
    weight, bias = conv.weight.double(), 0.0 if conv.bias is None else conv.bias.double()
    mean, variance = (torch.as_tensor(v).double() for v in (bn.running_mean, bn.running_var))
    scale = bn.weight.double() / torch.sqrt(variance + bn.eps)
    return _to_float32(weight * scale[:, None, None, None]), _to_float32((bias - mean) * scale + bn.bias.double())


def _to_float32(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float32, copy=True)


DIRECT_BRANCHES = {(2, 1)}
"""Upsampled branches (from level, to level) that are convolved at the fine resolution nevertheless: there the
fixed matrices are the largest, and the convolution has the fewest channels (measured)."""


class FusedNetwork(nn.Module):
    """Images (N, 1, Y, X), of the one size ``shape_yx``, to logits (N, classes, Y, X)."""

    def __init__(self, network: UNet3Plus, shape_yx: tuple[int, int], *, anchored: bool = False) -> None:
        """``anchored``: with the depthwise steps that OpenVINO wants (see :class:`UpsampledConv`)."""
        super().__init__()
        self.reduce, self.quantised = network.reduce, False
        parts = fold_batchnorm(network)
        levels = range(1, LEVELS + 1)
        size = {k: tuple(n // network.reduce >> (k - 1) for n in shape_yx) for k in levels}
        self.encoder = nn.ModuleDict(
            {str(k): nn.ModuleList(FusedConv(*parts[f"encoder.{k}.{i}"]) for i in (0, 1)) for k in levels}
        )
        self.skip = nn.ModuleDict()
        for d in levels[:-1]:
            for u in levels:
                affine = parts[f"skip.{u}_{d}"]
                low = u > d and (u, d) not in DIRECT_BRANCHES
                self.skip[f"{u}_{d}"] = (
                    UpsampledConv(*affine, (size[u][0], size[u][1]), 2 ** (u - d), anchored=anchored)
                    if low
                    else FusedConv(*affine)
                )
        self.decoder = nn.ModuleDict({str(d): FusedConv(*parts[f"decoder.{d}"]) for d in levels[:-1]})
        self.head = nn.ModuleList(FusedConv(*parts[f"head.{i}"], relu=False) for i in (0, 1))
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
                if (u, d) in DIRECT_BRANCHES:
                    source = self._kept(_upsample(source, 2 ** (u - d)))
                branches.append(self._kept(self.skip[f"{u}_{d}"](source)))
            decoded[d] = self._kept(self._point(self.decoder[str(d)](torch.cat(branches, 1))))
        return self._point(self.head[1](_upsample(self.head[0](decoded[1]), self.reduce)))

    def _entered(self, x: Tensor) -> Tensor:
        """What the first convolution sees."""
        return F.avg_pool2d(x, self.reduce) if self.reduce > 1 else x

    def _point(self, x: Tensor) -> Tensor:
        """The end of a level, encoder 1–5, decoder 4–1, and the logits: where the region of interest adds."""
        return x

    def _kept(self, x: Tensor) -> Tensor:
        """A map as it is handed on."""
        return quantize_map(x) if self.quantised else x


def _upsample(x: Tensor, factor: int) -> Tensor:
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
