"""Measure how often verdicts, comparisons and intervals are wrong, on simulated results.

    python benchmarks/verdict.py [--quick] [--trials N] [--figure FIGURE.csv] [--json FILE]

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

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from record import make_parser, write_record

from mousecmr_data.evaluation.result import Evaluation, FrameScore, MouseScore, make_evaluation
from mousecmr_data.evaluation.scoring import EvaluationConfig
from mousecmr_data.evaluation.tables import compare_results
from mousecmr_data.evaluation.verdict import AGREES, BETTER, DIFFERS, compare_dice, compare_measure, get_row_level
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
DiceScores = dict[tuple[str, str], np.ndarray]
SHORT = {name: name for name in COLUMNS} | {name: short for short, name in MASSES.items()}
UNUSED = ("truth_mean", "truth_sd", "model_mean", "model_sd", "lower", "upper", "r", "rho", "p")


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a small count, in about a minute")
    parser.add_argument("--trials", type=int, help="comparisons; 5 times as many verdicts, 50 times intervals")
    parser.add_argument("--figure", type=Path, default=FIGURE if FIGURE.is_file() else None)
    args = parser.parse_args()
    trials = args.trials or (20 if args.quick else 100)
    sizes = (5, 25) if args.quick else (5, 10, 25)
    with ProcessPoolExecutor(4) as pool:
        parts = {
            "verdict": pool.submit(measure_verdicts, 5 * trials, SIZES, None),
            "verdict_of_the_figure": pool.submit(measure_verdicts, 5 * trials, SIZES, args.figure),
            "compare": pool.submit(measure_comparisons, trials, sizes),
            "intervals": pool.submit(measure_intervals, 50 * trials),
        }
        if not args.figure:
            del parts["verdict_of_the_figure"]
        write_record(args, {"trials": trials, **{name: part.result() for name, part in parts.items()}})


# 1. The verdict


def measure_verdicts(
    trials: int, sizes: tuple[int, ...], figure: Path | None, networks: Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return the share of each outcome by network (empty: all) and number of mice.

    The rows "at least" are left out: they repeat what the others judge, and their ICC would take most of the time.
    """
    published, rows = get_published(), []
    draw = make_figure_drawer(figure) if figure else draw_from_table
    for network in networks or NETWORKS:
        change = NETWORKS[network]
        gain = 0.5 if change is halve_errors else 0.0
        for n in sizes if network == "the same" else (25,):
            rng = np.random.default_rng(n)
            outcomes = []
            for _ in range(trials):
                article = published
                if not figure:
                    article = print_table(*draw(rng, published.n_mice), draw_dice(rng, published.n_mice))
                outcomes.append(judge_numbers(article, *change(*draw(rng, n)), draw_dice(rng, n, gain)))
            shares = {o: outcomes.count(o) / trials for o in (AGREES, BETTER, DIFFERS)}
            rows.append({"network": network, "n": n, **shares})
    return rows


def judge_numbers(published: Published, truth: Measures, model: Measures, dice: DiceScores) -> str:
    """Return the outcome for these measures and Dice."""
    level, n, rows = get_row_level(published), len(truth["EDV"]), []
    for m in published.measures:
        a, b = truth[SHORT[m.name]], model[SHORT[m.name]]
        now = {"n": n, "bias": (b - a).mean(), "sd": (b - a).std(ddof=1), **dict.fromkeys(UNUSED, np.nan)}
        rows += compare_measure(m, now, published.n_mice, level)
    scores = {k: {"mean": v.mean(), "sd": v.std(ddof=1), "n": n} for k, v in dice.items()}
    rows += [compare_dice(d, scores, published.n_mice, level) for d in published.dice]
    verdicts = {r.verdict for r in rows}
    return next(outcome for outcome in (DIFFERS, BETTER, AGREES) if outcome in verdicts)


def print_table(truth: Measures, model: Measures, dice: DiceScores) -> Published:
    """Return the table that an article would print of its mice: n in the denominator, rounded."""
    published, measures = get_published(), []
    for m in published.measures:
        d = model[SHORT[m.name]] - truth[SHORT[m.name]]
        limits = (round(d.mean() - 1.96 * d.std(), 1), round(d.mean() + 1.96 * d.std(), 1))
        measures.append(replace(m, bias=round(d.mean(), 1), limits_of_agreement=limits))
    scores = [
        replace(d, mean=round(v.mean(), 2), sd=round(v.std(), 2))
        for d in published.dice
        if (v := dice.get((d.structure, d.phase))) is not None
    ]
    return replace(published, measures=tuple(measures), dice=tuple(scores))


def draw_dice(rng: np.random.Generator, n: int, gain: float = 0.0) -> DiceScores:
    """Draw the Dice of ``n`` mice by structure and phase; ``gain`` is the share of 1 − Dice that is won."""
    return {
        (d.structure, d.phase): np.clip(rng.normal(1 - (1 - d.mean) * (1 - gain), d.sd * (1 - gain), n), 0, 1)
        for d in get_published().dice
        if d.phase in (ED, ES)
    }


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
    for (structure, phase), dice in draw_dice(rng, n, gain).items():
        hd95, assd = rng.gamma(9, 0.033, n) * left, rng.gamma(9, 0.011, n) * left
        for k in range(n):
            scores = (float(v[k]) for v in (dice, hd95, assd))
            frames[k].append(FrameScore((ED, ES).index(phase), phase, structure, *scores, 30.0, 30.0))
    mice = []
    for k in range(n):
        values = ({COLUMNS[c]: float(m[c][k]) for c in COLUMNS} for m in (truth, model))
        mice.append(
            MouseScore(
                f"M{k}", "", "test", False, (1, 0.1, 0.1), "", str(k), "", tuple(frames[k]), *values, None, {}, None
            )
        )
    return make_evaluation("simulated", {}, EvaluationConfig().to_dict(), mice, [])


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
