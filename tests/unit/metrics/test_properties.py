"""Effects of permuting mice, renaming them and scaling their voxels on the results."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from evaluated import cohort, mouse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mousecmr_data.evaluation.result import MEASURES, Evaluation
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.evaluation.tables import tabulate_agreement, tabulate_frames, tabulate_mice
from mousecmr_data.metrics.agreement import bland_altman

few_examples = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
MICE = cohort(4)


def predictions(seed: int) -> dict[str, Any]:
    """Return each mouse's masks, shifted at random."""
    rng = np.random.default_rng(seed)
    return {n: np.roll(ds["mask"].values[[0, 3]], rng.integers(-2, 3, 2), (2, 3)) for n, ds in MICE.items()}


def score(labels: dict[str, Any], mice: Any = None) -> Evaluation:
    return evaluate(labels, (MICE if mice is None else mice).values(), strict=False, name="x")


@few_examples
@given(st.permutations(list(MICE)), st.integers(0, 99))
def test_the_order_of_the_mice_changes_nothing(order: list[str], seed: int) -> None:
    labels = predictions(seed)
    a, b = score(labels), score(labels, {n: MICE[n] for n in order})
    assert {m.mouse: m for m in a.mice} == {m.mouse: m for m in b.mice}
    same = "mean|sd|bias$|lower$|upper$|^p$|^r$|icc_2_1$"
    pd.testing.assert_frame_equal(tabulate_agreement(a).filter(regex=same), tabulate_agreement(b).filter(regex=same))


@few_examples
@given(st.integers(0, 99))
def test_renaming_the_mice_changes_nothing(seed: int) -> None:
    labels = predictions(seed)
    renamed = {f"Other{n}": ds.assign_attrs(mouse=f"Other{n}") for n, ds in MICE.items()}
    a, b = score(labels), score({f"Other{n}": v for n, v in labels.items()}, renamed)
    assert tabulate_agreement(a).equals(tabulate_agreement(b))
    assert [m.frames for m in a.mice] == [m.frames for m in b.mice]


@few_examples
@given(st.floats(0.2, 5.0), st.integers(0, 99))
def test_scaling_voxels_by_k_scales_lengths_by_k_and_volumes_by_k_cubed(k: float, seed: int) -> None:
    labels = predictions(seed)
    large = {n: mouse(n, ds["mask"].values, [0, 3], tuple(k * v for v in (1.0, 0.1, 0.1))) for n, ds in MICE.items()}
    a, b = tabulate_frames(score(labels)), tabulate_frames(score(labels, large))
    np.testing.assert_array_equal(a["dice"], b["dice"])
    for name, factor in {"hd95_mm": k, "assd_mm": k, "truth_ul": k**3, "predicted_ul": k**3}.items():
        np.testing.assert_allclose(b[name], a[name] * factor, rtol=1e-9)
    small, big = tabulate_mice(score(labels)), tabulate_mice(score(labels, large))
    for key in MEASURES:
        factor = 1.0 if key == "ef_percent" else k**3
        np.testing.assert_allclose(big[f"{key}_error"], small[f"{key}_error"] * factor, rtol=1e-9, atol=1e-9)


@few_examples
@given(st.integers(0, 99))
def test_exchanging_truth_and_prediction_only_changes_the_sign_of_errors(seed: int) -> None:
    labels = predictions(seed)
    forward = score(labels)
    exchanged = score({n: ds["mask"].values[[0, 3]] for n, ds in MICE.items()},
                      {n: mouse(n, v, [0, 1]) for n, v in labels.items()})  # fmt: skip
    a, b = tabulate_frames(forward), tabulate_frames(exchanged)
    np.testing.assert_allclose(a[["dice", "hd95_mm", "assd_mm"]], b[["dice", "hd95_mm", "assd_mm"]], rtol=1e-12)
    np.testing.assert_allclose(a["error_ul"], -b["error_ul"], atol=1e-9)


pairs = st.lists(st.tuples(st.floats(-100, 100), st.floats(-100, 100)), min_size=2, max_size=20)


@few_examples
@given(pairs, st.floats(-50, 50))
def test_a_shift_changes_only_bias_and_limits(values: list[tuple[float, float]], shift: float) -> None:
    a, b = np.array(values).T
    before, after = bland_altman(a, b), bland_altman(a + shift, b)
    assert after.bias == pytest.approx(before.bias + shift, abs=1e-9)
    assert after.sd == pytest.approx(before.sd, abs=1e-9)
    assert after.limits == pytest.approx((before.limits[0] + shift, before.limits[1] + shift), abs=1e-8)
    exchanged = bland_altman(b, a)
    assert exchanged.limits == pytest.approx((-before.limits[1], -before.limits[0]), abs=1e-9)
