"""What is synthetic stays marked: files, manifest, run, weights, predictions, result, page."""

import json
from pathlib import Path

import evaluated
import h5py
import layout_files
import pytest
from click.testing import CliRunner, Result

import mousecmr_data as md
from mousecmr_data._utils.text import SYNTHETIC_DATA, SYNTHETIC_WEIGHTS
from mousecmr_data.cli.main import main
from mousecmr_data.models.safetensors import read_weights

MICE = {"S1": "train", "S2": "validation", "S3": "test"}


def run(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(w) for w in words])
    assert result.exit_code == 0, result.output
    return result


def write_mice(folder: Path, synthetic: bool) -> Path:
    for k, name in enumerate(MICE):
        ds = evaluated.beating(name, seed=k)
        images, masks = (ds[v].values.transpose(2, 3, 1, 0) for v in ("image", "mask"))
        sizes = {"voxel_size_mm": [1.0, 0.1, 0.1], "frame_time_ms": 5.0}
        layout_files.write(folder / f"{name}.h5", (0, 3), images, masks, sizes | {"synthetic": synthetic})
    return folder


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A manifest of files that say that they are synthetic, made without --synthetic."""
    monkeypatch.setenv("MOUSECMR_CACHE", str(tmp_path / "cache"))
    (tmp_path / "splits.csv").write_text("mouse,split\n" + "".join(f"{m},{s}\n" for m, s in MICE.items()))
    files = write_mice(tmp_path / "files", True)
    made = run("manifest", "create", files, "-o", tmp_path / "lab", "--splits", tmp_path / "splits.csv")
    assert SYNTHETIC_DATA in made.output
    return tmp_path / "lab"


def test_the_mark_goes_from_the_files_to_the_page(manifest: Path, tmp_path: Path) -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    pytest.importorskip("pingouin", reason="the extra evaluation is not installed")
    assert md.load(source=manifest).synthetic
    toml = manifest / "dataset.toml"
    toml.write_text(toml.read_text().replace("synthetic = true", "synthetic = false"))  # written by hand
    assert md.load(source=manifest).list_synthetic() == list(MICE)
    network = ("--set", "channels=[2,2,4,4,4]", "--set", 'augmentation="none"', "--set", "steps_per_epoch=2")
    trained = run("train", "--source", manifest, "--epochs", 1, *network, "-o", tmp_path / "run", "--device", "cpu")
    assert SYNTHETIC_DATA in trained.output
    data = json.loads((tmp_path / "run" / "run.json").read_text())["data"]
    assert data["training"]["synthetic"] and data["validation"]["synthetic"]
    weights = tmp_path / "run" / "best.safetensors"
    assert read_weights(weights)[1]["synthetic_training"] is True

    real = write_mice(tmp_path / "real", False)  # masks of real mice by these weights
    words = (
        "--weights",
        weights,
        "--engine",
        "eager",
        "--device",
        "cpu",
        "--postprocessing",
        "none",
        "-o",
        tmp_path / "out",
    )
    assert SYNTHETIC_WEIGHTS in run("predict", real / "S3.h5", *words).output
    with h5py.File(tmp_path / "out" / "S3.h5", "r+") as f:
        assert SYNTHETIC_WEIGHTS in f.attrs["notice"]
        with h5py.File(real / "S3.h5") as truth:  # a network of two steps finds no heart
            f["Masks"][...] = truth["Masks"][...]
            f["Masks"][:-1] = truth["Masks"][1:]
    words = ("--truth", real / "S3.h5", "-o", tmp_path / "result.json", "--report", tmp_path / "page", "--go-on")
    assert SYNTHETIC_WEIGHTS in run("evaluate", tmp_path / "out", *words).output
    assert SYNTHETIC_WEIGHTS in json.loads((tmp_path / "result.json").read_text())["notices"][0]
    assert any(SYNTHETIC_WEIGHTS in p.read_text() for p in (tmp_path / "page").glob("*.html"))
