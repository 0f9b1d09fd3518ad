"""`mousecmr predict` on many mice: it resumes, continues after errors, refuses other settings; masks are the same
on any number of processes."""

import json
from pathlib import Path

import h5py
import hostile_files
import layout_files
import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data._utils.locks import hold_lock
from mousecmr_data.cli.main import main
from mousecmr_data.errors import CacheError, MouseCMRError, ProcessError
from mousecmr_data.pipeline.batch import HDF5Files, MouseResult, predict_cohort, run_batch
from mousecmr_data.pipeline.config import PredictConfig

CONFIG = PredictConfig(weights="phantom-small", engine="eager", device="cpu")


def run(*arguments: str, code: int = 0) -> str:
    arguments = ("predict", *arguments, "--weights", "phantom-small", "--engine", "eager", "--device", "cpu")
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def mice(tmp_path: Path) -> list[str]:
    return [
        str(layout_files.write(tmp_path / "in" / f"{name}.h5", (0,), *layout_files.arrays((24, 20, 2, 1), seed)))
        for seed, name in enumerate("ABC")
    ]


def masks(folder: Path) -> dict[str, np.ndarray]:
    by_name = {}
    for path in sorted(folder.glob("*.h5")):
        with h5py.File(path) as f:
            by_name[path.name] = f["Masks"][:]
    return by_name


def test_a_failing_mouse_does_not_stop_the_rest_and_a_rerun_does_only_what_is_missing(
    mice: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    good = Path(mice[1]).read_bytes()
    Path(mice[1]).write_bytes(good[:1000])
    text = run(*mice, "-o", str(out), code=1)
    assert "1 of 3 mice failed" in text
    assert "B.h5" in text
    assert sorted(p.name for p in out.glob("*.h5")) == ["A.h5", "C.h5"]
    Path(mice[1]).write_bytes(good)
    before = {p: p.stat().st_mtime_ns for p in out.glob("*.h5")}
    (out / ".part-0123abcd-A.h5").write_bytes(b"of a run that was killed")
    report = json.loads(run(*mice, "-o", str(out), "--json"))
    assert [m["status"] for m in report["mice"]] == ["as before", "done", "as before"]
    assert len(report["dice"]) == 3
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert list(out.glob(".part-*")) == []


def test_each_file_states_its_settings_and_other_settings_are_refused(mice: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(mice[0], "-o", str(out))
    with h5py.File(out / "A.h5") as f:
        settings = json.loads(f.attrs["prediction_settings"])
        source = json.loads(f.attrs["prediction_input"])
    assert settings["weights"] == "phantom-small"
    assert settings["engine"] == "eager"
    assert len(settings["weights_sha256"]) == len(source["sha256"]) == 64
    text = run(*mice, "-o", str(out), "--postprocessing", "none", code=1)
    assert "'postprocessing': 'paper'" in text
    assert "--overwrite" in text
    assert sorted(masks(out)) == ["A.h5"], "no file was written"
    with h5py.File(mice[0], "r+") as f:
        f["Images"][0, 0, 0, 0] = 7
    assert "another file" in run(mice[0], "-o", str(out), code=1)
    assert "written" in run(*mice, "-o", str(out), "--postprocessing", "none", "--overwrite")
    assert sorted(masks(out)) == ["A.h5", "B.h5", "C.h5"]


def test_one_run_at_a_time_writes_to_a_folder(mice: list[str], tmp_path: Path) -> None:
    with hold_lock(tmp_path, "predict"), pytest.raises(CacheError, match="Another run"):
        predict_cohort(HDF5Files(tuple(mice)), tmp_path, CONFIG)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.enable_socket
def test_processes_and_a_cluster_give_the_same_masks(mice: list[str], tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    some = HDF5Files((*mice[:2], str(tmp_path / "gone.h5")))
    events: list[tuple[str, str]] = []
    one = predict_cohort(some, tmp_path / "one", CONFIG, progress=lambda e: events.append((e.kind, e.name)))
    assert [name for kind, name in events if kind in ("done", "failed")] == ["A", "B", some.mice[2]]
    assert {kind for kind, _ in events} == {"found", "slices", "done", "failed"}
    assert [m.status for m in one] == ["done", "done", "failed"]
    assert "gone.h5" in str(one[2].error)
    many = predict_cohort(some, tmp_path / "many", CONFIG, workers=2)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        distributed_results = predict_cohort(some, tmp_path / "spread", CONFIG, client=client)
    expected = masks(tmp_path / "one")
    assert len(expected) == 2
    for results, folder in ((many, "many"), (distributed_results, "spread")):
        assert [m.status for m in results] == [m.status for m in one]
        written = masks(tmp_path / folder)
        assert all(np.array_equal(written[name], expected[name]) for name in expected)


def make_failed(name: str, error: MouseCMRError) -> MouseResult:
    return MouseResult(name, "failed", error=error)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.enable_socket
def test_a_mouse_that_ends_its_worker_on_a_cluster_fails_alone() -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=":0", processes=True
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        results = run_batch(["a", "bad", "b", "c"], hostile_files.end_worker, make_failed, client=client)
    assert [r.status for r in results] == ["done", "failed", "done", "done"]
    assert isinstance(results[1].error, ProcessError)
