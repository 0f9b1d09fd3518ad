"""Compute with OpenVINO on the processor: bfloat16 or 8-bit integers if it has instructions for them."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional as F

from mousecmr_data._utils.network import import_openvino
from mousecmr_data.errors import ArgumentError, MissingExtraError
from mousecmr_data.inference.engines.auto import SAMPLES_VERSION, make_calibration_slices
from mousecmr_data.inference.engines.base import CACHED_SIZES, get_cache_path, read_cache_file, write_cache_file
from mousecmr_data.inference.engines.fused import FusedNetwork, PlainNetwork, PredictionNetwork
from mousecmr_data.inference.engines.quantization import find_channel_maxima, quantize_network, round_to_bfloat16
from mousecmr_data.inference.engines.roi_network import RoiNetwork
from mousecmr_data.models.network import SegmentationNetwork
from mousecmr_data.models.safetensors import hash_network
from mousecmr_data.models.unet3plus import UNet3Plus

try:
    openvino = import_openvino()
except ImportError as e:
    raise MissingExtraError.from_module("openvino", "openvino") from e

MAX_STREAMS = 8
"""Largest number of slices computed side by side; each has its own maps, of about 100 MB at full width."""


class SplitInputNetwork(FusedNetwork):
    """The network for images in two parts (:func:`split_bfloat16`), so that bfloat16 does not round them."""

    def double_first_kernel(self) -> None:
        """Repeat the first kernel for both parts; call it after rounding, so that it is the same for both."""
        first = self.encoder["1"][0]  # type: ignore[index]
        first.weight = torch.nn.Parameter(first.weight.repeat(1, 2, 1, 1), requires_grad=False)

    def inputs(self) -> list[tuple[int, ...]]:
        """Return the shape of the two parts."""
        return [(2 * self.n_inputs, *(n // self.reduce for n in self.shape_yx))]

    def _prepare_input(self, x: Tensor) -> Tensor:
        return x


def split_bfloat16(images: Tensor, reduce: int) -> Tensor:
    """Return averaged images (N, 2 · inputs, Y / reduce, X / reduce): the nearest bfloat16 numbers, and remainders."""
    x = F.avg_pool2d(images, reduce) if reduce > 1 else images
    near = x.bfloat16().float()
    return torch.cat([near, x - near], 1)


class _SliceQueue:
    """Runs a compiled model on slices side by side, one slice per stream."""

    def __init__(self, compiled: Any) -> None:
        self._queue = openvino.AsyncInferQueue(compiled)
        self._shapes = [tuple(out.get_shape())[1:] for out in compiled.outputs]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arrays = [np.ascontiguousarray(tensor.numpy()) for tensor in inputs]
        outputs = [np.empty((len(arrays[0]), *shape), np.float32) for shape in self._shapes]

        def copy_outputs(request: Any, k: int) -> None:
            for number, output in enumerate(outputs):
                np.copyto(output[k], request.get_output_tensor(number).data[0])

        self._queue.set_callback(copy_outputs)
        for k in range(len(arrays[0])):
            self._queue.start_async([a[k : k + 1] for a in arrays], k, share_inputs=True)
        self._queue.wait_all()
        return tuple(torch.from_numpy(output) for output in outputs)


class OpenVinoEngine:
    """The restructured network in OpenVINO, compiled for this processor on the first image of a size and cached.

    "bfloat16" falls back to float32 on a processor without bfloat16. "int8" takes its scales from
    synthetic slices (:mod:`mousecmr_data.inference.engines.quantization`) and computes the rest in bfloat16.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        precision: Literal["bfloat16", "int8"] = "bfloat16",
        cache: str | Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Prepare compilation; ``threads`` defaults to PyTorch's number of threads.

        Raises :class:`~mousecmr_data.errors.ArgumentError` for "int8" and a network that is not UNet3+.
        """
        if precision == "int8" and not isinstance(network, UNet3Plus):
            text = f"8-bit integers are for UNet3+; the network is {network.source}."
            raise ArgumentError(text, "another engine", "--engine openvino, or auto")
        self.name = "openvino" if precision == "bfloat16" else "openvino-int8"
        self.network, self.precision, self.cache = network, precision, cache
        self.core = openvino.Core()
        has_bf16 = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._split = has_bf16 and precision == "bfloat16" and isinstance(network, UNet3Plus)
        threads = threads or torch.get_num_threads()
        self.config = {
            "INFERENCE_PRECISION_HINT": "bf16" if has_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(threads, MAX_STREAMS),
        }
        self._content = hash_network(network)
        self._get_queue = lru_cache(CACHED_SIZES)(self._load_queue)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32, one slice per stream."""
        queue = self._get_queue((images.shape[2], images.shape[3]))
        if isinstance(self.network, UNet3Plus) and self._split:
            images = split_bfloat16(images, self.network.reduce)
        return queue(images)[0]

    def _load_queue(self, shape_yx: tuple[int, int]) -> _SliceQueue:
        kind = SplitInputNetwork if self._split else FusedNetwork
        return _SliceQueue(self.load_compiled(kind, shape_yx, split=self._split))

    def load_compiled(self, kind: type[FusedNetwork], shape_yx: tuple[int, int], **key_parts: object) -> Any:
        """Load a compiled model from the cache, else build and compile it; ``key_parts`` tells kinds apart there."""
        key_parts |= {"content": self._content, "openvino": openvino.__version__, "precision": self.precision}
        path = get_cache_path(key_parts | {"shape": shape_yx} | self.config, "openvino", self.cache)
        if (data := read_cache_file(path)) is not None:
            try:
                return self.core.import_model(io.BytesIO(data), "CPU", self.config)
            except RuntimeError:  # of another build: compile again
                path.unlink(missing_ok=True)
        network = self._build_network(kind, shape_yx)
        shapes = [(1, *shape) for shape in network.inputs()]
        examples = tuple(torch.zeros(shape) for shape in shapes)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # OpenVINO and PyTorch warn of each other's and their own parts
                model = openvino.convert_model(network, example_input=examples, input=shapes)
            compiled = self.core.compile_model(model, "CPU", self.config)
        except Exception as e:  # the code of the network, or an operation that OpenVINO lacks
            text = f"OpenVINO cannot compute {self.network.source}: {e}"
            raise ArgumentError(text, "operations that it knows", "--engine eager") from e
        write_cache_file(path, compiled.export_model().getvalue())
        return compiled

    def _build_network(self, kind: type[FusedNetwork], shape_yx: tuple[int, int]) -> PredictionNetwork:
        if not isinstance(self.network, UNet3Plus):
            return PlainNetwork(self.network, shape_yx)
        network = kind(self.network, shape_yx, anchored=True)
        if self.precision == "int8":
            quantize_network(network, self._find_maxima(self.network))
        elif self.config["INFERENCE_PRECISION_HINT"] == "bf16":
            round_to_bfloat16(network)
        if isinstance(network, SplitInputNetwork):
            network.double_first_kernel()
        return network

    def _find_maxima(self, network: UNet3Plus) -> dict[str, Tensor]:
        """Return the channel maxima for 8-bit scales (:func:`find_channel_maxima`); kept in the cache."""
        key_parts = {"content": self._content, "samples": SAMPLES_VERSION, "scaling": network.scaling}
        path = get_cache_path(key_parts, "scales", self.cache)
        if (data := read_cache_file(path)) is not None:
            return load(data)
        slices = make_calibration_slices(network)
        maxima = find_channel_maxima(FusedNetwork(network, (slices.shape[2], slices.shape[3])), slices)
        write_cache_file(path, save(maxima))
        return maxima


class CompiledRoiNetwork:
    """A part of the region of interest, compiled by OpenVINO in the precision of ``engine`` and kept in its cache.

    A callable with the inputs and outputs of ``kind``, for images of ``shape_yx``; one slice per stream.
    """

    def __init__(self, engine: OpenVinoEngine, kind: type[RoiNetwork], shape_yx: tuple[int, int]) -> None:
        self._queue = _SliceQueue(engine.load_compiled(kind, shape_yx, part=kind.__name__))

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute the outputs of ``kind``; tensors of any number N of slices, float32."""
        outputs = self._queue(*inputs)
        return outputs if len(outputs) > 1 else outputs[0]
