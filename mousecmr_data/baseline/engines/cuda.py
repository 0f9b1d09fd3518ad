"""An NVIDIA GPU: half precision, channels last, and one CUDA graph for each shape of batch. Untested: see docs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus

SHAPES = 4
"""Shapes of batch for which a graph is kept at a time: a cine has one, or two with the last part."""
WARM_UP = 3
"""Runs before the capture, so that cuDNN has chosen its algorithms (PyTorch's advice)."""


class _Graph:
    """A captured run: copy images in, replay, read the logits."""

    def __init__(self, network: UNet3Plus, shape: tuple[int, ...], device: torch.device) -> None:
        made = Restructured(network, (shape[2], shape[3]))
        made = made.to(device, torch.float16, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.images = torch.zeros(shape, dtype=torch.float16, device=device)
        aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                made(self.images)
        torch.cuda.current_stream(device).wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.logits: Tensor = made(self.images).float()


class Cuda:
    """float16: its 11 bits of mantissa are enough for the gate, and BatchNorm keeps the maps far from its limit."""

    name = "cuda"

    def __init__(self, network: UNet3Plus, device: str = "cuda") -> None:
        self.device, self.network = select_device(device), network
        self._of_shape = lru_cache(SHAPES)(lambda shape: _Graph(self.network, shape, self.device))

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) float32, on the GPU, of images (N, 1, Y, X)."""
        run = self._of_shape(tuple(images.shape))
        run.images.copy_(images.pin_memory(), non_blocking=True)
        run.graph.replay()
        return torch.clone(run.logits)
