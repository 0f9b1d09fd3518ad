"""The reference UNet3+ and its weights (Keras HDF5, safetensors), without data or training."""

from __future__ import annotations

from mousecmr_data.errors import MissingExtraError

try:
    import safetensors as _safetensors  # noqa: F401
    import torch as _torch  # noqa: F401
except ImportError as e:
    raise MissingExtraError.from_module(e.name or "torch", "torch") from e
