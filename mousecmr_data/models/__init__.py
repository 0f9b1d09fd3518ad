"""The reference UNet3+ and its weights (Keras HDF5, safetensors), without data or training."""

from __future__ import annotations
