from .config import TrainConfig, get_recipe
from .trainer import train

__all__ = ["TrainConfig", "get_recipe", "train"]
