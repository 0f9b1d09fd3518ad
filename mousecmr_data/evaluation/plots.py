"""Figures of an evaluation: overlays, agreement, overlap, volume curves, groups. Each is a matplotlib ``Figure``.

They follow the paper's figures 2-4: Bland–Altman and identity plots of each measure, Dice by structure and phase.
Every figure of synthetic mice is marked as such.
"""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import get_spacing, load_truth
from mousecmr_data.evaluation.predictions import Prediction, match_frames, open_predictions
from mousecmr_data.evaluation.result import MEASURES, Evaluation
from mousecmr_data.evaluation.tables import (
    STRUCTURES,
    compute_mean_dice,
    correlate_dice_with_errors,
    describe_p,
    format_bias,
    has_measures,
    tabulate_frames,
    tabulate_mice,
)
from mousecmr_data.metrics.agreement import Values, bland_altman, drop_missing_pairs, pearson
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess_cine
from mousecmr_data.metrics.volumes import is_heart_rate_plausible
from mousecmr_data.plotting import MARGIN_MM, create_figure, escape_math, find_crop, mark_title
from mousecmr_data.schema.labels import COLOURS, FOREGROUND, MEANINGS
from mousecmr_data.schema.variables import DIMS, ED, ES, IMAGE, MASK, UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


MODEL_COLOUR, TRUTH_COLOUR, OBSERVER_COLOUR = "#1f5fa8", "#333333", "#8a8a8a"
MAX_CURVES = 24
"""Mice whose curves fit a page."""


def plot_all(evaluation: Evaluation) -> dict[str, Figure]:
    """Return by name every figure of one evaluation for which there is data."""
    figures = {"dice": plot_overlap(evaluation)}
    if has_measures(evaluation):
        figures |= {"agreement": plot_agreement(evaluation), "dice_and_errors": plot_errors(evaluation)}
    if curves := plot_curves(evaluation):
        figures["curves"] = curves
    if len({m.phenotype for m in evaluation.mice}) > 1:
        figures["groups"] = plot_groups(evaluation)
    return figures


def rank_mice(evaluation: Evaluation) -> dict[str, str]:
    """Return the mice with the best, the median and the worst mean Dice; fewer where there are fewer mice."""
    order = list(map(str, compute_mean_dice(evaluation).sort_values(ascending=False, kind="stable").index))
    if len(order) == 1:
        return {"only": order[0]}
    median = {"median": order[len(order) // 2]} if len(order) > 2 else {}
    return {"best": order[0], **median, "worst": order[-1]}


def plot_overlays(evaluation: Evaluation, mice: Mapping[str, Any] | Any, predictions: Any) -> Figure:
    """Plot ED and ES of the best, the median and the worst mouse, one row each: solid predicted, dotted truth.

    ``mice`` gives a dataset by name (a cohort does); ``predictions`` are those that were scored.
    """
    opened = open_predictions(predictions)
    rows = []
    for rank, mouse in rank_mice(evaluation).items():
        prediction = opened.read(opened.find(mouse, len(evaluation.mice) == 1), mice[mouse])
        rows += _make_overlay_rows(rank, mice[mouse], prediction, evaluation.policies["postprocessing"])
    columns = max(len(row[1]) for row in rows)
    height = 1.35
    figure = create_figure(figsize=(height * columns + 1.5, (height + 0.05) * len(rows) + 1.0), facecolor="black")
    top = 1 - 0.62 / figure.get_size_inches()[1]
    margins = {"wspace": 0.03, "hspace": 0.03, "left": 0.075, "right": 0.995, "top": top, "bottom": 0.045}
    grid = figure.subplots(len(rows), columns, squeeze=False, gridspec_kw=margins)
    for axes, (label, images, truth, predicted, aspect) in zip(grid, rows, strict=True):
        low, high = np.percentile(images, (0.5, 99.7))
        for k, ax in enumerate(axes):
            ax.set_xticks([])
            ax.set_yticks([])
            if k >= len(images):
                ax.set_visible(False)
                continue
            ax.imshow(images[k], cmap="gray", vmin=low, vmax=max(high, low + 1), aspect=aspect)
            for level, colour in zip((0.5, 1.5), COLOURS.values(), strict=True):
                for mask, style in ((predicted[k], "solid"), (truth[k], "dotted")):
                    if (mask > level).any():
                        ax.contour(mask, [level], colors=[colour], linewidths=0.9, linestyles=style)
        axes[0].set_ylabel(label, color="white", fontsize=7.5)
    title = mark_title("best, median and worst mean Dice; solid: predicted, dotted: ground truth", evaluation.synthetic)
    figure.text(0.01, 1 - 0.12 / figure.get_size_inches()[1], title, color="white", fontsize=10, va="top")
    for i, (structure, colour) in enumerate(COLOURS.items()):
        figure.text(0.01 + 0.16 * i, 0.012, f"— {MEANINGS[structure]}", color=colour, fontsize=9)
    return figure


def _make_overlay_rows(
    rank: str, ds: xr.Dataset, prediction: Prediction, rule: Any
) -> list[tuple[str, Any, Any, Any, float]]:
    """Return label, images, truth, prediction (each (slice, y, x), cut to the heart) and pixel aspect of ED and ES."""
    truth, frames = load_truth(ds), match_frames(prediction, ds)
    masks = truth[MASK].values
    spacing = get_spacing(ds)
    dy, dx = spacing[1:]
    processed = postprocess_cine(prediction.labels, rule, spacing)
    part = find_crop(masks, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    rows = []
    for k, phase in enumerate(truth["phase"].values.astype(str)):
        if phase not in (ED, ES, UNKNOWN):
            continue
        number = int(truth["frame"].values[k])
        predicted: NDArray[np.uint8] = processed[frames.index(number)]
        images = ds[IMAGE].isel(frame=int(np.flatnonzero(ds["frame"].values == number)[0])).transpose(*DIMS[1:]).values
        mean_dice = np.mean(list(dice_by_class(predicted, masks[k]).values()))
        name = f"frame {number}" if phase == UNKNOWN else phase
        label = escape_math(f"{rank}: {ds.attrs.get('mouse', '')}\n{name}, Dice {mean_dice:.2f}")
        rows.append((label, images[:, *part], masks[k][:, *part], predicted[:, *part], dy / dx))
    return rows


def plot_agreement(evaluation: Evaluation) -> Figure:
    """Plot identity and Bland–Altman plots of each measure."""
    table = tabulate_mice(evaluation)
    title = _make_title(evaluation, "prediction against ground truth")
    figure, axes = _create_axes(title, (14, 9.6), 3, 4, fontsize=11)
    for k, (key, (name, unit)) in enumerate(MEASURES.items()):
        identity, difference = axes[k // 2, 2 * (k % 2)], axes[k // 2, 2 * (k % 2) + 1]
        predicted, truth = drop_missing_pairs(table[f"{key}_predicted"], table[f"{key}_truth"])
        _plot_identity(identity, truth, predicted, f"{name} ({unit})")
        _plot_bland_altman(difference, truth, predicted, f"{name} ({unit})")
    return figure


def plot_overlap(evaluation: Evaluation) -> Figure:
    """Plot Dice of each structure at ED and ES: one point per mouse, box of the quartiles."""
    table = tabulate_frames(evaluation)
    phases = [p for p in (ED, ES) if (table["phase"] == p).any()] or sorted(table["phase"].unique())
    figure, ((axes,),) = _create_axes(_make_title(evaluation, "Dice by structure and phase"), (7, 4.2))
    ticks: dict[float, str] = {}
    for i, label in enumerate(FOREGROUND):
        for j, phase in enumerate(phases):
            values = table[(table["structure"] == MEANINGS[label]) & (table["phase"] == phase)]["dice"].to_numpy(float)
            position = i * (len(phases) + 0.6) + j
            _plot_box(axes, values, position, COLOURS[label])
            ticks[position] = escape_math(f"{MEANINGS[label]}\n{phase}")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_ylabel("Dice")
    return figure


def plot_errors(evaluation: Evaluation) -> Figure:
    """Plot the absolute error of each measure against a mouse's mean Dice."""
    table, correlations = tabulate_mice(evaluation), correlate_dice_with_errors(evaluation)
    figure, grid = _create_axes(_make_title(evaluation, "Dice and the errors of the measures"), (10, 5.6), 2, 3)
    for axes, (key, (name, unit)) in zip(grid.flat, MEASURES.items(), strict=True):
        axes.plot(table["mean_dice"], table[f"{key}_error"].abs(), "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
        rho, p = correlations["rho"][name], correlations["p"][name]
        axes.set_title(f"ρ = {rho:.2f}, {describe_p(p)}" if np.isfinite(rho) else "", fontsize=9)
        axes.set_ylabel(f"|error of {name}| ({unit})", fontsize=9)
        axes.set_xlabel("mean Dice", fontsize=9)
    return figure


def plot_curves(evaluation: Evaluation) -> Figure | None:
    """Plot predicted volume over the heart beat; dots: truth at ED and ES. None where no whole cine was predicted."""
    curves = [(m, m.curve) for m in evaluation.mice if m.curve is not None]
    if not curves:
        return None
    shown = [curves[k] for k in np.unique(np.linspace(0, len(curves) - 1, min(MAX_CURVES, len(curves))).astype(int))]
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    part = "" if len(shown) == len(curves) else f" ({len(shown)} of {len(curves)} mice)"
    title = _make_title(evaluation, f"LV blood pool (µL) over time (ms){part}; dots: ground truth")
    figure, grid = _create_axes(title, (2.3 * columns + 0.6, 1.75 * rows + 0.9), rows, columns, sharey=True)
    for axes, (mouse, curve) in zip(grid.flat, shown, strict=False):
        time = curve["time_ms"]
        axes.plot(time, curve["blood_pool_ul"], color=MODEL_COLOUR, lw=1.3)
        pool = [f for f in mouse.frames if f.structure == STRUCTURES[1] and f.frame < len(time)]
        truth = [(time[f.frame], f.truth_ul) for f in pool]
        axes.plot(*zip(*truth, strict=True), "o", color=TRUTH_COLOUR, ms=4)
        doubt = "" if is_heart_rate_plausible(curve["heart_rate_bpm"]) else " (?)"
        axes.set_title(escape_math(f"{mouse.mouse}: {curve['heart_rate_bpm']:.0f}/min{doubt}"), fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    return figure


def plot_groups(evaluation: Evaluation) -> Figure:
    """Plot EDV, EF, mass at ED and Dice by phenotype, truth above prediction."""
    table = tabulate_mice(evaluation)
    names = list(dict.fromkeys(table["phenotype"]))
    title = _make_title(evaluation, "groups; grey: ground truth, blue: prediction")
    figure, (panels,) = _create_axes(title, (12, 1.4 + 0.75 * len(names)), 1, 4, sharey=True)
    for axes, key in zip(panels, ("edv_ul", "ef_percent", "mass_ed_mg", ""), strict=True):
        for k, group in enumerate(names):
            part = table[table["phenotype"] == group]
            if key:
                _plot_box(axes, part[f"{key}_truth"].to_numpy(float), k - 0.19, TRUTH_COLOUR, 0.3, vertical=False)
                _plot_box(axes, part[f"{key}_predicted"].to_numpy(float), k + 0.19, MODEL_COLOUR, 0.3, vertical=False)
            else:
                _plot_box(axes, part["mean_dice"].to_numpy(float), float(k), MODEL_COLOUR, 0.4, vertical=False)
        axes.set_xlabel(f"{MEASURES[key][0]} ({MEASURES[key][1]})" if key else "mean Dice")
    sizes = table["phenotype"].value_counts()
    panels[0].set_yticks(range(len(names)), [escape_math(f"{n}\n(n = {sizes[n]})") for n in names], fontsize=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def plot_observers(model: pd.DataFrame, observer: pd.DataFrame, mark: str = "") -> Figure:
    """Plot bias and limits of agreement with the ground truth, of the model beside the second observer.

    Both are tables of :func:`mousecmr_data.evaluation.tables.tabulate_agreement`.
    """
    figure, grid = _create_axes(f"{mark}bias and limits of agreement with the ground truth", (10, 4.4), 2, 3)
    for axes, (name, unit) in zip(grid.flat, MEASURES.values(), strict=True):
        for k, (table, colour) in enumerate(zip((model, observer), (MODEL_COLOUR, OBSERVER_COLOUR), strict=True)):
            row = table.loc[name]
            axes.plot([row["lower"], row["upper"]], [k, k], color=colour, lw=2, solid_capstyle="butt")
            axes.plot(row["bias"], k, "o", color=colour, ms=6)
        axes.axvline(0, color="0.8", lw=0.8, zorder=0)
        axes.set_yticks([0, 1], ["model", "observer 2"], fontsize=8)
        axes.set_ylim(1.6, -0.6)
        axes.set_xlabel(f"{name}, difference ({unit})", fontsize=8)
    return figure


def _plot_identity(axes: Axes, truth: Values, predicted: Values, label: str) -> None:
    axes.plot(truth, predicted, "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
    if truth.size:
        low, high = min(truth.min(), predicted.min()), max(truth.max(), predicted.max())
        edge = 0.06 * max(high - low, 1e-6)
        axes.plot([low - edge, high + edge], [low - edge, high + edge], color="0.6", lw=0.8, zorder=0)
    r = pearson(predicted, truth).r
    axes.set_title(f"r = {r:.2f}" if np.isfinite(r) else "", fontsize=9)
    axes.set_xlabel(f"ground truth, {label}", fontsize=8)
    axes.set_ylabel(f"prediction, {label}", fontsize=8)


def _plot_bland_altman(axes: Axes, truth: Values, predicted: Values, label: str) -> None:
    agreement = bland_altman(predicted, truth)
    axes.plot((truth + predicted) / 2, predicted - truth, "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
    axes.axhline(0, color="0.85", lw=0.8, zorder=0)
    if np.isfinite(agreement.bias):
        intervals = (agreement.bias_ci, agreement.lower_ci, agreement.upper_ci)
        for k, (value, ci) in enumerate(zip((agreement.bias, *agreement.limits), intervals, strict=True)):
            if not np.isfinite(value):
                continue  # one mouse has a difference, but no limits
            axes.axhline(value, color=TRUTH_COLOUR, lw=1, ls="--" if k else "-")
            x = [1.0 + 0.025 * k] * 2  # side by side, so that wide intervals do not overlap
            style: dict[str, Any] = {"color": TRUTH_COLOUR, "lw": 1, "ms": 5, "clip_on": False}
            axes.plot(x, ci, "-_", transform=axes.get_yaxis_transform(), **style)
        axes.set_title(format_bias(agreement.bias, *agreement.limits), fontsize=9)
    axes.set_xlabel(f"mean of both, {label}", fontsize=8)
    axes.set_ylabel("prediction − truth", fontsize=8)


def _plot_box(
    axes: Axes, values: Values, position: float, colour: str, width: float = 0.5, *, vertical: bool = True
) -> None:
    """Plot points, and the box of the quartiles where there are five or more."""
    values = values[np.isfinite(values)]
    positions = position + np.random.default_rng(0).uniform(-0.25, 0.25, values.size) * width
    if values.size >= 5:
        line = {"color": colour, "lw": 1.2}
        axes.boxplot(
            values, positions=[position], widths=width, showfliers=False, manage_ticks=False, boxprops=line,
            orientation="vertical" if vertical else "horizontal", whiskerprops=line, capprops=line,
            medianprops={"color": "black", "lw": 1.4},
        )  # fmt: skip
    axes.plot(*((positions, values) if vertical else (values, positions)), "o", color=colour, ms=3.5, alpha=0.6, mew=0)


LETTERS_PER_INCH = 125
"""Letters of a title that fit into an inch, times the font size in points: matplotlib's are 0.58 of it wide."""


def _create_axes(
    title: str,
    figsize: tuple[float, float],
    rows: int = 1,
    columns: int = 1,
    *,
    fontsize: int = 10,
    sharey: bool = False,
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure with a title and its axes (row, column), without upper and right border."""
    figure = create_figure(figsize=figsize, layout="constrained")
    figure.suptitle(fill(title, int(figsize[0] * LETTERS_PER_INCH / fontsize)), fontsize=fontsize)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=sharey)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, grid


def _make_title(evaluation: Evaluation, text: str) -> str:
    return mark_title(f"{text} (n = {len(evaluation.mice)})", evaluation.synthetic)
