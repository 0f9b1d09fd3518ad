"""Measure how accurate `phantom-small` is, and write the numbers that docs/models.md and its card show.

    python benchmarks/accuracy.py [--real MouseMedian.h5] [--cache DIR] [-o benchmarks/accuracy.json]

Options: post-processing `paper`, ED and ES as annotated, whole field, engine eager in float32. Dice: mean ± SD (n − 1)
over mice, each the mean of its ED and ES. A test compares the texts with the file that this script writes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import mousecmr_data
from mousecmr_data._utils.atomic import to_json_value, write_json
from mousecmr_data.evaluation import EvaluationConfig, evaluate, tabulate_agreement, tabulate_overlap
from mousecmr_data.evaluation.result import Evaluation
from mousecmr_data.schema import SMALL_WEIGHTS

HERE = Path(__file__).parent
REAL = HERE.parents[1] / "shared" / "real" / "MouseMedian.h5"
COHORTS = {
    "phantom, split validation": ("phantom", "validation"),
    "phantom, split test": ("phantom", "test"),
    "phantom-7T": ("phantom-7T", None),
    "phantom-11.7T": ("phantom-11.7T", None),
}
MEASURES = ("EDV", "ESV", "EF", "mass at ED", "mass at ES")
COLUMNS = ("n", "bias", "lower", "upper", "p", "icc_2_1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--real", type=Path, default=REAL if REAL.is_file() else None)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=HERE / "accuracy.json")
    args = parser.parse_args()
    predictor = mousecmr_data.load_model(SMALL_WEIGHTS, device="cpu", engine="eager")
    options = {"postprocessing": "paper", "phases": "annotated", "region": "full", "engine": predictor.engine.name}
    about = {"weights": SMALL_WEIGHTS, "sha256": predictor.origin.sha256, **options}
    cohorts: dict[str, Any] = {}
    for name, (source, split) in COHORTS.items():
        cohort = mousecmr_data.load(split, source=source, cache=args.cache, layout_cache=False)
        cohorts[name] = summarize(score(predictor, cohort))
        print(name, cohorts[name]["dice"])
    if args.real:
        real = mousecmr_data.open_mouse(args.real)
        cohorts["one real stack"] = summarize(score(predictor, {str(real.attrs["mouse"]): real}))
        print("one real stack", cohorts["one real stack"]["dice"])
    write_json(args.output, to_json_value({**about, "cohorts": cohorts}))


def score(predictor: Any, mice: Any) -> Evaluation:
    """Segment the labelled frames of ``mice`` and score them."""
    masks = {}
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
