"""UNet3+ without PyTorch: its levels, and its weights as named arrays.

:class:`UNet3PlusArrays` is what weights files are read into. Engines make their graphs from it; PyTorch's module,
:class:`mousecmr_data.models.unet3plus.UNet3Plus`, has the same tensors under the same names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.schema.labels import Label

UNET3PLUS = "mousecmr_data.models.unet3plus:UNet3Plus"
CHANNELS = (32, 64, 128, 256, 512)
"""Of the levels of the published network."""
LEVELS = len(CHANNELS)
EPSILON = 1e-3
"""Added to the variance by BatchNorm; Keras' default."""


def list_blocks(channels: Sequence[int], n_inputs: int) -> Iterator[tuple[str, int, int]]:
    """Yield the name, the channels of the input and of the output of each block: convolution, BatchNorm, ReLU."""
    levels = range(1, LEVELS + 1)
    c = dict(enumerate((n_inputs, *channels)))
    for k in levels:
        yield f"encoder.{k}.0", c[k - 1], c[k]
        yield f"encoder.{k}.1", c[k], c[k]
    for d in levels[:-1]:
        for u in levels:
            yield f"skip.{u}_{d}", c[u], c[d]
        yield f"decoder.{d}", LEVELS * c[d], c[d]


@dataclass(frozen=True, eq=False)
class UNet3PlusArrays:
    """A UNet3+ as arrays, by the names of :class:`~mousecmr_data.models.unet3plus.UNet3Plus`'s state dict."""

    arrays: Mapping[str, NDArray[Any]]
    """float32; the counters of batches int64."""
    channels: tuple[int, ...]
    classes: int = len(Label)
    reduce: int = 1
    context: int = 0
    scaling: str = "min-max"

    @property
    def n_inputs(self) -> int:
        """Number of channels of the input: the slice and its neighbours."""
        return 1 + 2 * self.context

    @property
    def step(self) -> int:
        """Y and X of images are multiples of this."""
        return int(2 ** (LEVELS - 1)) * self.reduce

    @property
    def source(self) -> str:
        """Import path of PyTorch's module."""
        return UNET3PLUS

    @classmethod
    def from_header(cls, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> UNet3PlusArrays:
        """Make it of the arrays and the header of a weights file.

        Raises KeyError, TypeError or ValueError for arguments that are not those of a UNet3+.
        """
        arguments = {"channels": CHANNELS, "classes": len(Label), "reduce": 1} | (header["network_args"] or {})
        channels = tuple(int(c) for c in arguments.pop("channels"))
        made = cls(arrays, channels, context=header["context"], scaling=header["scaling"], **arguments)
        if len(channels) != LEVELS or min(*channels, made.classes, made.reduce) < 1:
            raise ValueError(f"The channels are {channels}; {LEVELS} numbers were expected.")
        return made

    def describe(self) -> dict[str, Any]:
        """Return what a weights file says about its network."""
        arguments = {"channels": list(self.channels), "classes": self.classes, "reduce": self.reduce}
        table = {"network": UNET3PLUS, "network_args": arguments, "classes": self.classes}
        return table | {"context": self.context, "scaling": self.scaling, "step": self.step}

    def list_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes that the arrays of these channels must have."""
        shapes: dict[str, tuple[int, ...]] = {}
        for name, c_in, c_out in list_blocks(self.channels, self.n_inputs):
            shapes[f"{name}.conv.weight"] = (c_out, c_in, 3, 3)
            one_each = ("conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
            shapes |= {f"{name}.{part}": (c_out,) for part in one_each}
            shapes[f"{name}.bn.num_batches_tracked"] = ()
        for k, c in enumerate(self.channels, start=1):
            for part, c_in in (("first", c), ("second", self.classes)):
                shapes[f"head.{k}.{part}.weight"] = (self.classes, c_in, 3, 3)
                shapes[f"head.{k}.{part}.bias"] = (self.classes,)
        return shapes


@lru_cache(maxsize=64)
def make_upsampling_matrix(size: int, factor: int) -> NDArray[np.float64]:
    """Make the matrix that upsamples linearly by ``factor`` (half-pixel centres), shifted by -1, 0, +1 with a zero
    border: (3·size, size·factor).
    """
    position = (np.arange(size * factor) + 0.5) / factor - 0.5
    distance = np.abs(position.clip(0, size - 1) - np.arange(size)[:, None])
    padded = np.pad((1.0 - distance).clip(0.0), ((0, 0), (1, 1)))
    return np.concatenate([padded[:, k : k + size * factor] for k in range(3)])
