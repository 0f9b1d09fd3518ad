"""`mousecmr train`, `predict` and `measure` on synthetic mice."""

import json
from pathlib import Path

import layout_files
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="the extra torch is not installed")

from mousecmr_data.cli.main import main
from mousecmr_data.errors import ArgumentError


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == code, result.output
    return result.output


def make_arguments(folder: Path, cache: Path) -> list[str]:
    settings = ["pool_mice=1", "steps_per_epoch=1", "channels=[2,2,2,2,2]", "validation_mice=1"]
    words = [
        "train",
        "--recipe",
        "phantom-small",
        "-o",
        str(folder),
        "--epochs",
        "2",
        "--cache",
        str(cache),
        "--device",
        "cpu",
    ]
    return words + [w for s in settings for w in ("--set", s)]


def test_a_run_folder_describes_the_run_and_can_be_resumed(tmp_path: Path, phantom_cache: Path) -> None:
    folder = tmp_path / "run"
    assert "epoch 2/2" in run(*make_arguments(folder, phantom_cache))
    names = {p.name for p in folder.iterdir()} - {"tensorboard"}
    assert names >= {"config.json", "run.json", "curves.csv", "best.safetensors", "last.safetensors"}
    about = json.loads((folder / "run.json").read_text())
    assert about["data"]["training"]["synthetic"] is True
    assert len(about["data"]["training"]["sha256_of_slices"]) == 64
    assert set(about["data"]["training"]["mice"]).isdisjoint(about["data"]["validation"]["mice"])
    assert {"torch", "mousecmr-data", "python"} <= set(about["versions"])
    assert about["outcome"]["epochs"] == 2
    assert "epoch" not in run(*make_arguments(folder, phantom_cache)).split("written")[0]  # finished: no more epochs
    assert "another configuration" in run(*make_arguments(folder, phantom_cache), "--seed", "9", code=1)


def test_the_published_recipe_trains_on_the_labelled_slices_of_a_cohort(tmp_path: Path, phantom_cache: Path) -> None:
    pytest.importorskip("monai", reason="the extra training is not installed")
    import mousecmr_data
    from mousecmr_data.training.config import get_recipe, update_config
    from mousecmr_data.training.trainer import train

    mice = mousecmr_data.load(source="phantom", cache=phantom_cache)
    values = {"channels": (2, 2, 2, 2, 2), "epochs": 1, "steps_per_epoch": 1, "batch_size": 2, "device": "cpu"}
    config = update_config(get_recipe("published"), values)
    predictor = train(mice.select(["Mouse4"]), mice.select(["Mouse5"]), tmp_path, config)
    assert "predicted" in predictor.segment(mice["Mouse5"].isel(frame=[0]))
    with pytest.raises(ArgumentError, match="on both sides"):
        train(mice.select(["Mouse4"]), mice.select(["Mouse4"]), tmp_path / "b", config)


def test_phantom_small_segments_an_unseen_phantom(tmp_path: Path, phantom_cache: Path) -> None:
    words = ("predict", "Mouse6", "--source", "phantom", "--weights", "phantom-small", "--cache", str(phantom_cache))
    output = json.loads(run(*words, "-o", str(tmp_path), "--device", "cpu", "--json"))
    assert output["synthetic"] is True
    assert "ynthetic" in output["limits"]
    for row in output["dice"]:
        assert row["dice_myocardium"] > 0.75  # the least of the test mice
        assert row["dice_blood_pool"] > 0.8
    measured = json.loads(run("measure", str(tmp_path / "Mouse6.h5"), "--json"))
    assert 20 < measured[0]["ef_percent"] < 85
    assert len(measured[0]["frames"]) > 16


def test_predict_prints_the_notices(tmp_path: Path) -> None:
    mouse = layout_files.write(tmp_path / "mouse.h5", attrs={"synthetic": True})
    words = ("--weights", "phantom-small", "-o", str(tmp_path / "out"), "--device", "cpu")
    text = run("predict", str(mouse), *words)
    assert "SYNTHETIC DATA" in text
    assert "trained on synthetic mice only" in text
    assert "blood pool" in text
    assert (tmp_path / "out" / "mouse.h5").is_file()


def test_the_authors_weights_are_never_replaced_silently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOUSECMR_OFFLINE", "1")
    words = ("predict", "Mouse6", "--weights", "mousecmr-9.4T-unet3plus", "--cache", str(tmp_path))
    text = run(*words, "-o", str(tmp_path / "out"), code=1)
    assert "SEG459.h5" in text
    assert "--weights phantom-small" in text
    assert not (tmp_path / "out").exists()
    assert "SEG459.h5" in run("predict", "Mouse6", "--cache", str(tmp_path), code=1), "also with the default weights"


def test_the_real_stack_is_segmented(real_mouse: Path, tmp_path: Path) -> None:
    """The mean Dice of the two classes must be at least 0.80 on a real stack that was not used for training."""
    words = ("predict", str(real_mouse), "--weights", "phantom-small", "-o", str(tmp_path), "--device", "cpu", "--json")
    (row,) = json.loads(run(*words))["dice"]
    assert (row["dice_myocardium"] + row["dice_blood_pool"]) / 2 >= 0.80
