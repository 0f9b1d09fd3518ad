"""A cohort's segmentation killed at any moment: every rerun goes on, and nothing half-written is ever seen."""

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


def start(mice: list[str], out: Path, *more: str) -> "subprocess.Popen[bytes]":
    words = ["predict", *mice, "--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "-o", str(out)]
    command = [sys.executable, "-m", "mousecmr_data.cli.main", *words, *more]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=env)


def masks(folder: Path) -> dict[str, np.ndarray]:
    found = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as f:
            found[path.name] = f["Masks"][:]
    return found


def finish(process: "subprocess.Popen[bytes]") -> int:
    """The exit code; what it complained about is shown if the test fails."""
    print(process.communicate()[1].decode())
    return process.returncode


@pytest.mark.stress
def test_kills_at_any_moment_lose_a_mouse_at_most(tmp_path: Path) -> None:
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
        found = masks(out)
        assert all(np.array_equal(found[name], expected[name]) for name in found)
        if len(found) == n_mice:
            for path in out.glob("*.h5"):
                path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in out.glob("*.h5")}
    process = start(mice, out)
    assert finish(process) == 0
    found = masks(out)
    assert sorted(found) == sorted(expected)
    assert all(np.array_equal(found[name], expected[name]) for name in found)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert list(out.glob(".part-*")) == []
