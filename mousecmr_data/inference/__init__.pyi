from .predictor import ModelCard, Predictor, list_models, load_model, score_model

__all__ = ["ModelCard", "Predictor", "list_models", "load_model", "score_model"]
