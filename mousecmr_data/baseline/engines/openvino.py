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

from mousecmr_data.baseline.engines import kept, quantised, samples
from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.baseline.engines.rounding import to_bfloat16
from mousecmr_data.errors import MissingExtraError
from mousecmr_data.models.unet3plus import UNet3Plus

try:
    import openvino
except ImportError as e:
    raise MissingExtraError.of("openvino", "openvino") from e

SIZES = 4
"""Sizes of image for which a compiled network is held at a time."""
MOST_STREAMS = 8
"""Slices computed side by side at most; each has maps of its own, of about 100 MB at full width."""


class TwoParts(Restructured):
    """Takes images as :func:`two_parts` makes them, so that bfloat16 does not round what the scanner measured."""

    def doubled(self) -> TwoParts:
        """The first kernel for both parts; after rounding, so that it is the same for both."""
        first = self.encoder["1"][0]  # type: ignore[index]
        first.weight = torch.nn.Parameter(first.weight.repeat(1, 2, 1, 1), requires_grad=False)
        return self

    def _entered(self, x: Tensor) -> Tensor:
        return x


def two_parts(images: Tensor, reduce: int) -> Tensor:
    """Averaged images (N, 2, Y / reduce, X / reduce): the nearest bfloat16 numbers, and what they lack."""
    x = F.avg_pool2d(images, reduce) if reduce > 1 else images
    near = x.bfloat16().float()
    return torch.cat([near, x - near], 1)


class OpenVINO:
    """Compiled for this processor when it first meets a size of image; kept in the cache for the next time.

    "bfloat16" falls back to float32 on a processor that knows no bfloat16. "int8" takes its scales from
    synthetic slices (:mod:`mousecmr_data.baseline.engines.quantised`) and computes the rest in bfloat16.
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
            "NUM_STREAMS": min(threads, MOST_STREAMS),
        }
        self._content = kept.content(network.state_dict())
        self._of_size = lru_cache(SIZES)(self._queue)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32, a slice a stream."""
        out = np.empty((len(images), self.network.classes, *images.shape[2:]), np.float32)
        queue = self._of_size((images.shape[2], images.shape[3]))
        queue.set_callback(lambda request, at: np.copyto(out[at], request.get_output_tensor().data[0]))
        shown = two_parts(images, self.network.reduce) if self._split else images
        for at, one in enumerate(shown.numpy()):
            queue.start_async([one[None]], at)
        queue.wait_all()
        return torch.from_numpy(out)

    def _queue(self, shape_yx: tuple[int, int]) -> Any:
        return openvino.AsyncInferQueue(self._compiled(shape_yx))

    def _compiled(self, shape_yx: tuple[int, int]) -> Any:
        of = {"content": self._content, "openvino": openvino.__version__, "shape": shape_yx, **self.config}
        place = kept.place({**of, "precision": self.precision, "split": self._split}, "openvino", self.cache)
        if place.is_file():
            try:
                return self.core.import_model(io.BytesIO(place.read_bytes()), "CPU", self.config)
            except RuntimeError:  # damaged, or of another build: made anew
                place.unlink(missing_ok=True)
        compiled = self.core.compile_model(self._model(shape_yx), "CPU", self.config)
        kept.keep(place, compiled.export_model().getvalue())
        return compiled

    def _model(self, shape_yx: tuple[int, int]) -> Any:
        shape = [1, 1, *shape_yx]
        if self._split:
            split = TwoParts(self.network, shape_yx, anchored=True)
            to_bfloat16(split)
            network: Restructured = split.doubled()
            shape = [1, 2, *(n // self.network.reduce for n in shape_yx)]
        else:
            network = Restructured(self.network, shape_yx, anchored=True)
            if self.precision == "int8":
                quantised.quantise(network, self.largest_values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # OpenVINO and PyTorch on each other's and their own old ways
            return openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)

    def largest_values(self) -> dict[str, Tensor]:
        """What 8-bit scales are made of (see :mod:`mousecmr_data.baseline.engines.quantised`), kept in the cache."""
        place = kept.place({"content": self._content, "samples": samples.VERSION}, "scales", self.cache)
        if place.is_file():
            return load(place.read_bytes())
        slices = samples.calibration()
        found = quantised.largest_values(Restructured(self.network, (slices.shape[2], slices.shape[3])), slices)
        kept.keep(place, save(found))
        return found
