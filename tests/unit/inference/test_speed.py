"""What a cine takes on this computer: measured with few slices, or by arithmetic, which is said."""

import os

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")

from pathlib import Path

from mousecmr_data.inference.predictor import Predictor, WeightsInfo
from mousecmr_data.inference.speed import CINE_SLICES, count_engine_gflop, count_gflop, measure_cines, measure_slice
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.schema import PUBLISHED_WEIGHTS, SMALL_WEIGHTS


def test_a_slice_is_measured() -> None:
    assert measure_slice(SMALL_WEIGHTS, "exact") > 0


def test_without_time_every_engine_is_calculated_and_says_so(tmp_path: Path) -> None:
    cines = list(measure_cines(50.0, tmp_path, seconds=0.0))
    assert {"exact", "eager"} <= {c.engine for c in cines}
    assert all("by arithmetic" in c.how for c in cines)
    assert {c.how.rpartition(": ")[2] for c in cines if c.weights == PUBLISHED_WEIGHTS} == {
        "the weights are not in the cache"
    }
    published = next(c for c in cines if c.weights == PUBLISHED_WEIGHTS)
    expected = CINE_SLICES * count_engine_gflop(PUBLISHED_WEIGHTS) / 50.0 / (os.cpu_count() or 1)
    assert published.seconds == pytest.approx(expected)
    assert 40 < count_engine_gflop(PUBLISHED_WEIGHTS) < 50, "the restructured network takes 47 GFLOP for a slice"


def test_published_weights_follow_from_the_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Child:
        def call(self, _work: object, _name: str, **_limits: float) -> float:
            return 0.01

        def end(self) -> None:
            pass

    monkeypatch.setattr("mousecmr_data.inference.speed.ChildProcess", Child)
    cines = list(measure_cines(50.0, tmp_path))
    small, published = (next(c for c in cines if c.weights == w) for w in (SMALL_WEIGHTS, PUBLISHED_WEIGHTS))
    assert small.seconds == pytest.approx(0.01 * CINE_SLICES)
    assert "measured with" in small.how
    ratio = count_engine_gflop(PUBLISHED_WEIGHTS) / count_engine_gflop(SMALL_WEIGHTS)
    assert published.seconds == pytest.approx(ratio * small.seconds)
    assert f"by arithmetic, {ratio:.0f} times" in published.how


def test_operations_are_counted_alike_whatever_engine_used_the_network() -> None:
    network = UNet3Plus((2, 2, 2, 2, 2))
    before = count_gflop(network)
    Predictor(network, WeightsInfo("t", "", "", True), "cpu", engine="eager")  # as the gate of engines does
    assert not network.low_resolution and count_gflop(network) == before
