"""One step of a restructured network, and what 8 bits make of its numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Step(nn.Module):
    """A convolution with bias and, for all but the head's, ReLU: (N, C, Y, X) to (N, D, Y, X)."""

    def __init__(self, weight: Tensor, bias: Tensor, *, relu: bool = True) -> None:
        super().__init__()
        self.weight, self.bias, self.relu = nn.Parameter(weight.clone()), nn.Parameter(bias.clone()), relu
        self.weight_scale: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The step of ``x``."""
        out = F.conv2d(x, in_code(self.weight, self.weight_scale), self.bias, padding=1)
        return F.relu(out) if self.relu else out

    def taps(self) -> Tensor:
        """The kernel as (9 taps, D, C), a view."""
        return self.weight.flatten(2).movedim(2, 0)


def in_code(weight: Tensor, scale: Tensor | None) -> Tensor:
    """A kernel (D, C, y, x) whose values are whole multiples, -127 to 127, of ``scale`` (D,): marked as such."""
    if scale is None:
        return weight
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(scale.shape[0], dtype=torch.int32), 0, -127, 127
    )


def eight_bits(x: Tensor) -> Tensor:
    """A map in 8 bits, 0 to 255 for 0 to 1; what is above is cut off."""
    return torch.fake_quantize_per_tensor_affine(x, 1 / 255, 0, 0, 255)
