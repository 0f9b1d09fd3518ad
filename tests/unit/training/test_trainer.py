"""The loss, and what a run says about its weights."""

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

import mousecmr_data  # noqa: E402
from mousecmr_data.inference import load_model  # noqa: E402
from mousecmr_data.models.safetensors import read_weights, write_weights  # noqa: E402
from mousecmr_data.pipeline import analyze  # noqa: E402
from mousecmr_data.training import get_recipe, train  # noqa: E402
from mousecmr_data.training.trainer import soft_dice_loss, supervised_loss  # noqa: E402


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


def one_hot(labels: "torch.Tensor") -> "torch.Tensor":
    return (torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float() - 0.5) * 200


def test_the_loss_is_0_for_a_perfect_prediction_and_1_for_a_wrong_one() -> None:
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    assert float(soft_dice_loss(one_hot(labels), labels)) == pytest.approx(0.0, abs=1e-5)
    assert float(soft_dice_loss(one_hot((labels + 1) % 3), labels)) == pytest.approx(1.0, abs=1e-5)


def test_sums_run_over_the_batch_and_absent_classes_count_as_correct() -> None:
    labels = torch.zeros(2, 8, 8, dtype=torch.int64)
    labels[0, 0, 0] = 2
    missed = one_hot(torch.zeros_like(labels))
    # Background 254/255, myocardium absent in both (1), blood pool missed (0).
    assert float(soft_dice_loss(missed, labels)) == pytest.approx(1 - (254 / 255 + 1 + 0) / 3, abs=1e-5)


def test_all_heads_have_the_same_weight() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    good, bad = one_hot(labels), one_hot(labels + 1)
    both = float(supervised_loss([good, bad], labels))
    assert both == pytest.approx((float(soft_dice_loss(good, labels)) + float(soft_dice_loss(bad, labels))) / 2)
    assert float(supervised_loss([bad], labels, cross_entropy=1.0)) > 10
