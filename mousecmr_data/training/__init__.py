"""Train segmentation networks: recipes, data, augmentation, losses and the trainer. See docs/training.md."""

from __future__ import annotations

import lazy_loader

from mousecmr_data._utils.environment import require_extra as _require_extra

_require_extra("training", "torch", "safetensors", "monai")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
