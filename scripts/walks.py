"""Count the files of the package that four common tasks pass through: python scripts/walks.py [--list] [--json]

Each task runs once under ``sys.setprofile``, after all modules were imported and the engine was chosen. A file counts
if one of its functions runs; a crossing is a call from one file of the package into another. Exit status 1 if a task
passes through more files than its limit. The mice are synthetic.
"""

from __future__ import annotations

import argparse
import json
import os
import pkgutil
import sys
import tempfile
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parents[1]
LIMITS = {
    "name to pixels": 12,
    "URL to verified file": 14,
    "DICOM folder to masks and CSV": 40,
    "prediction folder to report": 30,
}
"""The most files that each task may pass through."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--list", action="store_true", help="list the files")
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["MOUSECMR_CACHE"] = str(Path(scratch) / "cache")
        counts = {name: count_files(task) for name, task in prepare_tasks(Path(scratch)).items()}
    if args.json:
        print(json.dumps({k: {"files": sorted(v), "crossings": n, "limit": LIMITS[k]} for k, (v, n) in counts.items()}))
    else:
        for name, (files, crossings) in counts.items():
            print(f"{name}: {len(files)} files (at most {LIMITS[name]}), {crossings} crossings")
            if args.list:
                print("  " + "\n  ".join(sorted(files)))
    sys.exit(any(len(files) > LIMITS[name] for name, (files, _) in counts.items()))


def count_files(task: Callable[[], object]) -> tuple[set[str], int]:
    """Run ``task``; return the package's files whose functions ran, and the number of calls between two of them."""
    package = str(ROOT / "mousecmr_data") + os.sep
    files: set[str] = set()
    crossings = 0

    def record(frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal crossings
        name = frame.f_code.co_filename
        if event != "call" or not name.startswith(package) or frame.f_code.co_name == "<module>":
            return
        files.add(name.removeprefix(package))
        caller = frame.f_back.f_code.co_filename if frame.f_back else ""
        crossings += caller.startswith(package) and caller != name

    threading.setprofile(record)
    sys.setprofile(record)
    try:
        task()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return files, crossings


def prepare_tasks(scratch: Path) -> dict[str, Callable[[], object]]:
    """Import all modules, make the inputs of the tasks, and return the tasks by name."""
    import mousecmr_data
    from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest

    for module in pkgutil.walk_packages(mousecmr_data.__path__, "mousecmr_data."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    sys.path.insert(0, str(ROOT / "tests"))
    scanner_files = import_module("scanner_files")

    phantom = mousecmr_data.fetch(["Mouse6"], source="phantom", progress=False)["Mouse6"].read_bytes()
    files, manifest, predicted = scratch / "files", scratch / "manifest", scratch / "predicted"
    for folder in (files, predicted):
        folder.mkdir()
        (folder / "Mouse6.h5").write_bytes(phantom)
    create_manifest(files, manifest, DatasetInfo("walks", synthetic=True), splits={"test": ["Mouse6"]})
    mousecmr_data.fetch(source=manifest, progress=False)
    eight_frames = mousecmr_data.open_mouse("Mouse6", source=manifest).isel(frame=slice(0, 8))
    scanner_files.dicom_classic(eight_frames["image"].values, scratch / "dicom")
    # The first use of an engine on a computer runs its accuracy check, which shall not be counted.
    mousecmr_data.load_model("phantom-small").segment(eight_frames.isel(slice=[4]))

    def read_pixels() -> object:
        return mousecmr_data.open_mouse("Mouse6", source=manifest)["image"][0, 0].values

    def download() -> object:
        return mousecmr_data.fetch(["Mouse6"], source=manifest, cache=scratch / "elsewhere", progress=False)

    def segment() -> object:
        return mousecmr_data.segment(
            scratch / "dicom", scratch / "results", weights="phantom-small", pictures=False, dicom_seg=False
        )

    def evaluate() -> object:
        from mousecmr_data.evaluation import write_report

        cohort = mousecmr_data.load("test", source=manifest)
        result = mousecmr_data.evaluate(predicted, cohort)
        return write_report(result, scratch / "report", mice=cohort, predictions=predicted)

    return dict(zip(LIMITS, (read_pixels, download, segment, evaluate), strict=True))


if __name__ == "__main__":
    main()
