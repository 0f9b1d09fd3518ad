"""OpenVINO on the processor: bfloat16 or 8-bit integers where it has instructions for them."""

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

from mousecmr_data.errors import MissingExtraError
from mousecmr_data.inference.engines.auto import SAMPLES_VERSION, make_calibration_slices
from mousecmr_data.inference.engines.cache import get_cache_path, write_cache_file
from mousecmr_data.inference.engines.fused import FusedNetwork
from mousecmr_data.inference.engines.quantization import find_channel_maxima, quantize_network, round_to_bfloat16
from mousecmr_data.inference.engines.roi_network import RoiNetwork
from mousecmr_data.models.safetensors import hash_tensors
from mousecmr_data.models.unet3plus import UNet3Plus

try:
    import openvino
except ImportError as e:
    raise MissingExtraError.from_module("openvino", "openvino") from e

CACHED_SIZES = 4
"""Sizes of image for which a compiled network is held at a time."""
MAX_STREAMS = 8
"""Slices computed side by side at most; each has maps of its own, of about 100 MB at full width."""


class SplitInputNetwork(FusedNetwork):
    """Takes images as :func:`two_parts` makes them, so that bfloat16 does not round what the scanner measured."""

    def doubled(self) -> SplitInputNetwork:
        """The first kernel for both parts; after rounding, so that it is the same for both."""
        first = self.encoder["1"][0]  # type: ignore[index]
        first.weight = torch.nn.Parameter(first.weight.repeat(1, 2, 1, 1), requires_grad=False)
        return self

    def _entered(self, x: Tensor) -> Tensor:
        return x


def split_bfloat16(images: Tensor, reduce: int) -> Tensor:
    """Averaged images (N, 2, Y / reduce, X / reduce): the nearest bfloat16 numbers, and what they lack."""
    x = F.avg_pool2d(images, reduce) if reduce > 1 else images
    near = x.bfloat16().float()
    return torch.cat([near, x - near], 1)


class OpenVinoEngine:
    """Compiled for this processor when it first meets a size of image; kept in the cache for the next time.

    "bfloat16" falls back to float32 on a processor that knows no bfloat16. "int8" takes its scales from
    synthetic slices (:mod:`mousecmr_data.inference.engines.quantization`) and computes the rest in bfloat16.
    """

    def __init__(
        self,
        network: UNet3Plus,
        precision: Literal["bfloat16", "int8"] = "bfloat16",
        cache: str | Path | None = None,
        threads: int | None = None,
    ) -> None:
        """``threads``: by default as many as PyTorch has been given."""
        self.name = "openvino" if precision == "bfloat16" else "openvino-int8"
        self.network, self.precision, self.cache = network, precision, cache
        self.core = openvino.Core()
        knows_bf16 = "BF16" in self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._split = knows_bf16 and precision == "bfloat16"
        threads = threads or torch.get_num_threads()
        self.config = {
            "INFERENCE_PRECISION_HINT": "bf16" if knows_bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(threads, MAX_STREAMS),
        }
        self._content = hash_tensors(network.state_dict())
        self._of_size = lru_cache(CACHED_SIZES)(self._queue)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32, a slice a stream."""
        out = np.empty((len(images), self.network.classes, *images.shape[2:]), np.float32)
        queue = self._of_size((images.shape[2], images.shape[3]))
        queue.set_callback(lambda request, at: np.copyto(out[at], request.get_output_tensor().data[0]))
        shown = split_bfloat16(images, self.network.reduce) if self._split else images
        for at, one in enumerate(shown.numpy()):
            queue.start_async([one[None]], at)
        queue.wait_all()
        return torch.from_numpy(out)

    def _queue(self, shape_yx: tuple[int, int]) -> Any:
        return openvino.AsyncInferQueue(self._compiled(shape_yx))

    def _compiled(self, shape_yx: tuple[int, int]) -> Any:
        of = {"content": self._content, "openvino": openvino.__version__, "shape": shape_yx, **self.config}
        place = get_cache_path({**of, "precision": self.precision, "split": self._split}, "openvino", self.cache)
        if place.is_file():
            try:
                return self.core.import_model(io.BytesIO(place.read_bytes()), "CPU", self.config)
            except RuntimeError:  # damaged, or of another build: made anew
                place.unlink(missing_ok=True)
        compiled = self.core.compile_model(self._model(shape_yx), "CPU", self.config)
        write_cache_file(place, compiled.export_model().getvalue())
        return compiled

    def _model(self, shape_yx: tuple[int, int]) -> Any:
        shape = [1, 1, *shape_yx]
        if self._split:
            split = SplitInputNetwork(self.network, shape_yx, anchored=True)
            round_to_bfloat16(split)
            network: FusedNetwork = split.doubled()
            shape = [1, 2, *(n // self.network.reduce for n in shape_yx)]
        else:
            network = FusedNetwork(self.network, shape_yx, anchored=True)
            if self.precision == "int8":
                quantize_network(network, self.largest_values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO and PyTorch on each other's and their own old ways
            return openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)

    def largest_values(self) -> dict[str, Tensor]:
        """What 8-bit scales are made of (see :mod:`mousecmr_data.inference.engines.quantization`), kept in the cache."""
        place = get_cache_path({"content": self._content, "samples": SAMPLES_VERSION}, "scales", self.cache)
        if place.is_file():
            return load(place.read_bytes())
        slices = make_calibration_slices()
        found = find_channel_maxima(FusedNetwork(self.network, (slices.shape[2], slices.shape[3])), slices)
        write_cache_file(place, save(found))
        return found


# MERGED inference.engines.openvino: The parts of the region of interest, compiled by OpenVINO in an engine's own precision.


class CompiledRoiNetwork:
    """A callable with the inputs and outputs of ``kind``, for images of ``shape_yx``; a slice a stream.

    Compiled when it is made, and kept in the engine's cache for the next time.
    """

    def __init__(self, engine: OpenVinoEngine, kind: type[RoiNetwork], shape_yx: tuple[int, int]) -> None:
        of = {"content": hash_tensors(engine.network.state_dict()), "openvino": openvino.__version__}
        of |= {"part": kind.__name__, "shape": shape_yx, "precision": engine.precision, **engine.config}
        place = get_cache_path(of, "openvino", engine.cache)
        compiled = None
        if place.is_file():
            try:
                compiled = engine.core.import_model(io.BytesIO(place.read_bytes()), "CPU", engine.config)
            except RuntimeError:  # damaged, or of another build: made anew
                place.unlink(missing_ok=True)
        if compiled is None:
            compiled = engine.core.compile_model(_convert_roi_network(engine, kind, shape_yx), "CPU", engine.config)
            write_cache_file(place, compiled.export_model().getvalue())
        self._queue = openvino.AsyncInferQueue(compiled)
        self._shapes = [tuple(out.get_shape())[1:] for out in compiled.outputs]

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the module's; tensors of any number N of slices, float32."""
        arrays = [i.numpy() for i in inputs]
        made = [np.empty((len(arrays[0]), *shape), np.float32) for shape in self._shapes]

        def keep(request: Any, at: int) -> None:
            for number, into in enumerate(made):
                np.copyto(into[at], request.get_output_tensor(number).data[0])

        self._queue.set_callback(keep)
        for at in range(len(arrays[0])):
            self._queue.start_async([a[at : at + 1] for a in arrays], at, share_inputs=True)
        self._queue.wait_all()
        tensors = tuple(torch.from_numpy(m) for m in made)
        return tensors if len(tensors) > 1 else tensors[0]


def _convert_roi_network(engine: OpenVinoEngine, kind: type[RoiNetwork], shape_yx: tuple[int, int]) -> Any:
    module = kind(engine.network, shape_yx, anchored=True)
    if engine.precision == "int8":
        quantize_network(module, engine.largest_values())
    elif engine.config["INFERENCE_PRECISION_HINT"] == "bf16":
        round_to_bfloat16(module)
    examples = tuple(torch.zeros(1, *shape) for shape in module.inputs())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as for the whole network
        return openvino.convert_model(module, example_input=examples, input=[tuple(e.shape) for e in examples])
