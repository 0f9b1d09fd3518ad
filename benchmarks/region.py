"""Compare the region of interest at reduced precision with plain PyTorch: a whole cine, in one run.

    python benchmarks/region.py [--weights PATH] [--rounds 3] [--engines A,B] [--mouse Mouse6] [--json FILE]
    python benchmarks/region.py [--weights PATH] --agreement [--each N] [--json FILE]   (no times)

A cine of 9 slices and 22 frames of a phantom mouse. "eager" is plain PyTorch float32, channels last, inference mode,
one frame per batch. Its frames alternate with the whole cines of the other engines, and its time for a cine is 22 times
the median frame. The others are timed from the images in memory to the post-processed masks. Agreement is with the
whole field of "exact", whose labels are those of eager. Memory is that of a separate process, which segments one cine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from record import make_parser, summarize, write_record

from mousecmr_data.dataset.model import PhysicalSizes, build_dataset
from mousecmr_data.inference.predictor import load_model
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.phantom import make_plans, render
from mousecmr_data.schema.labels import Label

FRAMES, SLICES = 22, 9
MICE = {
    "phantom": ("Mouse6", "Mouse10", "Mouse12", "Mouse36", "Mouse91"),
    "phantom-7T": ("7T-Mouse1", "7T-Mouse2", "7T-Mouse4"),
    "phantom-11.7T": ("11.7T-Mouse2", "11.7T-Mouse3", "11.7T-Mouse5"),
}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--weights", default="phantom-small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="openvino,openvino-int8")
    parser.add_argument("--mouse", default="Mouse6")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--each", type=int, help="with --agreement: only so many mice of each cohort")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        load_model(args.weights, engine=args.alone).segment(cine(args.mouse), region="auto", batch_size=SLICES)
        print(next(k for k in Path("/proc/self/status").read_text().splitlines() if k.startswith("VmHWM")))
        return
    numbers = agreement(args.weights, args.engines.split(","), args.each) if args.agreement else times(args)
    weights = {"weights": args.weights, "sha256": load_model(args.weights, engine="eager").origin.sha256}
    write_record(args, {**weights, **numbers}, "torch", "openvino")


def times(args: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds per cine of each engine, the agreement with the whole field, and the peak memory."""
    ds = cine(args.mouse)
    eager = load_model(args.weights, engine="eager")
    predictors = {name: load_model(args.weights, engine=name) for name in args.engines.split(",")}
    for predictor in predictors.values():
        predictor.segment(ds, region="auto")  # compiles
    frames: list[float] = []
    cines: dict[str, list[float]] = {n: [] for n in predictors}
    segmented: dict[str, xr.Dataset] = {}
    seconds(eager, ds.isel(frame=[0]))
    for _ in range(args.rounds):
        for name, predictor in predictors.items():
            frames.append(seconds(eager, ds.isel(frame=[len(frames) % FRAMES]))[0])
            spent, segmented[name] = seconds(predictor, ds, region="auto")
            cines[name].append(spent)
    truth = seconds(load_model(args.weights, engine="exact"), ds)[1]["predicted"]
    rows = {}
    for name in predictors:
        command = [sys.executable, __file__, "--weights", args.weights, "--mouse", args.mouse, "--alone", name]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2]
        agreed = compare_with_whole_field(segmented[name]["predicted"], truth)
        rows[name] = {"s": summarize(cines[name]), "GB": int(peak) * 1024 / 1e9, **agreed}
    return {"mouse": args.mouse, "eager_s": FRAMES * statistics.median(frames), "engines": rows}


def agreement(weights: str, engines: list[str], each: int | None) -> dict[str, Any]:
    """Return how well the region of interest agrees with the whole field of plain PyTorch, per mouse and engine."""
    exact = load_model(weights, engine="exact")
    predictors = {name: load_model(weights, engine=name) for name in engines}
    found: dict[str, Any] = {}
    for cohort, mice in MICE.items():
        for mouse in mice[:each]:
            ds = whole_cine(cohort, mouse)
            truth = seconds(exact, ds)[1]["predicted"]
            segmented = {name: seconds(p, ds, region="auto")[1]["predicted"] for name, p in predictors.items()}
            found[mouse] = {name: compare_with_whole_field(masks, truth) for name, masks in segmented.items()}
    return {"mice": found}


def compare_with_whole_field(predicted: xr.DataArray, truth: xr.DataArray) -> dict[str, Any]:
    """Return Dice over the cine, the lowest Dice of a frame, the difference in EF in points, and the window."""
    dice = dice_by_class(predicted.values, truth.values)
    lowest = min(min(dice_by_class(a, b).values()) for a, b in zip(predicted.values, truth.values, strict=True))
    ef = ejection_fraction(predicted) - ejection_fraction(truth)
    window = predicted.attrs.get("region_window")  # top, left, rows, columns
    return {"dice": list(dice.values()), "lowest": lowest, "ef": ef, "window": window and [int(n) for n in window[2:]]}


def cine(mouse: str) -> xr.Dataset:
    """Return 22 frames (repeated as needed) of the nine slices around the middle."""
    ds = whole_cine("phantom", mouse)
    start = max(0, (ds.sizes["slice"] - SLICES) // 2)
    at = [k % ds.sizes["frame"] for k in range(FRAMES)]
    return ds.isel(frame=at, slice=slice(start, start + SLICES))


def whole_cine(cohort: str, mouse: str) -> xr.Dataset:
    """Return every frame and slice of a phantom mouse, without its masks."""
    plan = make_plans(cohort)[mouse]
    image = np.ascontiguousarray(render(plan).image)
    sizes = PhysicalSizes(plan.voxel_size_mm, "the phantom", plan.frame_time_ms, "the phantom")
    return build_dataset(image, None, (), sizes, {})


def seconds(predictor: Any, ds: xr.Dataset, **options: Any) -> tuple[float, xr.Dataset]:
    """Return how long a segmentation takes, and its result."""
    start = time.perf_counter()
    segmented = predictor.segment(ds, batch_size=SLICES, **options)
    return time.perf_counter() - start, segmented


def ejection_fraction(predicted: xr.DataArray) -> float:
    volume = (predicted.values == Label.BLOOD_POOL).sum((1, 2, 3))
    return float(100 * (1 - volume.min() / max(volume.max(), 1)))


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
