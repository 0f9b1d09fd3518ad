"""UNet3+'s prediction as an ONNX graph, written from arrays: ONNX Runtime, OpenVINO and other programs compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.errors import MissingExtraError
from mousecmr_data.inference.engines.fused import (
    UPSAMPLED,
    Kernel,
    Part,
    UpsampledSteps,
    compute_part,
    list_input_shapes,
    list_sizes,
    stack_taps,
)
from mousecmr_data.models.structure import UNet3PlusArrays

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as e:
    raise MissingExtraError.from_module("onnx", "onnx") from e

INPUT_NAME, OUTPUT_NAME = "image", "logits"
OPSET, IR_VERSION = 17, 8
"""Of ONNX: old enough for programs of 2022."""
OPENVINO_DOMAIN = "org.openvinotoolkit"


class GraphOperations:
    """Writes the nodes of a graph; maps are the names of their values. See :class:`~.fused.Operations`."""

    def __init__(self, network: UNet3PlusArrays, kernels: Mapping[str, Kernel], shape_yx: tuple[int, int]) -> None:
        self.network, self.kernels, self.sizes = network, kernels, list_sizes(network, shape_yx)
        self.coded = any(kernel.scale is not None for kernel in kernels.values())
        self.anchored = False
        """Add a depthwise convolution that changes nothing and adds the bias. OpenVINO takes the layout of maps from
        convolutions; without one here it transposes this map, and all it is concatenated with."""
        self.is_split = False
        """The image comes in two parts, averaged already."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.maps: dict[str, str] = {}
        """The map that each convolution makes, after its activation."""

    def write(self, kind: str, *inputs: str, domain: str | None = None, **attributes: Any) -> str:
        """Add a node; return the name of its value."""
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], domain=domain, **attributes))
        return name

    def keep(self, array: NDArray[Any]) -> str:
        """Add a constant; return its name."""
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def prepare(self, x: str) -> str:
        reduce = self.network.reduce
        if reduce == 1 or self.is_split:
            return x
        return self.write("AveragePool", x, kernel_shape=[reduce] * 2, strides=[reduce] * 2)

    def convolve(self, name: str, x: str) -> str:
        kernel = self.kernels[name]
        if name in UPSAMPLED:
            return self._convolve_upsampled(name, x)
        scale = None if kernel.scale is None else kernel.scale[0]
        return self.write("Conv", x, self._keep_kernel(kernel.weight, scale), self.keep(kernel.bias), pads=[1] * 4)

    def _keep_kernel(self, weight: NDArray[np.float32], scale: NDArray[np.float32] | None) -> str:
        """Add a kernel (D, C, y, x), marked as whole multiples of ``scale`` (D,) if there is one."""
        if scale is None:
            return self.keep(weight)
        top = 127 * scale[:, None, None, None]
        return self._code(self.keep(weight), -top, top, 255)

    def _code(self, x: str, low: NDArray[np.float32], high: NDArray[np.float32], levels: int) -> str:
        limits = [self.keep(low), self.keep(high)]
        return self.write("FakeQuantize", x, *limits, *limits, domain=OPENVINO_DOMAIN, levels=levels)

    def _convolve_upsampled(self, name: str, x: str) -> str:
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
        if not self.anchored:
            return self.write("Transpose", self.write("Add", out, self.keep(kernel.bias)), perm=[0, 3, 1, 2])
        out = self.write("Transpose", out, perm=[0, 3, 1, 2])
        return self.write("Conv", out, self.keep(np.ones((d, 1, 1, 1), np.float32)), self.keep(kernel.bias), group=d)

    def _reshape(self, x: str, *shape: int) -> str:
        """Give all axes but the first, which takes what remains."""
        return self.write("Reshape", x, self.keep(np.array([-1, *shape])))

    def activate(self, x: str) -> str:
        return self.write("Relu", x)

    def code(self, x: str, name: str) -> str:
        self.maps[name] = x
        return self._code(x, np.float32(0), np.float32(1), 256) if self.coded else x  # type: ignore[arg-type]

    def pool(self, x: str) -> str:
        return self.write("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def upsample(self, x: str, factor: int) -> str:
        if factor == 1:
            return x
        scales = self.keep(np.array([1, 1, factor, factor], np.float32))
        return self.write("Resize", x, "", scales, mode="linear", coordinate_transformation_mode="half_pixel")

    def concatenate(self, maps: Sequence[str]) -> str:
        return self.write("Concat", *maps, axis=1)

    def add(self, a: str, b: str) -> str:
        return self.write("Add", a, b)

    def subtract(self, a: str, b: str) -> str:
        return self.write("Sub", a, b)


def build_graph(
    network: UNet3PlusArrays,
    kernels: Mapping[str, Kernel],
    shape_yx: tuple[int, int],
    part: Part = "whole",
    *,
    batch: int | str = "batch",
    for_openvino: bool = False,
    is_split: bool = False,
    maxima: Sequence[str] = (),
) -> onnx.ModelProto:
    """Build the graph of a part of the network for images of ``shape_yx``.

    The inputs are those of :func:`~.fused.list_input_shapes`, "image" first; the outputs "logits" or "logits_0", ….
    ``batch`` is N, or the name of an N that is free. ``for_openvino`` adds steps that only OpenVINO needs, and allows
    rounded ``kernels``. ``is_split``: the image is that of :func:`~.openvino.split_bfloat16`. ``maxima`` asks for the
    largest value of each channel of the maps of these convolutions instead, each (1, channels, 1, 1).
    """
    ops = GraphOperations(network, kernels, shape_yx)
    ops.anchored, ops.is_split = for_openvino, is_split
    shapes = list_input_shapes(network, part, shape_yx)
    if is_split:
        shapes[0] = (2 * network.n_inputs, *ops.sizes[1])
    inputs = [INPUT_NAME, *(f"point_{k}" for k in range(len(shapes) - 1))]
    outputs = compute_part(ops, part, network.reduce, inputs[0], inputs[1:])
    if maxima:
        outputs = [ops.write("ReduceMax", ops.maps[name], axes=[0, 2, 3]) for name in maxima]
    names = [OUTPUT_NAME] if len(outputs) == 1 else [f"{OUTPUT_NAME}_{k}" for k in range(len(outputs))]
    for name, value in zip(names, outputs, strict=True):
        ops.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        ops.nodes,
        "UNet3+",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
            for name, shape in zip(inputs, shapes, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        ops.constants,
    )
    if names == [OUTPUT_NAME]:
        shape = [batch, network.classes, *shape_yx]
        graph.output[0].CopyFrom(helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, shape))
    domains = [helper.make_opsetid("", OPSET), *([helper.make_opsetid(OPENVINO_DOMAIN, 1)] if ops.coded else ())]
    return helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION, producer_name="mousecmr-data")
