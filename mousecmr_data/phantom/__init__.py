"""The synthetic cohort: anatomy, motion and MR physics of mice that never lived.

``make_plans`` says what each mouse will be, ``render`` makes its images and labels, ``write_phantom`` a file in the
dataset's own layout. docs/phantom.md says what is imitated and what is not.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
