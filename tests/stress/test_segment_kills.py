"""`mousecmr segment` and `predict` ended at any moment: whole results only, nothing left behind, inputs unchanged."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import hostile_files as hostile
import layout_files
import nibabel
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

KILLS = 20 if os.environ.get("MOUSECMR_STRESS") else 2
NETWORK = ["--weights", "phantom-small", "--engine", "eager", "--device", "cpu"]


def start(command: str, inputs: list[Path], out: Path, *options: str) -> "subprocess.Popen[bytes]":
    words = [sys.executable, "-m", "mousecmr_data.cli.main", command, *map(str, inputs), "-o", str(out)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(out.with_name("tmp"))}
    return subprocess.Popen(
        [*words, *NETWORK, *options], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, start_new_session=True
    )


def read_tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.rglob("*") if p.is_file()
    }


def read_masks(out: Path) -> dict[str, np.ndarray]:
    """Return the masks of all results, which must be whole; unfinished folders are hidden."""
    masks = {}
    for path in out.glob("[!.]*/masks.nii.gz"):
        masks[path.parent.name] = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
        assert (path.parent / "result.json").read_text().rstrip().endswith("}")
    for path in out.glob("*.h5"):
        with h5py.File(path) as f:
            masks[path.stem] = f["Masks"][:]
    return masks


def make_inputs(command: str, folder: Path) -> list[Path]:
    if command == "predict":
        return [
            layout_files.write(folder / f"M{k}.h5", (0,), *layout_files.arrays((24, 20, 2, 2), k)) for k in range(3)
        ]
    scans = [hostile.write_nifti(folder / f"M{k}.nii", k, 24) for k in range(3)]
    return [
        *scans,
        hostile.write_zip(folder / "Z.zip", {"a.nii": scans[0].read_bytes(), "b.nii": scans[1].read_bytes()}),
    ]


@pytest.mark.stress
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups that a signal ends")
@pytest.mark.parametrize("command", ["segment", "predict"])
def test_a_run_that_is_ended_leaves_whole_results(command: str, tmp_path: Path) -> None:
    inputs, out, rng = make_inputs(command, tmp_path / "in"), tmp_path / "out", random.Random(5)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    before = read_tree(tmp_path / "in")
    began = time.monotonic()
    whole = start(command, inputs, tmp_path / "whole")
    text = whole.communicate()[0].decode()
    seconds = time.monotonic() - began
    assert whole.returncode == 0, text
    expected = read_masks(tmp_path / "whole")
    for k in range(KILLS):
        process = start(command, inputs, out, *(["--workers", "2"] if k % 3 == 2 else []))
        time.sleep(rng.uniform(0.2, 1.0) * seconds)
        if k % 4 == 1:
            os.killpg(process.pid, signal.SIGKILL)
        else:  # this process only: its children must end, too
            process.send_signal(signal.SIGKILL if k % 2 else signal.SIGTERM)
        text = process.communicate(timeout=120)[0].decode()  # ends when all processes that write to it have ended
        assert "Traceback" not in text, text
        if not k % 2:
            assert process.returncode in (0, 128 + signal.SIGTERM, -signal.SIGTERM), text
        written = read_masks(out)
        assert all(np.array_equal(written[name], expected[name]) for name in written)
        assert read_tree(tmp_path / "in") == before
        for path in temporary.glob("mousecmr-*"):
            assert k % 2 or process.returncode == -signal.SIGTERM, "SIGTERM left files"
            os.utime(path, (0, 0))  # old enough to be removed
        if len(written) == len(expected):
            (out / rng.choice(sorted(p.name for p in out.iterdir() if p.is_dir() or p.suffix == ".h5"))).rename(
                tmp_path / f"removed{k}"
            )
    process = start(command, inputs, out)
    text = process.communicate()[0].decode()
    assert process.returncode == 0, text
    written = read_masks(out)
    assert sorted(written) == sorted(expected)
    assert all(np.array_equal(written[name], expected[name]) for name in written)
    assert [*out.rglob(".part-*"), *temporary.glob("mousecmr-*")] == []
    assert read_tree(tmp_path / "in") == before


@pytest.mark.stress
@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_worker_of_a_cluster_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """One worker at random is killed while it works: every mouse is there, and none was segmented a second time."""
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    n_mice, n_workers, n_kills = (24, 10, 5) if os.environ.get("MOUSECMR_STRESS") else (4, 2, 1)
    (tmp_path / "tmp").mkdir()
    inputs = [hostile.write_nifti(tmp_path / "in" / f"M{k}.nii", k, 24) for k in range(n_mice - 1)]
    inputs.append(hostile.write_zip(tmp_path / "in" / "Z.zip", {"a.nii": inputs[0].read_bytes()}))
    whole = start("segment", inputs, tmp_path / "whole", "--no-pictures")
    text = whole.communicate()[0].decode()
    assert whole.returncode == 0, text
    expected, rng = read_masks(tmp_path / "whole"), random.Random(7)
    assert len(expected) == n_mice
    for k in range(n_kills):
        out = tmp_path / f"out{k}"
        with distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", processes=True
        ) as cluster:
            process = start("segment", inputs, out, "--no-pictures", "--dask", cluster.scheduler_address)
            deadline = time.monotonic() + 300
            while not list(out.glob("*/result.json")) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(rng.uniform(0.0, 0.3))
            with distributed.Client(cluster) as client:
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                processes = client.run(os.getpid)
            finished = {path: path.stat().st_mtime_ns for path in out.glob("*/result.json")}
            os.kill(processes[rng.choice(sorted(busy or processes))], signal.SIGKILL)
            text = process.communicate(timeout=600)[0].decode()
        assert process.returncode == 0, text
        assert {path: path.stat().st_mtime_ns for path in finished} == finished, "segmented a second time"
        written = read_masks(out)
        assert sorted(written) == sorted(expected)
        assert all(np.array_equal(written[name], expected[name]) for name in written)
        rows = (out / "mice.csv").read_text().splitlines()[1:]
        assert sorted(row.partition(",")[0] for row in rows) == sorted(expected), "each mouse once"
        assert [*out.rglob(".part-*"), *tmp_path.glob("mousecmr-*")] == []
