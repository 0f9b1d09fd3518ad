"""Mice per hour of ``mousecmr segment --dask`` with 1, 2, 5 and 10 workers of a dask cluster on this machine.

    python benchmarks/cluster.py [--workers 1,2,5,10] [--mice 20] [--frames 5] [--json FILE]

Workers of one thread each; scans of NIfTI, 64 x 64 pixels of 0.4 mm, 9 slices, by phantom-small without pictures. Each
worker first segments one scan that does not count: it imports PyTorch and loads the weights. One machine has the cores
that it has: beyond their number, this shows what the cluster costs, not how it scales. Processor seconds are those of
all workers, for a mouse.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from record import make_parser, write_record

WEIGHTS = "phantom-small"


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--workers", default="1,2,5,10")
    parser.add_argument("--mice", type=int, default=20)
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--engine", default="openvino")
    args = parser.parse_args()
    numbers: dict[str, Any] = {"weights": WEIGHTS, "mice": args.mice, "frames": args.frames, "workers": {}}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_scans(folder / "in", args.mice, args.frames)
        for n in map(int, args.workers.split(",")):
            numbers["workers"][str(n)] = measure(folder, n, args.engine)
    write_record(args, numbers, "distributed", "torch", "openvino")


def write_scans(folder: Path, n: int, frames: int) -> None:
    """Write the first ``frames`` frames of phantom-64's mice as NIfTI, again and again up to ``n`` scans."""
    import mousecmr_data
    from mousecmr_data.formats.nifti import write_nifti_images

    cohort = mousecmr_data.load("test", source="phantom-64", cache=folder.parent / "phantom")
    folder.mkdir()
    for k in range(n):
        mouse = cohort.mice[k % len(cohort)]
        write_nifti_images(cohort[mouse].isel(frame=slice(frames)), folder / f"{k:03d}-{mouse}.nii.gz")


def measure(folder: Path, n: int, engine: str) -> dict[str, float]:
    """Return what a run on a new cluster of ``n`` workers gave."""
    from distributed import Client, LocalCluster

    from mousecmr_data.pipeline import SegmentConfig, segment_batch

    inputs = sorted((folder / "in").glob("*.nii.gz"))
    config = SegmentConfig(weights=WEIGHTS, engine=engine, pictures=False, images=False)
    with (
        LocalCluster(n_workers=n, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(warm_up, inputs[0], folder / f"warm{n}", config)
        before = client.run(count_seconds)
        start = time.perf_counter()
        result = segment_batch(inputs, folder / f"out{n}", config, client=client)
        seconds = time.perf_counter() - start
        after = client.run(count_seconds)
    if result.errors:
        raise next(iter(result.errors.values()))
    processor = sum(after.values()) - sum(before.values())
    return {"mice per hour": 3600 * len(inputs) / seconds, "processor s a mouse": processor / len(inputs)}


def warm_up(scan: Path, folder: Path, config: Any) -> None:
    """Segment a scan in a worker; one worker at a time writes to a folder."""
    from mousecmr_data.pipeline import segment_batch

    segment_batch([scan], folder / str(os.getpid()), config)


def count_seconds() -> float:
    """Return the processor seconds that this worker has taken, with its readers that ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


if __name__ == "__main__":
    main()
