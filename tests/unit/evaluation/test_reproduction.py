"""The published table as data, and the verdicts on measured numbers."""

import numpy as np
import pytest
from evaluated import mouse, stack

from mousecmr_data.evaluation.reproduction import AGREES, DIFFERS, compare_with_published
from mousecmr_data.evaluation.result import Evaluation
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.evaluation.tables import tabulate_agreement
from mousecmr_data.schema.manifest import load_manifest

PUBLISHED = load_manifest().published
NAMES = {"EDV": 0, "ESV": 1, "mass at ED": 2, "mass at ES": 3}
"""The measures that masks can be built to have; SV and EF follow from them."""


def evaluation(shift: float = 0.0) -> Evaluation:
    """25 mice whose predictions have the published biases and limits of agreement, plus ``shift`` µL of EDV."""
    assert PUBLISHED is not None
    by = {m.name: m for m in PUBLISHED.measures}
    rng = np.random.default_rng(0)
    truth, predicted = np.empty((4, 25)), np.empty((4, 25))
    for name, k in NAMES.items():
        m = by[name]
        z, d = (_standard(rng.normal(size=25)) for _ in range(2))
        spread = (m.limits_of_agreement[1] - m.limits_of_agreement[0]) / (2 * 1.96)
        truth[k] = m.truth[0] + (m.truth[1] * 0.5) * z
        predicted[k] = truth[k] + m.bias + spread * d
    predicted[0] += shift
    mice, predictions = [], {}
    for n in range(25):
        masks = [np.stack([stack(v[0, n], v[2, n]), stack(v[1, n], v[3, n])]) for v in (truth, predicted)]
        mice.append(mouse(f"M{n}", masks[0]))
        predictions[f"M{n}"] = masks[1]
    return evaluate(predictions, mice)


def _standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean()) / values.std(ddof=1)


@pytest.fixture(scope="module")
def exact() -> Evaluation:
    return evaluation()


def test_the_manifest_holds_the_published_table() -> None:
    assert PUBLISHED is not None
    table = {m.name: (m.truth, m.model, m.bias, m.limits_of_agreement, m.p) for m in PUBLISHED.measures}
    assert table["EDV"] == ((65.6, 10.0), (66.2, 10.1), 0.6, (-6.0, 7.1), 0.365)
    assert table["EF"] == ((59.3, 10.7), (59.1, 12.3), -0.2, (-5.7, 5.3), 0.698)
    assert table["mass at ES"] == ((111.2, 15.6), (112.8, 26.1), 1.6, (-13.0, 16.3), 0.299)
    assert len(PUBLISHED.measures) == 6 and len(PUBLISHED.dice) == 6 and len(PUBLISHED.times) == 3
    assert [b.at_least for b in PUBLISHED.bounds] == [0.91, 0.89, 0.85]


def test_predictions_built_with_the_published_biases_give_these_biases(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    table = tabulate_agreement(exact)
    for m in PUBLISHED.measures:
        if m.name in NAMES:
            row = table.loc[m.name]
            assert row["bias"] == pytest.approx(m.bias, abs=0.006), m.name
            assert (row["lower"] + row["upper"]) / 2 == pytest.approx(m.bias, abs=0.006)
            low, high = m.limits_of_agreement
            assert row["upper"] - row["lower"] == pytest.approx(high - low, abs=0.02), m.name
    sv = table.loc["SV", "bias"]
    assert sv == pytest.approx(0.6 - 0.4, abs=0.01), "SV's bias is that of EDV − ESV; 0.3 is printed"


def test_verdicts(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    rows = {(r.name, r.what): r for r in compare_with_published(exact, PUBLISHED)}
    for name in NAMES:
        for what in ("truth, mean", "model, mean", "bias", "lower limit", "upper limit"):
            assert rows[name, what].verdict == AGREES, (name, what, rows[name, what])
    assert rows["EDV", "bias"].tolerance == pytest.approx(1.96 * (13.1 / 3.92) * np.sqrt(2 / 25) + 0.05)
    moved = {(r.name, r.what): r for r in compare_with_published(evaluation(shift=8.0), PUBLISHED)}
    assert moved["EDV", "bias"].verdict == DIFFERS
    assert moved["EDV", "p"].verdict == DIFFERS
    assert moved["ESV", "bias"].verdict == AGREES


def test_external_cohorts_are_compared_with_the_bounds_published_for_them(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    rows = compare_with_published(exact, PUBLISHED, "external")
    assert [(r.name, r.published) for r in rows] == [("mean Dice", 0.91), ("smallest ICC", 0.85)]
