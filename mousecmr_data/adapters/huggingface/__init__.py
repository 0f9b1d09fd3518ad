"""Hugging Face ``datasets``: a cohort as a Dataset or a stream, and samples as arrays or tensors.

For example::

    from mousecmr_data.adapters import huggingface

    data = huggingface.dataset(cohort, "labelled")
    loader = torch.utils.data.DataLoader(huggingface.torch_samples(data), batch_size=16, shuffle=True)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mousecmr_data._utils.network import disable_telemetry
from mousecmr_data.errors import MissingExtraError

try:
    disable_telemetry()
    import datasets as _datasets  # noqa: F401
    import nibabel as _nibabel  # noqa: F401
    import PIL as _pillow  # noqa: F401
except ImportError as e:
    raise MissingExtraError.from_module(e.name or "datasets", "huggingface") from e

from mousecmr_data.adapters.huggingface.dataset import compute_fingerprint, dataset, generate_rows, make_split_name
from mousecmr_data.adapters.huggingface.features import (
    ABOUT,
    COLUMNS,
    CONFIGS,
    Column,
    Config,
    count_rows,
    make_features,
    make_rows,
)
from mousecmr_data.adapters.huggingface.samples import NumpySamples, NumpyStream, numpy_samples

if TYPE_CHECKING:
    from mousecmr_data.adapters.huggingface.torch import collate, torch_samples

__all__ = [
    "ABOUT",
    "COLUMNS",
    "CONFIGS",
    "Column",
    "Config",
    "NumpySamples",
    "NumpyStream",
    "collate",
    "compute_fingerprint",
    "count_rows",
    "dataset",
    "generate_rows",
    "make_features",
    "make_rows",
    "make_split_name",
    "numpy_samples",
    "torch_samples",
]


def __getattr__(name: str) -> Any:
    """Import the names that need PyTorch on first use."""
    if name in ("collate", "torch_samples"):
        from mousecmr_data.adapters.huggingface import torch

        return getattr(torch, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
