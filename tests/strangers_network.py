"""A network as a user of this library might have it: 60 lines of PyTorch that know nothing of mousecmr_data.

Its images must have sides that are multiples of 8, and it returns its outputs for deep supervision with the finest
first, each smaller than the one before, as nnU-Net's networks do.
"""

from itertools import pairwise

import torch
from torch import nn


class Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(1, channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.leaky_relu(self.norm(self.first(x)), 0.1)
        return nn.functional.leaky_relu(self.second(y) + self.shortcut(x), 0.1)


class Net(nn.Module):
    """An encoder and a decoder of four levels, joined by sums; a head on each level of the decoder."""

    def __init__(self, width: int = 8, channels_in: int = 1, classes: int = 3, heads: bool = True) -> None:
        super().__init__()
        widths = [width * 2**k for k in range(4)]
        self.stem = Block(channels_in, width)
        self.down = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 2, stride=2), Block(b, b)) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.merge = nn.ModuleList(Block(a, a) for a in widths[:-1])
        self.heads = nn.ModuleList(nn.Conv2d(a, classes, 1) for a in (widths[:-1] if heads else widths[:1]))
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, image: torch.Tensor) -> "torch.Tensor | list[torch.Tensor]":
        maps = [self.stem(image)]
        for step in self.down:
            maps.append(step(maps[-1]))
        x = self.dropout(maps.pop())
        outputs = []
        for level in reversed(range(len(maps))):
            x = self.merge[level](self.up[level](x) + maps[level])
            if level < len(self.heads):
                outputs.insert(0, self.heads[level](x))
        return outputs if len(outputs) > 1 else outputs[0]


def make_small() -> Net:
    """Make the network that is trained in a moment, with one output."""
    return Net(width=4, heads=False)
