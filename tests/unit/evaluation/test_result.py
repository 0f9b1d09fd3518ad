"""Result files: write, read, merge, compare."""

import json
from pathlib import Path

import numpy as np
import pytest
from evaluated import cohort, load_benchmark, shifted

from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, PredictionError
from mousecmr_data.evaluation.result import Evaluation, merge_results, read_result
from mousecmr_data.evaluation.scoring import EvaluationConfig, evaluate
from mousecmr_data.evaluation.tables import compare_results, tabulate_agreement, tabulate_overlap


def result(by: int = 1, n: int = 6, first: int = 0, **options: object) -> Evaluation:
    mice = dict(list(cohort(n).items())[first:])
    return evaluate(shifted(mice, by), mice.values(), EvaluationConfig(**options), name=f"moved by {by}")  # type: ignore[arg-type]


def test_a_written_result_file_is_read_back_unchanged(tmp_path: Path) -> None:
    evaluation = result()
    path = evaluation.write(tmp_path / "deep" / "r.json")
    assert read_result(path).to_dict() == evaluation.to_dict()
    table = json.loads(path.read_text())
    assert (table["schema"], table["schema_version"], table["synthetic"]) == ("mousecmr-evaluation", 1, False)
    assert table["policies"]["postprocessing"] == "none"
    assert table["versions"]["mousecmr-data"]
    assert len(table["mice"][0]["truth_sha256"]) == 64
    assert "NaN" not in path.read_text(), "missing numbers are null"
    assert [p.name for p in path.parent.glob("[!.]*")] == ["r.json"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="no result file"):
        read_result(tmp_path / "none.json")
    path = tmp_path / "r.json"
    for text in ("", "[]", '{"schema": "other", "schema_version": 1}', '{"schema": "mousecmr-evaluation"}'):
        path.write_text(text)
        with pytest.raises(FileLayoutError, match="is not a valid result file"):
            read_result(path)


def test_merged_parts_equal_the_whole() -> None:
    whole = result()
    parts = [result(n=3), result(first=3)]
    assert [m.mouse for m in merge_results(parts).mice] == [m.mouse for m in whole.mice]
    assert tabulate_agreement(merge_results(parts)).equals(tabulate_agreement(whole))
    assert merge_results([whole, parts[0]]).mice == whole.mice, "the same score twice is one score"


def test_results_that_disagree_are_not_merged() -> None:
    with pytest.raises(FileLayoutError, match="policy postprocessing"):
        merge_results([result(n=3), result(first=3, postprocessing="paper")])
    with pytest.raises(FileLayoutError, match="M0 is in two results with different scores"):
        merge_results([result(n=3), result(by=2, n=3)])


def test_compare_finds_the_better_result_and_its_interval() -> None:
    worse, better = result(by=3), result(by=1)
    comparison = compare_results(worse, better)
    row = comparison.table.iloc[0]
    assert (row["what"], row["structure"], row["phase"]) == ("Dice", "both", "ED and ES"), "the primary endpoint"
    assert row["better"] == "b" and row["p"] == row["p_adjusted"]
    others = comparison.table.iloc[1:]
    assert (others["p_adjusted"].dropna() >= others["p"].dropna()).all()
    assert row["ci_low"] <= row["difference"] <= row["ci_high"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    back = compare_results(better, worse).table
    assert back["difference"].to_numpy() == pytest.approx(-comparison.table["difference"].to_numpy())
    assert set(compare_results(worse, worse).table["better"]) == {""}


def test_of_two_equally_good_results_none_is_called_better() -> None:
    simulation = load_benchmark("verdict")
    equal, gain = simulation.measure_comparisons(12, (10,))
    assert equal["any row better"] <= 2 / 12, "once in 20 is allowed, and 71 % without adjustment"
    assert gain["any row better"] >= 11 / 12


def test_compare_names_mice_of_one_result_only_and_refuses_a_different_truth() -> None:
    comparison = compare_results(result(n=4), result(first=1, postprocessing="paper"))
    assert (comparison.mice, comparison.only_a, comparison.only_b) == (("M1", "M2", "M3"), ("M0",), ("M4", "M5"))
    assert comparison.policies_differ == ("postprocessing",)
    mice = cohort(2)
    for ds in mice.values():
        ds["mask"].values[0, 0, 0, 0] = 1
    other = evaluate(shifted(mice), mice.values())
    with pytest.raises(PredictionError, match="truth of M0, M1 is not the same"):
        compare_results(result(n=2), other)
    with pytest.raises(PredictionError, match="no mouse in common"):
        compare_results(result(n=2), result(first=3))


def test_policies_are_named_and_applied() -> None:
    with pytest.raises(ArgumentError, match=r"phases='best'"):
        EvaluationConfig("best")  # type: ignore[arg-type]
    mice = cohort(1)
    labels = shifted(mice, 0)
    labels["M0"][:, 0, 0, :3] = 2  # a few isolated voxels
    dirty, clean = (evaluate(labels, mice.values(), EvaluationConfig(postprocessing=r)) for r in ("none", "paper"))  # type: ignore[arg-type]
    assert dirty.mice[0].frames[1].dice < 1
    assert clean.mice[0].frames[1].dice == 1
    assert clean.mice[0].prediction_sha256 == dirty.mice[0].prediction_sha256, "the checksum is of the input"


def test_the_volume_curve_rule_takes_the_smoothed_curve_of_the_prediction() -> None:
    mice = cohort(1)
    late = np.roll(shifted(mice, 0)["M0"], 1, axis=0)  # the predicted cine is one frame late: ES is frame 4
    incomplete = np.array(shifted(mice, 0)["M0"])
    incomplete[2][incomplete[2] == 2] = 1  # one frame lacks its blood pool: it must not become ES
    incomplete[2][0, 18, 24] = 2
    for labels, es in ((late, 4), (incomplete, 3)):
        annotated, by_curve = (
            evaluate({"M0": labels}, mice.values(), EvaluationConfig(p)).mice[0]
            for p in ("annotated", "volume-curve")  # type: ignore[arg-type]
        )
        volumes = (labels == 2).sum(axis=(1, 2, 3)) * 0.01
        assert annotated.predicted["esv_ul"] == pytest.approx(volumes[3])
        assert by_curve.predicted["esv_ul"] == pytest.approx(volumes[es])
        assert by_curve.frames == annotated.frames, "overlap is of the annotated frames"


@pytest.mark.parametrize("empty", [0, 1, 3, 5])
def test_missed_hearts_are_counted_beside_every_mean_of_distances(empty: int) -> None:
    mice = cohort(6)
    labels = shifted(mice)
    for name in list(labels)[:empty]:
        labels[name] = np.zeros_like(labels[name])
    table = tabulate_overlap(evaluate(labels, mice.values(), strict=False))
    assert set(table["missed"]) == {empty}
    hd95 = table[table["score"] == "hd95_mm"]
    assert (hd95["n"] + hd95["missed"] == 6).all()
    assert table[table["score"] == "dice"]["n"].eq(6).all(), "the Dice of a missed heart is 0, not missing"


def test_a_result_without_its_bad_mice_is_not_better() -> None:
    whole, part = result(by=3), result(by=1, first=1)
    assert set(compare_results(whole, part).table["better"]) == {""}
    assert set(compare_results(part, result(by=3)).table["better"]) == {""}
    assert "a" in set(compare_results(result(by=1), result(by=3, first=1)).table["better"])


def test_leaving_hearts_out_makes_nothing_better() -> None:
    mice = cohort(8)
    plain, sly = shifted(mice, 2), shifted(mice, 1)
    for name in ("M6", "M7"):
        plain[name] = np.roll(plain[name], 4, axis=3)  # far off: large distances
        sly[name] = np.zeros_like(sly[name])  # nothing predicted: no distances
    a, b = (evaluate(m, mice.values(), strict=False) for m in (plain, sly))
    comparison = compare_results(a, b)
    assert comparison.missed == (0, 2)
    rows = comparison.table[~comparison.table["what"].eq("Dice")]
    assert "b" not in set(rows["better"])
