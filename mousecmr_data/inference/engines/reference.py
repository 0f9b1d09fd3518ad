"""UNet3+ in NumPy: what engines are compared with where PyTorch is not installed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.inference.engines.base import Engine, Network
from mousecmr_data.inference.engines.fused import UPSAMPLED, compute_part, fold_batchnorm, stack_taps
from mousecmr_data.inference.grid import Array, to_numpy
from mousecmr_data.models.structure import UNet3PlusArrays, make_upsampling_matrix

Maps = NDArray[np.float32]


class NumpyEngine:
    """float32 on the processor, operation by operation; upsampled maps are made and convolved, as published.

    It shares no arithmetic with OpenVINO and ONNX Runtime, and is slower. It is its own
    :class:`~mousecmr_data.inference.engines.fused.Operations`.
    """

    name = "numpy"

    def __init__(self, network: UNet3PlusArrays) -> None:
        self.reduce, self._kernels = network.reduce, fold_batchnorm(network)

    def __call__(self, images: Array) -> Maps:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        return np.concatenate([compute_part(self, "whole", self.reduce, x[None])[0] for x in to_numpy(images)])

    def prepare(self, x: Maps) -> Maps:
        return np.asarray(_cut_blocks(x, self.reduce).mean((3, 5)))

    def convolve(self, name: str, x: Maps) -> Maps:
        kernel = self._kernels[name]
        x = self.upsample(x, UPSAMPLED[name][1]) if name in UPSAMPLED else x
        (c, h, w), d = x.shape[1:], len(kernel.bias)
        padded = np.pad(x[0], ((0, 0), (1, 1), (1, 1))).reshape(c, -1)
        taps = (stack_taps(kernel.weight)[:, :, 0, 0] @ padded).reshape(3, 3, d, h + 2, w + 2)
        out = np.broadcast_to(kernel.bias[:, None, None], (d, h, w)).copy()
        for i in range(3):
            for j in range(3):
                out += taps[i, j, :, i : i + h, j : j + w]
        return out[None]

    def activate(self, x: Maps) -> Maps:
        return np.maximum(x, 0)

    def code(self, x: Maps, name: str) -> Maps:  # noqa: ARG002
        return x

    def pool(self, x: Maps) -> Maps:
        return np.asarray(_cut_blocks(x, 2).max((3, 5)))

    def upsample(self, x: Maps, factor: int) -> Maps:
        rows, columns = (make_upsampling_matrix(n, factor)[n : 2 * n].astype(np.float32) for n in x.shape[2:])
        return np.asarray(rows.T @ x @ columns)

    def concatenate(self, maps: Sequence[Maps]) -> Maps:
        return np.concatenate(maps, 1)

    def add(self, a: Maps, b: Maps) -> Maps:
        return a + b

    def subtract(self, a: Maps, b: Maps) -> Maps:
        return a - b


def _cut_blocks(x: Maps, size: int) -> Maps:
    """Return maps (N, C, Y, X) as (N, C, Y / size, size, X / size, size)."""
    n, c, rows, columns = x.shape
    return x.reshape(n, c, rows // size, size, columns // size, size)


def make_reference(network: Network, device: str = "cpu") -> Engine:
    """Make what other engines are compared with: NumPy for UNet3+ as arrays, else PyTorch, as published."""
    if isinstance(network, UNet3PlusArrays):
        return NumpyEngine(network)
    from mousecmr_data.inference.engines.pytorch import EagerEngine

    return EagerEngine(network, device)
