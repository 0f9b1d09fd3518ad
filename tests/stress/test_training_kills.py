"""Training runs that are killed repeatedly, at any moment."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

import small_run  # noqa: E402

SCRIPT = Path(small_run.__file__)
FULL = os.environ.get("MOUSECMR_STRESS") == "1"
EPOCHS, KILLS = (40, 12) if FULL else (3, 1)


@pytest.mark.stress
def test_kills_at_any_moment_do_not_change_the_result(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    rng = random.Random(0)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[3])}
    folder = tmp_path / "killed"
    command = (sys.executable, str(SCRIPT), str(folder), str(EPOCHS), "1", "0")
    for _ in range(KILLS):
        process = subprocess.Popen(command, env=env)
        before = get_timestamp(folder)
        deadline = time.monotonic() + 60
        while get_timestamp(folder) == before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.4))
        process.kill()
        process.wait()
    _, resumed = small_run.run(folder, EPOCHS)
    _, whole = small_run.run(tmp_path / "whole", EPOCHS)
    columns = ("epoch", "loss", "validation_loss", "learning_rate")
    rows = [[[row[c] for c in columns] for row in p.curve] for p in (resumed, whole)]
    assert np.allclose(rows[0], rows[1], rtol=1e-3)


def get_timestamp(folder: Path) -> int:
    path = folder / "last.safetensors"
    return path.stat().st_mtime_ns if path.exists() else 0
