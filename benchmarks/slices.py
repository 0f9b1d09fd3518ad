"""Accuracy of weights by slice position, presence of the ventricle, and the calibration of the flag check_slice.

    python benchmarks/slices.py [--weights NAME|FILE ...] [--real MouseMedian.h5] [--cines] [--json FILE]

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
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess_cine
from mousecmr_data.schema.manifest import load_manifest
from mousecmr_data.schema.variables import EXPECTED_DICE, UNPROCESSED

POSITIONS = ("base", "middle", "apex")
END_SLICES = 2
"""Labelled slices that count as base, and as apex; with them count all slices beyond."""
BAD_DICE = 0.7
"""Mean Dice of a slice that the flag has to find."""


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


def list_mice(cohorts: list[str], limit: int, cines: bool, real: list[Path]) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Yield group, name and dataset of every mouse; of phantoms every frame has its truth."""
    test = load_manifest().split_scheme("upstream-notebook").mice["test"]
    for cohort in cohorts:
        plans = phantom.make_plans(cohort)
        for name in [m for m in plans if m in test or cohort != "phantom"][: limit or None]:
            plan = plans[name]
            rendering = phantom.render(plan)
            frames = list(range(plan.n_frames)) if cines else sorted({plan.ed_frame, plan.es_frame})
            physical = resolve_sizes({}, plan.voxel_size_mm, plan.frame_time_ms)
            image, truth = rendering.image[frames], rendering.truth[frames]
            ds = build_dataset(image, truth, range(len(frames)), physical, {"mouse": name, "synthetic": True})
            yield cohort, name, ds
    for path in real:
        ds = mousecmr_data.open_mouse(str(path))
        yield "real", path.stem, ds.isel(frame=np.flatnonzero(ds["labelled"].values))


def calibrate(expected: NDArray[np.float64], actual: NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Return thresholds of the expected Dice, with the share of bad slices found and of good slices flagged."""
    bad = actual < BAD_DICE
    rows = []
    for limit in np.arange(0.5, 0.96, 0.025).tolist():
        flagged = expected < limit
        rows.append((round(limit, 3), float(flagged[bad].mean()), float(flagged[~bad].mean())))
    return rows


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", nargs="+", default=["phantom-small"])
    parser.add_argument("--cohorts", nargs="*", default=list(phantom.COHORTS))
    parser.add_argument("--limit", type=int, default=0, help="mice of each cohort; 0 is all")
    parser.add_argument("--cines", action="store_true", help="whole cines, in which slice-range compares frames")
    parser.add_argument("--real", type=Path, nargs="*", default=[])
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    predictors = {w: mousecmr_data.load_model(w, device="cpu", engine="exact") for w in args.weights}
    scores: dict[tuple[str, str, str], Scores] = {}
    slices: dict[str, list[tuple[float, float]]] = {w: [] for w in args.weights}
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
                    pairs = zip(labels.reshape(-1, *raw.shape[2:]), truth.reshape(-1, *raw.shape[2:]), strict=True)
                    actual = [float(np.mean(list(dice_by_class(a, b).values()))) for a, b in pairs]
                    slices[weights] += zip(out[EXPECTED_DICE].values.ravel().tolist(), actual, strict=True)
    results: dict[str, Any] = {}
    for (weights, group, rule), score in scores.items():
        row = score.summarize()
        results.setdefault(weights, {}).setdefault(group, {})[rule] = row
        values = [row["dice"], row["sd"], row["lowest"], *(row[p] for p in POSITIONS)]
        text = "  ".join(f"{a:.3f} {b:.3f}" for a, b in values)
        print(f"{weights:30.30} {group:13} {rule:11} {row['mice']:3}  {text}  present {100 * row['present']:.1f} %")
    print("columns: mean, SD, lowest mouse, base, middle, apex: each myocardium, blood pool")
    for weights, pairs_of in slices.items():
        if pairs_of:
            expected, actual_dice = np.array(pairs_of).T
            table = calibrate(expected, actual_dice)
            results[weights]["check_slice"] = table
            print(f"{weights}: {np.mean(actual_dice < BAD_DICE):.1%} of {len(actual_dice)} slices below {BAD_DICE}")
            print("  limit: found, false alarms: " + ", ".join(f"{a}: {b:.2f} {c:.2f}" for a, b, c in table))
    checksums = {w: p.origin.sha256 for w, p in predictors.items()}
    write_record(args, {"weights": args.weights[0], "sha256": checksums[args.weights[0]], "results": results}, "torch")


if __name__ == "__main__":
    main()
