"""Time per mouse of a cohort of many tiny mice: nothing may grow with the square of their number.

    python benchmarks/scale.py [--mice 130,1300] [--steps "first load,load again"] [--json FILE]

Mice of 24 x 20 pixels, 3 slices and 5 frames, copied into an empty cache. Each step is a process of its own: first load
(every file is copied, hashed and recorded), load again, the table of all mice, twice, every mouse converted into the
layout cache, frame files for training written, and the memory-mapped dataset opened again. Milliseconds of processor
time a mouse, which other work on the machine disturbs less, without the imports; the second load also in seconds that
pass; MB at the peak.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from record import make_parser, write_record

from mousecmr_data._utils.checksums import compute_checksums
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest
from mousecmr_data.schema.manifest import FileEntry, format_files_csv

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from layout_files import arrays, write

STEPS = ("first load", "load again", "table", "table again", "convert", "frame files", "dataset again")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--mice", default="130,1300")
    parser.add_argument("--steps", default=",".join(STEPS))
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
            measured = {step: start_step(step, folder) for step in args.steps.split(",")}
        numbers[f"{n} mice"] = {
            **{f"{step}, ms a mouse": 1000 * processor / n for step, (_, processor, _) in measured.items()},
            "load again, s": measured["load again"][0],
            "peak MB": max(peak for *_, peak in measured.values()),
        }
    write_record(args, numbers)


def write_mice(folder: Path, n: int) -> None:
    """Write ``n`` mice that differ in their last bytes, which HDF5 ignores, and their manifest."""
    images, masks = arrays()
    attrs = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}
    body = write(folder / "one" / "Mouse0.h5", images=images, masks=masks, attrs=attrs).read_bytes()
    create_manifest(folder / "one", folder / "manifest", DatasetInfo("mice"))
    (folder / "mice").mkdir()
    entries = []
    for k in range(n):
        path = folder / "mice" / f"Mouse{k}.h5"
        path.write_bytes(body + b"%d" % k)
        sums = compute_checksums(path)
        entries.append(FileEntry(path.stem, path.name, sums.git_blob_sha1, sums.sha256, sums.size))
    (folder / "manifest" / "files.csv").write_text(format_files_csv(entries), newline="")
    about = folder / "manifest" / "dataset.toml"
    about.write_text(about.read_text().replace("/one/", "/mice/"))


def start_step(step: str, folder: Path) -> list[float]:
    """Return the seconds, those of the processor, and the peak memory in MB of a step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    numbers: list[float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return numbers


def run_step(step: str, folder: Path) -> None:
    import mousecmr_data
    from mousecmr_data.dataset.cohort import Cohort

    if "dataset" in step or "files" in step:
        from mousecmr_data.adapters.torch import dataset

    def load() -> Cohort:
        return mousecmr_data.load(source=folder / "manifest", cache=folder / "cache", progress=False)

    cohort = load() if step not in ("first load", "load again") else None
    start, processor = time.perf_counter(), time.process_time()
    if cohort is None:
        load()
    elif step.startswith("table"):
        cohort.to_dataframe()
    elif step == "convert":
        for mouse in cohort:
            cohort.opener.convert(mouse)
    else:
        dataset(cohort)
    seconds = [time.perf_counter() - start, time.process_time() - processor]
    print(json.dumps([*seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))


if __name__ == "__main__":
    main()
