"""The region of interest at reduced precision against plain PyTorch: a whole cine, in one run.

    python benchmarks/region.py --weights PATH [--rounds 3] [--engines openvino,openvino-int8] [--mouse Mouse6]

A cine of 9 slices and 22 frames of a phantom mouse. "eager" is plain PyTorch float32, channels last, inference mode, a
frame a batch: its frames take turns with the whole cines of the others, and its cine is 22 times the median frame.
The others are timed from the images in memory to the post-processed masks. Agreement is with the whole field of
"exact", whose labels are those of eager.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from typing import Any

import numpy as np
import torch
import xarray as xr

from mousecmr_data import baseline
from mousecmr_data.baseline.engines import kept
from mousecmr_data.cine import model
from mousecmr_data.cine.overlap import dice_by_class
from mousecmr_data.facts.labels import Label
from mousecmr_data.phantom import plans, render

FRAMES, SLICES = 22, 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", default="openvino,openvino-int8")
    parser.add_argument("--mouse", default="Mouse6")
    args = parser.parse_args()
    ds = cine(args.mouse)
    print(f"{kept.processor()}; {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f}; {args.mouse}, {dict(ds.sizes)}")
    eager = baseline.load(args.weights, engine="eager")
    ways = {name: baseline.load(args.weights, engine=name) for name in args.engines.split(",")}
    for name, way in ways.items():
        start = time.perf_counter()
        way.segment(ds, region="auto")
        print(f"{name}, region: first cine {time.perf_counter() - start:.1f} s, compiling included")
    frames: list[float] = []
    times: dict[str, list[float]] = {n: [] for n in ways}
    found: dict[str, xr.Dataset] = {}
    seconds(eager, ds.isel(frame=[0]))
    for _ in range(args.rounds):
        for name, way in ways.items():
            frames.append(seconds(eager, ds.isel(frame=[len(frames) % FRAMES]))[0])
            spent, found[name] = seconds(way, ds, region="auto")
            times[name].append(spent)
    base = FRAMES * statistics.median(frames)
    print(f"eager, whole field: {base:.1f} s a cine ({min(frames) * FRAMES:.1f} to {max(frames) * FRAMES:.1f})")
    truth = seconds(baseline.load(args.weights, engine="exact"), ds)[1]["predicted"]
    for name in ways:
        predicted, spent = found[name]["predicted"], statistics.median(times[name])
        dice = dice_by_class(predicted.values, truth.values)
        worst = min(min(dice_by_class(a, b).values()) for a, b in zip(predicted.values, truth.values, strict=True))
        ef = ejection_fraction(predicted) - ejection_fraction(truth)
        low, high = min(times[name]), max(times[name])
        agreement = (
            f"Dice to the whole field {', '.join(f'{v:.4f}' for v in dice.values())}, a frame's least {worst:.3f}"
        )
        window = predicted.attrs.get("region_window", predicted.attrs.get("region_reason"))
        print(f"{name}, region: {spent:.2f} s a cine ({low:.2f} to {high:.2f}), {base / spent:.1f} x eager")
        print(f"  {agreement}, EF {ef:+.2f} points; {window}")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory, all of them in this process: {peak:.2f} GiB")


def cine(mouse: str) -> xr.Dataset:
    """22 frames (repeated as needed) of the nine slices around the middle."""
    made = render(plans("phantom")[mouse])
    at = [k % len(made.image) for k in range(FRAMES)]
    start = max(0, (made.image.shape[1] - SLICES) // 2)
    image = np.ascontiguousarray(made.image[at, start : start + SLICES])
    return model.dataset(image, None, (), model.Sizes((1.0, 0.1, 0.1), "the phantom", 5.0, "the phantom"), {})


def seconds(segmenter: Any, ds: xr.Dataset, **how: Any) -> tuple[float, xr.Dataset]:
    start = time.perf_counter()
    done = segmenter.segment(ds, batch_size=SLICES, **how)
    return time.perf_counter() - start, done


def ejection_fraction(predicted: xr.DataArray) -> float:
    volume = (predicted.values == Label.BLOOD_POOL).sum((1, 2, 3))
    return float(100 * (1 - volume.min() / max(volume.max(), 1)))


if __name__ == "__main__":
    torch.set_num_threads(os.cpu_count() or 1)
    main()
