"""Tuning: which weights mice were segmented by, folds, and what a run keeps."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra torch is not installed")
pytest.importorskip("monai", reason="the extra training is not installed")

from mousecmr_data.errors import ArgumentError, MissingDataError  # noqa: E402
from mousecmr_data.inference.predictor import Predictor, WeightsInfo, list_models  # noqa: E402
from mousecmr_data.models.unet3plus import UNet3Plus  # noqa: E402
from mousecmr_data.training import tuning  # noqa: E402
from mousecmr_data.training.config import TrainConfig  # noqa: E402
from mousecmr_data.training.data import SliceData  # noqa: E402
from mousecmr_data.training.trainer import fit  # noqa: E402
from mousecmr_data.training.tuning import ReviewedMouse, find_weights, tune  # noqa: E402

TINY = TrainConfig(channels=(2, 4, 4, 8, 8), batch_size=2, steps_per_epoch=1, epochs=2, augmentation="none", patience=2)


def make_mouse(number: int, weights: tuple[str, ...] = ("phantom-small",), sha256: str = "") -> ReviewedMouse:
    rng = np.random.default_rng(number)
    label = np.zeros((3, 32, 32), np.uint8)
    label[:, 8:20, 8:20], label[:, 11:17, 11:17] = 1, 2
    image = (label * 80 + rng.integers(0, 40, label.shape)).astype(np.uint8)
    slices = SliceData(image, label, (3,), (0, 2))
    counts = {"edited": 2, "confirmed": 0, "excluded": 0}
    return ReviewedMouse(f"M{number}", slices, counts, ("AB",), False, Path(), weights, sha256)


def test_training_begins_with_the_weights_that_segmented_the_mice(tmp_path: Path) -> None:
    sha256 = list_models()["phantom-small"].weights.sha256
    assert find_weights([make_mouse(k, sha256=sha256) for k in range(2)]) == "phantom-small"
    assert find_weights([make_mouse(1)]) == "phantom-small", "results of a version that did not note the checksum"
    with pytest.raises(MissingDataError, match="--weights"):
        find_weights([make_mouse(1, sha256="0" * 64)])
    with pytest.raises(ArgumentError, match=r"a \(M1\), b \(M2\)"):
        find_weights([make_mouse(1, ("a",)), make_mouse(2, ("b",))])
    (tmp_path / "w.safetensors").write_bytes(b"1")
    assert find_weights([make_mouse(1, ("w", str(tmp_path / "w.safetensors")))]) == str(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("n_mice", "method", "folds"), [(3, "leave-one-out", 3), (7, "5-fold", 5)])
def test_every_mouse_is_scored_by_a_network_that_never_saw_it(
    n_mice: int, method: str, folds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = UNet3Plus(TINY.channels)
    origin = WeightsInfo("start", "real mice", "", False, "1", synthetic_ancestry=True)
    mice, seen = [make_mouse(k) for k in range(n_mice)], []

    def note(config: TrainConfig, training: SliceData, *args: object, **kwargs: object) -> object:
        seen.append(
            {k for k, mouse in enumerate(mice) if any(np.array_equal(mouse.slices.image[0], s) for s in training.image)}
        )
        return fit(config, training, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(tuning, "fit", note)
    monkeypatch.setattr(tuning, "read_reviewed_mice", lambda *_: (mice, {}))
    monkeypatch.setattr(tuning, "load_model", lambda *_, **__: Predictor(network, origin, "cpu"))
    monkeypatch.setattr(tuning, "_score", partial(score_by_epoch, {"epoch": 0}))
    events: list[tuning.TuningEvent] = []
    result = tune(
        tmp_path / "in", tmp_path / "out", "own", config=TINY, cache=tmp_path / "cache", progress=events.append
    )
    assert result.method == method and result.mice["mouse"].tolist() == [mouse.name for mouse in mice]
    held_out = [set(range(n_mice)) - part for part in seen[:folds]]
    assert all(held_out) and set().union(*held_out) == set(range(n_mice)) and sum(map(len, held_out)) == n_mice
    assert seen[folds:] == [set(range(n_mice))], "at last on all mice"
    assert result.epochs == 2 and result.dice == (0.5, pytest.approx(0.7))
    shares = [event.share for event in events]
    assert shares == sorted(shares) and shares[-1] == 1.0 and events[0].seconds_left > 0 == events[-1].seconds_left
    card = list_models(cache=tmp_path / "cache")["own"]
    assert (card.synthetic_training, card.synthetic_ancestry) == (False, True), "ancestry travels"


def score_by_epoch(
    calls: dict[str, int], held_out: list[ReviewedMouse], config: TrainConfig, _: UNet3Plus
) -> dict[str, float]:
    """Scores that get better with each epoch."""
    dice = 0.5 + 0.1 * (calls["epoch"] % (config.epochs + 1))
    calls["epoch"] += 1
    row = {"dice_myocardium": dice, "dice_blood_pool": dice}
    return {"validation_loss": -dice, **row} | {f"{k} {m.name}": v for m in held_out for k, v in row.items()}


def test_the_network_as_it_began_counts_and_frozen_statistics_stay(tmp_path: Path) -> None:
    network = UNet3Plus(TINY.channels)
    initial = {k: v.clone() for k, v in network.state_dict().items()}
    losses = iter([0.1, 0.3, 0.2])
    config = replace(TINY, frozen_statistics=True, learning_rate=0.1)
    slices = make_mouse(1).slices
    best, state = fit(config, slices, lambda _: {"validation_loss": next(losses)}, tmp_path, initial=initial)
    assert state.best_epoch == 0 and [row["epoch"] for row in state.curve] == [0, 1, 2]
    assert all(torch.equal(value, initial[name]) for name, value in best.state_dict().items())
    (tmp_path / "b").mkdir()
    last, state = fit(config, slices, None, tmp_path / "b", initial=initial)
    assert state.best_epoch == state.epoch == 2, "without validation, the last epoch is the best"
    changed = {name for name, value in last.state_dict().items() if not torch.equal(value, initial[name])}
    assert changed and not any("running" in name for name in changed)
