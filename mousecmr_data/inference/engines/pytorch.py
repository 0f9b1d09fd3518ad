"""Engines that compute in PyTorch: the network as it was published, and the restructured one."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.environment import require_extra, select_device
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.inference.engines.base import CACHED_SIZES, Network
from mousecmr_data.inference.engines.fused import (
    UPSAMPLED,
    Kernel,
    Part,
    UpsampledSteps,
    compute_part,
    fold_batchnorm,
    list_sizes,
    stack_taps,
)
from mousecmr_data.inference.grid import Array
from mousecmr_data.models.structure import UNet3PlusArrays

require_extra("torch")
import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from mousecmr_data.models.network import SegmentationNetwork  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus, upsample  # noqa: E402

CXX_COMPILERS = ("g++", "clang++", "c++", "cl")
WARM_UP_RUNS = 3
"""Runs before the capture, so that cuDNN has chosen its algorithms (PyTorch's advice)."""


def get_module(network: Network) -> SegmentationNetwork:
    """Return the network as PyTorch's module."""
    return UNet3Plus.from_arrays(network) if isinstance(network, UNet3PlusArrays) else network


class FusedConv(nn.Module):
    """A convolution with bias and a zero border: (N, C, Y, X) to (N, D, Y, X)."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(kernel.weight))
        self.bias = nn.Parameter(torch.tensor(kernel.bias))

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``x``."""
        return F.conv2d(x, self.weight, self.bias, padding=1)


class UpsampledConv(nn.Module):
    """``conv3x3(upsample(x, factor)) + bias`` for maps (N, C, h, w) of one size: (N, D, h·factor, w·factor).

    Computed at the low resolution: see :class:`~mousecmr_data.inference.engines.fused.UpsampledSteps`.
    """

    columns: Tensor
    rows: Tensor
    columns_from: Tensor
    rows_from: Tensor

    def __init__(self, kernel: Kernel, size: tuple[int, int], factor: int) -> None:
        super().__init__()
        self.fine = (size[0] * factor, size[1] * factor)
        self.weight = nn.Parameter(torch.tensor(stack_taps(kernel.weight)))
        self.bias = nn.Parameter(torch.tensor(kernel.bias))
        steps = UpsampledSteps.make(size, factor)
        for name in ("columns_from", "columns", "rows_from", "rows"):
            self.register_buffer(name, torch.from_numpy(getattr(steps, name)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the map at the fine resolution."""
        height, width = self.fine
        h, d = x.shape[2], self.bias.shape[0]
        low = F.conv2d(x, self.weight).permute(0, 2, 3, 1)  # (N, h, w, tap y · tap x · d)
        low = low.reshape(-1, 3 * h * x.shape[3], 3 * d).index_select(1, self.columns_from)
        wide = self.columns @ low.reshape(-1, *self.columns.shape[::2], d)
        wide = wide.reshape(-1, 3 * h, width * d).index_select(1, self.rows_from)
        tall = self.rows @ wide.reshape(-1, *self.rows.shape[::2], width * d)
        return (tall.reshape(-1, height, width, d) + self.bias).permute(0, 3, 1, 2)


class FusedNetwork(nn.Module):
    """A part of the restructured network for images (N, inputs, Y, X) of one size ``shape_yx``.

    Its inputs and outputs are those of :data:`~mousecmr_data.inference.engines.fused.Part`. It is its own
    :class:`~mousecmr_data.inference.engines.fused.Operations`.
    """

    def __init__(self, network: UNet3Plus | UNet3PlusArrays, shape_yx: tuple[int, int], part: Part = "whole") -> None:
        super().__init__()
        arrays = network if isinstance(network, UNet3PlusArrays) else network.to_arrays()
        self.reduce, self.part, sizes = arrays.reduce, part, list_sizes(arrays, shape_yx)
        self.convolutions = nn.ModuleDict()
        for name, kernel in fold_batchnorm(arrays).items():
            level, factor = UPSAMPLED.get(name, (0, 0))
            conv = UpsampledConv(kernel, sizes[level], factor) if level else FusedConv(kernel)
            self.convolutions[name.replace(".", "_")] = conv
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor, *inputs: Tensor) -> Any:
        """Return the output, or a tuple of them."""
        outputs = compute_part(self, self.part, self.reduce, x, inputs)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def prepare(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.reduce) if self.reduce > 1 else x

    def convolve(self, name: str, x: Tensor) -> Tensor:
        convolved: Tensor = self.convolutions[name.replace(".", "_")](x)
        return convolved

    def activate(self, x: Tensor) -> Tensor:
        return F.relu(x)

    def code(self, x: Tensor, name: str) -> Tensor:  # noqa: ARG002
        return x

    def pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)

    def upsample(self, x: Tensor, factor: int) -> Tensor:
        return upsample(x, factor)

    def concatenate(self, maps: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(maps), 1)

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def subtract(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


class PlainNetwork(nn.Module):
    """A copy of any network that returns its prediction only, float32, as a module with one output."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.network = deepcopy(network)
        self.network.deep_supervision = False
        self.float().eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(x)[-1]
        return logits


def make_prediction(network: Network, shape_yx: tuple[int, int]) -> nn.Module:
    """Return the module by which engines compute images of ``shape_yx``: restructured if the network is UNet3+."""
    if isinstance(network, UNet3Plus | UNet3PlusArrays):
        return FusedNetwork(network, shape_yx)
    return PlainNetwork(network)


def make_part(
    network: UNet3PlusArrays, part: Part, shape_yx: tuple[int, int]
) -> Callable[..., tuple[NDArray[np.float32], ...]]:
    """Return a function that computes a part of UNet3+ on the processor, of arrays and to arrays."""
    module = FusedNetwork(network, shape_yx, part).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def compute(*inputs: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
        outputs = module(*(torch.from_numpy(np.ascontiguousarray(x)) for x in inputs))
        return tuple(y.numpy() for y in (outputs if isinstance(outputs, tuple) else (outputs,)))

    return compute


class EagerEngine:
    """The reference: plain PyTorch, float32, operation by operation as the network was published.

    Upsampled maps are computed and then convolved; BatchNorm is a separate step.
    """

    name = "eager"

    def __init__(self, network: Network, device: str = "auto") -> None:
        self.device = select_device(device)
        self.network = get_module(network).to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.network.deep_supervision = self.network.low_resolution = False

    @torch.inference_mode()
    def __call__(self, images: Array) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        logits: Tensor = self.network(torch.as_tensor(images).to(self.device, memory_format=torch.channels_last))[-1]
        return logits


def _build_network(
    network: Network, shape_yx: tuple[int, int], device: torch.device, dtype: torch.dtype = torch.float32
) -> nn.Module:
    prediction = make_prediction(network, shape_yx)
    return prediction.to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class ExactEngine:
    """The restructured network in PyTorch, float32: the reference's numbers up to rounding, on any processor."""

    name = "exact"

    def __init__(self, network: Network, device: str = "auto") -> None:
        self.device, self.network = select_device(device), network
        self._get_network = lru_cache(CACHED_SIZES)(lambda shape_yx: _build_network(network, shape_yx, self.device))

    @torch.inference_mode()
    def __call__(self, images: Array) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32."""
        network = self._get_network((images.shape[2], images.shape[3]))
        x = torch.as_tensor(images).to(self.device, memory_format=torch.channels_last)
        part_size = 1 if self.device.type == "cpu" else len(x)  # a slice's maps stay in the processor's cache
        return torch.cat([network(part) for part in torch.split(x, part_size)])


class CompiledEngine:
    """The restructured network through ``torch.compile``: float32, on the processor. Needs a C++ compiler.

    Compiled on the first image of a size, which takes minutes; PyTorch keeps what it compiled.
    """

    name = "compiled"

    def __init__(self, network: Network, device: str = "auto") -> None:
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
    def __call__(self, images: Array) -> Tensor:
        """Return logits (N, classes, Y, X) of images (N, inputs, Y, X), both float32, one slice at a time."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compiler stack warns of its own parts
            network = self._get_network((images.shape[2], images.shape[3]))
            x = torch.as_tensor(images).to(self.device).contiguous(memory_format=torch.channels_last)
            return torch.cat([network(image) for image in torch.split(x, 1)])


class _CudaGraph:
    """A captured run: copy images in, replay, read the logits."""

    def __init__(self, network: Network, shape: tuple[int, ...], device: torch.device) -> None:
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

    def __init__(self, network: Network, device: str = "cuda") -> None:
        self.device, self.network = select_device(device), network
        self._get_graph = lru_cache(CACHED_SIZES)(lambda shape: _CudaGraph(network, shape, self.device))

    @torch.inference_mode()
    def __call__(self, images: Array) -> Tensor:
        """Return logits (N, classes, Y, X) float32, on the GPU, of images (N, inputs, Y, X)."""
        run = self._get_graph(tuple(images.shape))
        run.images.copy_(torch.as_tensor(images).pin_memory(), non_blocking=True)
        run.graph.replay()
        return torch.clone(run.logits)
