from .analysis import AnalysisResult, analyze, measure_masks
from .batch import predict_cohort, segment_batch, update_tables
from .config import PredictConfig, SegmentConfig
from .review import (
    Review,
    ReviewedResult,
    SliceReview,
    is_measured,
    open_result,
    open_results,
    read_review,
    save_review,
    update_result,
)

__all__ = [
    "AnalysisResult",
    "PredictConfig",
    "Review",
    "ReviewedResult",
    "SegmentConfig",
    "SliceReview",
    "analyze",
    "is_measured",
    "measure_masks",
    "open_result",
    "open_results",
    "predict_cohort",
    "read_review",
    "save_review",
    "segment_batch",
    "update_result",
    "update_tables",
]
