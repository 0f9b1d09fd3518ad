"""Kernels rounded so that what one tap loses, the next one gets.

Maps are smooth: the nine taps of a kernel see nearly the same value. Rounding each tap to the nearest number
lets their errors add up; carrying each error to the next tap keeps the kernel's sum, and the network's answer
is about three times as near to the unrounded one (measured; docs/inference.md). It costs nothing afterwards.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.baseline.engines.steps import Step
from mousecmr_data.baseline.engines.upsampling import UpsampledConv

WAY = (0, 1, 2, 5, 4, 3, 6, 7, 8)
"""The order of the taps: each is a neighbour of the one before."""


@torch.inference_mode()
def to_bfloat16(network: Restructured) -> None:
    """Round all kernels, in place, to numbers that bfloat16 has."""
    for module in network.modules():
        if isinstance(module, Step | UpsampledConv):
            _carried(module, lambda tap, _: tap.bfloat16().float())


@torch.inference_mode()
def to_eight_bits(module: Step | UpsampledConv) -> None:
    """Round a kernel, in place, to whole multiples of a scale, -127 to 127; one scale an output channel."""
    scale = module.weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
    module.weight_scale = scale
    of_tap = scale.reshape(9, -1, 1) if isinstance(module, UpsampledConv) else scale.expand(9, -1)[:, :, None]
    _carried(module, lambda tap, k: (tap / of_tap[k]).round().clamp(-127, 127) * of_tap[k])


def _carried(module: Step | UpsampledConv, nearest: Callable[[Tensor, int], Tensor]) -> None:
    taps = module.taps().clone()
    carry = torch.zeros_like(taps[0])
    for k in WAY:
        wanted = taps[k] + carry
        taps[k] = nearest(wanted, k)
        carry = wanted - taps[k]
    module.taps().copy_(taps)
