from .analysis import AnalysisResult, SegmentConfig, analyze
from .batch import segment_batch
from .predict import PredictConfig, predict_cohort

__all__ = [
    "AnalysisResult",
    "PredictConfig",
    "SegmentConfig",
    "analyze",
    "predict_cohort",
    "segment_batch",
]
