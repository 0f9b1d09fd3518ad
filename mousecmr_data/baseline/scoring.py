"""A segmenter held against the experts' masks, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import xarray as xr

from mousecmr_data.baseline.segmenter import Segmenter
from mousecmr_data.metrics.overlap import SCORE_COLUMNS, score_frames
from mousecmr_data.metrics.postprocessing import PostprocessingRule


def scores(
    segmenter: Segmenter,
    mice: Iterable[xr.Dataset],
    *,
    postprocessing: PostprocessingRule = "paper",
    progress: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Segment the labelled frames of ``mice`` (a cohort, for one) and score them: a row a frame.

    ``progress`` is called with 1 after each mouse.
    """
    tables = []
    for ds in mice:
        labelled = ds.isel(frame=np.flatnonzero(ds["labelled"].values))
        tables.append(score_frames(segmenter.segment(labelled, postprocessing=postprocessing)))
        if progress:
            progress(1)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=list(SCORE_COLUMNS))
