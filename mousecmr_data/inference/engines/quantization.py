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

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from mousecmr_data.inference.engines.fused import FusedConv, FusedNetwork, UpsampledConv
from mousecmr_data.models.unet3plus import LEVELS

TAP_ORDER = (0, 1, 2, 5, 4, 3, 6, 7, 8)
"""The order of the taps: each is a neighbour of the one before."""
SMOOTHING = 0.5
"""How far the channels of a map are evened out: 0 leaves them as they are, 1 gives each the full range of the
code. In between, as in SmoothQuant (Xiao et al., 2023), the map gains precision and the next kernel loses it."""
MIN_CHANNEL_SHARE = 1e-3
"""Share of a map's largest value; a channel whose values are all smaller gets the scale of this share."""


@torch.inference_mode()
def round_to_bfloat16(network: FusedNetwork) -> None:
    """Round all kernels, in place, to bfloat16 numbers."""
    for module in network.modules():
        if isinstance(module, FusedConv | UpsampledConv):
            _round_with_carry(module, lambda tap, _: tap.bfloat16().float())


@torch.inference_mode()
def round_to_int8(module: FusedConv | UpsampledConv) -> None:
    """Round a kernel, in place, to whole multiples of a scale, -127 to 127; one scale per output channel."""
    scale = module.weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    module.weight_scale = scale
    by_tap = scale.reshape(9, -1, 1) if isinstance(module, UpsampledConv) else scale.expand(9, -1)[:, :, None]
    _round_with_carry(module, lambda tap, k: (tap / by_tap[k]).round().clamp(-127, 127) * by_tap[k])


def _round_with_carry(module: FusedConv | UpsampledConv, nearest: Callable[[Tensor, int], Tensor]) -> None:
    taps = module.taps().clone()
    carry = torch.zeros_like(taps[0])
    for k in TAP_ORDER:
        target = taps[k] + carry
        taps[k] = nearest(target, k)
        carry = target - taps[k]
    module.taps().copy_(taps)


@torch.inference_mode()
def quantize_network(network: FusedNetwork, largest: dict[str, Tensor]) -> None:
    """Turn ``network``, in place, into one that computes as with 8-bit maps and kernels.

    ``largest`` comes from :func:`find_channel_maxima`, at any size of image. The first convolution, of the
    image itself, and the last one are not changed.
    """
    scales = {name: _make_scale(top) for name, top in largest.items()}
    for name, scale in scales.items():
        module = _get_conv(network, name)
        module.weight.div_(scale.repeat(len(module.weight) // len(scale))[:, None, None, None])
        module.bias.div_(scale)
    for reader, sources in _list_inputs().items():
        module = _get_conv(network, reader)
        module.weight.mul_(torch.cat([scales[s] for s in sources])[:, None, None])
        round_to_int8(module)
    network.quantized = True


def _get_conv(network: FusedNetwork, name: str) -> FusedConv | UpsampledConv:
    return cast(FusedConv | UpsampledConv, network.get_submodule(name))


def _list_inputs() -> dict[str, list[str]]:
    """Return which maps each convolution reads, by the names of the modules that make them."""
    levels = range(1, LEVELS + 1)
    inputs = {"head.0": ["decoder.1"]}
    inputs |= {f"encoder.{level}.1": [f"encoder.{level}.0"] for level in levels}
    inputs |= {f"encoder.{level}.0": [f"encoder.{above}.1"] for above, level in pairwise(levels)}
    for d in levels[:-1]:
        for u in levels:
            inputs[f"skip.{u}_{d}"] = [f"decoder.{u}" if u == d + 1 < LEVELS else f"encoder.{u}.1"]
        inputs[f"decoder.{d}"] = [f"skip.{u}_{d}" for u in levels]
    return inputs


@torch.inference_mode()
def find_channel_maxima(network: FusedNetwork, slices: Tensor) -> dict[str, Tensor]:
    """Return the largest value of each channel of each map over ``slices`` (n, inputs, Y, X), by the map's module."""
    maxima: dict[str, Tensor] = {}

    def update(name: str, _module: nn.Module, _input: object, out: Tensor) -> None:
        top = out.amax((0, 2, 3))
        maxima[name] = torch.maximum(maxima.get(name, top), top)

    sources = {source for names in _list_inputs().values() for source in names}
    hooks = [network.get_submodule(name).register_forward_hook(partial(update, name)) for name in sorted(sources)]
    try:
        for image in torch.split(slices, 1):
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return maxima


def _make_scale(top: Tensor) -> Tensor:
    largest = top.max().clamp_min(1e-12)
    top = torch.maximum(top, MIN_CHANNEL_SHARE * largest)
    return torch.as_tensor(top**SMOOTHING * largest ** (1 - SMOOTHING))
