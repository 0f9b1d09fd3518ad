"""Compare loaders for training: this library, memcpy, plain h5py, MONAI and TorchIO. All sides in one run.

    python benchmarks/loaders.py [--mice 40] [--turns 100] [--cache DIR] [--json FILE]

Labelled slices of phantom mice, batch 16, shuffled, no workers. Each loader runs in its own process, so that its memory
can be measured: the peak of the resident set, which for mapped files includes pages that the system can free. They
take turns, one epoch each, so that a busy moment of the machine affects all of them; a slow loader stops after ten
seconds. torch uses one thread. Loaders whose package is missing are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.dataset.cohort import Cohort

BATCH = 16
MAX_SECONDS = 10.0
"""Time after which a loader gets no more turns."""


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=40)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--loader", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loader:
        serve(args.loader, args.mice, args.cache)
        return
    with tempfile.TemporaryDirectory() as scratch:
        cache = args.cache or Path(scratch)
        cohort = mousecmr_data.load(source="phantom", cache=cache)
        from mousecmr_data.phantom.source import PhantomSource, make_files

        make_files(PhantomSource("phantom", cache), cohort.mice[: args.mice], os.cpu_count() or 1)
        numbers = {"slices": len(list_labelled(cohort.select(cohort.mice[: args.mice]))), "batch": BATCH}
        numbers["loaders"] = loaders(args.mice, cache, args.turns)
    write_record(args, numbers, "torch", "monai", "torchio", "h5py")


LOADERS = [
    "memcpy into reused buffers (bound)",
    "plain h5py on the files",
    "MONAI CacheDataset",
    "MONAI PersistentDataset",
    "TorchIO SubjectsDataset",
    "ours, memory",
    "ours, memmap",
    "MONAI CacheDataset, float32",
    "ours, memory, float32",
    "ours, memmap, float32",
]


def loaders(n: int, cache: Path, turns: int) -> dict[str, dict[str, float]]:
    """Return samples per second and peak memory of each loader, and its ratio to MONAI's, turn by turn."""
    running = {}
    for name in LOADERS:
        command = [sys.executable, __file__, "--loader", name, "--mice", str(n), "--cache", str(cache)]
        running[name] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        if not read_answer(running[name]):  # wait: the next one starts when this one is ready
            error = running.pop(name).communicate()[1].strip().splitlines()
            print(f"{name} not measured: {error[-1][:120] if error else 'it ended'}", file=sys.stderr)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in running}
    spent = dict.fromkeys(running, 0.0)
    for turn in range(turns + 1):
        for name, process in list(running.items())[:: 1 if turn % 2 else -1]:
            if spent[name] > MAX_SECONDS:
                continue
            start = time.perf_counter()
            print("go", file=process.stdin, flush=True)
            result = read_answer(process)
            if turn:  # not the first: files are opened, pages mapped
                spent[name] += time.perf_counter() - start
                results[name].append(result)
    for process in running.values():
        process.communicate()
    measured = {}
    for name, rows in results.items():
        row = {k: statistics.median(r[k] for r in rows) for k in ("rate", "rss", "base")}
        other = results.get("MONAI CacheDataset" + ", float32" * name.endswith("float32"), [])
        if name.startswith("ours") and len(other) == len(rows):  # turn by turn: other work affects both
            row["ratio"] = statistics.median(a["rate"] / b["rate"] for a, b in zip(rows, other, strict=True))
        measured[name] = row
    return measured


def read_answer(process: Any) -> dict[str, float]:
    """Return the next line of a loader's process; empty if there is none."""
    line = process.stdout.readline()
    return json.loads(line) if line.strip() else {}


def resident(which: str = "VmRSS") -> float:
    """Return the resident memory now, or its peak (VmHWM), in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1e3
    return float("nan")


def serve(name: str, n: int, cache: Path) -> None:
    """Run one loader: for each line of input, one epoch; the answer is its rate and the memory so far."""
    import torch

    torch.set_num_threads(1)
    cohort = mousecmr_data.load(source="phantom", cache=cache)
    cohort = cohort.select(cohort.mice[:n])
    base = resident()
    epochs = {
        "memcpy": memcpy,
        "plain h5py": plain,
        "MONAI Cache": monai_cache,
        "MONAI Persistent": monai_persistent,
        "TorchIO": torchio_subjects,
        "ours": ours,
    }
    make = next(v for k, v in epochs.items() if name.startswith(k))
    epoch = make(cohort, name, cache)
    print(json.dumps({"ready": 1}), flush=True)
    for _ in sys.stdin:
        begin = time.perf_counter()
        count = sum(epoch())
        rate = count / (time.perf_counter() - begin)
        print(json.dumps({"rate": rate, "rss": resident("VmHWM"), "base": base}), flush=True)


Epoch = Callable[[], Iterator[int]]


def list_labelled(cohort: Cohort) -> list[tuple[str, int, int]]:
    """Return (mouse, frame, slice) of every labelled slice."""
    return [
        (mouse, frame, position)
        for mouse in cohort.mice
        for frame in cohort.source.summarize(mouse).labelled_frames
        for position in range(cohort.source.summarize(mouse).n_slices)
    ]


def memcpy(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    n = len(list_labelled(cohort))
    images, masks = np.ones((n, 256, 256), np.uint16), np.ones((n, 256, 256), np.uint8)
    image, mask = np.empty((BATCH, 256, 256), np.uint16), np.empty((BATCH, 256, 256), np.uint8)
    rng = np.random.default_rng(0)

    def epoch() -> Iterator[int]:
        for start in range(0, n - BATCH + 1, BATCH):
            for i, at in enumerate(rng.permutation(n)[:BATCH] if start == 0 else rng.integers(0, n, BATCH)):
                np.copyto(image[i], images[at])
                np.copyto(mask[i], masks[at])
            yield BATCH

    return epoch


def make_epoch(data: Any, collate: Any = None) -> Epoch:
    """Return a function that runs an epoch of a DataLoader over ``data``."""
    from torch.utils.data import DataLoader

    loader = DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True, collate_fn=collate)

    def epoch() -> Iterator[int]:
        for batch in loader:
            yield len(batch["image"]) if not hasattr(batch["image"], "data") else int(batch["image"].shape[0])

    return epoch


class Plain:
    """The simplest dataset over the HDF5 files; the files are kept open."""

    def __init__(self, cohort: Cohort, dtype: Any = None) -> None:
        self.index, self.dtype = list_labelled(cohort), dtype
        self.files = {m: h5py.File(cohort.source.get_path(m)) for m in cohort.mice}

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, i: int) -> dict[str, Any]:
        import torch

        mouse, frame, position = self.index[i]
        file = self.files[mouse]
        image = torch.from_numpy(file["Images"][:, :, position, frame])[None]
        return {
            "image": image.to(self.dtype or image.dtype),
            "label": torch.from_numpy(file["Masks"][:, :, position, frame])[None],
        }


def plain(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    return make_epoch(Plain(cohort))


def monai_cache(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    import torch
    from monai.data import CacheDataset

    source = Plain(cohort, torch.float32 if "float32" in name else None)
    return make_epoch(CacheDataset(range(len(source)), transform=make_transform(source), progress=False, num_workers=1))


def monai_persistent(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    from monai.data import PersistentDataset

    source = Plain(cohort)
    return make_epoch(
        PersistentDataset(list(range(len(source))), transform=make_transform(source), cache_dir=cache / "monai")
    )


def torchio_subjects(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    """Write each slice as a NIfTI file, because TorchIO reads from disk."""
    import nibabel
    import torchio

    folder = cache / "torchio"
    folder.mkdir(exist_ok=True)
    source = Plain(cohort)
    subjects = []
    for i in range(len(source)):
        paths = {"image": folder / f"{i}_image.nii", "label": folder / f"{i}_label.nii"}
        if not paths["label"].exists():
            sample = source[i]
            for key, path in paths.items():
                nibabel.save(nibabel.Nifti1Image(sample[key].numpy()[0][..., None], np.eye(4)), path)
        subjects.append(
            torchio.Subject(image=torchio.ScalarImage(paths["image"]), label=torchio.LabelMap(paths["label"]))
        )
    data = torchio.SubjectsDataset(subjects)

    class Tensors:
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, i: int) -> dict[str, Any]:
            subject = data[i]
            return {"image": subject["image"].data, "label": subject["label"].data}

    return make_epoch(Tensors())


def make_transform(source: Plain) -> Any:
    """Return a deterministic MONAI transform that reads sample i; MONAI's datasets cache its result."""
    from monai.transforms import Transform

    class Load(Transform):  # type: ignore[misc]
        def __call__(self, i: int) -> dict[str, Any]:
            return source[i]

    return Load()


def ours(cohort: Cohort, name: str, cache: Path) -> Epoch:  # noqa: ARG001
    import torch

    from mousecmr_data.adapters import torch as mouse_torch

    mode = "memory" if "memory" in name else "memmap"
    dtype = torch.float32 if "float32" in name else None
    return make_epoch(mouse_torch.dataset(cohort, mode=mode, dtype=dtype), mouse_torch.collate)


if __name__ == "__main__":
    main()
