"""The restructured network in PyTorch, float32: the reference's numbers up to rounding, on any processor."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from mousecmr_data.baseline.engines.restructured import Restructured
from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus

SIZES = 4
"""Sizes of image for which a network is kept at a time."""


class Exact:
    """Restructured, channels last."""

    name = "exact"

    def __init__(self, network: UNet3Plus, device: str = "auto") -> None:
        self.device = select_device(device)
        self.network = network
        self._of_size = lru_cache(SIZES)(self._made)

    def _made(self, shape_yx: tuple[int, int]) -> Restructured:
        made = Restructured(self.network, shape_yx)
        return made.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits (N, classes, Y, X) of images (N, 1, Y, X), both float32."""
        network = self._of_size((images.shape[2], images.shape[3]))
        x = images.to(self.device, memory_format=torch.channels_last)
        at_a_time = 1 if self.device.type == "cpu" else len(x)  # a slice's maps stay in the processor's cache
        return torch.cat([network(part) for part in torch.split(x, at_a_time)])
