"""What it costs to read a scan in a child process with limits, as `segment`, `predict` and the page do.

Each format is written from one phantom mouse and read in turn in this process and in a child that has started before,
so that both sides see the same load. The start of a child, once per run, is measured separately. Medians and ranges
over the rounds, in milliseconds.

    python benchmarks/reading.py [--rounds 15] [--cache DIR] [--json FILE]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import h5py
import numpy as np
from record import make_parser, summarize, write_record

from mousecmr_data import open_mouse
from mousecmr_data._utils.parallel import ONE_THREAD, ChildProcess, read_in_child
from mousecmr_data.errors import MissingDataError
from mousecmr_data.formats.discover import FoundScan, find_scans
from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.formats.read import read_scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import scanner_files


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--cache", type=Path)
    args = parser.parse_args()
    starts, formats = [measure(start_child) for _ in range(5)], {}
    folder = Path(tempfile.mkdtemp())
    try:
        for name, path in write_scans(folder, args.cache).items():
            (scan,) = find_scans(path)
            read_in_child(read_scan, name, scan)
            here, child = [], []
            for _ in range(args.rounds):
                here.append(measure(lambda scan=scan: read_scan(scan)))
                child.append(measure(lambda scan=scan: read_in_child(read_scan, scan.name, scan)))
            added = [b - a for a, b in zip(here, child, strict=True)]
            times = {"here": here, "child": child, "added": added}
            formats[name] = {k: summarize(v) for k, v in times.items()} | {"files": len(scan.paths)}
    finally:
        shutil.rmtree(folder)
    write_record(args, {"start": summarize(starts), "formats": formats}, "h5py", "nibabel", "pydicom")


def start_child() -> None:
    """Start a child, let it import the readers, and end it."""
    child = ChildProcess(ONE_THREAD)
    with suppress(MissingDataError):
        child.call(partial(read_scan, FoundScan("none", "HDF5", (Path("none.h5"),))), "benchmark")
    child.end()


def measure(work: Callable[[], object]) -> float:
    """Return the milliseconds that ``work`` takes."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def write_scans(folder: Path, cache: Path | None) -> dict[str, Path]:
    """Write one phantom mouse in each format and return the paths."""
    ds = open_mouse("Mouse6", source="phantom", cache=cache).load()
    image = ds["image"].values
    with h5py.File(folder / "mouse.h5", "w") as f:
        f.create_dataset("Images", data=image.transpose(2, 3, 1, 0), chunks=True, compression="gzip")
    write_nifti_images(ds, folder / "mouse.nii.gz")
    write_nifti_images(ds, folder / "mouse.nii")
    scanner_files.dicom_classic(np.asarray(image), folder / "dicom")
    scanner_files.dicom_enhanced(np.asarray(image), folder / "enhanced.dcm")
    return {
        "HDF5, gzip": folder / "mouse.h5",
        "NIfTI": folder / "mouse.nii",
        "NIfTI, gzip": folder / "mouse.nii.gz",
        "DICOM, one file per image": folder / "dicom",
        "DICOM, enhanced": folder / "enhanced.dcm",
    }


if __name__ == "__main__":
    main()
