"""Segment whole mice: trained models by name, and engines that compute them. See docs/models.md, docs/inference.md."""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
