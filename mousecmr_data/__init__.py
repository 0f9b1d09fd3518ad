"""The first open dataset of mouse cardiac MRI: download it, verify it, load it, benchmark on it, segment your own mice.

Start with ``mousecmr_data.load(split="train")`` and ``mousecmr_data.segment("scan/", "results/")``. Importing this
package is fast: each public name is imported when it is first used. docs/api.md lists what is public and stable.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
