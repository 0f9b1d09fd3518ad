"""UNet3+ as the dataset's authors configured it (Huang et al., ICASSP 2020).

Shapes below are (N, C, Y, X) with C₁…C₅ = ``channels`` (32, 64, 128, 256, 512 in the published network); level l works
at 1/2^(l-1) of the input. The default has 12,963,443 parameters, 12,953,715 of them trainable in the authors' counting
(BatchNorm's two running statistics per channel are the difference).

``reduce`` is our addition: the input is averaged over ``reduce`` × ``reduce`` pixels first and the heads upsample to
the input's size, as they do at the deeper levels anyway. 1 is the published network. ``context`` is ours too: the
input has that many neighbouring slices on each side as further channels. 0 is the published network.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mousecmr_data.errors import ArgumentError
from mousecmr_data.models.network import SegmentationNetwork
from mousecmr_data.models.structure import CHANNELS as CHANNELS
from mousecmr_data.models.structure import EPSILON, UNET3PLUS, UNet3PlusArrays, make_upsampling_matrix
from mousecmr_data.models.structure import LEVELS as LEVELS
from mousecmr_data.schema.labels import Label

LOW_RESOLUTION_FROM = 4
"""Upsampling factor from which :func:`convolve_upsampled` is faster (measured on a CPU)."""


def convolve_upsampled(x: Tensor, weight: Tensor, bias: Tensor | None, factor: int) -> Tensor:
    """Compute ``conv2d(upsample(x, factor), weight, bias, padding=1)`` at low resolution; equal up to rounding.

    ``x`` (N, C, h, w), ``weight`` (D, C, 3, 3), ``bias`` (D,); returns (N, D, h·factor, w·factor).

    Bilinear upsampling is linear and acts on each channel alone, so ``conv3x3(upsample(x))`` is the sum over the nine
    taps of ``shift(upsample(conv1x1_tap(x)))``. The nine 1×1 products are taken at low resolution; upsampling and
    shifting (with the zero border of "same" padding) is a small fixed matrix for the rows and one for the columns.
    """
    n, c, h, w = x.shape
    d = weight.shape[0]
    taps = weight.permute(2, 3, 0, 1).reshape(9 * d, c, 1, 1)
    low = F.conv2d(x, taps).reshape(n, 3, 3, d, h, w)
    columns = _make_upsampling_tensor(w, factor, x.device, x.dtype)  # (3·w, W), tap by tap
    wide = low.permute(0, 1, 3, 4, 2, 5).reshape(n, 3, d * h, 3 * w) @ columns  # (N, 3, D·h, W)
    rows = _make_upsampling_tensor(h, factor, x.device, x.dtype)  # (3·h, H)
    tall = wide.reshape(n, 3, d, h, -1).transpose(1, 2).reshape(n, d, 3 * h, -1)
    out = rows.T @ tall
    return out if bias is None else out + bias[:, None, None]


@lru_cache(maxsize=64)
def _make_upsampling_tensor(size: int, factor: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # kept for later calls, which may need gradients
        return torch.from_numpy(make_upsampling_matrix(size, factor)).to(device, dtype)


DROPOUT = 0.3


class ConvBlock(nn.Module):
    """3×3 convolution with bias, BatchNorm, ReLU: (N, C_in, Y, X) to (N, C_out, Y, X)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)
        # Keras' default momentum 0.99 is 0.01 in PyTorch's convention.
        self.bn = nn.BatchNorm2d(c_out, eps=EPSILON, momentum=0.01)

    def forward(self, x: Tensor, factor: int = 1, low_resolution: bool = True) -> Tensor:
        """Apply the block to ``x`` after bilinear upsampling (half-pixel centres) by ``factor``.

        ``low_resolution`` allows :func:`convolve_upsampled`, which does not make the upsampled map; the numbers are
        equal up to rounding.
        """
        if low_resolution and factor >= LOW_RESOLUTION_FROM:
            x = convolve_upsampled(x, self.conv.weight, self.conv.bias, factor)
        else:
            x = self.conv(upsample(x, factor))
        return F.relu(self.bn(x))


class Head(nn.Module):
    """Deep-supervision head: (N, C, y, x) to logits (N, classes, Y, X), upsampled between two convolutions."""

    def __init__(self, c_in: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(c_in, classes, 3, padding=1)
        self.second = nn.Conv2d(classes, classes, 3, padding=1)

    def forward(self, x: Tensor, factor: int) -> Tensor:
        """Return the logits at ``factor`` times the size of ``x``."""
        return cast(Tensor, self.second(upsample(self.first(x), factor)))


class UNet3Plus(SegmentationNetwork):
    """Network from slices (N, inputs, Y, X) in [0, 1] to logits (N, classes, Y, X), one per head, deepest first.

    Y and X are multiples of ``16 · reduce``. The **last** output is the prediction; the others serve the loss. With
    ``deep_supervision`` off (it can be switched at any time) the last is the only one. With ``low_resolution`` off
    (likewise) upsampled maps are made and convolved, as in the published network.

    The number of ``inputs`` is 1 + 2 · ``context``: the slice in the middle, its neighbours in the order of the stack.
    ``scaling`` says how the grey values of the input were scaled (:data:`mousecmr_data.inference.grid.SCALINGS`).
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS,
        classes: int = len(Label),
        *,
        deep_supervision: bool = True,
        reduce: int = 1,
        context: int = 0,
        scaling: str = "min-max",
    ) -> None:
        arguments = {"channels": list(channels), "classes": classes, "reduce": reduce}
        super().__init__(UNET3PLUS, arguments, context, scaling, step=2 ** (LEVELS - 1) * reduce)
        if len(channels) != LEVELS or min(channels) < 1:
            raise ArgumentError(f"The channels are {tuple(channels)}.", f"{LEVELS} numbers, such as {CHANNELS}")
        self.channels, self.classes, self.reduce = tuple(channels), classes, reduce
        self.deep_supervision = deep_supervision
        levels = range(1, LEVELS + 1)
        c = dict(zip(levels, channels, strict=True))
        self.encoder = nn.ModuleDict(
            {str(k): nn.Sequential(ConvBlock(c.get(k - 1, self.n_inputs), c[k]), ConvBlock(c[k], c[k])) for k in levels}
        )
        self.dropout = nn.Dropout(DROPOUT)
        self.skip = nn.ModuleDict({f"{u}_{d}": ConvBlock(c[u], c[d]) for d in levels[:-1] for u in levels})
        self.decoder = nn.ModuleDict({str(d): ConvBlock(LEVELS * c[d], c[d]) for d in levels[:-1]})
        self.head = nn.ModuleDict({str(k): Head(c[k], classes) for k in levels})

    @classmethod
    def from_arrays(cls, network: UNet3PlusArrays) -> UNet3Plus:
        """Make the network of arrays, in evaluation mode; the arrays are copied."""
        settings = {"reduce": network.reduce, "context": network.context, "scaling": network.scaling}
        made = cls(network.channels, network.classes, **settings)  # type: ignore[arg-type]
        made.load_state_dict({name: torch.as_tensor(array) for name, array in network.arrays.items()})
        return made.eval()

    def to_arrays(self) -> UNet3PlusArrays:
        """Return the network as arrays, which share its memory if it is on the CPU."""
        arrays = {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}
        return UNet3PlusArrays(arrays, self.channels, self.classes, self.reduce, self.context, self.scaling)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the logits of the heads of levels 5, 4, 3, 2, 1, each (N, classes, Y, X)."""
        if x.ndim != 4 or x.shape[1] != self.n_inputs or x.shape[2] % self.step or x.shape[3] % self.step:
            expected = f"(N, {self.n_inputs}, Y, X), Y and X / {self.step}"
            raise ValueError(f"The input has the shape {tuple(x.shape)}; it must be {expected}.")
        if self.reduce > 1:
            x = F.avg_pool2d(x, self.reduce)
        encoded: dict[int, Tensor] = {}
        for level in range(1, LEVELS + 1):
            x = self.encoder[str(level)](x if level == 1 else F.max_pool2d(x, 2))
            encoded[level] = x
        encoded[LEVELS] = self.dropout(x)
        decoded = {LEVELS: encoded[LEVELS]}
        for d in range(LEVELS - 1, 0, -1):
            branches = [self.branch(u, d, encoded, decoded) for u in range(1, LEVELS + 1)]
            decoded[d] = self.decoder[str(d)](torch.cat(branches, 1))
        heads = range(LEVELS, 0, -1) if self.deep_supervision else (1,)
        return [self.head[str(k)](decoded[k], self.reduce * 2 ** (k - 1)) for k in heads]

    def branch(self, u: int, d: int, encoded: dict[int, Tensor], decoded: dict[int, Tensor]) -> Tensor:
        """Bring level ``u`` to level ``d``: encoders from above and at d, decoder d+1, encoders from below."""
        block = self.skip[f"{u}_{d}"]
        if u <= d:
            pooled = encoded[u] if u == d else F.max_pool2d(encoded[u], 2 ** (d - u))
            return cast(Tensor, block(pooled))
        source = decoded[u] if u == d + 1 else encoded[u]
        return cast(Tensor, block(source, 2 ** (u - d), self.low_resolution))


def upsample(x: Tensor, factor: int) -> Tensor:
    """Upsample maps bilinearly by ``factor``."""
    if factor == 1:
        return x
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
