"""Measure how often verdicts, comparisons and intervals are wrong, on simulated results.

    python benchmarks/verdict.py [--quick] [--json] [--trials N] [--figure FIGURE.csv]

1. `mousecmr reproduce`: the same network on other mice must agree; volumes or masses that are 10 % too large, and a
   better network, must be recognised. With --figure (the 25 mice read off the article's figure: columns EDV_t, EDV_m,
   ...; "t" truth, "m" model), mice are also drawn from these with replacement and judged by the article's own table.
   Otherwise the article and its repetition are both drawn from normal distributions of the published means, SDs and
   correlations, and the first is printed as the article printed it.
2. `mousecmr compare`: of two equally good networks, neither may be called better.
3. Intervals of 95 %: how often they hold the true value.

The Dice, which the figure does not have, are drawn from normal distributions with the published means and SDs.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mousecmr_data.evaluation.result import Evaluation, FrameScore, MouseScore, make_evaluation
from mousecmr_data.evaluation.scoring import EvaluationConfig
from mousecmr_data.evaluation.tables import compare_results, tabulate_agreement, tabulate_overlap
from mousecmr_data.evaluation.verdict import compare_with_published, judge
from mousecmr_data.metrics.agreement import bland_altman, compute_mean_interval
from mousecmr_data.schema.manifest import Published, load_manifest
from mousecmr_data.schema.variables import ED, ES

FIGURE = Path(__file__).parents[1].parent / "shared" / "facts" / "figure3_digitised.csv"
COLUMNS = {
    "EDV": "edv_ul",
    "ESV": "esv_ul",
    "SV": "sv_ul",
    "EF": "ef_percent",
    "mED": "mass_ed_mg",
    "mES": "mass_es_mg",
}
MASSES = {"mED": "mass at ED", "mES": "mass at ES"}
SIZES = (5, 10, 25, 50, 130)
SMALL = (2, 3, 4, 5, 10, 19, 20, 25)
Measures = dict[str, np.ndarray]
Drawer = Callable[[np.random.Generator, int], tuple[Measures, Measures]]
INTERVAL_TRIALS = 5000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small count, in about a minute")
    parser.add_argument("--trials", type=int, help="trials of each verdict and comparison")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path, default=FIGURE if FIGURE.is_file() else None)
    args = parser.parse_args()
    trials = args.trials or (20 if args.quick else 200)
    sizes = (5, 25, 130) if args.quick else SIZES
    result = {
        "trials": trials,
        "verdict": measure_verdicts(trials, sizes),
        "verdict_of_the_figure": measure_verdicts_of_figure(50 * trials, SIZES, args.figure) if args.figure else None,
        "compare": measure_comparisons(trials, (5, 25) if args.quick else (5, 10, 25)),
        "intervals": measure_intervals(500 if args.quick else INTERVAL_TRIALS),
    }
    if args.json:
        json.dump(result, sys.stdout, indent=1)
        return
    for name, rows in result.items():
        if isinstance(rows, list):
            print(f"\n{name}\n{pd.DataFrame(rows).to_string(index=False)}")


# 1. The verdict


def measure_verdicts(trials: int, sizes: tuple[int, ...], networks: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Return the share of each outcome by network (empty: all) and number of mice, for an article drawn each time."""
    rows = []
    for network in networks or NETWORKS:
        change = NETWORKS[network]
        for n in sizes if network == "the same" else (25,):
            rng = np.random.default_rng(n)
            outcomes = []
            for _ in range(trials):
                published = get_published()
                table = print_table(published, make_result(*draw_from_table(rng, published.n_mice), rng))
                result = make_result(*change(*draw_from_table(rng, n)), rng, 0.5 if change is halve_errors else 0.0)
                outcomes.append(judge(result, compare_with_published(result, table))[0])
            shares = {o: outcomes.count(o) / trials for o in ("agrees", "better", "differs")}
            rows.append({"network": network, "n": n, **shares})
    return rows


def measure_verdicts_of_figure(trials: int, sizes: tuple[int, ...], figure: Path) -> list[dict[str, Any]]:
    """Return the same for mice drawn from the figure, judged by the article's own table.

    The limits of the rows depend on the number of mice alone, so they are taken from one result and applied to all
    trials at once. The two rows "at least" have other limits in every trial and are left out.
    """
    published, draw, rows = get_published(), make_figure_drawer(figure), []
    for network, change in NETWORKS.items():
        gain = 0.5 if change is halve_errors else 0.0
        for n in sizes if network == "the same" else (25,):
            rng = np.random.default_rng(n)
            example = make_result(*change(*draw(rng, n)), rng, gain)
            limits = {(r.name, r.what): r for r in compare_with_published(example, published)}
            truth, model = change(*draw(rng, trials * n))
            errors = {k: (model[k] - truth[k]).reshape(trials, n) for k in COLUMNS}
            tested = []
            for name, d in ((MASSES.get(k, k), d) for k, d in errors.items()):
                tested.append((limits[name, "bias"], d.mean(axis=1), -1))
                tested.append((limits[name, "SD of the differences"], d.std(axis=1), -1))
            for score in published.dice:
                if score.phase in (ED, ES):
                    mean, sd = 1 - (1 - score.mean) * (1 - gain), score.sd * (1 - gain)
                    dice = np.clip(rng.normal(mean, sd, (trials, n)), 0, 1).mean(axis=1)
                    tested.append((limits[f"Dice {score.structure}, {score.phase}", "mean"], dice, 1))
            worse, better = np.zeros(trials, bool), np.zeros(trials, bool)
            for row, values, sign in tested:
                outside = (values < row.low) | (values > row.high)
                gains = sign * (np.abs(values) - abs(row.published)) > 0
                worse |= outside & ~gains
                better |= outside & gains
            shares = {"agrees": ~worse & ~better, "better": better & ~worse, "differs": worse}
            rows.append({"network": network, "n": n, **{k: float(v.mean()) for k, v in shares.items()}})
    return rows


def scale(names: tuple[str, ...], factor: float) -> Callable[..., tuple[Measures, Measures]]:
    """Return a change of a network: its measures ``names`` times ``factor``."""
    return lambda truth, model: (truth, {k: v * (factor if k in names else 1) for k, v in model.items()})


def halve_errors(truth: Measures, model: Measures) -> tuple[Measures, Measures]:
    """Return a network with half the errors; its mean Dice is 0.961."""
    return truth, {k: (truth[k] + model[k]) / 2 for k in truth}


NETWORKS: dict[str, Callable[..., tuple[Measures, Measures]]] = {
    "the same": lambda truth, model: (truth, model),
    "volumes × 1.10": scale(("EDV", "ESV", "SV"), 1.10),
    "volumes × 0.90": scale(("EDV", "ESV", "SV"), 0.90),
    "masses × 1.10": scale(("mED", "mES"), 1.10),
    "masses × 0.90": scale(("mED", "mES"), 0.90),
    "better: half the errors": halve_errors,
}


def get_published() -> Published:
    published = load_manifest().published
    assert published is not None  # noqa: S101 (the package's own table)
    return published


def make_figure_drawer(path: Path) -> Drawer:
    """Return a function that draws mice from the figure, with replacement; masses are linked with each other only."""
    table = pd.read_csv(path)

    def draw(rng: np.random.Generator, n: int) -> tuple[Measures, Measures]:
        volumes, masses = (table.iloc[rng.integers(0, len(table), n)] for _ in range(2))
        source = {k: masses if k.startswith("m") else volumes for k in COLUMNS}
        truth, model = ({k: source[k][f"{k}_{end}"].to_numpy() for k in COLUMNS} for end in "tm")
        return truth, model

    return draw


def draw_from_table(rng: np.random.Generator, n: int) -> tuple[Measures, Measures]:
    """Draw ``n`` mice from normal distributions of the published table."""
    truth = draw_truth(rng, n)
    return truth, draw_model(rng, truth)


def draw_truth(rng: np.random.Generator, n: int) -> Measures:
    """Draw the truth of ``n`` mice; hearts are kept within what lives."""
    by = {m.name: m.truth for m in get_published().measures}
    edv, esv = draw_pair(rng, n, (by["EDV"][0], by["ESV"][0]), (by["EDV"][1], by["ESV"][1], by["SV"][1]))
    edv = np.maximum(edv, 35)
    esv = np.clip(esv, 5, 0.8 * edv)
    masses = {k: rng.normal(by[name][0], by["mass at ED"][1], n) for k, name in MASSES.items()}
    return add_sv_and_ef({"EDV": edv, "ESV": esv, **masses})


def draw_model(rng: np.random.Generator, truth: Measures) -> Measures:
    """Draw the measures of a network with the published bias and limits of agreement."""
    by = {m.name: m for m in get_published().measures}
    sd = {k: (m.limits_of_agreement[1] - m.limits_of_agreement[0]) / 3.92 for k, m in by.items()}
    n = len(truth["EDV"])
    edv, esv = draw_pair(rng, n, (by["EDV"].bias, by["ESV"].bias), (sd["EDV"], sd["ESV"], sd["SV"]))
    masses = {k: truth[k] + rng.normal(by[name].bias, sd[name], n) for k, name in MASSES.items()}
    return add_sv_and_ef({"EDV": truth["EDV"] + edv, "ESV": truth["ESV"] + esv, **masses})


def draw_pair(
    rng: np.random.Generator, n: int, means: tuple[float, float], sds: tuple[float, float, float]
) -> np.ndarray:
    """Draw EDV and ESV (2, n) with these SDs, and the third one of their difference."""
    a, b, difference = sds
    covariance = (a**2 + b**2 - difference**2) / 2
    return rng.multivariate_normal(means, [[a**2, covariance], [covariance, b**2]], n).T


def add_sv_and_ef(measures: Measures) -> Measures:
    """Return ``measures`` with SV and EF."""
    sv = measures["EDV"] - measures["ESV"]
    return {**measures, "SV": sv, "EF": 100 * sv / measures["EDV"]}


def make_result(truth: Measures, model: Measures, rng: np.random.Generator, gain: float = 0.0) -> Evaluation:
    """Return an evaluation with these measures, and Dice of the published means and SDs.

    ``gain`` is the share of 1 − Dice, and of the distances, by which the network is better.
    """
    n, left = len(truth["EDV"]), 1 - gain
    frames: list[list[FrameScore]] = [[] for _ in range(n)]
    for d in get_published().dice:
        if d.phase not in (ED, ES):
            continue
        dice = np.clip(rng.normal(1 - (1 - d.mean) * left, d.sd * left, n), 0, 1)
        hd95, assd = rng.gamma(9, 0.033, n) * left, rng.gamma(9, 0.011, n) * left
        for k in range(n):
            scores = (float(v[k]) for v in (dice, hd95, assd))
            frames[k].append(FrameScore((ED, ES).index(d.phase), d.phase, d.structure, *scores, 30.0, 30.0))
    mice = []
    for k in range(n):
        values = ({COLUMNS[c]: float(m[c][k]) for c in COLUMNS} for m in (truth, model))
        mice.append(
            MouseScore(
                f"M{k}", "", "test", False, (1, 0.1, 0.1), "", str(k), "", tuple(frames[k]), *values, None, {}, None
            )
        )
    return make_evaluation("simulated", {}, EvaluationConfig().to_dict(), mice, [])


def print_table(published: Published, article: Evaluation) -> Published:
    """Return the table that an article would print of ``article``: n in the denominator, rounded."""
    measures, overlap = tabulate_agreement(article), tabulate_overlap(article)
    scores = overlap[overlap["score"] == "dice"].set_index(["structure", "phase"])
    to_article = ((published.n_mice - 1) / published.n_mice) ** 0.5
    rows = []
    for m in published.measures:
        row = measures.loc[m.name]
        spread = 1.96 * row["sd"] * to_article
        limits = (round(row["bias"] - spread, 1), round(row["bias"] + spread, 1))
        rows.append(replace(m, bias=round(row["bias"], 1), limits_of_agreement=limits))
    dice = []
    for d in published.dice:
        mean, sd = scores.loc[(d.structure, d.phase), ["mean", "sd"]]
        dice.append(replace(d, mean=round(mean, 2), sd=round(sd * to_article, 2)))
    smallest = float(measures["icc_2_1"].min())
    mean_dice = float(scores.loc[("both", "ED and ES"), "mean"])
    printed = {"mean Dice": np.floor(mean_dice * 100) / 100, "smallest ICC": np.floor(smallest * 100) / 100}
    bounds = tuple(replace(b, at_least=float(printed[b.what])) for b in published.bounds)
    return replace(published, measures=tuple(rows), dice=tuple(dice), bounds=bounds)


# 2. Two networks


def measure_comparisons(trials: int, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Return how often any row of two equally good networks reads "better", and how often a better one is found."""
    rows = []
    for gain in (0.0, 0.3):
        for n in sizes:
            rng = np.random.default_rng(n)
            found = 0
            for _ in range(trials):
                truth = draw_truth(rng, n)
                a, b = (make_result(truth, draw_model(rng, truth), rng, g) for g in (0.0, gain))
                found += bool((compare_results(a, b).table["better"] != "").any())
            rows.append({"gain of B": gain, "n": n, "any row better": found / trials})
    return rows


# 3. Intervals


def measure_intervals(trials: int, sizes: tuple[int, ...] = SMALL) -> list[dict[str, Any]]:
    """Return how often the intervals of mean, bias and limits of agreement hold the true value of normal data."""
    rows = []
    for n in sizes:
        rng = np.random.default_rng(n)
        data = rng.normal(0, 1, (trials, n))
        mean = [compute_mean_interval(d) for d in data]
        agreement = [bland_altman(d, np.zeros(n)) for d in data]
        row: dict[str, Any] = {"n": n, "mean": share_holding(mean, 0.0)}
        row["bias"] = share_holding([a.bias_ci for a in agreement], 0.0)
        row["upper limit"] = share_holding([a.upper_ci for a in agreement], 1.96)
        rows.append(row)
    return rows


def share_holding(intervals: list[tuple[float, float]], value: float) -> float | None:
    """Return the share of intervals that hold ``value``; None where there is no interval."""
    if np.isnan(intervals[0][0]):
        return None
    return float(np.mean([low <= value <= high for low, high in intervals]))


if __name__ == "__main__":
    main()
