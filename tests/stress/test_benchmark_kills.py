"""`mousecmr benchmark run` killed at any moment: it goes on, and ends with the same tables."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

for module in ("torch", "monai", "pingouin", "matplotlib"):
    pytest.importorskip(module, reason="the extra training is not installed")

import small_protocol  # noqa: E402

KILLS = 20 if os.environ.get("MOUSECMR_STRESS") else 2
TABLES = ("ranking.csv", "tests.csv", "overlap.csv", "measures.csv", "by_condition.csv")


def start(words: list[str], out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "mousecmr_data.cli.main", "benchmark", "run", *words, "-o", str(out)]
    tests = str(Path(small_protocol.__file__).parent)  # where the stranger's network is
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, env.get("PYTHONPATH", "")]))
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True, env=env)


def finish(process: "subprocess.Popen[bytes]") -> None:
    error = process.communicate()[1].decode()
    assert process.returncode == 0, error


def list_states(folder: Path) -> set[tuple[str, int]]:
    """Return the files of a run with their times: a new state is a moment to kill at."""
    states = set()
    for place, _, files in os.walk(folder):  # says nothing of folders that are gone since they were listed
        for path in (Path(place) / file for file in files):
            with suppress(OSError):
                states.add((str(path), path.stat().st_mtime_ns))
    return states


@pytest.mark.stress
def test_kills_at_any_moment_do_not_change_the_tables(tmp_path: Path, phantom_cache: Path) -> None:
    networks = [w for path in small_protocol.write_networks(tmp_path) for w in ("--network", str(path))]
    words = [str(small_protocol.write_protocol(tmp_path)), *networks, "--seeds", "1"]
    words += ["--source", small_protocol.SOURCE, "--cache", str(phantom_cache)]
    whole, out, rng = tmp_path / "whole", tmp_path / "out", random.Random(5)
    finish(start(words, whole))
    for _ in range(KILLS):
        process = start(words, out)
        seen, moment = list_states(out), rng.randint(1, 12)  # of the changes that a run makes
        deadline = time.monotonic() + 120
        while moment and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
            moment -= list_states(out) != seen
            seen = list_states(out)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for step in out.glob("*/seed-*/*/step.json"):
            assert sorted(p.name for p in step.parent.iterdir()) == sorted(
                p.name for p in (whole / step.parent.relative_to(out)).iterdir()
            ), "a step is there whole"
    finish(start(words, out))
    for name in TABLES:
        assert (out / "tables" / name).read_text() == (whole / "tables" / name).read_text(), name
    assert not list(out.rglob(".part-*"))
