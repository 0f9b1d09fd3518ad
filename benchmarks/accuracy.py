"""Measure how accurate `phantom-small` is, and write the numbers that docs/models.md and its card show.

    python benchmarks/accuracy.py [--real MouseMedian.h5] [--cache DIR] [--json FILE]

Options: post-processing `paper`, ED and ES as annotated, whole field, engine `exact` (float32). Dice: mean ± SD (n − 1)
over mice, each the mean of its ED and ES.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.evaluation import EvaluationConfig, evaluate, tabulate_agreement, tabulate_overlap
from mousecmr_data.evaluation.result import Evaluation
from mousecmr_data.inference import load_model
from mousecmr_data.schema import SMALL_WEIGHTS

ENGINE = "exact"
REAL = Path(__file__).parents[2] / "shared" / "real" / "MouseMedian.h5"
COHORTS = {
    "phantom, split validation": ("phantom", "validation"),
    "phantom, split test": ("phantom", "test"),
    "phantom-7T": ("phantom-7T", None),
    "phantom-11.7T": ("phantom-11.7T", None),
}
MEASURES = ("EDV", "ESV", "EF", "mass at ED", "mass at ES")
COLUMNS = ("n", "bias", "lower", "upper", "p", "icc_2_1")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--real", type=Path, default=REAL if REAL.is_file() else None)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    jobs = {name: (source, split, args.cache) for name, (source, split) in COHORTS.items()}
    if args.real:
        jobs["one real stack"] = (str(args.real), None, args.cache)
    with ProcessPoolExecutor(len(jobs)) as pool:
        parts = {name: pool.submit(measure_cohort, *job) for name, job in jobs.items()}
        cohorts = {name: part.result() for name, part in parts.items()}
    sha256 = load_model(SMALL_WEIGHTS).origin.sha256
    options = {"postprocessing": "paper", "phases": "annotated", "region": "full", "engine": ENGINE}
    write_record(args, {"weights": SMALL_WEIGHTS, "sha256": sha256, **options, "cohorts": cohorts}, "torch")


def measure_cohort(source: str, split: str | None, cache: Path | None) -> dict[str, Any]:
    """Return the numbers of a cohort, or of one file."""
    if Path(source).is_file():
        ds = mousecmr_data.open_mouse(source)
        return summarize(score({str(ds.attrs["mouse"]): ds}))
    return summarize(score(mousecmr_data.load(split, source=source, cache=cache, layout_cache=False)))


def score(mice: Any) -> Evaluation:
    """Segment the labelled frames of ``mice`` and score them."""
    predictor, masks = load_model(SMALL_WEIGHTS, device="cpu", engine=ENGINE), {}
    for name in mice:
        ds = mice[name]
        labelled = ds.isel(frame=ds["labelled"].values.nonzero()[0])
        masks[name] = predictor.segment(labelled, postprocessing="paper")[["predicted"]].load()
    return evaluate(masks, mice, EvaluationConfig(), strict=False)


def summarize(result: Evaluation) -> dict[str, Any]:
    """Return n, Dice by structure (mean, SD) and the agreement of the measures."""
    overlap = tabulate_overlap(result)
    dice = overlap[(overlap["score"] == "dice") & (overlap["phase"].isin(["ED and ES", "unknown"]))]
    agreement = tabulate_agreement(result)
    return {
        "n": len(result.mice),
        "missed": int(overlap["missed"].max()),
        "dice": {r["structure"]: [r["mean"], r["sd"]] for r in dice.to_dict("records")},
        "agreement": {m: {k: agreement.loc[m, k] for k in COLUMNS} for m in MEASURES},
    }


if __name__ == "__main__":
    main()
