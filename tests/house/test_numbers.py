"""The numbers in texts are those in the files that the scripts of ``benchmarks/`` wrote."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS, README, MODELS = (
    (ROOT / name).read_text(encoding="utf-8") for name in ("benchmarks/RESULTS.md", "README.md", "docs/models.md")
)
CARD = tomllib.loads((ROOT / "mousecmr_data/inference/weights/phantom-small.toml").read_text(encoding="utf-8"))
ACCURACY = json.loads((ROOT / "benchmarks/accuracy.json").read_text(encoding="utf-8"))
VERDICT = json.loads((ROOT / "benchmarks/verdict.json").read_text(encoding="utf-8"))
STRUCTURES = ("LV myocardium", "LV blood pool")


def format_dice(numbers: Any) -> str:
    mean, sd = numbers
    return f"{mean:.3f}" if sd is None else f"{mean:.3f} ± {sd:.3f}"


@pytest.mark.parametrize("cohort", ACCURACY["cohorts"])
def test_the_accuracy_of_phantom_small_is_as_measured(cohort: str) -> None:
    row = ACCURACY["cohorts"][cohort]
    dice = [format_dice(row["dice"][s]) for s in STRUCTURES]
    assert any(f"| {row['n']} | {dice[0]} | {dice[1]} |" in line for line in MODELS.splitlines() if cohort in line)
    assert any(", ".join(dice) in text for name, text in CARD["measured"].items() if cohort in name)


def test_the_numbers_are_of_the_weights_in_the_package() -> None:
    assert ACCURACY["sha256"] == CARD["weights"]["sha256"] and ACCURACY["postprocessing"] == "paper"


def test_the_bias_of_the_mass_stands_beside_the_dice() -> None:
    mass = ACCURACY["cohorts"]["phantom, split test"]["agreement"]["mass at ED"]
    p = "p < 0.001" if mass["p"] < 0.001 else f"p = {mass['p']:.3f}"
    text = f"{mass['bias']:+.1f} mg at ED ({p}, ICC(2,1) {mass['icc_2_1']:.2f})"
    assert text in " ".join(MODELS.split())
    assert text in " ".join(CARD["measured"].values())


def test_the_rates_of_error_are_as_simulated() -> None:
    for key in ("verdict", "verdict_of_the_figure"):
        for r in VERDICT[key]:
            shares = " | ".join(f"{100 * r[o]:.1f}" for o in ("agrees", "better", "differs"))
            assert f"| {r['network']} | {r['n']} | {shares} |" in RESULTS, (key, r)
    for r in VERDICT["compare"]:
        assert f"| {100 * r['gain of B']:.0f} % | {r['n']} | {100 * r['any row better']:.1f} |" in RESULTS, r
    for r in VERDICT["intervals"]:
        cells = ["none" if r[k] is None else f"{100 * r[k]:.1f}" for k in ("mean", "bias", "upper limit")]
        assert f"| {r['n']} | {' | '.join(cells)} |" in RESULTS, r


def test_the_times_in_the_readme_are_in_the_results() -> None:
    line = next(p for p in README.split("\n- ") if p.startswith("**Fast**"))
    for seconds in re.findall(r"(\d+\.\d+) s", line):
        assert re.search(rf"\b{re.escape(seconds)}\d?\b|\b{float(seconds) - 0.05:.2f}\b", RESULTS), seconds
    for seconds in re.findall(r"(\d+\.\d+) s", next(p for p in README.split("\n- ") if p.startswith("**Light**"))):
        assert f"{seconds} s" in RESULTS
