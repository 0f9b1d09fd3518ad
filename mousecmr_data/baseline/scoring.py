"""Overlap of predicted with expert masks, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data.baseline.overlap import dice
from mousecmr_data.baseline.postprocessing import Rule
from mousecmr_data.baseline.segmenter import PREDICTED, Segmenter
from mousecmr_data.facts import layout
from mousecmr_data.facts.labels import Label

COLUMNS = ("mouse", "frame", "phase", "dice_myocardium", "dice_blood_pool")


def scored(ds: xr.Dataset) -> pd.DataFrame:
    """Dice of each labelled frame of a segmented mouse: the columns of :data:`COLUMNS`.

    Empty for a mouse that nobody segmented: an unlabelled frame says nothing.
    """
    rows = []
    frames: Iterable[int] = np.flatnonzero(ds["labelled"].values) if layout.MASK in ds else []
    for at in frames:
        one = ds.isel(frame=int(at))
        found = dice(one[layout.MASK].values, one[PREDICTED].values)
        where = (str(ds.attrs.get("mouse", "")), int(one["frame"]), str(one["phase"].values))
        rows.append((*where, found[Label.MYOCARDIUM], found[Label.BLOOD_POOL]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def scores(
    segmenter: Segmenter,
    mice: Iterable[xr.Dataset],
    *,
    postprocessing: Rule = "paper",
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Segment the labelled frames of ``mice`` (a cohort, for one) and score them: a row a frame.

    ``progress`` is called with 1 after each mouse.
    """
    tables = []
    for ds in mice:
        labelled = ds.isel(frame=np.flatnonzero(ds["labelled"].values))
        tables.append(scored(segmenter.segment(labelled, postprocessing=postprocessing)))
        if progress:
            progress(1)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(COLUMNS))
