"""Selection of the device to compute on."""

from __future__ import annotations

import torch

from mousecmr_data.errors import UnknownNameError


def select_device(name: str = "auto", index: int = 0) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA, else MPS, else the CPU. ``index`` counts GPUs."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, is_available in available.items() if is_available)
    if not available.get(name.split(":")[0], False):
        names = ", ".join(kind for kind, is_available in available.items() if is_available)
        raise UnknownNameError(f"This machine has no device {name!r}.", f"auto, or one of {names}")
    if name == "cuda":
        return torch.device("cuda", index % torch.cuda.device_count())
    return torch.device(name)
