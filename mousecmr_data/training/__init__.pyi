from .config import TrainConfig, get_recipe
from .trainer import train
from .tuning import TuningResult, tune

__all__ = ["TrainConfig", "TuningResult", "get_recipe", "train", "tune"]
