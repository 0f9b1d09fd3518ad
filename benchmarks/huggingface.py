"""Compare torch samples with the usual way to read a dataset, and time the start of a stream. Both sides in one run.

    python benchmarks/huggingface.py [--mice 32] [--rounds 5] [--cache DIR] [--rate 20] [--json FILE]

Labelled slices of phantom mice. The usual ("naive") way is a Parquet file of Array2D columns, opened with
``load_dataset`` and ``with_format("torch")``: nested lists become int64 tensors. The samples are compared, then
the rates are measured in turn: rows at random, and batches of 16 of a DataLoader without workers. torch uses one
thread. The stream comes from a hub on this machine that sends ``--rate`` MB per second, to a separate process that
has imported its libraries; the clock starts before ``load_dataset``.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import datasets
import numpy as np
import torch
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.adapters import huggingface
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.export.hub import build_folder
from mousecmr_data.phantom.source import PhantomSource, make_files

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.hub import Hub

BATCH = 16
STREAM = """
import json, time
import datasets, PIL.TiffImagePlugin, aiohttp, torch  # torch: datasets imports it where it is installed
start = time.perf_counter()
data = datasets.load_dataset("bench/mice-phantom", "labelled", split="train", streaming=True)
row = next(iter(data))
row["image"].load(), row["mask"].load()
first = time.perf_counter() - start
print(json.dumps({"first": first}))
"""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--rate", type=float, default=20.0, help="MB/s of the hub")
    args = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MOUSECMR_CACHE"] = str(args.cache or scratch)
        training = mousecmr_data.load(split="train", source="phantom")
        make_files(PhantomSource("phantom", None), training.mice[: args.mice], os.cpu_count() or 1)
        cohort = training.select(training.mice[: args.mice])
        numbers = {
            **samples(cohort, Path(scratch), args.rounds),
            "streaming": streaming(cohort, Path(scratch), args.rounds, args.rate * 1e6),
        }
    write_record(args, numbers, "datasets", "torch")


def naive(cohort: Cohort, scratch: Path) -> Any:
    """Write an Array2D Parquet file with the same values, and open it in the usual way."""
    shape = next(iter(cohort.values()))["image"].shape[-2:]
    features = datasets.Features(
        {
            "image": datasets.Array2D(shape, "uint16"),
            "mask": datasets.Array2D(shape, "uint8"),
            **{k: v for k, v in huggingface.make_features("labelled").items() if k not in ("image", "mask")},
        }
    )
    ours = huggingface.numpy_samples(huggingface.dataset(cohort))

    def rows() -> Any:
        yield from (ours[i] for i in range(len(ours)))

    path = scratch / "naive.parquet"
    datasets.Dataset.from_generator(rows, features, str(scratch / "arrow")).to_parquet(path)
    data = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(scratch / "cache"))
    return data.with_format("torch")


def samples(cohort: Cohort, scratch: Path, rounds: int) -> dict[str, Any]:
    """Return the samples per second of all sides, measured in turn, one row at random and by a DataLoader."""
    theirs = naive(cohort, scratch)
    data = huggingface.dataset(cohort)
    sides = {
        "naive": theirs,
        "table": data.with_format("torch"),
        "uint16": huggingface.torch_samples(data, torch.uint16),
        "float32": huggingface.torch_samples(data),
    }
    for i in np.random.default_rng(0).integers(0, len(data), 50).tolist():
        values = [side[i] for side in sides.values()]
        for value in values[1:]:
            assert torch.equal(value["image"].squeeze().double(), values[0]["image"].double()), "other pixels"  # noqa: S101
            assert torch.equal(value["mask"].squeeze().long(), values[0]["mask"].long()), "other labels"  # noqa: S101
            assert value["mouse"] == values[0]["mouse"]  # noqa: S101
    rates: dict[str, dict[str, list[float]]] = {name: {"row": [], "batches": []} for name in sides}
    for _ in range(rounds):
        for title, run in (("row", at_random), ("batches", loader)):
            for name, side in sides.items():
                rates[name][title].append(run(side))
    medians = {name: {title: statistics.median(v) for title, v in both.items()} for name, both in rates.items()}
    return {"slices": len(data), "rates": medians}


def at_random(data: Any) -> float:
    """Return samples per second, one at a time."""
    return timed(lambda: sum(int(bool(data[i])) for i in np.random.default_rng(1).integers(0, len(data), 256).tolist()))


def loader(data: Any) -> float:
    """Return samples per second of one pass with a DataLoader, collated as each side does."""
    collate = None if isinstance(data, datasets.Dataset) else huggingface.collate
    batches = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, collate_fn=collate)
    return timed(lambda: sum(len(b["image"]) for b in batches))


def timed(work: Callable[[], int]) -> float:
    begin = time.perf_counter()
    return work() / (time.perf_counter() - begin)


def streaming(cohort: Cohort, scratch: Path, rounds: int, rate: float) -> dict[str, float]:
    """Return the seconds from load_dataset to the first labelled sample."""
    built = build_folder(cohort, "bench/mice-phantom", scratch / "out")[1]
    with Hub(rate=rate) as hub:
        hub.add("bench/mice-phantom", built)
        seconds = []
        for i in range(rounds):
            home = scratch / f"home{i}"
            home.mkdir()
            seconds.append(hub.run(STREAM, home)["first"])
    return {"MB/s": rate / 1e6, "first sample, s": statistics.median(seconds)}


if __name__ == "__main__":
    main()
