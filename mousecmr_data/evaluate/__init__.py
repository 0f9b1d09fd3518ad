"""Floor 4: predictions held against the truth, agreement statistics, the published table, reports and figures.

``score`` makes an :class:`Evaluation`; ``read``, ``merge`` and ``compare`` work on result files; ``agreement`` and
``overlap`` are its tables; ``report`` writes them down; ``reproduce`` holds a network against the published numbers.
See docs/evaluation.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousecmr_data.cine.overlap import dice
    from mousecmr_data.evaluate.beat import curve
    from mousecmr_data.evaluate.comparison import compare
    from mousecmr_data.evaluate.distance import distances
    from mousecmr_data.evaluate.evaluation import score
    from mousecmr_data.evaluate.limits import bland_altman
    from mousecmr_data.evaluate.policies import Policies
    from mousecmr_data.evaluate.reporting import report
    from mousecmr_data.evaluate.reproduction import reproduce
    from mousecmr_data.evaluate.result import Evaluation, merge, read
    from mousecmr_data.evaluate.statistics import anova, icc
    from mousecmr_data.evaluate.tables import agreement, overlap

_HOMES = {
    "Evaluation": "evaluate.result",
    "Policies": "evaluate.policies",
    "agreement": "evaluate.tables",
    "anova": "evaluate.statistics",
    "bland_altman": "evaluate.limits",
    "compare": "evaluate.comparison",
    "curve": "evaluate.beat",
    "dice": "cine.overlap",
    "distances": "evaluate.distance",
    "icc": "evaluate.statistics",
    "merge": "evaluate.result",
    "overlap": "evaluate.tables",
    "read": "evaluate.result",
    "report": "evaluate.reporting",
    "reproduce": "evaluate.reproduction",
    "score": "evaluate.evaluation",
}

__all__ = [
    "Evaluation",
    "Policies",
    "agreement",
    "anova",
    "bland_altman",
    "compare",
    "curve",
    "dice",
    "distances",
    "icc",
    "merge",
    "overlap",
    "read",
    "report",
    "reproduce",
    "score",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"mousecmr_data.{home}"), name)
    globals()[name] = value  # asked for once; a function, not the module of the same name
    return value


def __dir__() -> list[str]:
    return __all__
