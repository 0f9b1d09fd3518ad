from .benchmark import find_config, run_benchmark
from .leaderboard import check_leaderboard, submit
from .protocols import read_protocol
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
    "check_leaderboard",
    "compare_groups",
    "compare_readers",
    "compare_results",
    "compute_mean_dice",
    "evaluate",
    "find_config",
    "merge_results",
    "read_protocol",
    "read_result",
    "reproduce",
    "run_benchmark",
    "submit",
    "tabulate_agreement",
    "tabulate_frames",
    "tabulate_groups",
    "tabulate_mice",
    "tabulate_overlap",
    "write_report",
    "write_reproduction",
]
