"""What an engine is."""

from __future__ import annotations

import os
import shutil
import warnings
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.inference.engines.fused import FusedNetwork
from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus

# MERGED inference.engines.base: The reference: plain PyTorch, operation by operation as the network was published.


class EagerEngine:
    """float32; upsampled maps are made and then convolved, BatchNorm is a step of its own."""

    name = "eager"

    def __init__(self, network: UNet3Plus, device: str = "auto") -> None:
        self.device = select_device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.network.deep_supervision = self.network.low_resolution = False

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32."""
        logits: Tensor = self.network(images.to(self.device, memory_format=torch.channels_last))[-1]
        return logits


# MERGED inference.engines.base: The restructured network in PyTorch, float32: the reference's numbers up to rounding, on any processor.


CACHED_SIZES = 4
"""Sizes of image for which a network is kept at a time."""


class ExactEngine:
    """Restructured, channels last."""

    name = "exact"

    def __init__(self, network: UNet3Plus, device: str = "auto") -> None:
        self.device = select_device(device)
        self.network = network
        self._of_size = lru_cache(CACHED_SIZES)(self._made)

    def _made(self, shape_yx: tuple[int, int]) -> FusedNetwork:
        made = FusedNetwork(self.network, shape_yx)
        return made.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32."""
        network = self._of_size((images.shape[2], images.shape[3]))
        x = images.to(self.device, memory_format=torch.channels_last)
        at_a_time = 1 if self.device.type == "cpu" else len(x)  # a slice's maps stay in the processor's cache
        return torch.cat([network(part) for part in torch.split(x, at_a_time)])


# MERGED inference.engines.base: The restructured network through ``torch.compile``: float32, on the processor. Needs a C++ compiler.


CXX_COMPILERS = ("g++", "clang++", "c++", "cl")


class CompiledEngine:
    """Compiled when it first meets a size of image, which takes minutes; PyTorch keeps what it compiled."""

    name = "compiled"

    def __init__(self, network: UNet3Plus, device: str = "auto") -> None:
        self.device, self.network = select_device(device), network
        names = (os.environ.get("CXX", ""), *CXX_COMPILERS)
        if self.device.type == "cpu" and not any(shutil.which(name) for name in names if name):
            raise MouseCMRError(
                "The engine 'compiled' needs a C++ compiler, and there is none.",
                f"one of {', '.join(CXX_COMPILERS)}, or the variable CXX",
                "install one (Debian, Ubuntu: apt install g++), or take --engine exact",
            )
        self._of_size = lru_cache(CACHED_SIZES)(self._made)

    def _made(self, shape_yx: tuple[int, int]) -> Any:
        network = FusedNetwork(self.network, shape_yx)
        network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return torch.compile(network, dynamic=False, options={"freezing": True})

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32, a slice at a time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler stack warns of its own parts
            network = self._of_size((images.shape[2], images.shape[3]))
            x = images.to(self.device).contiguous(memory_format=torch.channels_last)
            return torch.cat([network(one) for one in torch.split(x, 1)])


# MERGED inference.engines.base: An NVIDIA GPU: half precision, channels last, and one CUDA graph for each shape of batch. Untested: see docs.


CACHED_SHAPES = 4
"""Shapes of batch for which a graph is kept at a time: a cine has one, or two with the last part."""
WARM_UP_RUNS = 3
"""Runs before the capture, so that cuDNN has chosen its algorithms (PyTorch's advice)."""


class _CudaGraph:
    """A captured run: copy images in, replay, read the logits."""

    def __init__(self, network: UNet3Plus, shape: tuple[int, ...], device: torch.device) -> None:
        made = FusedNetwork(network, (shape[2], shape[3]))
        made = made.to(device, torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = torch.zeros(shape, dtype=torch.float16, device=device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP_RUNS):
                made(self.images)
        torch.cuda.current_stream(device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits: Tensor = made(self.images).float()


class CudaEngine:
    """float16: its 11 bits of mantissa are enough for the gate, and BatchNorm keeps the maps far from its limit."""

    name = "cuda"

    def __init__(self, network: UNet3Plus, device: str = "cuda") -> None:
        self.device, self.network = select_device(device), network
        self._of_shape = lru_cache(CACHED_SHAPES)(lambda shape: _CudaGraph(self.network, shape, self.device))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) float32, on the GPU, of images (N, 1, Y, X)."""
        run = self._of_shape(tuple(images.shape))
        run.images.copy_(images.pin_memory(), non_blocking=True)
        run.graph.replay()
        return torch.clone(run.logits)


class Engine(Protocol):
    """A way to compute a network: a callable, with a name.

    Takes images (N, 1, Y, X) float32 in [0, 1] on the CPU; Y and X are multiples of 16 times the network's
    ``reduce``, N is anything from 1. Returns logits (N, classes, Y, X) float32, on the engine's device.
    """

    @property
    def name(self) -> str:
        """One of :data:`mousecmr_data.inference.engines.ENGINE_NAMES`; goes with every result."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The logits of ``images``."""
        ...
