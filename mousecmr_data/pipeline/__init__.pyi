from .analysis import AnalysisResult, analyze
from .batch import predict_cohort, segment_batch
from .config import PredictConfig, SegmentConfig

__all__ = ["AnalysisResult", "PredictConfig", "SegmentConfig", "analyze", "predict_cohort", "segment_batch"]
