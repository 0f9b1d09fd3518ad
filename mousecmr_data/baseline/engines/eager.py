"""The reference: plain PyTorch, operation by operation as the network was published."""

from __future__ import annotations

import torch
from torch import Tensor

from mousecmr_data.models.device import select_device
from mousecmr_data.models.unet3plus import UNet3Plus


class Eager:
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
