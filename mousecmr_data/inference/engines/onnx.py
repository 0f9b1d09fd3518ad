"""Export the restructured network to ONNX for other programs, and run it as an engine with ONNX Runtime."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.atomic import write_bytes
from mousecmr_data._utils.environment import get_threads, list_versions
from mousecmr_data._utils.network import disable_telemetry
from mousecmr_data._utils.outputs import write_file
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingExtraError
from mousecmr_data.inference.engines.auto import EXACT, compare_values
from mousecmr_data.inference.engines.base import (
    CACHED_SIZES,
    Network,
    get_arrays,
    get_cache_path,
    read_cache_file,
    write_cache_file,
)
from mousecmr_data.inference.engines.fused import Kernel, Part, fold_batchnorm
from mousecmr_data.inference.engines.graph import GraphOperations
from mousecmr_data.inference.engines.reference import make_reference
from mousecmr_data.inference.grid import Array, to_numpy
from mousecmr_data.models.safetensors import hash_network
from mousecmr_data.models.structure import UNet3PlusArrays

if TYPE_CHECKING:
    from mousecmr_data.models.network import SegmentationNetwork

try:
    disable_telemetry()
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper
except ImportError as e:
    raise MissingExtraError.from_module(e.name or "onnxruntime", "onnx") from e
onnxruntime.disable_telemetry_events()  # for programs that imported it before

INPUT_NAME, OUTPUT_NAME = "image", "logits"
OPSET, IR_VERSION = 17, 8
"""Of ONNX: old enough for programs of 2022."""


class OnnxEngine:
    """float32 on the processor, with ONNX Runtime; the graph of a network of PyTorch is kept in the cache."""

    name = "onnx"
    is_exact = True

    def __init__(self, network: Network, cache: str | Path | None = None) -> None:
        self.network, self.cache = network, cache
        self._get_session = lru_cache(4 * CACHED_SIZES)(self._load_session)  # four parts

    def __call__(self, images: Array) -> NDArray[np.float32]:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        return self.compute("whole", to_numpy(images))[0]

    def compute(self, part: Part, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Compute a part of UNet3+, one slice at a time."""
        session = self._get_session(part, inputs[0].shape[2:])
        names = [value.name for value in session.get_inputs()]
        slices = [
            session.run(None, dict(zip(names, (x[k : k + 1] for x in inputs), strict=True)))
            for k in range(len(inputs[0]))
        ]
        return tuple(np.concatenate(outputs) for outputs in zip(*slices, strict=True))

    def _load_session(self, part: Part, shape_yx: tuple[int, int]) -> Any:
        return _create_session(export_onnx(self.network, shape_yx, self.cache, part).SerializeToString())


def write_onnx(
    network: Network,
    path: str | Path,
    shape_yx: tuple[int, int],
    about: Mapping[str, object],
    cache: str | Path | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write the prediction of ``network`` for images of ``shape_yx`` to an ONNX file, whole or not at all.

    Input "image" (batch, inputs, Y, X) float32, scaled to [0, 1] slice by slice as the network asks for; output
    "logits" (batch, classes, Y, X) float32. The batch size is free. ``about`` becomes the file's metadata. The exported
    network is first compared with the reference, in ONNX Runtime; raises :class:`~mousecmr_data.errors.FileLayoutError`
    if it differs by more than float32's rounding, OutputError if ``path`` exists, unless this library wrote it and
    nobody edited it, or with ``overwrite``.
    """
    path, step = Path(path), network.step
    if shape_yx[0] % step or shape_yx[1] % step:
        raise ArgumentError(f"The size is {shape_yx[0]} × {shape_yx[1]}.", f"multiples of {step}, for this network")
    model = export_onnx(network, shape_yx, cache)
    shape = f"(batch, {network.n_inputs}, {shape_yx[0]}, {shape_yx[1]})"
    model.doc_string = f"Image {shape} in [0, 1]: each slice scaled {network.scaling}"
    model.doc_string += f"; {network.context} neighbours on each side as further channels." if network.context else "."
    properties = {**about, "scaling": network.scaling, "context": network.context}
    onnx.helper.set_model_props(model, {k: str(v) for k, v in properties.items()})
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    session = _create_session(data)
    images = np.random.default_rng(0).random((3, network.n_inputs, *shape_yx), np.float32)
    expected = to_numpy(make_reference(network)(images))
    for batch in (1, 3):
        logits = session.run([OUTPUT_NAME], {INPUT_NAME: images[:batch]})[0]
        difference = compare_values(logits, expected[:batch])
        if not difference <= EXACT.logit:
            raise FileLayoutError(
                f"The exported network's logits differ by {difference:.1e} from the network's.",
                f"{EXACT.logit:.0e} at most; nothing was written",
            )
    with write_file(path, overwrite=overwrite) as partial:
        write_bytes(partial, data)
    return path


def export_onnx(
    network: Network, shape_yx: tuple[int, int], cache: str | Path | None = None, part: Part = "whole"
) -> onnx.ModelProto:
    """Return a part of UNet3+, or the prediction of another network, as an ONNX model with a free batch size.

    Raises :class:`~mousecmr_data.errors.ArgumentError` for a network that PyTorch cannot export.
    """
    if arrays := get_arrays(network):
        return _build_graph(arrays, fold_batchnorm(arrays), shape_yx, part)
    return _trace_module(network, shape_yx, cache)  # type: ignore[arg-type]


def _trace_module(network: SegmentationNetwork, shape_yx: tuple[int, int], cache: str | Path | None) -> onnx.ModelProto:
    """Export a module by PyTorch; kept in the cache, as it takes time."""
    try:
        import onnxscript  # noqa: F401 (PyTorch's exporter needs it)
        import torch
    except ImportError as e:
        raise MissingExtraError.from_module(e.name or "torch", "onnx,torch") from e
    from mousecmr_data.inference.engines.pytorch import PlainNetwork

    key_parts = {"content": hash_network(network), "shape": shape_yx, **list_versions("torch", "onnx")}
    path = get_cache_path(key_parts, "onnx", cache)
    if (data := read_cache_file(path)) is not None:
        return onnx.load_from_string(data)
    target: Any = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's exporter warns of its own parts
            torch.onnx.export(
                PlainNetwork(network),
                (torch.zeros(2, network.n_inputs, *shape_yx),),
                target,
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as e:
        text = f"PyTorch cannot export {network.source} to ONNX: {e.__cause__ or e}"
        raise ArgumentError(text, "operations that it knows", "mousecmr predict --engine eager computes it") from e
    model = onnx.load_from_string(target.getvalue())
    model.producer_name = "mousecmr-data"
    write_cache_file(path, model.SerializeToString())
    return model


class _OnnxOperations(GraphOperations[str]):
    """Writes the nodes of an ONNX graph; maps are the names of their values."""

    def __init__(self, network: UNet3PlusArrays, kernels: Mapping[str, Kernel], shape_yx: tuple[int, int]) -> None:
        super().__init__(network, kernels, shape_yx)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def write(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        if kind == "Resize":
            inputs = (inputs[0], "", inputs[1])  # without a region of interest
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def keep(self, array: NDArray[Any]) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name


def _build_graph(
    network: UNet3PlusArrays, kernels: Mapping[str, Kernel], shape_yx: tuple[int, int], part: Part
) -> onnx.ModelProto:
    """Build the graph of a part of the network for images of ``shape_yx`` and a batch size that is free.

    The inputs are those of :func:`~.fused.list_input_shapes`, "image" first; the outputs "logits" or "logits_0", ….
    """
    ops = _OnnxOperations(network, kernels, shape_yx)
    shapes = ops.list_input_shapes(part)
    inputs = [INPUT_NAME, *(f"point_{k}" for k in range(len(shapes) - 1))]
    outputs = ops.write_part(part, inputs)
    names = [OUTPUT_NAME] if len(outputs) == 1 else [f"{OUTPUT_NAME}_{k}" for k in range(len(outputs))]
    for name, value in zip(names, outputs, strict=True):
        ops.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        ops.nodes,
        "UNet3+",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])
            for name, shape in zip(inputs, shapes, strict=True)
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
        ops.constants,
    )
    if names == [OUTPUT_NAME]:
        whole = helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["batch", network.classes, *shape_yx])
        graph.output[0].CopyFrom(whole)
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="mousecmr-data")


def _create_session(data: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, get_threads()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
