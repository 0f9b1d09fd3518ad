"""``mousecmr segment`` on files of a lab."""

import json
import tempfile
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import mousecmr_data
from mousecmr_data.cli.main import main
from mousecmr_data.formats.nifti import read_nifti_labels, write_nifti_images

pytest.importorskip("torch")


def segment(*words: object) -> Result:
    return CliRunner().invoke(main, ["segment", *map(str, words)])


@pytest.fixture(scope="module")
def cine(tmp_path_factory: pytest.TempPathFactory, phantom_cache: Path) -> Path:
    """Two frames, two slices of a synthetic mouse as NIfTI."""
    ds = mousecmr_data.load(mice=["Mouse5"], source="phantom", cache=phantom_cache)["Mouse5"]
    return write_nifti_images(ds.isel(frame=[0, 7], slice=slice(3, 5)), tmp_path_factory.mktemp("in") / "mine.nii.gz")


@pytest.fixture(scope="module")
def done(cine: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("out")
    broken = cine.with_name("broken.nii.gz")
    broken.write_bytes(b"\x89PNG not a NIfTI")
    with zipfile.ZipFile(cine.with_name("zipped.zip"), "w") as z:
        z.write(cine, "deep/er/scan.nii.gz")
    with zipfile.ZipFile(cine.with_name("bad.zip"), "w") as z:
        z.writestr("in/short.nii", bytes(5000))
    inputs = (cine, broken, *(cine.with_name(n) for n in ("zipped.zip", "bad.zip")))
    return folder, segment(*inputs, "-o", folder, "--weights", "phantom-small", "--engine", "eager")


def test_one_broken_mouse_does_not_stop_the_rest(done: tuple[Path, Result]) -> None:
    folder, result = done
    assert result.exit_code == 1
    assert "broken.nii.gz (16 bytes) is damaged or not NIfTI" in result.output
    assert "Traceback" not in result.output
    mice = pd.read_csv(folder / "mice.csv").set_index("mouse")
    assert mice["status"].to_dict() == {
        "mine": "done",
        "broken": "failed",
        "zipped_deep_er_scan": "done",
        "bad_in_short": "failed",
    }
    assert (
        tempfile.gettempdir() not in mice.loc["bad_in_short", "error"]
    )  # the path of the unpacked file does not help the user
    assert "not NIfTI" in str(mice.loc["broken", "error"])
    assert mice.loc["mine", "edv_ul"] == mice.loc["zipped_deep_er_scan", "edv_ul"] > 10


def test_all_files_are_written_and_marked(done: tuple[Path, Result]) -> None:
    folder, result = done
    for notice in ("trained on synthetic mice only", "SYNTHETIC images", "not for clinical use"):
        assert notice in " ".join(result.output.split())
    files = {p.name for p in (folder / "mine").iterdir()}
    assert files == {
        "masks.nii.gz", "automatic_masks.nii.gz", "images.nii.gz", "ED_mask.nii.gz", "ES_mask.nii.gz",
        "frames.csv", "slices.csv", "result.json", "montage.png", "curve.png", "movie.webp"
    }  # fmt: skip
    assert read_nifti_labels(folder / "mine" / "masks.nii.gz").shape == (2, 2, 256, 256)
    with Image.open(folder / "mine" / "movie.webp") as movie:
        assert movie.n_frames == 2  # type: ignore[attr-defined]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["weights"]["name"] == "phantom-small"
    assert len(manifest["weights"]["sha256"]) == 64
    assert manifest["use"] == "For research, not for clinical use."
    assert manifest["settings"]["weights"] == "phantom-small"
    assert manifest["versions"]["mousecmr-data"] == mousecmr_data.__version__
    assert {len(m["input"]["sha256"]) for m in manifest["mice"]} == {64}
    flags = pd.read_csv(folder / "flags.csv")
    assert list(flags.columns) == ["mouse", "level", "frame", "slice", "flag", "message", "marks"]
    assert not [p for p in folder.rglob("*") if p.name.startswith(".")]


def test_finished_mice_are_skipped(done: tuple[Path, Result], cine: Path) -> None:
    folder, _ = done
    words = (cine, "-o", folder, "--weights", "phantom-small", "--engine", "eager")
    before = (folder / "mine" / "masks.nii.gz").stat().st_mtime_ns
    again = segment(*words, "--json")
    assert again.exit_code == 0
    (row,) = json.loads(again.stdout)["mice"]
    assert row["status"] == "as before"
    assert row["edv_ul"] > 10
    assert (folder / "mine" / "masks.nii.gz").stat().st_mtime_ns == before
    (folder / "mine" / "masks.nii.gz").unlink()  # an incomplete result is made again
    changed = segment(*words, "--no-pictures", "--spacing", 1.0, 0.12, 0.12, "--json")
    (row,) = json.loads(changed.stdout)["mice"]
    assert row["status"] == "done"
    assert row["voxel_y_mm"] == 0.12
    assert not (folder / "mine" / "movie.webp").exists()


def test_a_failed_run_marks_an_earlier_result_as_outdated(done: tuple[Path, Result], cine: Path) -> None:
    folder = done[0]
    words = (cine, "-o", folder, "--weights", "phantom-small", "--engine", "eager", "--no-pictures")
    assert segment(*words).exit_code == 0
    notice = folder / "mine" / "OUTDATED.txt"
    assert segment(*words, "--spacing", 100, 100, 100).exit_code == 1
    assert "a later one" in notice.read_text().lower()
    assert (folder / "mine" / "masks.nii.gz").exists()
    assert segment(*words).exit_code == 0
    assert not notice.exists()
    network = json.loads((folder / "mine" / "result.json").read_text())["network"]
    assert (network["region"], network["region_reason"]) == ("whole field", "too few frames: 2")


def test_without_the_published_weights_nothing_is_written(
    cine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    result = segment(cine, "-o", tmp_path / "out", "--cache", tmp_path / "cache")
    assert result.exit_code == 1
    assert "neither in the cache nor reachable" in result.output
    assert "bring the file to" in result.output
    assert "--weights phantom-small" in result.output
    assert not (tmp_path / "out").exists()


def test_an_input_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    result = segment(tmp_path / "notes.txt", "-o", tmp_path / "out", "--weights", "phantom-small", "--engine", "eager")
    assert result.exit_code == 1
    assert "holds nothing that can be read" in result.output
    assert not (tmp_path / "out").exists()


def test_a_real_stack(real_mouse: Path, tmp_path: Path) -> None:
    """The same stack as HDF5 and as NIfTI gives the same masks, close to the expert's."""
    ds = mousecmr_data.open_mouse(real_mouse)
    write_nifti_images(ds, tmp_path / "real.nii.gz")
    result = segment(
        real_mouse, tmp_path / "real.nii.gz", "-o", tmp_path / "out", "--weights", "phantom-small", "--engine", "eager",
        "--no-pictures",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    a, b = (read_nifti_labels(tmp_path / "out" / name / "masks.nii.gz") for name in (real_mouse.stem, "real"))
    assert (a == b).all()
    truth = ds["mask"].values
    for label, least in ((1, 0.85), (2, 0.90)):
        assert 2 * ((a == label) & (truth == label)).sum() / ((a == label).sum() + (truth == label).sum()) > least
    mice = pd.read_csv(tmp_path / "out" / "mice.csv")
    assert mice["flags"].str.contains("single_frame").all()
    assert list(mice["source"]) == [real_mouse.name, "real.nii.gz"]
    assert "volume µL" in result.output and f"{mice['volume_ul'][0]:.1f}" in result.output
