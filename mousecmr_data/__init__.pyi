from . import errors
from ._version import __version__
from .api import fetch, info, load, open_mouse, verify
from .dataset.cohort import Cohort
from .evaluation.scoring import evaluate
from .export.citation import cite
from .inference.predictor import load_model
from .metrics.volumes import Measures
from .pipeline.batch import segment
from .pipeline.measure import measure
from .plotting import make_movie, plot
from .schema.labels import Label

__all__ = [
    "Cohort",
    "Label",
    "Measures",
    "__version__",
    "cite",
    "errors",
    "evaluate",
    "fetch",
    "info",
    "load",
    "load_model",
    "make_movie",
    "measure",
    "open_mouse",
    "plot",
    "segment",
    "verify",
]
