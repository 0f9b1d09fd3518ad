"""PyTorch: a cohort as a map-style dataset, with collation and sampling.

For example::

    from mousecmr_data.adapters import torch as mouse_torch

    data = mouse_torch.dataset(cohort)
    loader = torch.utils.data.DataLoader(data, batch_size=16, shuffle=True, collate_fn=mouse_torch.collate)
"""

from __future__ import annotations

from mousecmr_data.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as e:
    raise MissingExtraError.from_module("torch", "torch") from e

from mousecmr_data.adapters.torch.batch import collate
from mousecmr_data.adapters.torch.dataset import MouseDataset, dataset
from mousecmr_data.adapters.torch.sampler import EpochSampler
from mousecmr_data.dataset.memmap import UNLABELLED

__all__ = ["UNLABELLED", "EpochSampler", "MouseDataset", "collate", "dataset"]
