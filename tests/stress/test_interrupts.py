"""Commands that are interrupted (Ctrl-C) or killed: all of their processes end, and every file is whole."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import h5py
import hostile_files as hostile
import layout_files
import nibabel
import numpy as np
import pytest
import small_protocol
from click.testing import CliRunner
from servers.cohort import bodies, write_manifest
from servers.host import Host

import mousecmr_data
from mousecmr_data.cli.main import SERVERS, main
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest

STRESS = bool(os.environ.get("MOUSECMR_STRESS"))
SECONDS = 2.0 if STRESS else 10.0
"""In which all processes end, of a computer that has nothing else to do; a busy one gives them only their share."""
WAYS = {"terminal": signal.SIGINT, "parent": signal.SIGINT, "kill": signal.SIGKILL}
"""Ctrl-C in a terminal reaches the foreground process group; the others reach the first process only."""
MOMENTS = 3
"""Of each way; without MOUSECMR_STRESS, one moment of one way."""
LATEST = 8.0
"""Latest moment, in seconds: by then all commands are at work."""
EARLIEST = 0.05
"""Earliest moment, in seconds: Python has started."""
LEADERBOARD = Path(__file__).parents[2] / "leaderboard"
NETWORK = ["--weights", "phantom-small", "--engine", "eager", "--device", "cpu", "--region", "full"]
FILES = bodies(40, 200_000)

pytestmark = [
    pytest.mark.stress,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc to find processes that are left"),
]


def write_mice(folder: Path, count: int, labelled: tuple[int, ...] = (0,)) -> list[str]:
    arrays = layout_files.arrays((96, 96, 6, 8))
    sizes = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}
    return [str(layout_files.write(folder / "in" / f"M{k}.h5", labelled, *arrays, sizes)) for k in range(count)]


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


def write_lab(folder: Path) -> str:
    """Write 100 mice and a manifest of them, and fetch them into the cache of the commands."""
    write_mice(folder, 100, (0, 4))
    create_manifest(folder / "in", folder / "lab", DatasetInfo("lab"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOUSECMR_MIRROR", str(folder / "in"))
        mousecmr_data.fetch(source=folder / "lab", cache=folder / "cache")
    return str(folder / "lab")


def write_results(folder: Path) -> str:
    """Write a folder of `mousecmr segment` with two mice, whose masks are reviewed."""
    pytest.importorskip("monai", reason="the extra training is not installed")
    from mousecmr_data.pipeline import open_results

    scans = [str(hostile.write_nifti(folder / "in" / f"M{k}.nii", k, 96)) for k in range(2)]
    done = CliRunner().invoke(main, ["segment", *scans, *NETWORK, "--no-pictures", "-o", str(folder / "segmented")])
    assert done.exit_code == 0, done.output
    for opened in open_results(folder / "segmented").values():
        for k in range(2):
            opened.apply_edit(0, k, labels=layout_files.arrays((96, 96, 1, 1))[1][..., 0, 0], reader="AB", save=False)
        opened.save()
    return str(folder / "segmented")


def make_benchmark_run(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("monai", reason="the extra training is not installed")
    network = small_protocol.write_networks(folder, epochs=100000, patience=100000)[0]
    words = [str(small_protocol.write_protocol(folder)), "--network", str(network), "--source", small_protocol.SOURCE]
    return ["benchmark", "run", *words, "--seeds", "2", "--workers", "2", "-o", "out"]


def make_benchmark_submit(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    for name in small_protocol.MICE["test"]:
        ds = mousecmr_data.open_mouse(name, source=small_protocol.SOURCE, cache=folder / "cache")
        masks = np.roll(ds["mask"].values, 1, axis=3).transpose(2, 3, 1, 0)
        frames = np.flatnonzero(ds["labelled"].values).tolist()
        for condition in ("clean", small_protocol.NOISE["name"]):
            path = folder / "mine" / condition / f"{name}.h5"
            layout_files.write(path, frames, np.zeros(masks.shape, np.uint16), masks)
    words = ["--protocol", str(small_protocol.write_protocol(folder)), "--source", small_protocol.SOURCE]
    return ["benchmark", "submit", "mine", *words, "--method", "truth, moved", "--workers", "2", "--leaderboard", "out"]


def make_tune(folder: Path, _host: Host) -> list[str]:
    words = [f"--set={k}" for k in ("epochs=100000", "batch_size=2", "crop=96", "augmentation=none", "patience=100000")]
    return ["tune", write_results(folder), "-o", "out", "--name", "own", "--device", "cpu", "--threads", "1", *words]


def make_reproduce(_folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    return ["reproduce", "--source", "phantom-64", *NETWORK[:6], "--limit", "3", "-o", "out"]


def make_export(_folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    return ["export", "--weights", "phantom-small", "-o", "out.onnx"]


def make_publish(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("datasets", reason="the extra huggingface is not installed")
    return ["publish", "--dry-run", "--repo-id", "lab/mice", "--source", write_lab(folder), "-o", "out"]


def make_verify(folder: Path, _host: Host) -> list[str]:
    return ["verify", "--source", write_lab(folder)]


def make_bundle_create(folder: Path, _host: Host) -> list[str]:
    return ["bundle", "create", "out.zip", "--source", write_lab(folder)]


def make_bundle_import(folder: Path, _host: Host) -> list[str]:
    source = write_lab(folder)
    words = ["bundle", "create", str(folder / "in.zip"), "--source", source]
    done = CliRunner().invoke(main, words, env={"MOUSECMR_CACHE": str(folder / "cache")})
    assert done.exit_code == 0, done.output
    return ["bundle", "import", "in.zip", "--source", source, "--cache", "out"]


def make_lock_export(folder: Path, _host: Host) -> list[str]:
    return ["lock", "export", "--source", write_lab(folder)]


def make_info(folder: Path, _host: Host) -> list[str]:
    return ["info", "--source", write_lab(folder)]


def make_cite(_folder: Path, _host: Host) -> list[str]:
    return ["cite"]


def make_benchmark_list(_folder: Path, _host: Host) -> list[str]:
    return ["benchmark", "list"]


def make_benchmark_check(_folder: Path, _host: Host) -> list[str]:
    return ["benchmark", "check", "--leaderboard", str(LEADERBOARD)]


def make_convert_to_nifti(folder: Path, _host: Host) -> list[str]:
    return ["convert", "--to", "nifti", "--source", write_lab(folder), "-o", "out"]


def make_manifest_create(folder: Path, _host: Host) -> list[str]:
    write_mice(folder, 200)
    return ["manifest", "create", "in", "-o", "out"]


def make_measure(folder: Path, _host: Host) -> list[str]:
    return ["measure", *write_mice(folder, 100, tuple(range(8))), "--csv", "out.csv"]


def make_show(folder: Path, _host: Host) -> list[str]:
    return ["show", *write_mice(folder, 1, tuple(range(8))), "-o", "out"]


def write_evaluations(folder: Path) -> None:
    """Write a.json and b.json: two results of `mousecmr evaluate`, for different mice."""
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    write_mice(folder, 4, (0, 4))
    for name, mice in {"a": "M0,M1", "b": "M2,M3"}.items():
        words = ["evaluate", str(folder / "in"), "--truth", str(folder / "in"), "--mice", mice]
        done = CliRunner().invoke(main, [*words, "-o", str(folder / f"{name}.json")])
        assert done.exit_code == 0, done.output


def make_compare(folder: Path, _host: Host) -> list[str]:
    write_evaluations(folder)
    return ["compare", "a.json", "a.json", "--csv", "out.csv"]


def make_merge(folder: Path, _host: Host) -> list[str]:
    write_evaluations(folder)
    return ["merge", "a.json", "b.json", "-o", "out.json"]


def make_doctor(_folder: Path, _host: Host) -> list[str]:
    return ["doctor", "--no-network"]


def make_review(folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    return ["review", write_results(folder), "--no-browser"]


def make_serve(_folder: Path, _host: Host) -> list[str]:
    pytest.importorskip("gradio", reason="the extra web is not installed")
    return ["serve", "--port", "0", "--no-browser", "--weights", "phantom-small"]


COMMANDS: dict[str, Callable[[Path, Host], list[str]]] = {
    name.removeprefix("make_"): make for name, make in list(globals().items()) if name.startswith("make_")
}
"""By name of the command; each makes its inputs in a folder and returns its words."""


def list_commands(group: click.Group, before: str = "") -> list[str]:
    """Return the names of all commands that do something: of a group, those in it."""
    names: list[str] = []
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        names += list_commands(command, f"{before}{name}_") if isinstance(command, click.Group) else [before + name]
    return names


def test_every_command_is_interrupted() -> None:
    assert set(list_commands(main)) <= set(COMMANDS)


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
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if not n.startswith(".")]
        for path in (Path(parent, n) for n in names if not n.startswith(".") and n.endswith(WHOLE)):
            with suppress(FileNotFoundError):  # it was replaced
                found[path] = ((stat := path.stat()).st_size, stat.st_mtime_ns)
    return found


WHOLE = (".h5", ".gz", ".json", ".zip", ".png", ".parquet", ".onnx")


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
    elif path.suffix == ".zip":
        assert zipfile.ZipFile(path).testzip() is None
    elif path.suffix == ".png":
        pytest.importorskip("PIL.Image").open(path).load()
    elif path.suffix == ".parquet":
        pytest.importorskip("pyarrow.parquet").read_table(path)
    elif path.suffix == ".onnx":
        pytest.importorskip("onnx").load(path)


def remove_outputs(folder: Path) -> None:
    """Remove what a command that ended has written, so that it starts anew."""
    for path in folder.glob("out*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("name", COMMANDS)
def test_all_processes_end_and_finished_work_stays(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MOUSECMR_CACHE": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    trials = [way for way in WAYS.items() for _ in range(MOMENTS)]
    trials = trials if STRESS else [trials[list(COMMANDS).index(name) % len(trials)]]
    latest = LATEST
    with Host(FILES, rate=200_000, chunk=1000) as host:
        command = [sys.executable, "-m", "mousecmr_data.cli.main", *COMMANDS[name](tmp_path, host)]
        while trials:
            way, number = trials[0]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=tmp_path, start_new_session=True
            )
            started = time.monotonic()
            with suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(EARLIEST, latest))
            seconds = time.monotonic() - started
            before, ended = list_finished(tmp_path), process.poll()
            with suppress(ProcessLookupError):  # it has ended, see below
                (os.killpg if way == "terminal" else os.kill)(process.pid, number)
            deadline = time.monotonic() + SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
            while (left := list_processes(process.pid)) and time.monotonic() < deadline:
                time.sleep(0.02)
                process.poll()
            text = process.communicate(timeout=60)[0].decode()
            print(way, process.returncode, text)
            assert left == {}
            if process.returncode == 1 and "out exists" in text:  # the trial before came after its last file
                remove_outputs(tmp_path)
                continue
            if ended is not None or (process.returncode == 0 and command[3] not in SERVERS):
                assert process.returncode == 0, text
                latest = min(latest * 0.95, seconds)  # it ended before it could be interrupted
                assert latest > EARLIEST, text
                remove_outputs(tmp_path)
                continue
            trials.pop(0)
            starts = process.returncode == -signal.SIGINT or "Fatal Python error: init_" in text
            if number == signal.SIGINT and not starts:
                assert process.returncode == (0 if command[3] in SERVERS and "stopped" in text else 130)
                assert "Traceback" not in text
            after = list_finished(tmp_path)
            if command[3] == "review":  # it measures again what was corrected
                assert before.keys() <= after.keys()
            else:
                assert before.items() <= after.items()
            for path in after:
                check_is_whole(path)
