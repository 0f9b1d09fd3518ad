"""A hostile file is one failed input with words, whatever it does to its reader; the others are done."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile
from pathlib import Path

import hostile_files as hostile
import layout_files
import pandas as pd
import pytest
import scanner_files
from click.testing import CliRunner

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data._utils import locks
from mousecmr_data.cli.main import main
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.formats.discover import SCRATCH_PREFIX, collect_inputs
from mousecmr_data.pipeline.config import SegmentConfig
from mousecmr_data.web.sessions import inspect_inputs

NETWORK = ("--weights", "phantom-small", "--engine", "eager", "--device", "cpu")


def segment(*words: object) -> pd.DataFrame:
    """Run `mousecmr segment` with a failing input; return its table of mice."""
    folder = str(words[words.index("-o") + 1])
    result = CliRunner().invoke(main, ["segment", *map(str, words), *NETWORK, "--no-pictures"])
    assert result.exit_code == 1, result.output
    assert "Traceback" not in result.output
    return pd.read_csv(Path(folder) / "mice.csv").set_index("mouse")


@pytest.fixture
def valid(tmp_path: Path) -> Path:
    return hostile.write_nifti(tmp_path / "in" / "valid.nii")


def write_crashing_reader(folder: Path, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader of Bruker files run ``code``, in the child process, instead."""
    (folder / "brukerapi").mkdir(parents=True)
    (folder / "brukerapi" / "__init__.py").touch()
    (folder / "brukerapi" / "dataset.py").write_text(f"import os, time\nclass Dataset: pass\n{code}\n")
    monkeypatch.syspath_prepend(folder)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.abort()", "SIGABRT"),
        ("time.sleep(300)", "takes more than 20 s to read"),
        ("data = bytearray(10**9)", "takes more than 800.0 MB of memory to read"),
    ],
)
def test_a_crash_a_hang_and_a_bomb_fail_alone(
    code: str, words: str, valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_crashing_reader(tmp_path / "modules", code, monkeypatch)
    monkeypatch.setenv("MOUSECMR_MAX_SECONDS", "20")
    monkeypatch.setenv("MOUSECMR_MAX_GB", "0.2")
    bad = tmp_path / "in" / "bad"
    scanner_files.bruker(hostile.IMAGES, bad / "pdata" / "1")
    mice = segment(bad, valid, "-o", tmp_path / "out")
    assert list(mice["status"]) == ["failed", "done"]
    assert words in mice.loc["bad_pdata_1_2dseq", "error"]
    inspected = inspect_inputs([bad, valid], SegmentConfig(), tmp_path)
    assert [bool(scan.error) for scan in inspected] == [True, False]
    assert words in str(inspected[0].error)


def test_a_worker_that_ends_fails_its_mouse_alone(valid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_crashing_reader(tmp_path / "modules", "os.kill(os.getppid(), 9)", monkeypatch)  # the worker of the batch
    bad = tmp_path / "in" / "bad"
    scanner_files.bruker(hostile.IMAGES, bad / "pdata" / "1")
    other = hostile.write_nifti(tmp_path / "in" / "other.nii", 1)
    mice = segment(bad, valid, other, "--workers", 2, "-o", tmp_path / "out")
    assert mice["status"].to_dict() == {"bad_pdata_1_2dseq": "failed", "valid": "done", "other": "done"}
    assert "SIGKILL" in mice.loc["bad_pdata_1_2dseq", "error"]


def test_a_dataset_of_itself_and_bombs_fail_alone(valid: Path, tmp_path: Path) -> None:
    bad = [
        hostile.write_own_dataset(tmp_path / "own.h5"),
        hostile.write_hdf5_bomb(tmp_path / "hdf5.h5"),
        hostile.write_dicom_bomb(tmp_path / "dicom.dcm"),
        *(hostile.write_nifti_bomb(tmp_path / f"{k}.nii.gz", k) for k in ("pixels", "extension", "offset")),
    ]
    with hostile.measure_peak() as before:
        segment(valid, tmp_path / "missing.nii", "-o", tmp_path / "out")
    with hostile.measure_peak() as peak:
        mice = segment(*bad, valid, "-o", tmp_path / "out")
    assert mice["status"].to_dict() == {**{p.name.split(".")[0]: "failed" for p in bad}, "valid": "as before"}
    assert peak[0] - before[0] < 300e6
    result = CliRunner().invoke(
        main, ["predict", str(bad[0]), str(bad[1]), str(layout_files.write(tmp_path / "A.h5", (0,))),
               "-o", str(tmp_path / "predicted"), *NETWORK]
    )  # fmt: skip
    assert "2 of 3 mice failed" in result.output
    assert [p.name for p in (tmp_path / "predicted").glob("*.h5")] == ["A.h5"]


def make_damaged(compression: int, content: bytes, path: Path) -> Path:
    packed = bytearray(hostile.write_zip(path, {"s.nii": content}, compression).read_bytes())
    packed[60:1000] = bytes(b ^ 0x5A for b in packed[60:1000])
    path.write_bytes(packed)
    return path


def test_one_bad_archive_fails_alone(valid: Path, tmp_path: Path) -> None:
    scan, folder = valid.read_bytes(), tmp_path / "study"
    for name in ("LZMA", "BZIP2", "DEFLATED"):
        make_damaged(getattr(zipfile, f"ZIP_{name}"), scan, folder / f"{name}.zip")
    inner = hostile.pack({"x.nii": scan})
    hostile.write_zip(folder / "beside.zip", {"a.zip": inner, "a/y.nii": scan, "broken.zip": b"PK\3\4"})
    hostile.write_zip(folder / "folder.zip", {"x.zip/s.nii": scan})
    hostile.write_zip(folder / "colon.zip", {"12:30/s.nii": scan})
    hostile.write_zip(folder / "reserved.zip", {"a/CON.nii": scan})
    hostile.write_zip(folder / "long.zip", {"n" * 300 + ".nii": scan})
    hostile.write_zip(folder / "conflict.zip", {"a": b"x", "a/s.nii": scan})
    (folder / "dir.zip").mkdir()
    (folder / "dir.zip" / "s.nii").write_bytes(scan)
    with collect_inputs([folder, valid]) as (found, refused):
        names = {s.name for s in found}
        assert names == {
            "dir.zip_s", "beside_a_x", "beside_a_y", "folder_x.zip_s", "colon_12_30_s", "reserved_a_CON", "valid",
        }  # fmt: skip
        assert {r.name for r in refused} == {"LZMA", "BZIP2", "DEFLATED", "broken", "long", "conflict"}
        assert all("free some space" not in str(r.error) for r in refused)
        assert all(r.error.expected for r in refused)


def start(arguments: list[str], temporary: Path) -> "subprocess.Popen[bytes]":
    temporary.mkdir(exist_ok=True)
    env = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mousecmr_data.cli.main", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)


def wait_for(folder: Path, pattern: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 300
    while not list(folder.glob(pattern)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_removes_unpacked_scans(valid: Path, tmp_path: Path) -> None:
    archive = hostile.write_zip(tmp_path / "in" / "m.zip", {f"{k}.nii": valid.read_bytes() for k in range(30)})
    process = start(["segment", str(archive), "-o", str(tmp_path / "out"), *NETWORK], tmp_path / "tmp")
    wait_for(tmp_path / "tmp", f"{SCRATCH_PREFIX}*/0/*", process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_sigterm_removes_the_folder_of_the_page(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    process = start(["serve", "--no-browser", "--port", "0", "--weights", "phantom-small"], tmp_path / "tmp")
    assert process.stderr is not None
    address = process.stderr.readline().decode().split("at ")[1].split()[0]
    deadline = time.monotonic() + 60
    while True:
        try:
            assert urllib.request.urlopen(address).status == 200
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert not list((tmp_path / "tmp").glob("mousecmr-*"))
    assert not [p for p in (tmp_path / "tmp").rglob("*") if p.is_file()]


def test_what_a_killed_run_left_is_removed_by_the_next(valid: Path, tmp_path: Path) -> None:
    long_ago = time.time() - 2 * locks.MIN_AGE_SECONDS
    dead, young = tmp_path / f"{SCRATCH_PREFIX}dead", tmp_path / f"{SCRATCH_PREFIX}young"
    for folder in (dead, young):
        (folder / "0").mkdir(parents=True)
    (tmp_path / f"{SCRATCH_PREFIX}link").symlink_to(tmp_path / "in")
    with collect_inputs([valid], tmp_path):
        (living,) = set(tmp_path.glob(f"{SCRATCH_PREFIX}*")) - {dead, young, tmp_path / f"{SCRATCH_PREFIX}link"}
        for folder in (dead, living, valid.parent):
            os.utime(folder, (long_ago, long_ago))
        with collect_inputs([valid], tmp_path):
            assert living.is_dir()
            assert not dead.exists()
            assert young.is_dir()
            assert valid.is_file()
    assert not living.exists()
    assert [p.name for p in valid.parent.iterdir()] == [valid.name]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_permission_error_never_says_free_some_space(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(MouseCMRError) as e, collect_inputs([tmp_path], tmp_path / "locked"):
        pass
    assert "free some space" not in str(e.value)
