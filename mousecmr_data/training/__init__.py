"""Train segmentation networks: recipes, data, augmentation, losses and the trainer. See docs/training.md."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
