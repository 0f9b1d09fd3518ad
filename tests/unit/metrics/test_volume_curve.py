import numpy as np
import pytest
from scipy.signal import savgol_filter

from mousecmr_data.metrics.volumes import analyze_curve, fit_polynomials


def test_the_rates_of_a_cosine_are_its_steepest_slopes() -> None:
    """V = 50 + 20 cos(2πt/T): the steepest slope is 40π/T."""
    n, step = 60, 2.0
    t = np.arange(n) * step
    volumes = 50 + 20 * np.cos(2 * np.pi * t / (n * step))
    curve = analyze_curve(volumes, step)
    steepest = 20 * 2 * np.pi / (n * step / 1000)
    assert curve.peak_ejection_rate_ul_s == pytest.approx(steepest, rel=0.01)
    assert curve.peak_filling_rate_ul_s == pytest.approx(steepest, rel=0.01)
    assert curve.peak_filling_rate_edv_s == pytest.approx(steepest / 70, rel=0.01)
    assert curve.heart_rate_bpm == pytest.approx(500)
    assert (curve.ed_frame, curve.es_frame, curve.edv_ul, curve.esv_ul) == (0, 30, 70, 30)


@pytest.mark.parametrize(("frames", "order", "derivative"), [(5, 2, 0), (7, 3, 1), (7, 3, 0), (3, 1, 1)])
def test_polynomials_are_those_of_scipy(frames: int, order: int, derivative: int) -> None:
    for n in (frames, frames + 1, 30):
        values = np.random.default_rng(n).normal(40, 10, n)
        expected = savgol_filter(values, frames, order, deriv=derivative)
        np.testing.assert_allclose(fit_polynomials(values, frames, order, derivative), expected, rtol=0, atol=1e-10)


def test_slow_filling_and_fast_ejection_have_different_rates() -> None:
    volumes = np.concatenate([np.linspace(60, 20, 9), np.linspace(22, 60, 19)])
    curve = analyze_curve(volumes, 5.0)
    assert curve.peak_ejection_rate_ul_s == pytest.approx(1000, rel=0.01)
    assert curve.peak_filling_rate_ul_s == pytest.approx(38 / 18 / 0.005, rel=0.02)


def test_a_short_cine_has_no_rates() -> None:
    curve = analyze_curve([50.0, 20.0, 40.0], 5.0)
    assert np.isnan(curve.peak_ejection_rate_ul_s)
    assert curve.esv_ul == 20
    assert np.isnan(analyze_curve([0.0] * 8, 5.0).peak_filling_rate_edv_s)


def beat(step: float, ejection: float = 45.0, filling: float = 55.0, whole: float = 130.0) -> np.ndarray:
    """Return the volumes of one beat (ms): ejection and filling are half cosines between 65 and 27 µL."""
    t = np.arange(0, whole - step / 2, step)
    falling = 65 - 19 * (1 - np.cos(np.pi * t / ejection))
    rising = 27 + 19 * (1 - np.cos(np.pi * (t - ejection) / filling))
    return np.where(t < ejection, falling, np.where(t < ejection + filling, rising, 65.0))


@pytest.mark.parametrize("step", [3.0, 5.0, 6.0, 8.0])
def test_peak_rates_do_not_depend_on_the_frame_time(step: float) -> None:
    curve = analyze_curve(beat(step), step)
    assert curve.peak_ejection_rate_ul_s == pytest.approx(19 * np.pi / 0.045, rel=0.03)
    assert curve.peak_filling_rate_ul_s == pytest.approx(19 * np.pi / 0.055, rel=0.03)
    assert curve.heart_rate_plausible


def test_the_heart_rate_of_a_thinned_cine_is_not_plausible() -> None:
    curve = analyze_curve(beat(5.0)[::9], 5.0)
    assert curve.heart_rate_bpm == 4000 and not curve.heart_rate_plausible


def test_a_cine_that_ends_in_systole_has_no_filling_rate() -> None:
    curve = analyze_curve([60.0, 58, 54, 48, 42, 36, 31, 28], 5.0)
    assert (curve.ed_frame, curve.es_frame) == (0, 7)
    assert curve.peak_ejection_rate_ul_s > 1000
    assert np.isnan(curve.peak_filling_rate_ul_s) and np.isnan(curve.peak_filling_rate_edv_s)
