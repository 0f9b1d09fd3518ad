"""Accuracy of weights by slice position, presence of the ventricle, and the calibration of the flag check_slice.

    python benchmarks/slices.py [--weights NAME|FILE ...] [--real MouseMedian.h5] [--cines] [--json FILE]
    python benchmarks/slices.py --fit    # the constants of the flag, from mice of the training and validation splits

Segments end-diastole and end-systole of the phantom's test mice and of the other cohorts, or with --cines whole cines
of some mice, once with each of the weights. All Dice are of myocardium and blood pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data import phantom
from mousecmr_data.dataset.model import build_dataset, resolve_sizes
from mousecmr_data.inference.predictor import Predictor
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess_cine
from mousecmr_data.pipeline.quality import WRONG_DICE, check_slices, collect_signs
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.schema.variables import DIMS, EXPECTED_DICE, PREDICTED, UNPROCESSED

SPLIT = "upstream-notebook"
POSITIONS = ("base", "middle", "apex")
END_SLICES = 2
"""Labelled slices that count as base, and as apex; with them count all slices beyond."""
FIT_MICE = 60
"""Training mice, beside all of the validation split, that the constants of the flag are fitted to."""
FOUND = 0.8
"""Share of the wrong slices that the flag has to find."""


@dataclass
class Scores:
    """What was measured on one cohort with one rule of post-processing."""

    dice: list[list[float]] = field(default_factory=list)
    """Of each mouse: mean over its frames, in 3D."""
    by_position: dict[str, list[list[float]]] = field(default_factory=lambda: {p: [] for p in POSITIONS})
    present: list[bool] = field(default_factory=list)
    """Of each slice: whether the network is right that there is ventricle, or none."""
    mouse: list[str] = field(default_factory=list)

    def add(self, name: str, labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        """Add a mouse: labels and truth (frame, slice, y, x)."""
        self.mouse.append(name)
        self.dice.append(np.mean([list(dice_by_class(a, b).values()) for a, b in zip(labels, truth, strict=True)], 0))
        self.present += list(((labels > 0).any((2, 3)) == (truth > 0).any((2, 3))).ravel())
        for a, b in zip(labels, truth, strict=True):
            for position, part in split_positions(b).items():
                self.by_position[position].append(list(dice_by_class(a[part], b[part]).values()))

    def summarize(self) -> dict[str, Any]:
        """Return means as plain numbers."""
        dice, position = np.array(self.dice), {k: np.nanmean(v, 0) for k, v in self.by_position.items()}
        return {
            "mice": len(dice),
            "dice": dice.mean(0).tolist(),
            "sd": dice.std(0, ddof=min(1, len(dice) - 1)).tolist(),
            "lowest_mouse": (self.mouse[int(dice.mean(1).argmin())], dice.mean(1).min()),
            "lowest": dice.min(0).tolist(),
            "present": float(np.mean(self.present)),
            **{k: v.tolist() for k, v in position.items()},
        }


def split_positions(truth: NDArray[np.uint8]) -> dict[str, slice]:
    """Return the slices of a stack (slice, y, x) at the base, in the middle and at the apex, the smaller end."""
    areas = (truth > 0).sum((1, 2))
    filled = np.flatnonzero(areas)
    low, high, n = int(filled[0]) + END_SLICES, int(filled[-1]) + 1 - END_SLICES, len(truth)
    ends = slice(0, low), slice(high, n)
    base, apex = ends if areas[filled[0]] > areas[filled[-1]] else ends[::-1]
    return {"base": base, "middle": slice(low, high), "apex": apex}


def list_test_plans(cohorts: list[str], limit: int) -> Iterator[tuple[str, phantom.Plan]]:
    """Yield group and plan of every test mouse; the small cohorts are all tested."""
    test = load_manifest().split_scheme(SPLIT).mice["test"]
    for cohort in cohorts:
        plans = phantom.make_plans(cohort)
        for name in [m for m in plans if m in test or cohort != "phantom"][: limit or None]:
            yield cohort, plans[name]


def render_mouse(plan: phantom.Plan, cines: bool = False) -> xr.Dataset:
    """Return end-diastole and end-systole of a phantom, or its whole cine; every frame has its truth."""
    rendering = phantom.render(plan)
    frames = list(range(plan.n_frames)) if cines else sorted({plan.ed_frame, plan.es_frame})
    physical = resolve_sizes({}, plan.voxel_size_mm, plan.frame_time_ms)
    image, truth = rendering.image[frames], rendering.truth[frames]
    return build_dataset(image, truth, range(len(frames)), physical, {"mouse": plan.mouse, "synthetic": True})


def list_mice(cohorts: list[str], limit: int, cines: bool, real: list[Path]) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Yield group, name and dataset of every mouse."""
    for group, plan in list_test_plans(cohorts, limit):
        yield group, plan.mouse, render_mouse(plan, cines)
    for path in real:
        ds = mousecmr_data.open_mouse(str(path))
        yield "real", path.stem, ds.isel(frame=np.flatnonzero(ds["labelled"].values))


def find_wrong(labels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which slices are wrong, (frame, slice)."""
    dice = [
        [np.mean(list(dice_by_class(a, b).values())) for a, b in zip(x, y, strict=True)]
        for x, y in zip(labels, truth, strict=True)
    ]
    return np.array(dice) < WRONG_DICE


def fit_flag(predictor: Predictor) -> None:
    """Print the constants of the flag check_slice."""
    import statsmodels.api as sm  # type: ignore[import-untyped]

    split = load_manifest().split_scheme(SPLIT).mice
    plans = phantom.make_plans("phantom")
    signs, wrong = [], []
    for name in (*split["train"][:FIT_MICE], *split["validation"]):
        ds = render_mouse(plans[name])
        out = predictor.segment(ds, postprocessing="paper", unprocessed=True)
        signs.append(collect_signs(out[EXPECTED_DICE].values, out[PREDICTED].values).reshape(-1, 4))
        wrong.append(find_wrong(out[PREDICTED].values, ds["mask"].transpose(*DIMS).values).ravel())
    x, y = np.concatenate(signs), np.concatenate(wrong)
    model = sm.Logit(y, sm.add_constant(x)).fit(disp=False)
    limit = np.quantile(model.predict()[y], 1.0 - FOUND)
    weights = ", ".join(f"{w:.2f}" for w in model.params)
    print(f"CHECK_WEIGHTS = ({weights})\nCHECK_ABOVE = {limit:.3f}")
    alarms = np.mean(model.predict()[~y] > limit)
    print(f"{len(y)} slices of {len(signs)} mice, {y.mean():.1%} wrong; false alarms {alarms:.1%}")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", nargs="+", default=["phantom-small"])
    parser.add_argument("--fit", action="store_true", help="fit the constants of the flag check_slice, and stop")
    parser.add_argument("--cohorts", nargs="*", default=["phantom", "phantom-7T", "phantom-11.7T"])
    parser.add_argument("--limit", type=int, default=0, help="mice of each cohort; 0 is all")
    parser.add_argument("--cines", action="store_true", help="whole cines, in which slice-range compares frames")
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictors = {w: mousecmr_data.load_model(w, device="cpu", engine="exact") for w in args.weights}
    if args.fit:
        fit_flag(predictors[args.weights[0]])
        return
    scores: dict[tuple[str, str, str], Scores] = {}
    flagged: dict[str, list[NDArray[np.bool_]]] = {w: [] for w in args.weights}
    for group, name, ds in list_mice(args.cohorts, args.limit, args.cines, args.real):
        truth = ds["mask"].transpose("frame", "slice", "y", "x").values
        spacing = mousecmr_data.measure(ds).voxel_size_mm
        for weights, predictor in predictors.items():
            out = predictor.segment(ds, postprocessing="none", unprocessed=True)
            raw = out[UNPROCESSED].values
            for rule in ("none", "paper", "slice-range"):
                labels = postprocess_cine(raw, rule, spacing)
                scores.setdefault((weights, group, rule), Scores()).add(name, labels, truth)
                if rule == "paper" and group != "real":
                    flags = np.zeros(labels.shape[:2], bool)
                    for flag in check_slices(out[EXPECTED_DICE].values, labels):
                        flags[flag.frame, flag.slice] = True
                    flagged[weights].append(np.stack([flags.ravel(), find_wrong(labels, truth).ravel()]))
    results: dict[str, Any] = {}
    for (weights, group, rule), score in scores.items():
        row = score.summarize()
        results.setdefault(weights, {}).setdefault(group, {})[rule] = row
        values = [row["dice"], row["sd"], row["lowest"], *(row[p] for p in POSITIONS)]
        text = "  ".join(f"{a:.3f} {b:.3f}" for a, b in values)
        print(f"{weights:30.30} {group:13} {rule:11} {row['mice']:3}  {text}  present {100 * row['present']:.1f} %")
    print("columns: mean, SD, lowest mouse, base, middle, apex: each myocardium, blood pool")
    for weights, parts in flagged.items():
        if parts:
            flag, wrong = np.concatenate(parts, 1)
            share = {
                "slices": wrong.size,
                "wrong": wrong.mean(),
                "found": flag[wrong].mean(),
                "alarms": flag[~wrong].mean(),
            }
            results[weights]["check_slice"] = {k: float(v) for k, v in share.items()}
            print(f"{weights}: check_slice {results[weights]['check_slice']}")
    checksums = {w: p.origin.sha256 for w, p in predictors.items()}
    write_record(args, {"weights": args.weights[0], "sha256": checksums[args.weights[0]], "results": results}, "torch")


if __name__ == "__main__":
    main()
