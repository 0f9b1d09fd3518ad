"""Measure what the checksums of derived files cost: reading with and without the check, in turn, in one run.

    python benchmarks/checksums.py [--rounds 41] [--cache DIR] [--json FILE]

Uses one phantom mouse and the shipped weights. Both sides read the same bytes from the system's page cache. Processor
time is of the whole process, so that other work on the machine matters less. Needs the extras openvino and huggingface.
"""

from __future__ import annotations

import io
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from record import make_parser, write_record

import mousecmr_data
from mousecmr_data._utils.checksums import is_intact, read_intact
from mousecmr_data.dataset import zarr_store
from mousecmr_data.dataset.cohort import Cohort


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = args.cache or Path(scratch) / "cache"
        cohort = mousecmr_data.load(mice=["Mouse6"], source="phantom", cache=cache, layout_cache=False)
        cohort["Mouse6"].load()  # made now
        reads = {
            **stores(cohort, Path(scratch), args.rounds),
            **phantom_file(cohort, args.rounds),
            **frame_files(cohort, Path(scratch) / "frames", args.rounds),
            **table(cohort, Path(scratch) / "tables", args.rounds),
            **network(cache, args.rounds),
        }
    write_record(args, {"reads": reads}, "zarr", "h5py", "openvino", "datasets")


Times = dict[str, dict[str, float]]


def compare(title: str, without: Callable[[], Any], checked: Callable[[], Any], rounds: int) -> Times:
    """Return the median milliseconds of both sides in turn, of the wall clock and of processor time, by title."""
    sides, wall, processor = (without, checked), ([], []), ([], [])
    for side in sides:
        side()
    for number in range(rounds):
        for k in (0, 1) if number % 2 else (1, 0):
            begin = time.perf_counter(), time.process_time()
            sides[k]()
            wall[k].append(time.perf_counter() - begin[0])
            processor[k].append(time.process_time() - begin[1])
    plain, ours, work, more_work = (statistics.median(times) for times in (*wall, *processor))
    times = {"wall": plain, "wall_checked": ours, "cpu": work, "cpu_checked": more_work}
    return {title: {name: 1e3 * s for name, s in times.items()}}


def stores(cohort: Cohort, scratch: Path, rounds: int) -> Times:
    """The layout cache and stores: the codec is in the one and not in the other."""
    ours = cohort.to_zarr(scratch / "checked.zarr")
    with patch.object(zarr_store, "CODECS", zarr_store.CODECS[:1]):
        plain = cohort.to_zarr(scratch / "plain.zarr")
    packed = [Path(shutil.make_archive(str(p), "zip", p)) for p in (plain, ours)]
    opened = [mousecmr_data.load(source=path)["Mouse6"] for path in (plain, ours, *packed)]

    def read(number: int, **part: Any) -> Callable[[], Any]:
        return lambda: opened[number].image.isel(part).values

    return {
        **compare("layout cache: a cine", read(0), read(1), rounds),
        **compare("layout cache: one frame", read(0, frame=3), read(1, frame=3), rounds * 5),
        **compare("store as a zip file, by zarr: a cine", read(2), read(3), max(5, rounds // 4)),
    }


def phantom_file(cohort: Cohort, rounds: int) -> Times:
    """A phantom file, checked once when it is first read in a process; images and masks by h5py."""
    path = cohort.source.get_path("Mouse6")

    def read() -> None:
        cohort["Mouse6"].load()

    def check_and_read() -> None:
        is_intact(path)
        read()

    title = "phantom file: images and masks, checked once per process"
    return compare(title, read, check_and_read, max(5, rounds // 4))


def frame_files(cohort: Cohort, root: Path, rounds: int) -> Times:
    """Frame files, checked when the dataset is made: making it, and with epochs of reading each slice once."""
    from mousecmr_data.adapters.torch import dataset

    def read(epochs: int) -> Callable[[], Any]:
        def run() -> None:
            data = dataset(cohort, cache=root)
            for _ in range(epochs):
                data.__getitems__(list(range(len(data))))

        return run

    times: Times = {}
    for epochs in (0, 1, 100):
        unchecked = patch("mousecmr_data.dataset.memmap.is_intact", lambda _: True)(read(epochs))
        times |= compare(f"frame files: dataset of a mouse, {epochs} epochs", unchecked, read(epochs), rounds)
    return times


def table(cohort: Cohort, root: Path, rounds: int) -> Times:
    """The Arrow file of Hugging Face datasets, checked when it is opened; then each row is read once."""
    import datasets

    from mousecmr_data.adapters import huggingface

    datasets.disable_progress_bars()
    data = huggingface.dataset(cohort, cache=root)

    def read() -> None:
        opened = huggingface.dataset(cohort, cache=root)
        huggingface.numpy_samples(opened).__getitems__(range(len(data)))

    unchecked = patch("mousecmr_data.adapters.huggingface.dataset.has_checksums", lambda _: True)(read)
    return compare("Hugging Face table: open, read all rows", unchecked, read, max(5, rounds // 4))


def network(cache: Path, rounds: int) -> Times:
    """A compiled network of the shipped weights."""
    import openvino

    from mousecmr_data.inference.engines.openvino import OpenVinoEngine
    from mousecmr_data.inference.predictor import load_model

    engine = OpenVinoEngine(load_model("phantom-small", device="cpu", engine="eager").network, cache=cache)
    engine._load_queue("whole", (256, 256))
    (path,) = (cache / "engines").glob("*.openvino")
    plain = path.with_suffix(".plain")
    plain.write_bytes(read_intact(path) or b"")

    def load(read: Callable[[], bytes | None]) -> Callable[[], Any]:
        return lambda: openvino.Core().import_model(io.BytesIO(read() or b""), "CPU", engine.config)

    size = f"{plain.stat().st_size / 1e6:.1f} MB"
    return compare(f"compiled network of {size}: load", load(plain.read_bytes), load(lambda: read_intact(path)), rounds)


if __name__ == "__main__":
    main()
