"""Floor 4: predictions held against the truth, agreement statistics, the published table, reports and figures.

``score`` makes an :class:`Evaluation`; ``read``, ``merge`` and ``compare`` work on result files; ``agreement`` and
``overlap`` are its tables; ``report`` writes them down; ``reproduce`` holds a network against the published numbers.
See docs/evaluation.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mousecmr_data.evaluate.comparison import compare
    from mousecmr_data.evaluate.evaluation import score
    from mousecmr_data.evaluate.policies import Policies
    from mousecmr_data.evaluate.reporting import report
    from mousecmr_data.evaluate.reproduction import reproduce
    from mousecmr_data.evaluate.result import Evaluation, merge, read
    from mousecmr_data.evaluate.tables import agreement, overlap
    from mousecmr_data.metrics.agreement import anova, bland_altman, icc
    from mousecmr_data.metrics.overlap import compute_surface_distances as distances
    from mousecmr_data.metrics.overlap import dice
    from mousecmr_data.metrics.volumes import analyze_curve as curve

_HOMES = {
    "Evaluation": "evaluate.result",
    "Policies": "evaluate.policies",
    "agreement": "evaluate.tables",
    "anova": "metrics.agreement",
    "bland_altman": "metrics.agreement",
    "compare": "evaluate.comparison",
    "curve": "metrics.volumes.analyze_curve",
    "dice": "metrics.overlap",
    "distances": "metrics.overlap.compute_surface_distances",
    "icc": "metrics.agreement",
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
    if home.count(".") == 2:
        home, _, old = home.rpartition(".")
    else:
        old = name
    value = getattr(import_module(f"mousecmr_data.{home}"), old)
    globals()[name] = value  # asked for once; a function, not the module of the same name
    return value


def __dir__() -> list[str]:
    return __all__
