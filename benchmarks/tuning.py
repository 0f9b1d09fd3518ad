"""Measure what tuning on five reviewed mice gains on ten others, on the phantom at 7 T with `phantom-small`.

    python benchmarks/tuning.py [--mice 5] [--cache DIR] [--json FILE]

ED and ES of the first mice are segmented by `phantom-small`; a scripted reader draws each slice as the truth has it,
and excludes those without a ventricle. `mousecmr tune` with its defaults then begins with `phantom-small`. Scored: the
other mice, ED and ES, post-processing `paper`, engine `exact`; Dice of each mouse: mean of myocardium and blood pool,
ED and ES.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.inference import load_model, score_model
from mousecmr_data.pipeline import SegmentConfig, analyze, open_result
from mousecmr_data.pipeline.writers import write_result
from mousecmr_data.schema import SMALL_WEIGHTS
from mousecmr_data.training import tune
from mousecmr_data.training.tuning import TuningEvent

COHORT, NAME, READER = "phantom-7T", "tuned-7T", "script"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--folder", type=Path, help="where to work; a run that was stopped goes on there")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as scratch:
        write_record(args, measure_tuning(args.mice, args.folder or Path(scratch), args.cache), "torch")


def measure_tuning(n_mice: int, folder: Path, cache: Path | None = None) -> dict[str, Any]:
    """Return Dice before and after, of the mice that were left out and of the others, and the time of tuning."""
    cohort = mousecmr_data.load(source=COHORT, cache=cache, layout_cache=False)
    reviewed, others = cohort.select(cohort.mice[:n_mice]), cohort.select(cohort.mice[n_mice:])
    slices = sum(review_as_truth(folder / "results" / mouse, reviewed[mouse]) for mouse in reviewed.mice)
    wall, processor = time.perf_counter(), time.process_time()
    result = tune(folder / "results", folder / "tuned", NAME, cache=folder / "cache", overwrite=True, progress=show)
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    scores = {
        when: score(load_model(weights, device="cpu", engine="exact", cache=folder / "cache"), others)
        for when, weights in {"before": SMALL_WEIGHTS, **({"after": NAME} if result.weights else {})}.items()
    }
    before, after = scores["before"], scores.get("after", scores["before"])
    return {
        "weights": SMALL_WEIGHTS,
        "sha256": load_model(SMALL_WEIGHTS, device="cpu").origin.sha256,
        "cohort": COHORT,
        "reviewed": {"mice": n_mice, "slices": slices},
        "method": result.method,
        "epochs": result.epochs,
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "left_out": dict(zip(("before", "after"), result.dice, strict=True)),
        "others": {
            "n": len(others.mice),
            "better": int((after.mean(axis=1) > before.mean(axis=1)).sum()),
            **{w: describe(s) for w, s in {"before": before, "after": after, "gain": after - before}.items()},
        },
    }


def review_as_truth(folder: Path, ds: xr.Dataset) -> int:
    """Segment ED and ES into ``folder`` and review them as the truth has them; return the number of slices."""
    ds = ds.isel(frame=np.flatnonzero(ds["labelled"].values)).load()
    if not folder.is_dir():
        config = SegmentConfig(weights=SMALL_WEIGHTS, pictures=False)
        predictor = load_model(SMALL_WEIGHTS, device="cpu", engine="exact")
        write_result(analyze(ds, predictor, config), folder, config)
    opened = open_result(folder)
    masks = ds["mask"].transpose("frame", "slice", "y", "x").values
    for frame, k in np.ndindex(masks.shape[:2]):
        edit: Any = {"labels": masks[frame, k]} if masks[frame, k].any() else {"status": "excluded"}
        opened.apply_edit(frame, k, **edit, reader=READER, save=False)
    opened.save()
    return masks.shape[0] * masks.shape[1]


def score(predictor: Any, cohort: Cohort) -> Any:
    """Return the Dice (mouse, structure) of myocardium and blood pool, means of ED and ES."""
    table = score_model(predictor, cohort)
    columns = [c for c in table.columns if c.startswith("dice_")]
    return table.groupby("mouse", sort=False)[columns].mean().to_numpy()


def describe(dice: Any) -> dict[str, list[float]]:
    """Return mean and SD over mice: of both structures, and of their mean."""
    columns = {"LV myocardium": dice[:, 0], "LV blood pool": dice[:, 1], "mean": dice.mean(axis=1)}
    return {name: [float(v.mean()), float(v.std(ddof=1))] for name, v in columns.items()}


def show(event: TuningEvent) -> None:
    print(f"{event.text}: {100 * event.share:.0f} %, {event.seconds_left / 60:.0f} min left at most", flush=True)


if __name__ == "__main__":
    main()
