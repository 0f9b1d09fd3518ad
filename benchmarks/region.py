"""Compare the region of interest at reduced precision with plain PyTorch: a whole cine, in one run.

    python benchmarks/region.py [--weights PATH] [--rounds 3] [--engines openvino,openvino-int8] [--mouse Mouse6]
    python benchmarks/region.py [--weights PATH] --agreement     (no times: every frame of eleven mice)

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

from mousecmr_data._utils.environment import describe_processor
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", default="phantom-small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="openvino,openvino-int8")
    parser.add_argument("--mouse", default="Mouse6")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.alone:
        load_model(args.weights, engine=args.alone).segment(cine(args.mouse), region="auto", batch_size=SLICES)
        print(next(k for k in Path("/proc/self/status").read_text().splitlines() if k.startswith("VmHWM")))
        return
    if args.agreement:
        agreement(args.weights, args.engines.split(","))
        return
    ds = cine(args.mouse)
    print(
        f"{describe_processor()}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; {args.mouse}, {dict(ds.sizes)}"
    )
    eager = load_model(args.weights, engine="eager")
    predictors = {name: load_model(args.weights, engine=name) for name in args.engines.split(",")}
    for name, predictor in predictors.items():
        start = time.perf_counter()
        predictor.segment(ds, region="auto")
        print(f"{name}, region: first cine {time.perf_counter() - start:.1f} s, compiling included")
    frames: list[float] = []
    times: dict[str, list[float]] = {n: [] for n in predictors}
    segmented: dict[str, xr.Dataset] = {}
    seconds(eager, ds.isel(frame=[0]))
    for _ in range(args.rounds):
        for name, predictor in predictors.items():
            frames.append(seconds(eager, ds.isel(frame=[len(frames) % FRAMES]))[0])
            spent, segmented[name] = seconds(predictor, ds, region="auto")
            times[name].append(spent)
    base = FRAMES * statistics.median(frames)
    print(f"eager, whole field: {base:.1f} s per cine ({min(frames) * FRAMES:.1f} to {max(frames) * FRAMES:.1f})")
    truth = seconds(load_model(args.weights, engine="exact"), ds)[1]["predicted"]
    for name in predictors:
        spent, low, high = statistics.median(times[name]), min(times[name]), max(times[name])
        print(f"{name}, region: {spent:.2f} s per cine ({low:.2f} to {high:.2f}), {base / spent:.1f} x eager")
        print(f"  {describe_agreement(segmented[name]['predicted'], truth)}")
        command = [sys.executable, __file__, "--weights", args.weights, "--mouse", args.mouse, "--alone", name]
        peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-2]
        print(f"  peak memory of a process that does only this: {int(peak) * 1024 / 1e9:.2f} GB")


def agreement(weights: str, engines: list[str]) -> None:
    """Print how well the region of interest agrees with the whole field of plain PyTorch, per mouse and engine."""
    exact = load_model(weights, engine="exact")
    predictors = {name: load_model(weights, engine=name) for name in engines}
    for cohort, mice in MICE.items():
        for mouse in mice:
            ds = whole_cine(cohort, mouse)
            truth = seconds(exact, ds)[1]["predicted"]
            for name, predictor in predictors.items():
                predicted = seconds(predictor, ds, region="auto")[1]["predicted"]
                print(mouse, name, describe_agreement(predicted, truth), flush=True)


def describe_agreement(predicted: xr.DataArray, truth: xr.DataArray) -> str:
    """Describe Dice over the cine, the lowest Dice of a frame, the difference in EF, and the window."""
    dice = dice_by_class(predicted.values, truth.values)
    lowest = min(min(dice_by_class(a, b).values()) for a, b in zip(predicted.values, truth.values, strict=True))
    ef = ejection_fraction(predicted) - ejection_fraction(truth)
    window = predicted.attrs.get("region_window", predicted.attrs.get("region_reason"))
    values = ", ".join(f"{v:.4f}" for v in dice.values())
    return f"Dice to the whole field {values}, lowest of a frame {lowest:.3f}, EF {ef:+.2f} points; {window}"


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
