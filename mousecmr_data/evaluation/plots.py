"""Figures of an evaluation: agreement, overlap, volume curves, groups. Each is a matplotlib ``Figure``.

They follow the paper's figures 2-4: Bland–Altman and identity plots of each measure, Dice by structure and phase.
Every figure of synthetic mice says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data._utils.notices import mark_title
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.evaluation.html import format_number
from mousecmr_data.evaluation.predictions import Prediction, open_predictions
from mousecmr_data.evaluation.result import MEASURES, Evaluation
from mousecmr_data.evaluation.scoring import load_truth, match_frames
from mousecmr_data.evaluation.tables import (
    STRUCTURES,
    compute_mean_dice,
    correlate_dice_with_errors,
    tabulate_frames,
    tabulate_mice,
)
from mousecmr_data.metrics.agreement import Values, bland_altman, drop_missing_pairs, pearson
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.plotting import MARGIN_MM, create_figure, find_crop
from mousecmr_data.schema.labels import COLOURS, FOREGROUND, MEANINGS
from mousecmr_data.schema.phases import ED, ES, UNKNOWN
from mousecmr_data.schema.variables import DIMS, IMAGE, MASK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# MERGED evaluation.plots: The best, the median and the worst mouse of an evaluation, as outlines on their images.


def rank_mice(evaluation: Evaluation) -> dict[str, str]:
    """The mice with the best, the median and the worst mean Dice; fewer where there are fewer mice."""
    order = list(compute_mean_dice(evaluation).sort_values(ascending=False, kind="stable").index)
    if len(order) == 1:
        return {"only": str(order[0])}
    if len(order) == 2:
        return {"best": str(order[0]), "worst": str(order[1])}
    return {"best": str(order[0]), "median": str(order[len(order) // 2]), "worst": str(order[-1])}


def plot_overlays(evaluation: Evaluation, mice: Mapping[str, Any] | Any, predictions: Any) -> Figure:
    """ED and ES of the best, the median and the worst mouse, a row each: solid predicted, dotted truth.

    ``mice`` gives a dataset by name (a cohort does); ``predictions`` are those that were scored.
    """
    found = open_predictions(predictions)
    rows = []
    for rank, mouse in rank_mice(evaluation).items():
        key = found.find(mouse, len(evaluation.mice) == 1)
        rows += _make_overlay_rows(rank, mice[mouse], found.read(key), evaluation.policies["postprocessing"])
    columns = max(r[1].shape[0] for r in rows)
    height = 1.35
    figure = create_figure(figsize=(height * columns + 1.5, (height + 0.05) * len(rows) + 1.0), facecolor="black")
    top = 1 - 0.62 / figure.get_size_inches()[1]
    grid = figure.subplots(
        len(rows),
        columns,
        squeeze=False,
        gridspec_kw={"wspace": 0.03, "hspace": 0.03, "left": 0.075, "right": 0.995, "top": top, "bottom": 0.045},
    )
    for axes, (words, images, truth, ours, aspect) in zip(grid, rows, strict=True):
        low, high = np.percentile(images, (0.5, 99.7))
        for k, ax in enumerate(axes):
            ax.set_xticks([])
            ax.set_yticks([])
            if k >= len(images):
                ax.set_visible(False)
                continue
            ax.imshow(images[k], cmap="gray", vmin=low, vmax=max(high, low + 1), aspect=aspect)
            for level, colour in zip((0.5, 1.5), COLOURS.values(), strict=True):
                for mask, style in ((ours[k], "solid"), (truth[k], "dotted")):
                    if (mask > level).any():
                        ax.contour(mask, [level], colors=[colour], linewidths=0.9, linestyles=style)
        axes[0].set_ylabel(words, color="white", fontsize=7.5)
    mark = mark_title("", evaluation.synthetic)
    figure.text(0.01, 1 - 0.12 / figure.get_size_inches()[1], f"{mark}best, median and worst mean Dice; solid: "
                "predicted, dotted: ground truth", color="white", fontsize=10, va="top")  # fmt: skip
    for i, (label, colour) in enumerate(COLOURS.items()):
        figure.text(0.01 + 0.16 * i, 0.012, f"— {MEANINGS[label]}", color=colour, fontsize=9)
    return figure


def _make_overlay_rows(
    rank: str, ds: xr.Dataset, prediction: Prediction, rule: Any
) -> list[tuple[str, Any, Any, Any, float]]:
    """Words, images, truth, prediction (each (slice, y, x), cut to the heart) and pixel aspect, for ED and ES."""
    truth, frames = load_truth(ds), match_frames(prediction, ds)
    wanted = [k for k, p in enumerate(truth["phase"].values) if p in (ED, ES, UNKNOWN)]
    dy, dx = get_spacing(ds)[1:]
    masks = truth[MASK].values
    part = find_crop(masks, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
    rows = []
    for k in wanted:
        number = int(truth["frame"].values[k])
        ours: NDArray[np.uint8] = postprocess(prediction.labels[frames.index(number)], rule)
        at = int(np.flatnonzero(ds["frame"].values == number)[0])
        images = ds[IMAGE].isel(frame=at).transpose(*DIMS[1:]).values
        both = np.mean(list(dice_by_class(ours, masks[k]).values()))
        phase = str(truth["phase"].values[k])
        name = f"frame {number}" if phase == UNKNOWN else phase
        words = f"{rank}: {ds.attrs.get('mouse', '')}\n{name}, Dice {both:.2f}"
        cut = [a[:, part[0], part[1]] for a in (images, masks[k], ours)]
        rows.append((words, cut[0], cut[1], cut[2], dy / dx))
    return rows


MODEL_COLOUR, TRUTH_COLOUR, OBSERVER_COLOUR = "#1f5fa8", "#333333", "#8a8a8a"
MAX_CURVES = 24
"""Mice whose curves fit a page."""


def plot_agreement(evaluation: Evaluation) -> Figure:
    """Identity plot and Bland–Altman plot of each measure."""
    table = tabulate_mice(evaluation)
    figure = create_figure(figsize=(14, 9.6), layout="constrained")
    axes = figure.subplots(3, 4)
    for k, (key, (name, unit)) in enumerate(MEASURES.items()):
        identity, difference = axes[k // 2, 2 * (k % 2)], axes[k // 2, 2 * (k % 2) + 1]
        ours, truth = drop_missing_pairs(table[f"{key}_predicted"], table[f"{key}_truth"])
        _plot_identity(identity, truth, ours, f"{name} ({unit})")
        _plot_bland_altman(difference, truth, ours, f"{name} ({unit})")
    figure.suptitle(_make_title(evaluation, "prediction against ground truth"), fontsize=11)
    return figure


def plot_overlap(evaluation: Evaluation) -> Figure:
    """Dice of each structure at ED and ES: a point a mouse, box of the quartiles."""
    table = tabulate_frames(evaluation)
    known = [p for p in (ED, ES) if (table["phase"] == p).any()] or sorted(table["phase"].unique())
    figure = create_figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    places, names = [], []
    for i, label in enumerate(FOREGROUND):
        for j, phase in enumerate(known):
            values = table[(table["structure"] == MEANINGS[label]) & (table["phase"] == phase)]["dice"].to_numpy(float)
            at = i * (len(known) + 0.6) + j
            _plot_box(axes, values, at, COLOURS[label])
            places.append(at)
            names.append(f"{MEANINGS[label]}\n{phase}")
    axes.set_xticks(places, names)
    axes.set_ylabel("Dice")
    _remove_spines(axes)
    figure.suptitle(_make_title(evaluation, "Dice by structure and phase"), fontsize=10)
    return figure


def plot_errors(evaluation: Evaluation) -> Figure:
    """The absolute error of each measure against a mouse's mean Dice."""
    table, found = tabulate_mice(evaluation), correlate_dice_with_errors(evaluation)
    figure = create_figure(figsize=(10, 5.6), layout="constrained")
    for axes, (key, (name, unit)) in zip(figure.subplots(2, 3).flat, MEASURES.items(), strict=True):
        axes.plot(table["mean_dice"], table[f"{key}_error"].abs(), "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
        row = found.loc[name]
        axes.set_title(f"ρ = {row['rho']:.2f}, p = {row['p']:.3f}" if row["rho"] == row["rho"] else "", fontsize=9)
        axes.set_ylabel(f"|error of {name}| ({unit})", fontsize=9)
        axes.set_xlabel("mean Dice", fontsize=9)
        _remove_spines(axes)
    figure.suptitle(_make_title(evaluation, "Dice and the errors it comes with"), fontsize=10)
    return figure


def plot_curves(evaluation: Evaluation) -> Figure | None:
    """Volume over the heart beat, predicted; dots are the truth at ED and ES. None where no cine was predicted."""
    have = [m for m in evaluation.mice if m.curve is not None]
    if not have:
        return None
    shown = [have[k] for k in np.unique(np.linspace(0, len(have) - 1, min(MAX_CURVES, len(have))).astype(int))]
    columns = min(6, len(shown))
    rows = -(-len(shown) // columns)
    figure = create_figure(figsize=(2.3 * columns + 0.6, 1.75 * rows + 0.9), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, m in zip(grid.flat, shown, strict=False):
        assert m.curve is not None  # noqa: S101 (chosen above)
        axes.plot(m.curve["time_ms"], m.curve["blood_pool_ul"], color=MODEL_COLOUR, lw=1.3)
        time, pool = m.curve["time_ms"], STRUCTURES[1]
        truth = [(time[f.frame], f.truth_ul) for f in m.frames if f.structure == pool and f.frame < len(time)]
        axes.plot(*zip(*truth, strict=True), "o", color=TRUTH_COLOUR, ms=4)
        axes.set_title(f"{m.mouse}: {m.curve['heart_rate_bpm']:.0f}/min", fontsize=8)
        axes.tick_params(labelsize=7)
        _remove_spines(axes)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_visible(False)
    part = "" if len(shown) == len(have) else f" ({len(shown)} of {len(have)} mice)"
    words = f"LV blood pool (µL) over time (ms){part}; dots: ground truth"
    figure.suptitle(_make_title(evaluation, words), fontsize=10)
    return figure


def plot_groups(evaluation: Evaluation) -> Figure:
    """EDV, EF, mass at ED and Dice by phenotype, truth above prediction."""
    table = tabulate_mice(evaluation)
    names = list(dict.fromkeys(table["phenotype"]))
    figure = create_figure(figsize=(12, 1.4 + 0.75 * len(names)), layout="constrained")
    panels = figure.subplots(1, 4, sharey=True)
    for axes, key in zip(panels, ("edv_ul", "ef_percent", "mass_ed_mg", ""), strict=True):
        for k, group in enumerate(names):
            part = table[table["phenotype"] == group]
            if key:
                _plot_box(axes, part[f"{key}_truth"].to_numpy(float), k - 0.19, TRUTH_COLOUR, 0.3, vertical=False)
                _plot_box(axes, part[f"{key}_predicted"].to_numpy(float), k + 0.19, MODEL_COLOUR, 0.3, vertical=False)
            else:
                _plot_box(axes, part["mean_dice"].to_numpy(float), float(k), MODEL_COLOUR, 0.4, vertical=False)
        axes.set_xlabel(f"{MEASURES[key][0]} ({MEASURES[key][1]})" if key else "mean Dice")
        _remove_spines(axes)
    sizes = table["phenotype"].value_counts()
    panels[0].set_yticks(range(len(names)), [f"{n}\n(n = {sizes[n]})" for n in names], fontsize=8)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle(_make_title(evaluation, "groups; grey: ground truth, blue: prediction"), fontsize=10)
    return figure


def plot_observers(model: pd.DataFrame, observer: pd.DataFrame, mark: str = "") -> Figure:
    """Bias and limits of agreement with the ground truth: the model's beside the second observer's.

    Both are tables of :func:`mousecmr_data.evaluation.tables.tabulate_agreement`.
    """
    figure = create_figure(figsize=(10, 4.4), layout="constrained")
    for axes, (name, unit) in zip(figure.subplots(2, 3).flat, MEASURES.values(), strict=True):
        for k, (table, colour) in enumerate(zip((model, observer), (MODEL_COLOUR, OBSERVER_COLOUR), strict=True)):
            row = table.loc[name]
            axes.plot([row["lower"], row["upper"]], [k, k], color=colour, lw=2, solid_capstyle="butt")
            axes.plot(row["bias"], k, "o", color=colour, ms=6)
        axes.axvline(0, color="0.8", lw=0.8, zorder=0)
        axes.set_yticks([0, 1], ["model", "observer 2"], fontsize=8)
        axes.set_ylim(1.6, -0.6)
        axes.set_xlabel(f"{name}, difference ({unit})", fontsize=8)
        _remove_spines(axes)
    figure.suptitle(f"{mark}bias and limits of agreement with the ground truth", fontsize=10)
    return figure


def _plot_identity(axes: Axes, truth: Values, ours: Values, label: str) -> None:
    axes.plot(truth, ours, "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
    if truth.size:
        low, high = min(truth.min(), ours.min()), max(truth.max(), ours.max())
        edge = 0.06 * max(high - low, 1e-6)
        axes.plot([low - edge, high + edge], [low - edge, high + edge], color="0.6", lw=0.8, zorder=0)
    r = pearson(ours, truth)
    axes.set_title(f"r = {r.r:.2f}" if np.isfinite(r.r) else "", fontsize=9)
    axes.set_xlabel(f"ground truth, {label}", fontsize=8)
    axes.set_ylabel(f"prediction, {label}", fontsize=8)
    _remove_spines(axes)


def _plot_bland_altman(axes: Axes, truth: Values, ours: Values, label: str) -> None:
    found = bland_altman(ours, truth)
    axes.plot((truth + ours) / 2, ours - truth, "o", color=MODEL_COLOUR, ms=4, alpha=0.8)
    axes.axhline(0, color="0.85", lw=0.8, zorder=0)
    if np.isfinite(found.bias):
        lines = ((found.bias, found.bias_ci), (found.limits[0], found.lower_ci), (found.limits[1], found.upper_ci))
        for k, (value, ci) in enumerate(lines):
            axes.axhline(value, color=TRUTH_COLOUR, lw=1, ls="--" if k else "-")
            at = 1.0 + 0.025 * k  # beside each other, so that wide intervals can be told apart
            axes.plot(
                [at, at], ci, "-_", color=TRUTH_COLOUR, lw=1, ms=5, transform=axes.get_yaxis_transform(), clip_on=False
            )
        low, high = (format_number(v, 1) for v in found.limits)
        axes.set_title(f"{format_number(found.bias, 1)} ({low} to {high})", fontsize=9)
    axes.set_xlabel(f"mean of both, {label}", fontsize=8)
    axes.set_ylabel("prediction − truth", fontsize=8)
    _remove_spines(axes)


def _plot_box(axes: Axes, values: Values, at: float, colour: str, width: float = 0.5, *, vertical: bool = True) -> None:
    """Points, and the quartiles' box where there are five or more."""
    values = values[np.isfinite(values)]
    apart = at + np.random.default_rng(0).uniform(-0.25, 0.25, values.size) * width
    if values.size >= 5:
        line = {"color": colour, "lw": 1.2}
        axes.boxplot(
            values, positions=[at], widths=width, showfliers=False, manage_ticks=False, boxprops=line,
            orientation="vertical" if vertical else "horizontal", whiskerprops=line, capprops=line,
            medianprops={"color": "black", "lw": 1.4},
        )  # fmt: skip
    axes.plot(*((apart, values) if vertical else (values, apart)), "o", color=colour, ms=3.5, alpha=0.6, mew=0)


def _remove_spines(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)


def _make_title(evaluation: Evaluation, words: str) -> str:
    mark = mark_title("", evaluation.synthetic)
    return f"{mark}{words} (n = {len(evaluation.mice)})"


def plot_all(evaluation: Evaluation) -> dict[str, Figure]:
    """Every figure of one evaluation that there is something to draw for, by name."""
    found: dict[str, Figure | None] = {"dice": plot_overlap(evaluation)}
    if tabulate_mice(evaluation)["ef_percent_truth"].notna().any():
        found |= {"agreement": plot_agreement(evaluation), "dice_and_errors": plot_errors(evaluation)}
    found["curves"] = plot_curves(evaluation)
    if len({m.phenotype for m in evaluation.mice}) > 1:
        found["groups"] = plot_groups(evaluation)
    return {name: figure for name, figure in found.items() if figure is not None}
