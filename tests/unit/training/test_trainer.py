"""What a run says about its weights."""

from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

import mousecmr_data
from mousecmr_data.inference import load_model
from mousecmr_data.models.safetensors import read_weights, write_weights
from mousecmr_data.pipeline import analyze
from mousecmr_data.training import get_recipe, train


def test_tuned_weights_have_a_name_of_their_own_and_their_ancestry(tmp_path: Path, phantom_cache: Path) -> None:
    mice = {
        name: mousecmr_data.load(mice=[name], source="phantom", cache=phantom_cache) for name in ("Mouse5", "Mouse6")
    }
    recipe = replace(
        get_recipe("published"), initial="phantom-small", epochs=1, steps_per_epoch=1, batch_size=1, device="cpu"
    )
    train(mice["Mouse5"], mice["Mouse6"], tmp_path / "my-mice", recipe)  # the example of docs/training.md
    path = tmp_path / "my-mice" / "best.safetensors"
    tuned = load_model(path, device="cpu", engine="eager")
    assert tuned.origin.name == "my-mice"
    assert tuned.origin.synthetic_training and "began with phantom-small (SYNTHETIC)" in tuned.origin.trained_on
    assert tuned.network.channels == load_model("phantom-small", engine="eager").network.channels
    _, about = read_weights(path)  # as if the mice had been real
    write_weights(path, tuned.network, {**about, "synthetic_training": False, "synthetic_ancestry": True})
    again = load_model(path, device="cpu", engine="eager")
    result = analyze(mice["Mouse5"]["Mouse5"].isel(frame=[0, 7], slice=slice(3, 5)), again)
    assert "began with weights trained on synthetic mice" in result.mouse["marks"]
    assert result.mouse["weights"] == "my-mice"
    write_weights(path, tuned.network, {**about, "name": "published"})  # of an earlier version of this library
    assert load_model(path, device="cpu", engine="eager").origin.name == "published (own)"
