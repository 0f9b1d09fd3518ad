"""The published table as data, and the verdicts on measured numbers."""

import numpy as np
import pytest
from conftest import SHARED
from evaluated import cohort, load_benchmark, mouse, shifted, stack
from scipy import stats

from mousecmr_data.evaluation.result import Evaluation
from mousecmr_data.evaluation.scoring import evaluate
from mousecmr_data.evaluation.tables import tabulate_agreement
from mousecmr_data.evaluation.verdict import (
    AGREES,
    DIFFERS,
    LEVEL,
    NOT_MEASURED,
    SHOWN,
    compare_with_published,
    judge,
)
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


def test_rows_that_count_agree_and_a_shift_differs(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    rows = {(r.name, r.what): r for r in compare_with_published(exact, PUBLISHED)}
    for name in NAMES:
        for what in ("bias", "SD of the differences"):
            assert rows[name, what].verdict == AGREES, (name, what, rows[name, what])
        for what in ("truth", "model", "lower limit", "upper limit", "r", "p"):
            assert rows[name, what].verdict == SHOWN and rows[name, what].reason
    row = rows["EDV", "bias"]
    t = stats.t.isf(LEVEL / 18 / 2, 24)  # 18 rows are judged
    assert row.high - row.low == pytest.approx(2 * (t * (13.1 / 3.92) * np.sqrt(25 / 24) * np.sqrt(2 / 25) + 0.05))
    moved_result = evaluation(shift=8.0)
    moved = {(r.name, r.what): r for r in compare_with_published(moved_result, PUBLISHED)}
    assert moved["EDV", "bias"].verdict == DIFFERS
    assert moved["EDV", "p"].verdict == SHOWN, "p depends on the number of mice"
    assert moved["ESV", "bias"].verdict == AGREES
    outcome, reasons = judge(moved_result, moved.values())
    assert outcome == DIFFERS and "EDV, bias" in reasons


def test_numbers_are_shown_as_the_article_took_them_and_with_n_minus_1(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    rows = {(r.name, r.what): r for r in compare_with_published(exact, PUBLISHED)}
    row, limit = rows["ESV", "SD of the differences"], rows["ESV", "upper limit"]
    assert row.measured == pytest.approx(row.ours * np.sqrt(24 / 25))
    table = tabulate_agreement(exact).loc["ESV"]
    assert limit.ours == pytest.approx(table["upper"])
    assert limit.measured == pytest.approx(table["bias"] + 1.96 * table["sd"] * np.sqrt(24 / 25))
    assert rows["ESV", "r"].measured == pytest.approx(table["r"]) and rows["ESV", "r"].ours == pytest.approx(
        table["rho"]
    )
    assert rows["EDV", "truth"].published_sd == 10.0
    assert rows["EDV", "truth"].ours_sd == pytest.approx(rows["EDV", "truth"].measured_sd * np.sqrt(25 / 24))
    assert "misprint" in rows["mass at ES", "truth"].reason
    assert rows["Dice of the stack", "worst"].published == 0.87


def test_a_missed_heart_always_differs() -> None:
    assert PUBLISHED is not None
    mice = cohort(6)
    masks = shifted(mice, 0)
    masks["M2"][3] = 0
    result = evaluate(masks, mice.values(), strict=False)
    outcome, reasons = judge(result, compare_with_published(result, PUBLISHED))
    assert outcome == DIFFERS and "M2 (LV blood pool, ES): nothing was predicted" in reasons


def test_one_or_two_mice_below_a_bound_are_not_judged_by_it() -> None:
    assert PUBLISHED is not None
    mice = cohort(2)
    result = evaluate(shifted(mice, 3), mice.values())
    rows = compare_with_published(result, PUBLISHED, "external")
    assert [r.verdict for r in rows] == [NOT_MEASURED, NOT_MEASURED]
    assert judge(result, rows) == (None, ["no row could be judged"])


def test_external_cohorts_are_compared_with_the_bounds_published_for_them(exact: Evaluation) -> None:
    assert PUBLISHED is not None
    rows = compare_with_published(exact, PUBLISHED, "external")
    assert [(r.name, r.published) for r in rows] == [("mean Dice", 0.91), ("smallest ICC", 0.85)]


FIGURE = SHARED / "facts" / "figure3_digitised.csv"


@pytest.mark.parametrize("source", ["table", "figure"])
def test_the_rates_of_error_in_simulation(source: str) -> None:
    if source == "figure" and not FIGURE.is_file():
        pytest.skip("the article's figure in numbers is not beside this checkout (../shared/facts)")
    simulation = load_benchmark("verdict")
    rows = simulation.measure_verdicts(60, (5, 25, 130), FIGURE if source == "figure" else None)
    shares = {(r["network"], r["n"]): r for r in rows}
    for n in (5, 25, 130):
        assert shares["the same", n]["agrees"] >= 0.9, "95 % in many trials, in benchmarks/RESULTS.md"
    for network in ("volumes × 1.10", "volumes × 0.90", "masses × 1.10", "masses × 0.90"):
        assert shares[network, 25]["differs"] >= 0.9, network
    assert shares["better: half the errors", 25]["better"] >= 0.9
