"""Where to compute."""

from __future__ import annotations

import torch

from mousecmr_data.errors import UnknownNameError


def select_device(name: str = "auto", index: int = 0) -> torch.device:
    """The device called ``name``; "auto" is CUDA, else MPS, else the CPU. ``index`` counts this machine's GPUs."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind = name.split(":")[0]
    if not available.get(kind, False):
        raise UnknownNameError(
            f"There is no device {name!r} here.", f"auto, or one of {', '.join(k for k, v in available.items() if v)}"
        )
    if name == "cuda":
        return torch.device("cuda", index % torch.cuda.device_count())
    return torch.device(name)
