"""The engine protocol, and the engines that compute in PyTorch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from mousecmr_data._utils.atomic import atomic_path
from mousecmr_data._utils.checksums import append_checksum, read_intact, report_damage
from mousecmr_data._utils.environment import describe_processor, select_device
from mousecmr_data._version import __version__
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.errors import MouseCMRError, ReadError
from mousecmr_data.inference.engines.fused import PredictionNetwork, make_prediction
from mousecmr_data.models.network import SegmentationNetwork

CACHED_SIZES = 4
"""Image sizes (for "cuda": shapes of a batch) whose networks are kept in memory. A cine has one shape of batch, or two
with its last part."""
CXX_COMPILERS = ("g++", "clang++", "c++", "cl")
WARM_UP_RUNS = 3
"""Runs before the capture, so that cuDNN has chosen its algorithms (PyTorch's advice)."""


class Engine(Protocol):
    """A way to compute a network: a callable, with a name.

    Takes images (N, inputs, Y, X) float32 in [0, 1] on the CPU; Y and X are what the network takes, N is anything
    from 1. Returns logits (N, classes, Y, X) float32, on the engine's device.
    """

    @property
    def name(self) -> str:
        """One of :data:`mousecmr_data.inference.engines.ENGINE_NAMES`; goes with every result."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """Return the logits of ``images``."""
        ...


class EagerEngine:
    """The reference: plain PyTorch, float32, operation by operation as the network was published.

    Upsampled maps are computed and then convolved; BatchNorm is a separate step.
    """

    name = "eager"

    def __init__(self, network: SegmentationNetwork, device: str = "auto") -> None:
        self.device = select_device(device)
        self.network = network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.network.deep_supervision = self.network.low_resolution = False

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        logits: Tensor = self.network(images.to(self.device, memory_format=torch.channels_last))[-1]
        return logits


def _build_network(
    network: SegmentationNetwork, shape_yx: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> PredictionNetwork:
    prediction = make_prediction(network, shape_yx)
    return prediction.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class ExactEngine:
    """The restructured network in PyTorch, float32: the reference's numbers up to rounding, on any processor."""

    name = "exact"

    def __init__(self, network: SegmentationNetwork, device: str = "auto") -> None:
        self.device, self.network = select_device(device), network
        self._get_network = lru_cache(CACHED_SIZES)(lambda shape_yx: _build_network(network, shape_yx, self.device))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        network = self._get_network((images.shape[2], images.shape[3]))
        x = images.to(self.device, memory_format=torch.channels_last)
        part_size = 1 if self.device.type == "cpu" else len(x)  # a slice's maps stay in the processor's cache
        return torch.cat([network(part) for part in torch.split(x, part_size)])


class CompiledEngine:
    """The restructured network through ``torch.compile``: float32, on the processor. Needs a C++ compiler.

    Compiled on the first image of a size, which takes minutes; PyTorch keeps what it compiled.
    """

    name = "compiled"

    def __init__(self, network: SegmentationNetwork, device: str = "auto") -> None:
        self.device, self.network = select_device(device), network
        names = (os.environ.get("CXX", ""), *CXX_COMPILERS)
        if self.device.type == "cpu" and not any(shutil.which(name) for name in names if name):
            raise MouseCMRError(
                "The engine 'compiled' needs a C++ compiler, and there is none.",
                f"one of {', '.join(CXX_COMPILERS)}, or the variable CXX",
                "install one (Debian, Ubuntu: apt install g++), or take --engine exact",
            )
        self._get_network = lru_cache(CACHED_SIZES)(self._compile)

    def _compile(self, shape_yx: tuple[int, int]) -> Any:
        network = _build_network(self.network, shape_yx, self.device)
        return torch.compile(network, dynamic=False, options={"freezing": True})

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32, one slice at a time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler stack warns of its own parts
            network = self._get_network((images.shape[2], images.shape[3]))
            x = images.to(self.device).contiguous(memory_format=torch.channels_last)
            return torch.cat([network(image) for image in torch.split(x, 1)])


class _CudaGraph:
    """A captured run: copy images in, replay, read the logits."""

    def __init__(self, network: SegmentationNetwork, shape: tuple[int, ...], device: torch.device) -> None:
        fused = _build_network(network, (shape[2], shape[3]), device, torch.float16)
        self.images = torch.zeros(shape, dtype=torch.float16, device=device)
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP_RUNS):
                fused(self.images)
        torch.cuda.current_stream(device).wait_stream(stream)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits: Tensor = fused(self.images).float()


class CudaEngine:
    """The restructured network on an NVIDIA GPU: float16, channels last, one CUDA graph for each shape of batch.

    The 11 bits of float16's mantissa are precise enough for the accuracy check, and BatchNorm keeps the maps far below
    its largest number.
    Untested: see docs/inference.md.
    """

    name = "cuda"

    def __init__(self, network: SegmentationNetwork, device: str = "cuda") -> None:
        self.device, self.network = select_device(device), network
        self._get_graph = lru_cache(CACHED_SIZES)(lambda shape: _CudaGraph(network, shape, self.device))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return logits (N, classes, Y, X) float32, on the GPU, of images (N, inputs, Y, X)."""
        run = self._get_graph(tuple(images.shape))
        run.images.copy_(images.pin_memory(), non_blocking=True)
        run.graph.replay()
        return torch.clone(run.logits)


ARITHMETIC_VERSION = 3
"""Increased whenever engines compute, or write files, differently than before, also within a release."""


def get_cache_path(parts: Mapping[str, object], kind: str, cache: str | Path | None = None) -> Path:
    """Return the path of a result made from ``parts``; another processor, release or value gives another path."""
    key_parts = {"release": __version__, "arithmetic": ARITHMETIC_VERSION, "processor": describe_processor(), **parts}
    key = hashlib.sha256(json.dumps(key_parts, sort_keys=True, default=str).encode()).hexdigest()[:20]
    return get_cache_root(cache) / "engines" / f"{key}.{kind}"


def read_cache_file(path: Path) -> bytes | None:
    """Return the content of a file of :func:`write_cache_file`; None if there is none, or a damaged one."""
    try:
        data = read_intact(path)
    except ReadError:  # it only costs time
        return None
    if data is None and path.is_file():
        report_damage(path)
    return data


def write_cache_file(path: Path, data: bytes) -> None:
    """Write a file with its checksum, whole or not at all. A cache that cannot be written only costs time."""
    with suppress(OSError), atomic_path(path) as partial:
        partial.write_bytes(data)
        append_checksum(partial)
