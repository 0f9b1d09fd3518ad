"""Round networks to bfloat16, or to 8-bit integers with scales from synthetic slices, folded into the network.

After ReLU every map is positive, and ReLU, pooling and bilinear upsampling commute with a positive factor
for each channel. So each channel of each map is divided by its own scale, in the convolution that makes
it, and the convolutions that read it multiply: the same network, but all its maps lie in [0, 1], and one
8-bit code fits them all. Kernels get a scale for each output channel.

Kernels are rounded by error diffusion over their taps. Maps are smooth: the nine taps of a kernel are multiplied by
nearly equal values. If each tap is rounded to the nearest number, the errors add up. If each error is carried to the
next tap, the kernel's sum is kept, and the error of the logits is about a third (measured; docs/inference.md). This
costs nothing at inference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.inference.engines.fused import UPSAMPLED, Kernel
from mousecmr_data.models.structure import LEVELS

TAP_ORDER = (0, 1, 2, 5, 4, 3, 6, 7, 8)
"""The order of the taps: each is a neighbour of the one before."""
SMOOTHING = 0.5
"""How far the channels of a map are evened out: 0 leaves them as they are, 1 gives each the full range of the
code. In between, as in SmoothQuant (Xiao et al., 2023), the map gains precision and the next kernel loses it."""
MIN_CHANNEL_SHARE = 1e-3
"""Share of a map's largest value; a channel whose values are all smaller gets the scale of this share."""


def to_bfloat16(x: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Round to the nearest bfloat16 numbers, as float32; of two that are as near, to the even one."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32)


def round_to_bfloat16(kernels: Mapping[str, Kernel]) -> dict[str, Kernel]:
    """Return the kernels, rounded to bfloat16 numbers."""
    return {name: Kernel(_round(k.weight, lambda tap, _: to_bfloat16(tap)), k.bias) for name, k in kernels.items()}


def round_to_int8(name: str, kernel: Kernel) -> Kernel:
    """Return a kernel, rounded to whole multiples of a scale, -127 to 127.

    One scale per output channel, and per tap where the taps are computed apart (:data:`~.fused.UPSAMPLED`).
    """
    taps = np.abs(kernel.weight).transpose(2, 3, 0, 1).reshape(9, *kernel.weight.shape[:2])
    largest = taps.max(2) if name in UPSAMPLED else np.broadcast_to(taps.max((0, 2)), taps.shape[:2])
    scale = np.asarray(largest.clip(1e-12) / 127, np.float32)

    def nearest(tap: NDArray[np.float32], k: int) -> NDArray[np.float32]:
        return np.asarray(np.rint(tap / scale[k][:, None]).clip(-127, 127) * scale[k][:, None], np.float32)

    return Kernel(_round(kernel.weight, nearest), kernel.bias, scale)


def _round(
    weight: NDArray[np.float32], nearest: Callable[[NDArray[np.float32], int], NDArray[np.float32]]
) -> NDArray[np.float32]:
    taps = weight.transpose(2, 3, 0, 1).reshape(9, *weight.shape[:2]).copy()
    carry = np.zeros_like(taps[0])
    for k in TAP_ORDER:
        target = taps[k] + carry
        taps[k] = nearest(target, k)
        carry = target - taps[k]
    return taps.reshape(3, 3, *weight.shape[:2]).transpose(2, 3, 0, 1).copy()


def quantize_kernels(kernels: Mapping[str, Kernel], largest: Mapping[str, NDArray[np.float32]]) -> dict[str, Kernel]:
    """Return kernels for a network that computes with 8-bit maps and kernels.

    ``largest`` has the largest value of each channel of the maps of :func:`list_coded_maps`. The first convolution, of
    the image itself, and the last one are not rounded.
    """
    scales = {name: _make_scale(top) for name, top in largest.items()}
    inputs, coded = _list_inputs(), dict(kernels)
    for name, kernel in kernels.items():
        weight, bias = kernel.weight, kernel.bias
        if name in scales:
            weight, bias = weight / scales[name][:, None, None, None], bias / scales[name]
        if name in inputs:
            weight = weight * np.concatenate([scales[s] for s in inputs[name]])[:, None, None]
        coded[name] = Kernel(weight, bias)
        if name in inputs:
            coded[name] = round_to_int8(name, coded[name])
    return coded


def list_coded_maps() -> list[str]:
    """Return the names of the convolutions whose maps get scales."""
    return sorted({source for names in _list_inputs().values() for source in names})


def _list_inputs() -> dict[str, list[str]]:
    """Return which maps each convolution reads, by the names of the convolutions that make them."""
    levels = range(1, LEVELS + 1)
    inputs = {"head.0": ["decoder.1"]}
    inputs |= {f"encoder.{level}.1": [f"encoder.{level}.0"] for level in levels}
    inputs |= {f"encoder.{level}.0": [f"encoder.{above}.1"] for above, level in pairwise(levels)}
    for d in levels[:-1]:
        for u in levels:
            inputs[f"skip.{u}_{d}"] = [f"decoder.{u}" if u == d + 1 < LEVELS else f"encoder.{u}.1"]
        inputs[f"decoder.{d}"] = [f"skip.{u}_{d}" for u in levels]
    return inputs


def _make_scale(top: NDArray[np.float32]) -> NDArray[np.float32]:
    largest = top.max().clip(1e-12)
    top = np.maximum(top, MIN_CHANNEL_SHARE * largest)
    return np.asarray(top**SMOOTHING * largest ** (1 - SMOOTHING), np.float32)
