"""The network's prediction with less arithmetic: the same numbers up to rounding.

BatchNorm is folded, heads that only training uses are removed, and convolutions of upsampled maps are computed at
the low resolution: 47 instead of 103 GFLOP for a slice at full width. Built for one size of image. Networks other than
UNet3+ are computed as they are (:func:`make_prediction`).
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousecmr_data.models.network import SegmentationNetwork
from mousecmr_data.models.unet3plus import LEVELS, ConvBlock, UNet3Plus, make_upsampling_matrix, upsample

TILE_PIXELS = 32
"""Fine pixels per tile: fewer mean less arithmetic and more copying. 32 and 64 hardly differ."""
DIRECT_BRANCHES = {(2, 1)}
"""Upsampled branches (from level, to level) that are convolved at the fine resolution nevertheless: there the
fixed matrices are the largest, and the convolution has the fewest channels (measured)."""
Affine = tuple[Tensor, Tensor]
"""Weight (D, C, 3, 3) and bias (D,), float32."""


class FusedConv(nn.Module):
    """A convolution with bias and, for all but the head's, ReLU: (N, C, Y, X) to (N, D, Y, X)."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = nn.Parameter(weight.clone()), nn.Parameter(bias.clone()), relu
        self.weight_scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``."""
        out = F.conv2d(x, quantize_weight(self.weight, self.weight_scale), self.bias, padding=1)
        return F.relu(out) if self.relu else out

    def taps(self) -> Tensor:
        """Return the kernel as (9 taps, D, C), a view."""
        return self.weight.flatten(2).movedim(2, 0)


def quantize_weight(weight: Tensor, scale: Tensor | None) -> Tensor:
    """Mark a kernel (D, C, y, x) as whole multiples, -127 to 127, of ``scale`` (D,); None leaves it as it is."""
    if scale is None:
        return weight
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(scale.shape[0], dtype=torch.int32), 0, -127, 127
    )


def quantize_map(x: Tensor) -> Tensor:
    """Round a map to 8 bits, 0 to 255 for 0 to 1; larger values are clipped."""
    return torch.fake_quantize_per_tensor_affine(x, 1 / 255, 0, 0, 255)


class UpsampledConv(nn.Module):
    """``relu(conv3x3(upsample(x, factor)) + bias)`` for maps (N, C, h, w) of one size, computed at the low resolution.

    ``weight`` (D, C, 3, 3), ``bias`` (D,). Returns (N, D, h·factor, w·factor).

    The identity is that of :mod:`mousecmr_data.models.unet3plus`: nine 1×1 products at the low resolution, then one
    fixed matrix for the columns and one for the rows. Here everything stays in channels-last order, so that each
    matrix is a product from the left without a transposition. The matrices, which are nearly empty, are cut into
    tiles: a tile of the fine grid needs its own part of the coarse one and one more pixel on either side.
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
        # convolutions; without one here it transposes this map, and all it is concatenated with.
        self.anchor = nn.Parameter(torch.ones(d, 1, 1, 1)) if anchored else None
        near, columns = _make_tiles(w, factor)
        index = (torch.arange(h)[:, None, None, None] * w + near) * 3 + torch.arange(3)[:, None, None]
        self.register_buffer("columns_from", index.reshape(-1))  # of (y, x, tap y), in the order (y, tap y, tile, x)
        self.register_buffer("columns", columns)
        near, rows = _make_tiles(h, factor)
        self.register_buffer("rows_from", (near[:, :, None] * 3 + torch.arange(3)).reshape(-1))  # of (y, tap y)
        self.register_buffer("rows", rows)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at the fine resolution."""
        height, width = self.fine
        h, d = x.shape[2], self.bias.shape[0]
        low = F.conv2d(x, quantize_weight(self.weight, self.weight_scale))
        low = low.permute(0, 2, 3, 1)  # (N, h, w, tap y · tap x · d)
        low = low.reshape(-1, 3 * h * x.shape[3], 3 * d).index_select(1, self.columns_from)
        wide = self.columns @ low.reshape(-1, *self.columns.shape[::2], d)
        wide = wide.reshape(-1, 3 * h, width * d).index_select(1, self.rows_from)
        tall = self.rows @ wide.reshape(-1, *self.rows.shape[::2], width * d)
        out = tall.reshape(-1, height, width, d)
        if self.anchor is None:
            return F.relu(out + self.bias).permute(0, 3, 1, 2)
        return F.relu(F.conv2d(out.permute(0, 3, 1, 2), self.anchor, self.bias, groups=d))

    def taps(self) -> Tensor:
        """Return the kernel as (9 taps, D, C), a view."""
        return self.weight.view(9, -1, self.weight.shape[1])


def _make_tiles(size: int, factor: int) -> tuple[Tensor, Tensor]:
    """Cut the fixed matrix of one axis into tiles: the coarse pixels that each needs, and its part of the matrix.

    Returns indices (tiles, near), matrices (tiles, fine pixels per tile, near · 3 taps).
    """
    tile = max(k for k in range(1, max(1, TILE_PIXELS // factor) + 1) if size % k == 0)
    whole = make_upsampling_matrix(size, factor, torch.device("cpu"), torch.float32).T.reshape(-1, 3, size)
    near = torch.arange(-1, tile + 1) + tile * torch.arange(size // tile)[:, None]
    inside = (near >= 0) & (near < size)
    near = near.clamp(0, size - 1)
    parts = [
        (whole[k * tile * factor : (k + 1) * tile * factor, :, pixels] * valid).transpose(1, 2).flatten(1)
        for k, (pixels, valid) in enumerate(zip(near, inside, strict=True))
    ]
    return near, torch.stack(parts)


def fold_batchnorm(network: UNet3Plus) -> dict[str, Affine]:
    """Return the convolutions of ``network`` that its prediction needs, by name, with BatchNorm folded into them.

    Names: "encoder.L.0", "encoder.L.1" (level L), "skip.U_D" (level U to level D), "decoder.D", "head.0", "head.1".
    The four heads that only training uses are left out. Folding is done in float64.
    """
    folded: dict[str, Affine] = {}
    for level in range(1, LEVELS + 1):
        blocks = network.encoder[str(level)]
        assert isinstance(blocks, nn.Sequential)  # noqa: S101 (for the type checker)
        for number, block in enumerate(blocks):
            folded[f"encoder.{level}.{number}"] = _fold_block(block)
    folded |= {f"skip.{name}": _fold_block(block) for name, block in network.skip.items()}
    folded |= {f"decoder.{name}": _fold_block(block) for name, block in network.decoder.items()}
    head = network.head["1"]
    for number, part in enumerate((head.first, head.second)):
        assert isinstance(part, nn.Conv2d) and part.bias is not None  # noqa: S101 (for the type checker)
        folded[f"head.{number}"] = (_to_float32(part.weight), _to_float32(part.bias))
    return folded


def _fold_block(block: nn.Module) -> Affine:
    assert isinstance(block, ConvBlock)  # noqa: S101 (for the type checker)
    conv, bn = block.conv, block.bn
    weight, bias = conv.weight.double(), 0.0 if conv.bias is None else conv.bias.double()
    mean, variance = (torch.as_tensor(v).double() for v in (bn.running_mean, bn.running_var))
    scale = bn.weight.double() / torch.sqrt(variance + bn.eps)
    return _to_float32(weight * scale[:, None, None, None]), _to_float32((bias - mean) * scale + bn.bias.double())


def _to_float32(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float32, copy=True)


class FusedNetwork(nn.Module):
    """The restructured network: images (N, inputs, Y, X), of one size ``shape_yx``, to logits (N, classes, Y, X)."""

    def __init__(self, network: UNet3Plus, shape_yx: tuple[int, int], *, anchored: bool = False) -> None:
        """Build the modules; ``anchored`` adds the depthwise steps that OpenVINO needs (see :class:`UpsampledConv`)."""
        super().__init__()
        self.shape_yx, self.reduce, self.quantized = shape_yx, network.reduce, False
        self.n_inputs = network.n_inputs
        parts = fold_batchnorm(network)
        levels = range(1, LEVELS + 1)
        y, x = (n // network.reduce for n in shape_yx)
        size = {k: (y >> (k - 1), x >> (k - 1)) for k in levels}
        self.encoder = nn.ModuleDict(
            {str(k): nn.ModuleList(FusedConv(*parts[f"encoder.{k}.{i}"]) for i in (0, 1)) for k in levels}
        )
        self.skip = nn.ModuleDict()
        for d in levels[:-1]:
            for u in levels:
                affine = parts[f"skip.{u}_{d}"]
                if u > d and (u, d) not in DIRECT_BRANCHES:
                    conv: nn.Module = UpsampledConv(*affine, size[u], 2 ** (u - d), anchored=anchored)
                else:
                    conv = FusedConv(*affine)
                self.skip[f"{u}_{d}"] = conv
        self.decoder = nn.ModuleDict({str(d): FusedConv(*parts[f"decoder.{d}"]) for d in levels[:-1]})
        self.head = nn.ModuleList(FusedConv(*parts[f"head.{i}"], relu=False) for i in (0, 1))
        self.eval().requires_grad_(False)

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs, without N."""
        return [(self.n_inputs, *self.shape_yx)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self._prepare_input(x)
        encoded: dict[tuple[int, int], Tensor] = {}  # encoder u, pooled to level d
        for level in range(1, LEVELS + 1):
            x = x if level == 1 else encoded[level - 1, level]
            first, second = self.encoder[str(level)].children()
            encoded[level, level] = x = self._quantize(self._point(second(self._quantize(first(x)))))
            for d in range(level + 1, LEVELS + 1):
                encoded[level, d] = F.max_pool2d(encoded[level, d - 1], 2)  # pools of pools: the same maxima
        decoded = {LEVELS: x}
        for d in range(LEVELS - 1, 0, -1):
            branches = []
            for u in range(1, LEVELS + 1):
                source = encoded[u, d] if u <= d else decoded[u] if u == d + 1 else encoded[u, u]
                if (u, d) in DIRECT_BRANCHES:
                    source = self._quantize(upsample(source, 2 ** (u - d)))
                branches.append(self._quantize(self.skip[f"{u}_{d}"](source)))
            decoded[d] = self._quantize(self._point(self.decoder[str(d)](torch.cat(branches, 1))))
        return self._point(self.head[1](upsample(self.head[0](decoded[1]), self.reduce)))

    def _prepare_input(self, x: Tensor) -> Tensor:
        """Return the input of the first convolution."""
        return F.avg_pool2d(x, self.reduce) if self.reduce > 1 else x

    def _point(self, x: Tensor) -> Tensor:
        """Return ``x``, the end of a level (encoder 1–5, decoder 4–1) or the logits; subclasses add context here."""
        return x

    def _quantize(self, x: Tensor) -> Tensor:
        return quantize_map(x) if self.quantized else x


class PlainNetwork(nn.Module):
    """A copy of any network that returns its prediction only, float32, with the interface of :class:`FusedNetwork`."""

    def __init__(self, network: SegmentationNetwork, shape_yx: tuple[int, int]) -> None:
        super().__init__()
        self.network, self.shape_yx, self.n_inputs = deepcopy(network), shape_yx, network.n_inputs
        self.network.deep_supervision = False
        self.float().eval().requires_grad_(False)

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shapes of the inputs, without N."""
        return [(self.n_inputs, *self.shape_yx)]

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(x)[-1]
        return logits


PredictionNetwork = FusedNetwork | PlainNetwork


def make_prediction(network: SegmentationNetwork, shape_yx: tuple[int, int]) -> PredictionNetwork:
    """Return the module by which engines compute images of ``shape_yx``: restructured if the network is UNet3+."""
    return FusedNetwork(network, shape_yx) if isinstance(network, UNet3Plus) else PlainNetwork(network, shape_yx)
