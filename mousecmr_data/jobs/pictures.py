"""A result in pictures: montage, curve and movie, each with the words that mark it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from mousecmr_data.evaluate import figures
from mousecmr_data.evaluate.movie import movie
from mousecmr_data.jobs.mouse import Result
from mousecmr_data.schema.labels import COLOURS, Label
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import MASK, PREDICTED

MONTAGE, CURVE, MOVIE = "montage.png", "curve.png", "movie.webp"


def draw(result: Result, folder: Path) -> list[Path]:
    """Write all three to ``folder``; returns their paths. Needs matplotlib."""
    note = " ".join(result.marks)
    figure = figures.montage(_shown(result.ds))
    weights = result.ds[PREDICTED].attrs["weights"]
    figure.text(0.3, 0.025, f"masks: {weights}. {note}", color="0.75", fontsize=7)
    return [
        figures.save(figure, folder / MONTAGE),
        _curve(result, folder / CURVE, note),
        movie(result.ds, folder / MOVIE, PREDICTED, note),
    ]


def _shown(ds: xr.Dataset) -> xr.Dataset:
    """The masks as the montage takes them: ED and ES, or the only frame."""
    chosen = np.isin(ds["phase"].values, [ED, ES])
    if not chosen.any():
        chosen[0] = True
    return ds.assign({MASK: ds[PREDICTED]}).assign_coords(labelled=("frame", chosen))


def _curve(result: Result, path: Path, note: str) -> Path:
    from matplotlib.figure import Figure

    table, row = result.frames, result.mouse
    timed = bool(table["time_ms"].notna().all())
    x = table["time_ms"] if timed else table["frame"]
    figure = Figure(figsize=(6.4, 4.6))
    volume, mass = figure.subplots(
        2, 1, sharex=True, height_ratios=(3, 2), gridspec_kw={"left": 0.12, "right": 0.97, "top": 0.85, "bottom": 0.16}
    )
    pool, wall = COLOURS[Label.BLOOD_POOL], COLOURS[Label.MYOCARDIUM]
    volume.plot(x, table["blood_pool_smoothed_ul"], color=pool, lw=1.2)
    volume.plot(x, table["blood_pool_ul"], "o", color=pool, ms=4)
    mass.plot(x, table["mass_mg"], "o-", color=wall, ms=4, lw=1)
    volume.set_ylabel("blood pool (µL)")
    mass.set_ylabel("mass (mg)")
    for ax, column in ((volume, "blood_pool_ul"), (mass, "mass_mg")):
        ax.set_ylim(0, max(1.0, 1.25 * float(table[column].max())))
        ax.spines[["top", "right"]].set_visible(False)
    for phase in (ED, ES):
        for at, value in zip(x[table["phase"] == phase], table["blood_pool_ul"][table["phase"] == phase], strict=True):
            volume.annotate(
                f"{phase} {value:.1f} µL", (at, value), (0, 9 if phase == ED else -15), textcoords="offset points",
                fontsize=8, ha="left" if at == x.iloc[0] else "center",
            )  # fmt: skip
    mass.set_xlabel("time after the trigger (ms)" if timed else "frame (the time between frames is not known)")
    known = np.isfinite(row["ef_percent"])
    numbers = f"SV {row['sv_ul']:.1f} µL, EF {row['ef_percent']:.1f} %" if known else "EF: no ED/ES pair"
    figure.text(0.02, 0.97, f"{figures.title(result.ds)}\n{numbers}; masks: {row['weights']}", fontsize=9, va="top")
    figure.text(0.02, 0.015, note.replace(". ", ".\n", 1), fontsize=6.5, color="0.35", va="bottom")
    return figures.save(figure, path)
