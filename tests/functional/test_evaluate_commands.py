"""From a folder of files to a manifest, scores, a report and a comparison, on the command line."""

import json
from pathlib import Path

import h5py
import layout_files
import numpy as np
import pytest
from click.testing import CliRunner

import mousecmr_data as md
from mousecmr_data.cli.main import main
from mousecmr_data.errors import CacheError, ManifestError, UnitsError
from mousecmr_data.evaluation.result import read_result

pytest.importorskip("pingouin", reason="the extra evaluation is not installed")

SIZES = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == code, result.output
    return result.output


def test_only_the_named_mice_are_scored(mice: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any split, unless one is named; by commas, spaces or repeated options."""
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    masks = predicted(tmp_path / "masks", [f"A{k}" for k in range(6)], 1)
    for words in (["--mice", "A0,A4"], ["--mice", "A0 A4"], ["--mice", "A0", "--mice", "A4"]):
        for truth in (["--source", mice], ["--truth", tmp_path / "files"]):
            run("evaluate", masks, *truth, *words, "-o", tmp_path / "r.json", "--overwrite")
            assert [m.mouse for m in read_result(tmp_path / "r.json").mice] == ["A0", "A4"]
    assert "not in 'test'" in run("evaluate", masks, "--source", mice, "--mice", "A0", "--split", "test", code=1)
    assert "did you mean 'A5'" in run("evaluate", masks, "--truth", tmp_path / "files", "--mice", "a5", code=1)
    assert "A1: named more than once" in run("evaluate", masks, "--source", mice, "--mice", "A1,A1", code=1)


def predicted(folder: Path, names: list[str], by: int) -> Path:
    """Write the masks of ``layout_files``, shifted by ``by`` pixels: whole cines."""
    folder.mkdir()
    for k, name in enumerate(names):
        _, masks = layout_files.arrays((24, 20, 3, 5), seed=k)
        with h5py.File(folder / f"{name}.h5", "w") as f:
            f.create_dataset("Masks", data=np.roll(masks, by, axis=1))
            f.attrs["segmented_by"] = "a network"
    return folder


@pytest.fixture
def mice(tmp_path: Path) -> Path:
    """Create a manifest of six small mice."""
    for k in range(6):
        images, masks = layout_files.arrays((24, 20, 3, 5), seed=k)
        layout_files.write(tmp_path / "files" / f"A{k}.h5", (0, 2), images, masks, SIZES)
    (tmp_path / "splits.csv").write_text(
        "mouse,split\n" + "\n".join(f"A{k},{'train' if k < 2 else 'test'}" for k in range(6))
    )
    run(
        "manifest",
        "create",
        tmp_path / "files",
        "-o",
        tmp_path / "m",
        "--splits",
        tmp_path / "splits.csv",
        "--name",
        "lab",
    )
    return tmp_path / "m"


def test_a_custom_manifest_loads_and_verifies(mice: Path) -> None:
    cohort = md.load("test", source=mice, split_scheme="own")
    assert cohort.mice == ("A2", "A3", "A4", "A5")
    assert cohort["A2"].attrs["voxel_size_source"] == "the file's own attribute"
    assert "A0" in run("verify", "--source", mice, code=1), "files that were not loaded yet are not in the cache"
    with pytest.raises(CacheError, match="exists"):
        from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest

        create_manifest(mice.parent / "files", mice, DatasetInfo("lab"))


def test_a_manifest_assumes_no_voxel_size(tmp_path: Path) -> None:
    from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest

    layout_files.write(tmp_path / "f" / "B.h5")
    with pytest.raises(UnitsError, match=r"does not say its voxel size[\s\S]*--spacing"):
        create_manifest(tmp_path / "f", tmp_path / "m", DatasetInfo("b"))
    about = DatasetInfo("b", voxel_size_mm=(0.8, 0.2, 0.2), frame_time_ms=7.0)
    with pytest.raises(ManifestError, match="is not in files"):
        create_manifest(tmp_path / "f", tmp_path / "m", about, splits={"test": ["Nobody"]})
    assert [p.name for p in tmp_path.iterdir()] == ["f"], "no incomplete folder is left"
    create_manifest(tmp_path / "f", tmp_path / "m", about)
    ds = md.load(source=tmp_path / "m")["B"]
    assert float(ds["time"][1]) == 7.0
    assert md.measure(ds).voxel_size_mm == pytest.approx((0.8, 0.2, 0.2))


def test_evaluate_report_compare_and_merge(mice: Path, tmp_path: Path) -> None:
    names = [f"A{k}" for k in range(2, 6)]
    one, two = predicted(tmp_path / "one", names, 1), predicted(tmp_path / "two", names, 2)
    where = ("--source", mice, "--split-scheme", "own")
    shown = run("evaluate", one, *where, "-o", tmp_path / "1.json", "--report", tmp_path / "r", "--observer", two)
    assert "LV myocardium" in shown and "second observer" in shown and "EDV (µL)" in shown
    page = (tmp_path / "r" / "report.html").read_text()
    assert "A second observer" in page and "Best, median, worst" in page
    run("evaluate", two, *where, "-o", tmp_path / "2.json", "--workers", "2")
    table = json.loads(run("compare", tmp_path / "2.json", tmp_path / "1.json", "--json", "--csv", tmp_path / "c.csv"))
    dice = next(r for r in table["table"] if (r["what"], r["structure"], r["phase"]) == ("Dice", "both", "ED and ES"))
    assert dice["difference"] > 0 and dice["n"] == 4
    assert (tmp_path / "c.csv").is_file()
    run("merge", tmp_path / "1.json", tmp_path / "1.json", "-o", tmp_path / "m.json")
    assert len(json.loads((tmp_path / "m.json").read_text())["mice"]) == 4


def test_parts_of_files_without_a_manifest_are_merged(mice: Path, tmp_path: Path) -> None:
    files, parts = mice.parent / "files", []
    for name in ("A0", "A1"):
        parts.append(tmp_path / f"{name}.json")
        run("evaluate", files, "--truth", files, "--mice", name, "-o", parts[-1])
    run("merge", *parts, "-o", tmp_path / "m.json")
    assert len(json.loads((tmp_path / "m.json").read_text())["mice"]) == 2


def test_problems_are_named_and_skipped_only_with_go_on(mice: Path, tmp_path: Path) -> None:
    folder = predicted(tmp_path / "p", ["A2", "A3"], 1)
    where = ("--source", mice, "--split-scheme", "own")
    refused = run("evaluate", folder, *where, code=1)
    assert "A4 (missing)" in refused and "--go-on" in refused
    output = json.loads(run("evaluate", folder, *where, "--go-on", "--json"))
    assert [p["mouse"] for p in output["problems"]] == ["A4", "A5"]
    assert output["agreement"][0]["n"] == 2


def test_the_real_stack_on_the_command_line(real_mouse: Path) -> None:
    prediction = real_mouse.with_name("MouseMedian_reference_prediction.h5")
    output = json.loads(run("evaluate", prediction, "--truth", real_mouse, "--json"))
    dice = {r["structure"]: r["mean"] for r in output["overlap"] if r["score"] == "dice"}
    expected = {"LV myocardium": 0.911, "LV blood pool": 0.947, "both": 0.929}
    assert dice == {k: pytest.approx(v, abs=1e-3) for k, v in expected.items()}
