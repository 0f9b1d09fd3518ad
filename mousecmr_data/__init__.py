"""Download, verify, load and benchmark the first open dataset of mouse cardiac MRI, and segment your own mice.

Start with ``mousecmr_data.load(split="train")`` and ``mousecmr_data.segment("scan/", "results/")``. Importing this
package is fast: each public name is imported on first use. docs/api.md lists the public, stable names.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
