"""Compute with OpenVINO on the processor: bfloat16 or 8-bit integers if it has instructions for them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mousecmr_data._utils.environment import get_threads
from mousecmr_data._utils.network import import_openvino
from mousecmr_data.errors import ArgumentError, MissingExtraError, MouseCMRError
from mousecmr_data.inference.engines.auto import SAMPLES_VERSION, make_calibration_slices
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
from mousecmr_data.inference.engines.quantization import (
    list_coded_maps,
    quantize_kernels,
    round_to_bfloat16,
    to_bfloat16,
)
from mousecmr_data.inference.grid import Array, to_numpy
from mousecmr_data.models.safetensors import hash_network
from mousecmr_data.models.structure import UNet3PlusArrays

try:
    openvino = import_openvino()
except ImportError as e:
    raise MissingExtraError.from_module("openvino", "openvino") from e

MAX_STREAMS = 8
"""Largest number of slices computed side by side; each has its own maps, of about 100 MB at full width."""


def split_bfloat16(images: NDArray[np.float32], reduce: int) -> NDArray[np.float32]:
    """Return averaged images (N, 2 · inputs, Y / reduce, X / reduce): the nearest bfloat16 numbers, and remainders.

    So that bfloat16 does not round the images.
    """
    n, c, y, x = images.shape
    averaged = images.reshape(n, c, y // reduce, reduce, x // reduce, reduce).mean((3, 5))
    near = to_bfloat16(averaged)
    return np.concatenate([near, averaged - near], 1)


class _OpenVinoOperations(GraphOperations[Any]):
    """Makes the nodes of a model of OpenVINO; maps are the nodes that compute them."""

    is_anchored = True

    def keep(self, array: NDArray[Any]) -> Any:
        return openvino.opset13.constant(np.ascontiguousarray(array).reshape(array.shape))

    def write(self, kind: str, *inputs: Any, **given: Any) -> Any:
        ops, x, none, ones = openvino.opset13, inputs[0], [0, 0], [1, 1]
        match kind:
            case "Conv":
                return self._convolve(*inputs, **given)
            case "AveragePool":
                return ops.avg_pool(x, given["strides"], none, none, given["kernel_shape"], True)
            case "MaxPool":
                return ops.max_pool(x, given["strides"], ones, none, none, given["kernel_shape"]).output(0)
            case "ReduceMax":
                return ops.reduce_max(x, given["axes"], True)
            case "Resize":
                return ops.interpolate(*inputs, "linear_onnx", "scales")  # half_pixel is what it does
            case "FakeQuantize":
                return ops.fake_quantize(*inputs, given["levels"])
            case "Transpose":
                return ops.transpose(x, given["perm"])
            case "Gather":
                return ops.gather(*inputs, given["axis"])
            case "MatMul":
                return ops.matmul(*inputs, False, False)
            case "Reshape":
                return ops.reshape(*inputs, False)
            case "Concat":
                return ops.concat(list(inputs), given["axis"])
        return {"Add": ops.add, "Sub": ops.subtract, "Relu": ops.relu}[kind](*inputs)

    def _convolve(self, x: Any, weight: Any, bias: Any = None, pads: Sequence[int] = (0, 0), group: int = 1) -> Any:
        ops, ones, pads = openvino.opset13, [1, 1], list(pads[:2])
        if group > 1:  # depthwise
            out = ops.group_convolution(x, ops.unsqueeze(weight, 1), ones, pads, pads, ones)
        else:
            out = ops.convolution(x, weight, ones, pads, pads, ones)
        return out if bias is None else ops.add(out, ops.unsqueeze(bias, [0, 2, 3]))


def _make_model(ops: _OpenVinoOperations, part: Part, maxima: Sequence[str] = ()) -> Any:
    """Make the model of a part of the network for one image at a time."""
    inputs = [openvino.opset13.parameter([1, *shape], np.float32) for shape in ops.list_input_shapes(part)]
    outputs = ops.write_part(part, inputs, maxima)
    return openvino.Model([openvino.opset13.result(value) for value in outputs], inputs, "UNet3+")


class _SliceQueue:
    """Runs a compiled model on slices side by side, one slice per stream."""

    def __init__(self, compiled: Any) -> None:
        self._queue = openvino.AsyncInferQueue(compiled)
        self._shapes = [tuple(out.get_shape())[1:] for out in compiled.outputs]

    def __call__(self, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        arrays = [np.ascontiguousarray(x, np.float32) for x in inputs]
        outputs = [np.empty((len(arrays[0]), *shape), np.float32) for shape in self._shapes]

        def copy_outputs(request: Any, k: int) -> None:
            for number, output in enumerate(outputs):
                np.copyto(output[k], request.get_output_tensor(number).data[0])

        self._queue.set_callback(copy_outputs)
        for k in range(len(arrays[0])):
            self._queue.start_async([a[k : k + 1] for a in arrays], k, share_inputs=True)
        self._queue.wait_all()
        return tuple(outputs)


class OpenVinoEngine:
    """The restructured network in OpenVINO, compiled for this processor on the first image of a size and cached.

    "bfloat16" falls back to float32 on a processor without bfloat16. "int8" takes its scales from
    synthetic slices (:mod:`mousecmr_data.inference.engines.quantization`) and computes the rest in bfloat16.
    """

    def __init__(
        self,
        network: Network,
        precision: Literal["float32", "bfloat16", "int8"] = "bfloat16",
        cache: str | Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Prepare compilation; ``threads`` defaults to :func:`~mousecmr_data._utils.environment.get_threads`.

        Raises :class:`~mousecmr_data.errors.ArgumentError` for "int8" and a network that is not UNet3+.
        """
        self.network, self.precision, self.cache, self.arrays = network, precision, cache, get_arrays(network)
        if precision == "int8" and self.arrays is None:
            text = f"8-bit integers are for UNet3+; the network is {network.source}."
            raise ArgumentError(text, "another engine", "--engine openvino, or auto")
        self.name = "openvino-int8" if precision == "int8" else "openvino"
        self.core = openvino.Core()
        has_bf16 = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.is_bf16 = has_bf16 and precision != "float32"
        self._split = self.is_bf16 and precision == "bfloat16" and self.arrays is not None
        self.threads = threads or get_threads()
        self.config = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.is_bf16 else "f32",
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": min(self.threads, MAX_STREAMS),
        }
        self._content = hash_network(network)
        self._get_queue = lru_cache(4 * CACHED_SIZES)(self._load_queue)  # four parts

    @property
    def is_exact(self) -> bool:
        """Whether it computes in float32 on this processor."""
        return self.precision != "int8" and not self.is_bf16

    def make_exact(self) -> OpenVinoEngine:
        """Make an engine for the same network that computes in float32."""
        return OpenVinoEngine(self.network, "float32", self.cache, self.threads)

    def __call__(self, images: Array) -> NDArray[np.float32]:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32, one slice per stream."""
        x, shape_yx = to_numpy(images), (images.shape[2], images.shape[3])
        if self._split and self.arrays:
            x = split_bfloat16(x, self.arrays.reduce)
        return self._get_queue("whole", shape_yx)(x)[0]

    def compute(self, part: Part, *inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        """Compute a part of UNet3+, one slice per stream."""
        return self._get_queue(part, (inputs[0].shape[2], inputs[0].shape[3]))(*inputs)

    def _load_queue(self, part: Part, shape_yx: tuple[int, int]) -> _SliceQueue:
        return _SliceQueue(self._load_compiled(part, shape_yx))

    def _load_compiled(self, part: Part, shape_yx: tuple[int, int]) -> Any:
        """Load a compiled model from the cache, else build and compile it."""
        key_parts = {"content": self._content, "openvino": openvino.__version__, "precision": self.precision}
        path = get_cache_path(key_parts | {"part": part, "shape": shape_yx} | self.config, "openvino", self.cache)
        if (data := read_cache_file(path)) is not None:
            try:
                return self.core.import_model(io.BytesIO(data), "CPU", self.config)
            except RuntimeError:  # of another build: compile again
                path.unlink(missing_ok=True)
        try:
            compiled = self.core.compile_model(self._build_model(part, shape_yx), "CPU", self.config)
        except MouseCMRError:
            raise
        except Exception as e:  # the code of the network, or an operation that OpenVINO lacks
            text = f"OpenVINO cannot compute {self.network.source}: {e}"
            raise ArgumentError(text, "operations that it knows", "--engine eager") from e
        write_cache_file(path, compiled.export_model().getvalue())
        return compiled

    def _build_model(self, part: Part, shape_yx: tuple[int, int]) -> Any:
        if self.arrays is None:
            return self._trace_module(shape_yx)
        kernels = fold_batchnorm(self.arrays)
        if self.precision == "int8":
            kernels = quantize_kernels(kernels, self._find_maxima(self.arrays))
        elif self.is_bf16:
            kernels = round_to_bfloat16(kernels)
        is_split = self._split and part == "whole"
        if is_split:  # after rounding, so that the kernel is the same for both parts
            first = kernels["encoder.1.0"]
            kernels["encoder.1.0"] = Kernel(np.concatenate([first.weight] * 2, 1), first.bias)
        return _make_model(_OpenVinoOperations(self.arrays, kernels, shape_yx, is_split=is_split), part)

    def _trace_module(self, shape_yx: tuple[int, int]) -> Any:
        import torch

        from mousecmr_data.inference.engines.pytorch import PlainNetwork

        shape = (1, self.network.n_inputs, *shape_yx)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO and PyTorch warn of each other's and their own parts
            return openvino.convert_model(
                PlainNetwork(self.network),  # type: ignore[arg-type]
                example_input=torch.zeros(shape),
                input=[shape],
            )

    def _find_maxima(self, network: UNet3PlusArrays) -> dict[str, NDArray[np.float32]]:
        """Return the largest value of each channel of the maps that get 8-bit scales; kept in the cache."""
        key_parts = {"content": self._content, "samples": SAMPLES_VERSION, "scaling": network.scaling}
        path = get_cache_path(key_parts, "scales", self.cache)
        if (data := read_cache_file(path)) is not None:
            return load(data)
        slices, names, kernels = make_calibration_slices(network), list_coded_maps(), fold_batchnorm(network)
        shape_yx = (slices.shape[2], slices.shape[3])
        model = _make_model(_OpenVinoOperations(network, kernels, shape_yx), "whole", names)
        compiled = self.core.compile_model(model, "CPU", self.config | {"INFERENCE_PRECISION_HINT": "f32"})
        tops = _SliceQueue(compiled)(slices)
        maxima = {name: top.max((0, 2, 3)) for name, top in zip(names, tops, strict=True)}
        write_cache_file(path, save(maxima))
        return maxima
