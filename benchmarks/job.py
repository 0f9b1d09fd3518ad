"""Time whole commands, an old checkout against this one, in turn in one run.

    python benchmarks/job.py --old CHECKOUT [--jobs info,measure,nifti,dicom,first] [--rounds 3] [--json FILE]

Each command is a process of its own: ``info``; ``measure`` of one HDF5 file; ``segment`` of a cine of 9 slices and 22
frames at 256 x 256, with pictures and the old checkout's weights ``phantom-small``, as NIfTI and as 198 DICOM files;
"first" is the NIfTI job with an empty cache, each side with the weights that it ships. The first round fills caches and
is not counted. "wall" is what a person waits for; "processor" is user and system time, which the load of the machine
disturbs less. Medians and ranges in seconds; "ratio" is old / new, round by round. ``CHECKOUT`` is a folder with the
package of another commit (``git worktree add CHECKOUT COMMIT``); its masks and tables are compared with ours.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np
from record import make_parser, summarize, write_record
from region import cine

from mousecmr_data.formats.nifti import write_nifti_images
from mousecmr_data.phantom.rendering import write_phantom
from mousecmr_data.phantom.sampling import make_plans

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import scanner_files

ROOT = Path(__file__).parents[1]
MOUSE = "Mouse6"
WEIGHTS = Path("mousecmr_data", "inference", "weights", "phantom-small.safetensors")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--old", type=Path, required=True)
    parser.add_argument("--jobs", default="info,measure,nifti,dicom,first")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    numbers = {}
    with tempfile.TemporaryDirectory() as scratch:
        for job in args.jobs.split(","):
            weights = "phantom-small" if job == "first" else args.old.resolve() / WEIGHTS
            command = prepare(job, Path(scratch), weights)
            numbers[job] = time_job(command, Path(scratch), args.old.resolve(), args.rounds, warm=job != "first")
    commit = subprocess.run(["git", "-C", args.old, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    write_record(args, {"old commit": commit.stdout.strip() or "unknown", **numbers}, "torch", "openvino", "pydicom")


def prepare(job: str, folder: Path, weights: str | Path) -> list[str]:
    """Write what a job reads; return its command. ``OUT`` stands for the folder of its results."""
    if job == "info":
        return ["info"]
    if job == "measure":
        write_phantom(make_plans("phantom")[MOUSE], folder / "mouse.h5")
        return ["measure", str(folder / "mouse.h5")]
    if job == "dicom":
        (folder / "dicom").mkdir()
        scanner_files.dicom_classic(cine(MOUSE)["image"].values.astype(np.uint16), scan := folder / "dicom")
    else:
        scan = write_nifti_images(cine(MOUSE), folder / f"{job}.nii.gz")
    return ["segment", str(scan), "--weights", str(weights), "-o", "OUT"]


def time_job(command: list[str], scratch: Path, old: Path, rounds: int, warm: bool) -> dict[str, object]:
    """Return seconds of a command of both checkouts; unless ``warm``, each starts with an empty cache."""
    times: dict[str, dict[str, list[float]]] = {s: {"wall": [], "processor": []} for s in ("old", "new")}
    for k in range(rounds + 1):
        for side, checkout in (("old", old), ("new", ROOT)):
            out = scratch / side
            shutil.rmtree(out, ignore_errors=True)
            words = [str(out) if word == "OUT" else word for word in command]
            with tempfile.TemporaryDirectory() as empty:
                seconds = run(words, checkout, {} if warm else {"MOUSECMR_CACHE": empty})
            for name, value in zip(times[side], seconds, strict=True):
                times[side][name] += [value] if k else []
    numbers: dict[str, object] = {s: {n: summarize(v) for n, v in values.items()} for s, values in times.items()}
    numbers["ratio"] = {
        name: summarize([a / b for a, b in zip(times["old"][name], times["new"][name], strict=True)])
        for name in ("wall", "processor")
    }
    if "OUT" in command:
        numbers["same masks"] = all(
            np.array_equal(*(np.asanyarray(nibabel.load(scratch / s / m / "masks.nii.gz").dataobj) for s in times))
            for m in [path.parent.name for path in (scratch / "new").glob("*/masks.nii.gz")]
        )
        numbers["same table"] = len({(scratch / s / "frames.csv").read_text(encoding="utf-8") for s in times}) == 1
    return numbers


def run(words: list[str], checkout: Path, more: dict[str, str]) -> tuple[float, float]:
    """Return wall and processor time of a command of the package in ``checkout``."""
    variables = {**os.environ, "PYTHONPATH": str(checkout), **more}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-m", "mousecmr_data.cli.main", *words]
    subprocess.run(command, check=True, capture_output=True, env=variables, cwd=checkout)
    seconds = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
