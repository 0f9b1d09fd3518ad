"""Evaluate predictions against the experts' masks: scores, tables, reports, comparison with the published numbers.

See docs/evaluation.md and docs/reproducing.md.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
