"""`mousecmr predict` killed at any moment: every rerun continues, and no file is ever incomplete."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import layout_files
import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

KILLS = 20 if os.environ.get("MOUSECMR_STRESS") else 1


def start(mice: list[str], out: Path, *options: str) -> "subprocess.Popen[bytes]":
    arguments = ["predict", *mice, "--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "-o", str(out)]
    command = [sys.executable, "-m", "mousecmr_data.cli.main", *arguments, *options]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=env)


def masks(folder: Path) -> dict[str, np.ndarray]:
    by_name = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as f:
            by_name[path.name] = f["Masks"][:]
    return by_name


def finish(process: "subprocess.Popen[bytes]") -> int:
    """Return the exit code; pytest shows the standard error if the test fails."""
    print(process.communicate()[1].decode())
    return process.returncode


@pytest.mark.stress
def test_a_kill_at_any_moment_loses_at_most_one_mouse(tmp_path: Path) -> None:
    n_mice = 6 if KILLS > 1 else 3
    mice = [
        str(layout_files.write(tmp_path / f"in/M{k}.h5", (0,), *layout_files.arrays((24, 20, 2, 2), seed=k)))
        for k in range(n_mice)
    ]
    whole, out = tmp_path / "whole", tmp_path / "out"
    process = start(mice, whole)
    assert finish(process) == 0
    expected, rng = masks(whole), random.Random(3)
    for k in range(KILLS):
        process = start(mice, out, *(["--workers", "2"] if k % 3 == 2 else []))
        before = set(out.glob("*.h5"))
        deadline = time.monotonic() + 120
        while not set(out.glob("*.h5")) - before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        written = masks(out)
        assert all(np.array_equal(written[name], expected[name]) for name in written)
        if len(written) == n_mice:
            for path in out.glob("*.h5"):
                path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}
    process = start(mice, out)
    assert finish(process) == 0
    written = masks(out)
    assert sorted(written) == sorted(expected)
    assert all(np.array_equal(written[name], expected[name]) for name in written)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert list(out.glob(".part-*")) == []
