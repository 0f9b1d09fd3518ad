"""Processor time to find and read 240 classic DICOM files, compared with pydicom alone (header and pixels of each).

Both are measured in turn in this process, so that they see the same load. The headers have as many elements as those of
scanners: about 140, a private block among them. Medians and ranges over the rounds, in seconds.

    python benchmarks/dicom.py [--rounds 7] [--json FILE]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.datadict import DicomDictionary
from record import make_parser, summarize, write_record

from mousecmr_data.formats import dicom
from mousecmr_data.formats.discover import find_scans
from mousecmr_data.formats.read import read_scan

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import scanner_files

FRAMES, SLICES, SIZE, ELEMENTS = 20, 12, 256, 100


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        paths = write_study(folder)
        alone, ours, ratios = [], [], []
        for k in range(args.rounds + 1):
            alone.append(measure(lambda: [pydicom.dcmread(p).pixel_array for p in paths]))
            dicom._read_header.cache_clear()
            ours.append(measure(lambda: [read_scan(scan) for scan in find_scans(folder)]))
            ratios.append(ours[k] / alone[k])
        size = sum(p.stat().st_size for p in paths) / 1e6
    finally:
        shutil.rmtree(folder)
    measured = {"pydicom": alone, "ours": ours, "ratio": ratios}
    numbers = {name: summarize(values[1:]) for name, values in measured.items()}  # the first round also imports
    write_record(args, {"files": len(paths), "MB": size, **numbers}, "pydicom")


def write_study(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 200, (FRAMES, SLICES, SIZE, SIZE))
    images = (noise + 300 * np.arange(SLICES)[:, None, None]).astype(np.uint16)
    paths = scanner_files.dicom_classic(images, folder)
    texts = [entry[4] for tag, entry in DicomDictionary.items() if tag >> 16 > 2 and entry[0] in ("SH", "LO", "ST")]
    for path in paths:
        ds = pydicom.dcmread(path)
        for name in [t for t in texts if t and t not in ds][:ELEMENTS]:
            setattr(ds, name, "1")
        block = ds.private_block(0x0029, "SOME SCANNER", create=True)
        block.add_new(0x10, "OB", bytes(10_000))
        ds.save_as(path)
    return paths


def measure(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


if __name__ == "__main__":
    main()
