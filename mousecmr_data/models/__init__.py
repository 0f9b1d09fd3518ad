"""The reference UNet3+ and its weights (Keras HDF5, safetensors), without data or training."""

from __future__ import annotations

from mousecmr_data._utils.environment import require_extra as _require_extra

_require_extra("torch")
