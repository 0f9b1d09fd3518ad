"""BatchNorm folded into the convolution before it: what is left of a network for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mousecmr_data.models.unet3plus import LEVELS, ConvBlock, UNet3Plus

Affine = tuple[Tensor, Tensor]
"""Weight (D, C, 3, 3) and bias (D,), float32."""


def folded(network: UNet3Plus) -> dict[str, Affine]:
    """The convolutions of ``network`` that its prediction needs, by name.

    "encoder.L.0", "encoder.L.1" (level L), "skip.U_D" (level U to level D), "decoder.D", "head.0", "head.1".
    The four heads that only training uses are left out. Folding is done in float64.
    """
    found: dict[str, Affine] = {}
    for level in range(1, LEVELS + 1):
        blocks = network.encoder[str(level)]
        assert isinstance(blocks, nn.Sequential)  # noqa: S101 (for the type checker)
        for number, block in enumerate(blocks):
            found[f"encoder.{level}.{number}"] = _fold(block)
    found |= {f"skip.{name}": _fold(block) for name, block in network.skip.items()}
    found |= {f"decoder.{name}": _fold(block) for name, block in network.decoder.items()}
    head = network.head["1"]
    for number, part in enumerate((head.first, head.second)):
        assert isinstance(part, nn.Conv2d) and part.bias is not None  # noqa: S101 (for the type checker)
        found[f"head.{number}"] = (_float32(part.weight), _float32(part.bias))
    return found


def _fold(block: nn.Module) -> Affine:
    assert isinstance(block, ConvBlock)  # noqa: S101 (for the type checker)
    conv, bn = block.conv, block.bn
    weight, bias = conv.weight.double(), 0.0 if conv.bias is None else conv.bias.double()
    mean, variance = (torch.as_tensor(v).double() for v in (bn.running_mean, bn.running_var))
    scale = bn.weight.double() / torch.sqrt(variance + bn.eps)
    return _float32(weight * scale[:, None, None, None]), _float32((bias - mean) * scale + bn.bias.double())


def _float32(x: Tensor) -> Tensor:
    return x.detach().to("cpu", torch.float32, copy=True)
