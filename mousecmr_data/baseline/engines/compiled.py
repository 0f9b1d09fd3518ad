"""The restructured network through ``torch.compile``: float32, on the processor. Needs a C++ compiler."""

from __future__ import annotations

import os
import shutil
import warnings
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus

COMPILERS = ("g++", "clang++", "c++", "cl")
SIZES = 4


class Compiled:
    """Compiled when it first meets a size of image, which takes minutes; PyTorch keeps what it compiled."""

    name = "compiled"

    def __init__(self, network: UNet3Plus, device: str = "auto") -> None:
        self.device, self.network = select_device(device), network
        names = (os.environ.get("CXX", ""), *COMPILERS)
        if self.device.type == "cpu" and not any(shutil.which(name) for name in names if name):
            raise MouseCMRError(
                "The engine 'compiled' needs a C++ compiler, and there is none.",
                f"one of {', '.join(COMPILERS)}, or the variable CXX",
                "install one (Debian, Ubuntu: apt install g++), or take --engine exact",
            )
        self._of_size = lru_cache(SIZES)(self._made)

    def _made(self, shape_yx: tuple[int, int]) -> Any:
        network = Restructured(self.network, shape_yx)
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
