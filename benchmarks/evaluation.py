"""Measure time and memory of ``mousecmr_data.evaluate`` for a whole cohort, with predictions in files.

    python benchmarks/evaluation.py [--mice 130] [--workers 2] [--cache DIR] [--json FILE]

Uses phantom mice; the predictions are whole cines (HDF5, gzip): the truth moved by two pixels. Memory is the
largest sum over this process and its workers.
"""

from __future__ import annotations

import os
import resource
import tempfile
import threading
import time
from pathlib import Path

import h5py
import numpy as np
from record import make_parser, write_record

import mousecmr_data
from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate
from mousecmr_data.evaluation.tables import tabulate_agreement, tabulate_overlap
from mousecmr_data.phantom.source import PhantomSource, make_files


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", type=int, default=130)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cache = args.cache or Path(scratch)
        cohort = mousecmr_data.load(source="phantom", cache=cache)
        cohort = cohort.select(cohort.mice[: args.mice])
        make_files(PhantomSource("phantom", cache), cohort.mice, os.cpu_count() or 1)
        folder = Path(scratch) / "predictions"
        folder.mkdir()
        for ds in cohort.values():
            write(ds, folder / f"{ds.attrs['mouse']}.h5")
        runs = []
        for policies in (EvaluationConfig(), EvaluationConfig("volume-curve", "paper")):
            memory = Memory()
            begin, cpu = time.perf_counter(), processor_seconds()
            result = evaluate(folder, cohort, policies, workers=args.workers)
            tabulate_agreement(result), tabulate_overlap(result)
            row = {"phases": policies.phases, "postprocessing": policies.postprocessing, "mice": len(result.mice)}
            row |= {"s": time.perf_counter() - begin, "cpu_s": processor_seconds() - cpu, "GB": memory.stop()}
            runs.append(row)
    write_record(args, {"workers": args.workers, "runs": runs}, "pandas", "pingouin")


def write(ds: object, path: Path) -> None:
    """Write a whole cine of masks: the truth of the labelled frames, moved; other frames repeat the one before."""
    masks = ds["mask"].values  # type: ignore[index]
    labelled = ds["labelled"].values  # type: ignore[index]
    last = np.maximum.accumulate(np.where(labelled, np.arange(len(labelled)), np.flatnonzero(labelled)[0]))
    moved = np.roll(masks[last], 2, axis=3).transpose(2, 3, 1, 0)
    with h5py.File(path, "w") as f:
        f.create_dataset("Masks", data=moved, chunks=(*moved.shape[:2], 1, moved.shape[3]), compression="gzip")


def processor_seconds() -> float:
    """Return the processor time of this process and of the workers that ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in usage)


class Memory:
    """The largest sum of resident memory of this process and its children, sampled (Linux)."""

    def __init__(self) -> None:
        self.peak, self._stopped = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        """Return the peak in GB."""
        self._stopped.set()
        self._thread.join()
        return self.peak

    def _sample(self) -> None:
        while not self._stopped.wait(0.1):
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            self.peak = max(self.peak, sum(map(resident, [str(os.getpid()), *children])) / 1e9)


def resident(pid: str) -> float:
    """Return the resident bytes of a process; 0 if it has ended."""
    try:
        return float(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0.0


if __name__ == "__main__":
    main()
