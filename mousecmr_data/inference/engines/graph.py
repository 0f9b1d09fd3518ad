"""UNet3+'s prediction as a graph, written from arrays, for libraries that compute graphs.

The nodes have the names of ONNX; each library writes them in its own form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Generic

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.inference.engines.fused import (
    UPSAMPLED,
    Kernel,
    Map,
    Part,
    UpsampledSteps,
    compute_part,
    list_input_shapes,
    list_sizes,
    stack_taps,
)
from mousecmr_data.models.structure import UNet3PlusArrays


class GraphOperations(ABC, Generic[Map]):
    """Writes the nodes of a graph; maps are what stands for their values. See :class:`~.fused.Operations`."""

    is_anchored = False
    """Add a depthwise convolution that changes nothing and adds the bias. OpenVINO takes the layout of maps from
    convolutions; without one here it transposes this map, and all it is concatenated with."""

    def __init__(
        self,
        network: UNet3PlusArrays,
        kernels: Mapping[str, Kernel],
        shape_yx: tuple[int, int],
        *,
        is_split: bool = False,
    ) -> None:
        """``is_split``: the image comes in two parts, averaged already (:func:`~.openvino.split_bfloat16`)."""
        self.network, self.kernels, self.sizes = network, kernels, list_sizes(network, shape_yx)
        self.shape_yx, self.is_split = shape_yx, is_split
        self.is_coded = any(kernel.scale is not None for kernel in kernels.values())
        self.maps: dict[str, Map] = {}
        """The map that each convolution makes, after its activation."""

    @abstractmethod
    def write(self, kind: str, *inputs: Map, **attributes: Any) -> Map:
        """Add a node of the ONNX operator ``kind``, or of "FakeQuantize", and return its value."""

    @abstractmethod
    def keep(self, array: NDArray[Any]) -> Map:
        """Add a constant, and return it."""

    def list_input_shapes(self, part: Part) -> list[tuple[int, ...]]:
        """Return the shapes of a part's inputs, without N (see :func:`~.fused.list_input_shapes`)."""
        shapes = list_input_shapes(self.network, part, self.shape_yx)
        if self.is_split:
            shapes[0] = (2 * self.network.n_inputs, *self.sizes[1])
        return shapes

    def write_part(self, part: Part, inputs: Sequence[Map], maxima: Sequence[str] = ()) -> list[Map]:
        """Write a part of the network, and return its outputs.

        ``maxima`` asks for the largest value of each channel of the maps of these convolutions instead, each
        (1, channels, 1, 1).
        """
        outputs = compute_part(self, part, self.network.reduce, inputs[0], inputs[1:])
        return [self.write("ReduceMax", self.maps[name], axes=[0, 2, 3]) for name in maxima] or outputs

    def prepare(self, x: Map) -> Map:
        reduce = self.network.reduce
        if reduce == 1 or self.is_split:
            return x
        return self.write("AveragePool", x, kernel_shape=[reduce] * 2, strides=[reduce] * 2)

    def convolve(self, name: str, x: Map) -> Map:
        kernel = self.kernels[name]
        if name in UPSAMPLED:
            return self._convolve_upsampled(name, x)
        scale = None if kernel.scale is None else kernel.scale[0]
        return self.write("Conv", x, self._keep_kernel(kernel.weight, scale), self.keep(kernel.bias), pads=[1] * 4)

    def _keep_kernel(self, weight: NDArray[np.float32], scale: NDArray[np.float32] | None) -> Map:
        """Add a kernel (D, C, y, x), marked as whole multiples of ``scale`` (D,) if there is one."""
        if scale is None:
            return self.keep(weight)
        top = 127 * scale[:, None, None, None]
        return self._code(self.keep(weight), -top, top, 255)

    def _code(self, x: Map, low: NDArray[np.float32], high: NDArray[np.float32], levels: int) -> Map:
        limits = [self.keep(low), self.keep(high)]
        return self.write("FakeQuantize", x, *limits, *limits, levels=levels)

    def _convolve_upsampled(self, name: str, x: Map) -> Map:
        level, factor = UPSAMPLED[name]
        kernel, steps = self.kernels[name], UpsampledSteps.make(self.sizes[level], factor)
        (h, w), d = steps.size, len(kernel.bias)
        scale = None if kernel.scale is None else kernel.scale.reshape(-1)
        low = self.write("Conv", x, self._keep_kernel(stack_taps(kernel.weight), scale))
        low = self._reshape(self.write("Transpose", low, perm=[0, 2, 3, 1]), 3 * h * w, 3 * d)
        low = self.write("Gather", low, self.keep(steps.columns_from), axis=1)
        low = self._reshape(low, *steps.columns.shape[::2], d)
        wide = self._reshape(self.write("MatMul", self.keep(steps.columns), low), 3 * h, w * factor * d)
        wide = self.write("Gather", wide, self.keep(steps.rows_from), axis=1)
        wide = self._reshape(wide, *steps.rows.shape[::2], w * factor * d)
        out = self._reshape(self.write("MatMul", self.keep(steps.rows), wide), h * factor, w * factor, d)
        if not self.is_anchored:
            return self.write("Transpose", self.write("Add", out, self.keep(kernel.bias)), perm=[0, 3, 1, 2])
        out = self.write("Transpose", out, perm=[0, 3, 1, 2])
        return self.write("Conv", out, self.keep(np.ones((d, 1, 1, 1), np.float32)), self.keep(kernel.bias), group=d)

    def _reshape(self, x: Map, *shape: int) -> Map:
        """Give all axes but the first, which takes what remains."""
        return self.write("Reshape", x, self.keep(np.array([-1, *shape])))

    def activate(self, x: Map) -> Map:
        return self.write("Relu", x)

    def code(self, x: Map, name: str) -> Map:
        self.maps[name] = x
        return self._code(x, np.float32(0), np.float32(1), 256) if self.is_coded else x  # type: ignore[arg-type]

    def pool(self, x: Map) -> Map:
        return self.write("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def upsample(self, x: Map, factor: int) -> Map:
        if factor == 1:
            return x
        scales = self.keep(np.array([1, 1, factor, factor], np.float32))
        return self.write("Resize", x, scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def concatenate(self, maps: Sequence[Map]) -> Map:
        return self.write("Concat", *maps, axis=1)

    def add(self, a: Map, b: Map) -> Map:
        return self.write("Add", a, b)

    def subtract(self, a: Map, b: Map) -> Map:
        return self.write("Sub", a, b)
