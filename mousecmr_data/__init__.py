"""The first open dataset of mouse cardiac MRI: get it, trust it, load it, benchmark on it.

``mousecmr_data.load(split="train")`` is the place to start. Importing this package is cheap: each
public name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mousecmr_data._version import __version__

_HOME = {
    "Cohort": "mousecmr_data.dataset.cohort",
    "Label": "mousecmr_data.schema.labels",
    "Measures": "mousecmr_data.metrics.volumes",
    "errors": "mousecmr_data.errors",
    "fetch": "mousecmr_data.api",
    "load": "mousecmr_data.api",
    "measure": "mousecmr_data.metrics.volumes",
    "open_mouse": "mousecmr_data.api",
    "verify": "mousecmr_data.api",
}

__all__ = ["Cohort", "Label", "Measures", "errors", "fetch", "load", "measure", "open_mouse", "verify"]

if TYPE_CHECKING:
    from mousecmr_data import errors
    from mousecmr_data.api import fetch, load, open_mouse, verify
    from mousecmr_data.dataset.cohort import Cohort
    from mousecmr_data.metrics.volumes import Measures, measure
    from mousecmr_data.schema.labels import Label


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(_HOME[name])
    globals()[name] = module if name == "errors" else getattr(module, name)  # asked for once
    return globals()[name]


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
