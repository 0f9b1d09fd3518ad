"""Learning curves as CSV, and as a PNG where matplotlib is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from mousecmr_data.models.safetensors import write_text


def write(folder: Path, curve: Sequence[Mapping[str, float]]) -> None:
    """Write ``curves.csv``, a row an epoch, whole or not at all."""
    out = io.StringIO()
    table = csv.DictWriter(out, list(curve[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(curve)
    write_text(folder / "curves.csv", out.getvalue())


def draw(folder: Path, curve: Sequence[Mapping[str, float]], title: str) -> Path | None:
    """Draw ``curves.png``: losses and Dice over the epochs. None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    losses, dice = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in curve]
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        losses.plot(epochs, [row[name] for row in curve], label=label)
    for name, label in (("dice_myocardium", "LV myocardium"), ("dice_blood_pool", "LV blood pool")):
        dice.plot(epochs, [row[name] for row in curve], label=label)
    losses.set(xlabel="epoch", ylabel="loss")
    dice.set(xlabel="epoch", ylabel="Dice, validation slices together", ylim=(0, 1))
    for axes in (losses, dice):
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    path = folder / "curves.png"
    figure.savefig(path, dpi=120)
    return path
