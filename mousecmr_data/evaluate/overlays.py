"""The best, the median and the worst mouse of an evaluation, as outlines on their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.evaluate.figures import MARGIN_MM, box, new_figure
from mousecmr_data.evaluate.predictions import Prediction, predictions_of
from mousecmr_data.evaluate.result import Evaluation
from mousecmr_data.evaluate.scoring import fitted, truth_of
from mousecmr_data.evaluate.tables import mean_dice
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.schema.labels import COLOURS, MEANINGS
from mousecmr_data.schema.phases import ED, ES, UNKNOWN
from mousecmr_data.schema.variables import DIMS, IMAGE, MASK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def ranked(evaluation: Evaluation) -> dict[str, str]:
    """The mice with the best, the median and the worst mean Dice; fewer where there are fewer mice."""
    order = list(mean_dice(evaluation).sort_values(ascending=False, kind="stable").index)
    if len(order) == 1:
        return {"only": str(order[0])}
    if len(order) == 2:
        return {"best": str(order[0]), "worst": str(order[1])}
    return {"best": str(order[0]), "median": str(order[len(order) // 2]), "worst": str(order[-1])}


def overlays(evaluation: Evaluation, mice: Mapping[str, Any] | Any, predictions: Any) -> Figure:
    """ED and ES of the best, the median and the worst mouse, a row each: solid predicted, dotted truth.

    ``mice`` gives a dataset by name (a cohort does); ``predictions`` are those that were scored.
    """
    found = predictions_of(predictions)
    rows = []
    for rank, mouse in ranked(evaluation).items():
        key = found.find(mouse, len(evaluation.mice) == 1)
        rows += _rows(rank, mice[mouse], found.read(key), evaluation.policies["postprocessing"])
    columns = max(r[1].shape[0] for r in rows)
    height = 1.35
    figure = new_figure(figsize=(height * columns + 1.5, (height + 0.05) * len(rows) + 1.0), facecolor="black")
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
    mark = "SYNTHETIC mice: " if evaluation.synthetic else ""
    figure.text(0.01, 1 - 0.12 / figure.get_size_inches()[1], f"{mark}best, median and worst mean Dice; solid: "
                "predicted, dotted: ground truth", color="white", fontsize=10, va="top")  # fmt: skip
    for i, (label, colour) in enumerate(COLOURS.items()):
        figure.text(0.01 + 0.16 * i, 0.012, f"— {MEANINGS[label]}", color=colour, fontsize=9)
    return figure


def _rows(rank: str, ds: xr.Dataset, prediction: Prediction, rule: Any) -> list[tuple[str, Any, Any, Any, float]]:
    """Words, images, truth, prediction (each (slice, y, x), cut to the heart) and pixel aspect, for ED and ES."""
    truth, frames = truth_of(ds), fitted(prediction, ds)
    wanted = [k for k, p in enumerate(truth["phase"].values) if p in (ED, ES, UNKNOWN)]
    dy, dx = get_spacing(ds)[1:]
    masks = truth[MASK].values
    part = box(masks, round(MARGIN_MM / dy), round(MARGIN_MM / dx))
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
