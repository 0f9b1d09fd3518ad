"""8-bit integers: scales from synthetic slices, folded into the network.

After ReLU every map is positive, and ReLU, pooling and bilinear upsampling commute with a positive factor
for each channel. So each channel of each map is divided by a scale of its own, in the convolution that makes
it, and the convolutions that read it multiply: the same network, but all its maps lie in [0, 1], and one
8-bit code serves them all. Kernels get a scale for each output channel.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from mousecmr_data.inference.engines.fused import FusedConv, FusedNetwork, UpsampledConv
from mousecmr_data.models.unet3plus import LEVELS

# MERGED inference.engines.quantization: Kernels rounded so that what one tap loses, the next one gets.
#
# Maps are smooth: the nine taps of a kernel see nearly the same value. Rounding each tap to the nearest number
# lets their errors add up; carrying each error to the next tap keeps the kernel's sum, and the network's answer
# is about three times as near to the unrounded one (measured; docs/inference.md). It costs nothing afterwards.


TAP_ORDER = (0, 1, 2, 5, 4, 3, 6, 7, 8)
"""The order of the taps: each is a neighbour of the one before."""


@torch.inference_mode()
def round_to_bfloat16(network: FusedNetwork) -> None:
    """Round all kernels, in place, to numbers that bfloat16 has."""
    for module in network.modules():
        if isinstance(module, FusedConv | UpsampledConv):
            _round_with_carry(module, lambda tap, _: tap.bfloat16().float())


@torch.inference_mode()
def round_to_int8(module: FusedConv | UpsampledConv) -> None:
    """Round a kernel, in place, to whole multiples of a scale, -127 to 127; one scale an output channel."""
    scale = module.weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    module.weight_scale = scale
    of_tap = scale.reshape(9, -1, 1) if isinstance(module, UpsampledConv) else scale.expand(9, -1)[:, :, None]
    _round_with_carry(module, lambda tap, k: (tap / of_tap[k]).round().clamp(-127, 127) * of_tap[k])


def _round_with_carry(module: FusedConv | UpsampledConv, nearest: Callable[[Tensor, int], Tensor]) -> None:
    taps = module.taps().clone()
    carry = torch.zeros_like(taps[0])
    for k in TAP_ORDER:
        wanted = taps[k] + carry
        taps[k] = nearest(wanted, k)
        carry = wanted - taps[k]
    module.taps().copy_(taps)


SMOOTHING = 0.5
"""How far the channels of a map are evened out: 0 leaves them as they are, 1 gives each the full range of the
code. In between, as in SmoothQuant (Xiao et al., 2023): what the map gains, the next kernel loses."""
MIN_CHANNEL_SHARE = 1e-3
"""Share of a map's largest value below which a channel counts as silent."""


@torch.inference_mode()
def quantize_network(network: FusedNetwork, largest: dict[str, Tensor]) -> None:
    """Turn ``network``, in place, into one that computes as with 8-bit maps and kernels.

    ``largest`` is what :func:`largest_values` found, at any size of image. The first convolution, of the
    image itself, and the last one stay as they are.
    """
    scales = {name: _make_scale(top) for name, top in largest.items()}
    for name, scale in scales.items():
        _divide_by_scale(network.get_submodule(name), scale)
    for reader, sources in _list_inputs().items():
        module = network.get_submodule(reader)
        assert isinstance(module, FusedConv | UpsampledConv)  # noqa: S101 (for the type checker)
        module.weight.mul_(torch.cat([scales[s] for s in sources])[:, None, None])
        round_to_int8(module)
    network.quantised = True


def _list_inputs() -> dict[str, list[str]]:
    """Which maps each convolution reads, by the names of the modules that make them."""
    found: dict[str, list[str]] = {"head.0": ["decoder.1"]}
    for level in range(1, LEVELS + 1):
        found[f"encoder.{level}.1"] = [f"encoder.{level}.0"]
    for above, level in pairwise(range(1, LEVELS + 1)):
        found[f"encoder.{level}.0"] = [f"encoder.{above}.1"]
    for d in range(1, LEVELS):
        for u in range(1, LEVELS + 1):
            found[f"skip.{u}_{d}"] = [f"decoder.{u}" if u == d + 1 < LEVELS else f"encoder.{u}.1"]
        found[f"decoder.{d}"] = [f"skip.{u}_{d}" for u in range(1, LEVELS + 1)]
    return found


@torch.inference_mode()
def find_channel_maxima(network: FusedNetwork, slices: Tensor) -> dict[str, Tensor]:
    """The largest value of each channel of each map over ``slices`` (n, 1, Y, X), by the name of its maker."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def see(_module: nn.Module, _input: object, out: Tensor) -> None:
            top = out.amax((0, 2, 3))
            found[name] = torch.maximum(found.get(name, top), top)

        return see

    makers = {source for sources in _list_inputs().values() for source in sources}
    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in sorted(makers)]
    try:
        for one in torch.split(slices, 1):
            network(one)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _make_scale(top: Tensor) -> Tensor:
    most = top.max().clamp_min(1e-12)
    top = torch.maximum(top, MIN_CHANNEL_SHARE * most)
    return torch.as_tensor(top**SMOOTHING * most ** (1 - SMOOTHING))


def _divide_by_scale(module: nn.Module, scale: Tensor) -> None:
    assert isinstance(module, FusedConv | UpsampledConv)  # noqa: S101 (for the type checker)
    module.weight.div_(scale.repeat(len(module.weight) // len(scale))[:, None, None, None])
    module.bias.div_(scale)
