"""Synthetic cohorts: anatomy, motion and MR physics of computed mice.

``make_plans`` returns the plan of each mouse, ``render`` makes its images and labels, ``write_phantom`` writes a file
in the dataset's own layout. docs/phantom.md lists what is imitated and what is not.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
