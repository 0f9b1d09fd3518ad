"""Compare reading images through this library with reading the files directly. Both sides in one run.

    python benchmarks/arrays.py [--mice 40] [--rounds 5] [--cache DIR] [--json FILE]

Uses phantom mice. Milliseconds are medians of interleaved rounds. For loaders see loaders.py.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from record import make_parser, summarize, write_record

import mousecmr_data
from mousecmr_data.dataset.cohort import Cohort, fill_layout_cache, write_store


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = args.cache or Path(scratch)
        cohort = mice(args.mice, cache)
        numbers = {
            "conversion": conversion(cohort, cache),
            **single(cohort, Path(scratch), args.rounds),
            "opening 130 mice, s": opening(cohort, args.rounds),
        }
    write_record(args, numbers, "zarr", "numcodecs", "h5py", "torch")


def mice(n: int, cache: Path) -> Cohort:
    """Make the first n phantom mice, one process per core, and return them."""
    from mousecmr_data.phantom.source import PhantomSource, make_files

    cohort = mousecmr_data.load(source="phantom", cache=cache)
    cohort = cohort.select(cohort.mice[:n])
    make_files(PhantomSource("phantom", cache), cohort.mice, os.cpu_count() or 1)
    return cohort


def seconds(work: Callable[[], Any]) -> float:
    """Return how long ``work`` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def compare(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Return milliseconds of each side over interleaved rounds, median and range."""
    times: dict[str, list[float]] = {k: [] for k in sides}
    for side in sides.values():
        side()
    for _ in range(rounds):
        for key, side in sides.items():
            times[key].append(1e3 * seconds(side))
    return {key: summarize(v) for key, v in times.items()}


def conversion(cohort: Cohort, cache: Path) -> dict[str, float]:
    """Return the speed of conversion, of reading and compressing alone, and the size on disk, of raw; 4 mice."""
    from numcodecs import Blosc

    sample = cohort.select(cohort.mice[:4])
    codec = Blosc("zstd", 5, Blosc.BITSHUFFLE)

    def bound() -> None:
        for mouse in sample.mice:
            with h5py.File(sample.source.get_path(mouse)) as f:
                for name in ("Images", "Masks"):
                    for frame in np.ascontiguousarray(f[name][()].transpose(3, 2, 0, 1)):
                        codec.encode(frame)

    rounds = []
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        for i in range(4):
            ours = seconds(lambda i=i: write_store(sample, Path(scratch) / f"{i}.zarr"))
            rounds.append(seconds(bound) / ours)
        folder = Path(scratch) / "0.zarr"
        stored = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    raw = sum(ds.image.nbytes + ds["mask"].nbytes for ds in sample.values())
    fill_layout_cache(cohort, workers=os.cpu_count() or 1)
    return {"speed": statistics.median(rounds[1:]), "size": stored / raw}


def single(cohort: Cohort, scratch: Path, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Compare ten random labelled slices of one mouse (image and mask; files are opened), and one whole cine."""
    from mousecmr_data.adapters.torch import dataset

    mouse = cohort.mice[0]
    with h5py.File(cohort.source.get_path(mouse)) as f:
        images, masks = f["Images"][()], f["Masks"][()]
        frames = f["Frames_with_ROI"][()]
    for name, storage in (("contiguous", {}), ("gzip", {"compression": "gzip", "chunks": True})):
        with h5py.File(scratch / f"{name}.h5", "w") as f:
            f.create_dataset("Images", data=images, **storage)
            f.create_dataset("Masks", data=masks, **storage)
    rng = np.random.default_rng(0)
    positions = [(int(rng.choice(frames)), int(rng.integers(images.shape[2]))) for _ in range(10)]

    def h5(name: str) -> Callable[[], None]:
        def read() -> None:
            with h5py.File(scratch / f"{name}.h5") as f:
                for frame, position in positions:
                    f["Images"][:, :, position, frame]
                    f["Masks"][:, :, position, frame]

        return read

    data = dataset(cohort, dtype=None)
    of_mouse = np.flatnonzero(data.index.mouse == 0)
    samples = rng.choice(of_mouse, len(positions)).tolist()
    slices = compare(
        {"contiguous": h5("contiguous"), "gzip": h5("gzip"), "ours": lambda: [data[i] for i in samples]}, rounds * 3
    )

    def cine(name: str) -> Callable[[], Any]:
        def read() -> Any:
            with h5py.File(scratch / f"{name}.h5") as f:
                return np.ascontiguousarray(f["Images"][()].transpose(3, 2, 0, 1))

        return read

    cines = compare(
        {"contiguous": cine("contiguous"), "gzip": cine("gzip"), "ours": lambda: cohort[mouse].image.values}, rounds * 3
    )
    return {"ten slices": slices, "cine": cines}


def opening(cohort: Cohort, rounds: int) -> float:
    """Return the seconds to open 130 converted mice: the available ones, repeated up to 130."""
    cache = cohort.source.get_path(cohort.mice[0]).parents[2]

    def open_cohort() -> int:
        again = mousecmr_data.load(source="phantom", cache=cache).select(cohort.mice)
        return sum(len(again[m].sizes) for m in (cohort.mice * (130 // len(cohort) + 1))[:130])

    open_cohort()
    return statistics.median(seconds(open_cohort) for _ in range(rounds))


if __name__ == "__main__":
    main()
