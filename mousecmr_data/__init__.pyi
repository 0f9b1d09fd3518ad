from . import errors
from ._version import __version__
from .api import fetch, load, open_mouse, verify
from .dataset.cohort import Cohort
from .evaluation.scoring import evaluate
from .inference.predictor import load_model
from .metrics.volumes import Measures
from .pipeline.batch import segment
from .pipeline.measure import measure
from .schema.labels import Label

__all__ = [
    "Cohort",
    "Label",
    "Measures",
    "__version__",
    "errors",
    "evaluate",
    "fetch",
    "load",
    "load_model",
    "measure",
    "open_mouse",
    "segment",
    "verify",
]
