"""Commands that are interrupted (Ctrl-C) or killed: all of their processes end, and every file is whole."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import hostile_files as hostile
import layout_files
import nibabel
import numpy as np
import pytest
from servers.cohort import bodies, write_manifest
from servers.host import Host

import mousecmr_data

STRESS = bool(os.environ.get("MOUSECMR_STRESS"))
SECONDS = 2.0 if STRESS else 10.0
"""In which all processes end; here and now the computer may be busy with other work."""
WAYS = {"terminal": signal.SIGINT, "parent": signal.SIGINT, "kill": signal.SIGKILL}
"""Ctrl-C in a terminal reaches the foreground process group; the others reach the first process only."""
MOMENTS = 3 if STRESS else 1
LATEST = 8.0
"""Latest moment, in seconds: by then all commands are at work."""
NETWORK = ["--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--region", "full"]
FILES = bodies(40, 200_000)

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find processes that are left"),
]


def write_mice(folder: Path, count: int, labelled: tuple[int, ...] = (0,)) -> list[str]:
    arrays = layout_files.arrays((96, 96, 6, 8))
    return [str(layout_files.write(folder / "in" / f"M{k}.h5", labelled, *arrays)) for k in range(count)]


def make_phantom(_folder: Path, _host: Host) -> list[str]:
    return ["phantom", "--workers", "2"]


def make_demo(_folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    return ["demo", "-o", "out"]


def make_convert(_folder: Path, _host: Host) -> list[str]:
    return ["convert", "--source", "phantom", "--workers", "2"]


def make_fetch(folder: Path, host: Host) -> list[str]:
    return ["fetch", "--source", str(write_manifest(folder / "manifest", FILES, host.template))]


def make_predict(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    return ["predict", *write_mice(folder, 30), *NETWORK, "--workers", "2", "-o", "out"]


def make_segment(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("torch", reason="the extra torch is not installed")
    scans = [hostile.write_nifti(folder / "in" / f"M{k}.nii", k, 96) for k in range(30)]
    return ["segment", *map(str, scans), *NETWORK, "--workers", "2", "-o", "out"]


def make_evaluate(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    write_mice(folder, 400, tuple(range(8)))
    return ["evaluate", "in", "--truth", "in", "--workers", "2", "-o", "result.json"]


def make_train(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("monai", reason="the extra training is not installed")
    source = layout_files.lab(folder, {"A": (0, 1), "B": (0, 1)})
    (source / "splits.toml").write_text('[upstream-notebook]\ntrain = ["A"]\nvalidation = ["B"]\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", str(folder / "files"))
        mousecmr_data.fetch(source=source, cache=folder / "cache")
    words = ["--set", "channels=[2,4,4,8,8]", "--set", 'augmentation="none"', "--set", "patience=100000"]
    return ["train", "--source", str(source), "--epochs", "100000", *words, "-o", "run"]


COMMANDS: list[Callable[[Path, Host], list[str]]] = [
    make_phantom, make_demo, make_convert, make_fetch, make_predict, make_segment, make_evaluate, make_train,
]  # fmt: skip


def list_processes(group: int) -> dict[int, str]:
    """Return the command lines of the living processes of a process group."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, number = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(number) == group and state != "Z":
                found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
        except OSError:  # it has ended
            continue
    return found


def list_finished(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return size and time of the files that are there under their final names."""
    files = [p for p in folder.rglob("*") if p.is_file() and not any(n.startswith(".") for n in p.parts)]
    return {p: ((stat := p.stat()).st_size, stat.st_mtime_ns) for p in files if p.suffix in (".h5", ".gz", ".json")}


def check_is_whole(path: Path) -> None:
    if path.suffix == ".h5" and path.name.startswith("Mouse") and path.parent.name == "Data":
        assert path.read_bytes() in FILES.values()
    elif path.suffix == ".h5":
        with h5py.File(path) as f:
            assert f["Images"][:].shape == f["Masks"][:].shape
    elif path.name.endswith(".nii.gz"):
        np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    elif path.suffix == ".json":
        json.loads(path.read_text())


@pytest.mark.parametrize("make", COMMANDS, ids=lambda make: make.__name__.removeprefix("make_"))
def test_all_processes_end_and_finished_work_stays(make: Callable[[Path, Host], list[str]], tmp_path: Path) -> None:
    rng = random.Random(make.__name__)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MOUSECMR_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    with Host(FILES, rate=200_000, chunk=1000) as host:
        command = [sys.executable, "-m", "mousecmr_data.cli.main", *make(tmp_path, host)]
        for way, number in [way for way in WAYS.items() for _ in range(MOMENTS)]:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=tmp_path, start_new_session=True
            )
            time.sleep(rng.uniform(0.5, LATEST))
            before, ended = list_finished(tmp_path), process.poll()
            (os.killpg if way == "terminal" else os.kill)(process.pid, number)
            deadline = time.monotonic() + SECONDS
            while (left := list_processes(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.02)
                process.poll()
            text = process.communicate(timeout=60)[0].decode()
            print(way, process.returncode, text)
            assert left == {}
            assert ended is None, "it ended before it could be interrupted"
            if number == signal.SIGINT and process.returncode != -signal.SIGINT:  # in the first imports
                assert process.returncode == 130
                assert "Traceback" not in text
            after = list_finished(tmp_path)
            assert before.items() <= after.items()
            for path in after:
                check_is_whole(path)
