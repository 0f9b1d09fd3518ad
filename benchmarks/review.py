"""Measure what a review is worth, on phantoms with `phantom-small`: ticks of slices and ED/ES, and propagation.

    python benchmarks/review.py [--mice 10] [--cache DIR] [--json FILE]

Scripted review: each slice of ED and ES is excluded where the truth has no ventricle, and ticked where it has one but
the network none (then the mask is proposed from those beside it); ED and ES are the frames of the truth; nothing is
drawn. Then the exclusions are carried to the other frames. What is left is taken apart by giving ever more slices of ED
and ES the masks of the truth. Propagation: the truth of some frames of each slice, and the Dice of the
others.
"""

from __future__ import annotations

import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.metrics.overlap import dice
from mousecmr_data.metrics.propagation import propagate_masks
from mousecmr_data.metrics.volumes import measure
from mousecmr_data.phantom.rendering import compute_labels
from mousecmr_data.phantom.sampling import make_plans
from mousecmr_data.pipeline import SegmentConfig, analyze, open_result
from mousecmr_data.pipeline.writers import write_result
from mousecmr_data.schema.labels import Label

COHORT, SPLIT, WEIGHTS = "phantom", "test", "phantom-small"
GAP = 4
"""Frames from one corrected frame to the next."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=10)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    write_record(args, measure_reviews(args.mice, args.cache), "torch")


def measure_reviews(n_mice: int, cache: Path | None = None) -> dict[str, Any]:
    """Return the mean error of EF before and after the scripted review, Dice of propagation, and times."""
    cohort = mousecmr_data.load(SPLIT, source=COHORT, cache=cache, layout_cache=False)
    predictor, plans = mousecmr_data.load_model(WEIGHTS, device="cpu"), make_plans(COHORT)
    rows: list[dict[str, Any]] = []
    scores: dict[str, list[tuple[float, float]]] = defaultdict(list)
    proposals: list[float] = []
    curve_errors: dict[str, list[float]] = defaultdict(list)
    for name in list(cohort.mice)[:n_mice]:
        ds, plan = cohort[name], plans[name]
        truth = compute_labels(plan, range(plan.n_frames))
        expected = measure(ds)
        config = SegmentConfig(weights=WEIGHTS, pictures=False, dicom_seg=False, images=False)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / name
            result = analyze(ds, predictor, config, name=name)
            write_result(result, target, config)
            opened = open_result(target)
            automatic = opened.automatic
            ed, es = (int(np.flatnonzero(ds["phase"].values == p)[0]) for p in ("ED", "ES"))
            true_voxels = np.count_nonzero(truth == Label.BLOOD_POOL, axis=(1, 2, 3))
            in_truth, in_mask = (np.asarray(m.any(axis=(2, 3))) for m in (truth, opened.masks))
            missing = [(f, k) for f in (ed, es) for k in np.flatnonzero(in_truth[f] & ~in_mask[f]).tolist()]
            for f in (ed, es):
                for k in np.flatnonzero(~in_truth[f] & in_mask[f]).tolist():
                    opened.apply_edit(f, k, status="excluded", reader="script")
            excluded = opened.masks.copy()
            for f, k in missing:
                proposed = opened.propose_slice(f, k)
                opened.apply_edit(f, k, proposed, reader="script")
                proposals.append(dice(proposed > 0, truth[f, k] > 0))
            start = time.perf_counter()
            numbers = opened.set_phases(ed, es, reader="script")
            seconds = time.perf_counter() - start
            curves = [automatic, opened.masks.copy()]
            for f, k in opened.propose_exclusions():
                opened.apply_edit(f, k, status="excluded", reader="script", save=False)
            for stage, m in zip(("before", "after", "carried"), (*curves, opened.masks), strict=True):
                voxels = np.count_nonzero(m == Label.BLOOD_POOL, axis=(1, 2, 3)) - true_voxels
                curve_errors[stage].append(float(np.abs(voxels).mean()) * float(np.prod(get_spacing(ds))))
        before, after = (row["ef_percent"] - expected.ef_percent for row in (result.mouse, numbers))
        volumes = {
            f"{v}_{when}": found[v] - getattr(expected, v)
            for v in ("edv_ul", "esv_ul")
            for when, found in (("before", result.mouse), ("after", numbers))
        }
        flagged = [(f.frame, f.slice) for f in result.flags if f.flag == "check_slice" and f.frame in (ed, es)]
        ends = [(f, k) for f in (ed, es) for k in np.flatnonzero(in_truth[f])[[0, -1]].tolist()]
        left, with_truth = {"no slice; those without a ventricle are excluded": excluded}, excluded
        for stage, places in (
            ("slices where the network found nothing", missing),
            ("the first and the last slice", ends),
            ("slices with the flag check_slice", flagged),
        ):
            with_truth = with_truth.copy()
            for place in places:
                with_truth[place] = truth[place]
            left[stage] = with_truth
        pools = {stage: [np.count_nonzero(m[f] == Label.BLOOD_POOL) for f in (ed, es)] for stage, m in left.items()}
        with_truth_errors = {stage: 100 * (1 - b / a) - expected.ef_percent for stage, (a, b) in pools.items()}
        row = {"mouse": name, "ef_before": before, "ef_after": after, **volumes, "seconds_of_an_edit": seconds}
        rows.append({**row, "ef_with_truth": with_truth_errors})
        for kind, pair in measure_propagation(automatic, truth):
            scores[kind].append(pair)
    errors = {
        f"{name}_error_{when}": np.abs([row[f"{name}_{when}"] for row in rows])
        for name in ("ef", "edv_ul", "esv_ul")
        for when in ("before", "after")
    }
    return {
        "weights": WEIGHTS,
        "sha256": predictor.origin.sha256,
        "n": len(rows),
        **{key: {"mean": values.mean(), "worst": values.max()} for key, values in errors.items()},
        "curve_error_ul": {stage: float(np.mean(values)) for stage, values in curve_errors.items()},
        "proposed": {"n": len(proposals), "dice": float(np.mean(proposals)) if proposals else None},
        "ef_error_with_truth": {
            stage: float(np.mean([abs(row["ef_with_truth"][stage]) for row in rows])) for stage in left
        },
        "dice": {
            k: dict(zip(("left", "propagated"), np.mean(v, axis=0).tolist(), strict=True)) for k, v in scores.items()
        },
        "mice": rows,
    }


def measure_propagation(automatic: Any, truth: Any) -> Any:
    """Yield the mean Dice of frames that are left alone, and of propagated ones, by their place."""
    n = len(truth)
    for k in range(truth.shape[1]):
        for corrected, kind in ((list(range(0, n, GAP)), "between two"), ([n // 2], "beside one")):
            masks = automatic[:, k].copy()
            masks[corrected] = truth[corrected, k]
            if not truth[corrected, k].any():
                continue
            carried = propagate_masks(masks, corrected)
            inside = range(corrected[-1]) if len(corrected) > 1 else range(n // 2 - 3, n // 2 + 4)
            for frame in set(inside) - set(corrected):
                if truth[frame, k].any():
                    pair = [
                        np.mean([dice(m[frame] == j, truth[frame, k] == j) for j in (1, 2)])
                        for m in (automatic[:, k], carried)
                    ]
                    yield kind, tuple(pair)


if __name__ == "__main__":
    main()
