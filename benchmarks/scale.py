"""Time per mouse of a cohort of many tiny mice: nothing may grow with the square of their number.

    python benchmarks/scale.py [--mice 130,1300] [--json FILE]

Mice of 24 x 20 pixels, 3 slices and 5 frames, described by ``mousecmr manifest`` and copied into an empty cache. Each
step is a process of its own: first load (every file is copied, hashed and recorded), load again, the table of all
mice, every mouse converted into the layout cache, frame files for training written, and the memory-mapped dataset
opened again. Milliseconds a mouse, without the imports; seconds of the second load, with them; MB at the peak.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
from record import make_parser, write_record

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from layout_files import arrays, write

STEPS = ("first load", "load again", "table", "convert", "frame files", "dataset again")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", default="130,1300")
    parser.add_argument("--step", help="of one process, with its folder")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder)
        return
    numbers = {}
    for n in map(int, args.mice.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            write_mice(folder, n)
            measured = {step: start_step(step, folder) for step in STEPS}
        numbers[f"{n} mice"] = {
            **{f"{step}, ms a mouse": 1000 * seconds / n for step, (seconds, _) in measured.items()},
            "load again, s": measured["load again"][0],
            "peak MB": max(peak for _, peak in measured.values()),
        }
    write_record(args, numbers)


def write_mice(folder: Path, n: int) -> None:
    """Write ``n`` mice that differ in one attribute, and their manifest."""
    images, masks = arrays()
    body = write(folder / "one.h5", images=images, masks=masks).read_bytes()
    (folder / "mice").mkdir()
    for k in range(n):
        path = folder / "mice" / f"Mouse{k}.h5"
        path.write_bytes(body)
        with h5py.File(path, "a") as f:
            f.attrs["number"] = k
    command = [sys.executable, "-m", "mousecmr_data.cli.main", "manifest", "create", str(folder / "mice")]
    command += ["--spacing", "1", "0.1", "0.1", "--frame-time", "5"]
    subprocess.run([*command, "-o", str(folder / "manifest")], check=True, capture_output=True)


def start_step(step: str, folder: Path) -> tuple[float, float]:
    """Return the seconds and the peak memory in MB of a step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    seconds, peak = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return seconds, peak


def run_step(step: str, folder: Path) -> None:
    import mousecmr_data
    from mousecmr_data.dataset.cohort import Cohort

    if "dataset" in step or "files" in step:
        from mousecmr_data.adapters.torch import dataset

    def load() -> Cohort:
        return mousecmr_data.load(source=folder / "manifest", cache=folder / "cache", progress=False)

    cohort = load() if step not in ("first load", "load again") else None
    start = time.perf_counter()
    if cohort is None:
        load()
    elif step == "table":
        cohort.to_dataframe()
    elif step == "convert":
        for mouse in cohort:
            cohort.opener.convert(mouse)
    else:
        dataset(cohort)
    print(json.dumps([time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


if __name__ == "__main__":
    main()
