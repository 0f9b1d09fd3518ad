"""Floor 2: the synthetic cohort: anatomy, motion and MR physics of mice that never lived.

``plans`` says what a mouse will be, ``render`` makes its images and truth, ``write`` a file in the
dataset's own layout. What it imitates and what not: docs/phantom.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousecmr_data.phantom.cohort import COHORTS, plans
    from mousecmr_data.phantom.file import write
    from mousecmr_data.phantom.plan import Plan
    from mousecmr_data.phantom.rendering import Rendering, render

VERSION = "1"
"""Version of the generator: changes whenever the same name gives other arrays."""

__all__ = ["COHORTS", "VERSION", "Plan", "Rendering", "plans", "render", "write"]

_HOMES = {
    "COHORTS": "cohort",
    "Plan": "plan",
    "Rendering": "rendering",
    "plans": "cohort",
    "render": "rendering",
    "write": "file",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
