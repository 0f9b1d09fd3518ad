"""Measure the phantom cohorts: volumes from their labels by group, and images beside those of a real stack.

    python benchmarks/phantom.py [--real MouseMedian.h5] [--cache DIR] [--json FILE]

Volumes are mean and SD (n − 1) at ED and ES as labelled. Grey levels are percentiles of all pixels, divided by the
99th, at ES. K-space is the mean log10 magnitude, relative to the centre, in rings of two samples, over the slices. The
phantom's are the ranges over eight mice (Mouse40 to 47).
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.phantom import make_plans
from mousecmr_data.schema.labels import Label
from mousecmr_data.schema.manifest import load_manifest

REAL = Path(__file__).parents[2] / "shared" / "real" / "MouseMedian.h5"
COHORTS = ("phantom", "phantom-7T", "phantom-11.7T")
MEASURES = ("edv_ul", "esv_ul", "sv_ul", "ef_percent", "mass_ed_mg", "mass_es_mg")
MICE = tuple(f"Mouse{k}" for k in range(40, 48))
PERCENTILES, RADII = (5, 25, 50, 75, 95), (10, 30, 50, 70)


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--real", type=Path, default=REAL if REAL.is_file() else None)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    volumes: dict[str, Any] = {"published": read_published()}
    counts = {"images": 0, "labelled frames": 0, "labelled images": 0, "not empty": 0}
    images = []
    for source in COHORTS:
        cohort, plans = mousecmr_data.load(source=source, cache=args.cache, layout_cache=False), make_plans(source)
        groups: dict[str, list[dict[str, float]]] = {source: []}
        for mouse, ds in cohort.items():
            measured = vars(mousecmr_data.measure(ds))
            for group in (source, *([plans[mouse].phenotype] if source == COHORTS[0] else [])):
                groups.setdefault(group, []).append({m: measured[m] for m in MEASURES})
            if source != COHORTS[0]:
                continue
            masks = ds["mask"].values[ds["labelled"].values]
            counts["images"] += ds.sizes["frame"] * ds.sizes["slice"]
            counts["labelled frames"] += len(masks)
            counts["labelled images"] += masks.shape[0] * masks.shape[1]
            counts["not empty"] += int(masks.any((2, 3)).sum())
            if mouse in MICE:
                images.append(describe_images(ds.isel(frame=[plans[mouse].es_frame])))
        volumes |= {group: summarize_group(rows) for group, rows in groups.items()}
    real = describe_images(mousecmr_data.open_mouse(str(args.real))) if args.real else {}
    compared = {k: [real.get(k), min(i[k] for i in images), max(i[k] for i in images)] for k in images[0]}
    write_record(args, {"counts": counts, "volumes": volumes, "images": compared}, "numpy", "scipy")


def read_published() -> dict[str, Any]:
    """Return the volumes of the article's test mice, as expert contours gave them."""
    published = load_manifest().published
    assert published is not None  # noqa: S101 (the package's own table)
    truth = [m.truth for m in published.measures]
    return {"n": published.n_mice, **dict(zip(MEASURES, truth, strict=True))}


def summarize_group(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Return the number of mice, and mean and SD of each measure."""
    values = {m: [r[m] for r in rows] for m in MEASURES}
    return {"n": len(rows), **{m: [statistics.mean(v), statistics.stdev(v)] for m, v in values.items()}}


def describe_images(ds: xr.Dataset) -> dict[str, float]:
    """Return grey levels, k-space, contrast and sizes of a stack of one frame."""
    image, mask = (ds[name].transpose("frame", "slice", "y", "x").values[0] for name in ("image", "mask"))
    grey = image / np.percentile(image, 99)
    found = {f"grey level, percentile {p}": float(np.percentile(grey, p)) for p in PERCENTILES}
    k = np.log10(np.abs(np.fft.fftshift(np.fft.fft2(image.astype(float)), (1, 2))) + 1).mean(0)
    rows, columns = (np.arange(n) - n // 2 for n in k.shape)
    radius = np.hypot(rows[:, None], columns)
    centre = k[radius < 1].mean()
    found |= {f"k-space, radius {r}": float(k[np.abs(radius - r) <= 1].mean() - centre) for r in RADII}
    pool, wall = mask == Label.BLOOD_POOL, mask == Label.MYOCARDIUM
    found["blood / myocardium"] = float(image[pool].mean() / image[wall].mean())
    found["largest blood pool of a slice, pixels"] = int(pool.sum((1, 2)).max())
    found["largest myocardium of a slice, pixels"] = int(wall.sum((1, 2)).max())
    found["slices with a label"] = int(mask.any((1, 2)).sum())
    return found


if __name__ == "__main__":
    main()
