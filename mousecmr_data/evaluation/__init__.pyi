from .report import write_report
from .reproduction import Reproduction, reproduce, write_reproduction
from .result import Evaluation, merge_results, read_result
from .scoring import EvaluationConfig, evaluate
from .tables import (
    ReaderAgreement,
    compare_groups,
    compare_readers,
    compare_results,
    compute_mean_dice,
    tabulate_agreement,
    tabulate_frames,
    tabulate_groups,
    tabulate_mice,
    tabulate_overlap,
)

__all__ = [
    "Evaluation",
    "EvaluationConfig",
    "ReaderAgreement",
    "Reproduction",
    "compare_groups",
    "compare_readers",
    "compare_results",
    "compute_mean_dice",
    "evaluate",
    "merge_results",
    "read_result",
    "reproduce",
    "tabulate_agreement",
    "tabulate_frames",
    "tabulate_groups",
    "tabulate_mice",
    "tabulate_overlap",
    "write_report",
    "write_reproduction",
]
