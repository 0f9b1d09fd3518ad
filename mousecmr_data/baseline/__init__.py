"""Floor 4: the reference network, its weights, training and inference.

``load`` gives a segmenter by the name of its weights, ``cards`` says which there are; ``train`` makes new
ones, by a ``recipe``. PyTorch is loaded when one of them is used. See docs/baseline.md, docs/training.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mousecmr_data.errors import MissingExtraError

if TYPE_CHECKING:
    from mousecmr_data.baseline.cohort_prediction import predict
    from mousecmr_data.baseline.config import Config, recipe
    from mousecmr_data.baseline.prediction import Files, How
    from mousecmr_data.baseline.run import train
    from mousecmr_data.baseline.scoring import scores
    from mousecmr_data.baseline.segmenter import Segmenter
    from mousecmr_data.baseline.weights import cards, load

__all__ = ["Config", "Files", "How", "Segmenter", "cards", "load", "predict", "recipe", "scores", "train"]

_HOMES = {
    "Config": "config",
    "Files": "prediction",
    "How": "prediction",
    "Segmenter": "segmenter",
    "cards": "weights",
    "load": "weights",
    "predict": "cohort_prediction",
    "recipe": "config",
    "scores": "scoring",
    "train": "run",
}
_EXTRAS = {"torch": "torch", "safetensors": "torch"}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(import_module(f"{__name__}.{home}"), name)
    except ModuleNotFoundError as e:
        if e.name in _EXTRAS:
            raise MissingExtraError.of(e.name, _EXTRAS[e.name]) from e
        raise


def __dir__() -> list[str]:
    return __all__
