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

from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.baseline.engines.rounding import to_eight_bits
from mousecmr_data.baseline.engines.steps import Step
from mousecmr_data.baseline.engines.upsampling import UpsampledConv
from mousecmr_data.models.unet3plus import LEVELS

EVENED = 0.5
"""How far the channels of a map are evened out: 0 leaves them as they are, 1 gives each the full range of the
code. In between, as in SmoothQuant (Xiao et al., 2023): what the map gains, the next kernel loses."""
SMALLEST = 1e-3
"""Share of a map's largest value below which a channel counts as silent."""


@torch.inference_mode()
def quantise(network: Restructured, largest: dict[str, Tensor]) -> None:
    """Turn ``network``, in place, into one that computes as with 8-bit maps and kernels.

    ``largest`` is what :func:`largest_values` found, at any size of image. The first convolution, of the
    image itself, and the last one stay as they are.
    """
    scales = {name: _scale(top) for name, top in largest.items()}
    for name, scale in scales.items():
        _divide(network.get_submodule(name), scale)
    for reader, sources in _reads().items():
        module = network.get_submodule(reader)
        assert isinstance(module, Step | UpsampledConv)  # noqa: S101 (for the type checker)
        module.weight.mul_(torch.cat([scales[s] for s in sources])[:, None, None])
        to_eight_bits(module)
    network.quantised = True


def _reads() -> dict[str, list[str]]:
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
def largest_values(network: Restructured, slices: Tensor) -> dict[str, Tensor]:
    """The largest value of each channel of each map over ``slices`` (n, 1, Y, X), by the name of its maker."""
    found: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        def see(_module: nn.Module, _input: object, out: Tensor) -> None:
            top = out.amax((0, 2, 3))
            found[name] = torch.maximum(found.get(name, top), top)

        return see

    makers = {source for sources in _reads().values() for source in sources}
    hooks = [network.get_submodule(name).register_forward_hook(watch(name)) for name in sorted(makers)]
    try:
        for one in torch.split(slices, 1):
            network(one)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _scale(top: Tensor) -> Tensor:
    most = top.max().clamp_min(1e-12)
    top = torch.maximum(top, SMALLEST * most)
    return torch.as_tensor(top**EVENED * most ** (1 - EVENED))


def _divide(module: nn.Module, scale: Tensor) -> None:
    assert isinstance(module, Step | UpsampledConv)  # noqa: S101 (for the type checker)
    module.weight.div_(scale.repeat(len(module.weight) // len(scale))[:, None, None, None])
    module.bias.div_(scale)
