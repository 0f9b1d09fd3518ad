import numpy as np
import pytest

from mousecmr_data.metrics.volumes import analyze_curve


def test_rates_of_a_cosine_are_those_of_its_slope() -> None:
    """V = 50 + 20 cos(2πt/T): the steepest slope is 40π/T."""
    n, step = 60, 2.0
    t = np.arange(n) * step
    volumes = 50 + 20 * np.cos(2 * np.pi * t / (n * step))
    found = analyze_curve(volumes, step)
    steepest = 20 * 2 * np.pi / (n * step / 1000)
    assert found.peak_ejection_rate_ul_s == pytest.approx(steepest, rel=0.01)
    assert found.peak_filling_rate_ul_s == pytest.approx(steepest, rel=0.01)
    assert found.peak_filling_rate_edv_s == pytest.approx(steepest / 70, rel=0.01)
    assert found.heart_rate_bpm == pytest.approx(500)
    assert (found.ed_frame, found.es_frame, found.edv_ul, found.esv_ul) == (0, 30, 70, 30)


def test_slow_filling_and_fast_ejection_are_told_apart() -> None:
    volumes = np.concatenate([np.linspace(60, 20, 9), np.linspace(22, 60, 19)])
    found = analyze_curve(volumes, 5.0)
    assert found.peak_ejection_rate_ul_s == pytest.approx(1000, rel=0.01)
    assert found.peak_filling_rate_ul_s == pytest.approx(38 / 18 / 0.005, rel=0.02)


def test_a_short_cine_has_no_rates() -> None:
    found = analyze_curve([50.0, 20.0, 40.0], 5.0)
    assert np.isnan(found.peak_ejection_rate_ul_s)
    assert found.esv_ul == 20
    assert np.isnan(analyze_curve([0.0] * 8, 5.0).peak_filling_rate_edv_s)
