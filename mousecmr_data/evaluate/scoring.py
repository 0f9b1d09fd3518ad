"""One mouse's prediction against its truth: every number of it, with the checksums of both masks."""

from __future__ import annotations

import hashlib
from dataclasses import asdict

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import PredictionError, UnlabelledError
from mousecmr_data.evaluate.policies import Policies
from mousecmr_data.evaluate.predictions import Prediction
from mousecmr_data.evaluate.result import MEASURES, FrameScore, MouseScore
from mousecmr_data.evaluate.suspicion import suspicion
from mousecmr_data.metrics.overlap import compute_surface_distances, dice
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.metrics.volumes import Measures, analyze_curve, measure
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label
from mousecmr_data.schema.phases import ED, ES, UNLABELLED
from mousecmr_data.schema.variables import DIMS, MASK, NOT_PUBLISHED, PREDICTED

Labels = NDArray[np.uint8]


def truth_of(ds: xr.Dataset) -> xr.Dataset:
    """The labelled frames of a mouse, masks in memory, images left where they are."""
    who = str(ds.attrs.get("mouse", "this mouse"))
    if MASK not in ds or not ds["labelled"].values.any():
        raise UnlabelledError(f"No frame of {who} is labelled: there is nothing to hold a prediction against.")
    few = ds[[MASK]].isel(frame=np.flatnonzero(ds["labelled"].values)).transpose(*DIMS)
    return few.load()


def score_mouse(ds: xr.Dataset, prediction: Prediction, policies: Policies) -> MouseScore:
    """Score ``prediction`` of the mouse ``ds`` (a dataset of the cine model; its images are not read).

    Raises :class:`~mousecmr_data.errors.PredictionError` where shape or frames do not fit, and under the policy
    ``volume-curve`` where frames are missing.
    """
    truth = truth_of(ds)
    who, numbers = str(ds.attrs.get("mouse", "")), truth["frame"].values
    frames = fitted(prediction, ds)
    if absent := [int(n) for n in numbers if n not in frames]:
        raise PredictionError(
            f"{who}: the frame{'s'[: len(absent) > 1]} {', '.join(map(str, absent))} of the truth were not predicted.",
            f"at least the labelled frames, {numbers.tolist()}",
        )
    whole = set(ds["frame"].values.tolist()) <= set(frames)
    labels = prediction.labels
    given = labels[[frames.index(n) for n in numbers]]
    doubt = suspicion(given[0], truth[MASK].values[0])
    if whole:  # the curve needs every frame
        labels = np.stack([postprocess(labels[frames.index(n)], policies.postprocessing) for n in ds["frame"].values])
        ours = labels[np.flatnonzero(ds["labelled"].values)]
    else:
        ours = np.stack([postprocess(stack, policies.postprocessing) for stack in given])
    size = get_spacing(ds)
    seen = truth.assign({PREDICTED: (DIMS, ours)})
    theirs, at_frames = measure(truth), measure(seen, mask=PREDICTED)
    found = at_frames
    volumes = np.count_nonzero(labels == Label.BLOOD_POOL, axis=(1, 2, 3)) * float(np.prod(size)) if whole else None
    if policies.phases == "volume-curve":
        if volumes is None:
            raise PredictionError(
                f"{who}: {len(frames)} of {ds.sizes['frame']} frames were predicted.",
                "every frame, for the policy volume-curve",
                "mousecmr predict  segments whole cines; or --phases annotated",
            )
        found = measure(_by_curve(ds, labels, volumes), mask=PREDICTED)
    beat = ds["time"].values if "time" in ds.coords else np.array([])
    step = float(np.diff(beat).mean()) if beat.size > 1 else np.nan
    return MouseScore(
        mouse=who,
        phenotype=str(ds.attrs.get("phenotype", NOT_PUBLISHED)),
        split=str(ds.attrs.get("split", "none")),
        synthetic=bool(ds.attrs.get("synthetic", False)),
        voxel_size_mm=size,
        voxel_size_source=theirs.voxel_size_source,
        truth_sha256=checksum(truth[MASK].values),
        prediction_sha256=checksum(prediction.labels),
        frames=tuple(_frame_scores(truth, ours, at_frames, policies, size)),
        truth=_measures(theirs),
        predicted=_measures(found),
        curve=asdict(analyze_curve(volumes, step)) if volumes is not None and volumes.size > 1 else None,
        about=dict(prediction.about),
        doubt=doubt,
    )


def fitted(prediction: Prediction, ds: xr.Dataset) -> list[int]:
    """The frame numbers of a prediction's first axis; :class:`PredictionError` where its shape does not fit."""
    who = str(ds.attrs.get("mouse", ""))
    expected = tuple(ds.sizes[d] for d in DIMS)
    numbers: list[int] = ds["frame"].values.tolist()
    labelled: list[int] = ds["frame"].values[ds["labelled"].values].tolist()
    shape = prediction.labels.shape
    if shape[1:] == expected[1:]:
        if prediction.frames is not None:
            return list(prediction.frames)
        if shape[0] in (len(numbers), len(labelled)):
            return numbers if shape[0] == len(numbers) else labelled
    hint = None
    if sorted(shape) == sorted(expected):
        order = _order(shape, expected)
        hint = f"axes look transposed: they are ({', '.join(order)}), wanted is ({', '.join(DIMS)})"
    raise PredictionError(
        f"{who}: the prediction has the shape {shape}.",
        f"{DIMS} = {expected}, or its {len(labelled)} labelled frames alone",
        hint,
    )


def checksum(labels: Labels) -> str:
    """SHA-256 of the shape and the bytes of a mask (frame, slice, y, x) uint8: the same in every file format."""
    digest = hashlib.sha256(str(tuple(labels.shape)).encode())
    digest.update(np.ascontiguousarray(labels, np.uint8).data)
    return digest.hexdigest()


def _order(shape: tuple[int, ...], expected: tuple[int, ...]) -> list[str]:
    left = list(zip(DIMS, expected, strict=True))
    names = []
    for n in shape:  # y and x of one length are named in that order
        at = next(k for k, (_, length) in enumerate(left) if length == n)
        names.append(left.pop(at)[0])
    return names


def _frame_scores(
    truth: xr.Dataset, ours: Labels, at_frames: Measures, policies: Policies, size: tuple[float, float, float]
) -> list[FrameScore]:
    rows = []
    voxel_ul = float(np.prod(size))
    for k, theirs in enumerate(truth[MASK].values):
        row = at_frames.frames.iloc[k]
        for label in FOREGROUND:
            a, b = ours[k] == label, theirs == label
            apart = compute_surface_distances(a, b, size, empty=policies.empty)
            rows.append(
                FrameScore(
                    frame=int(row["frame"]),
                    phase=str(row["phase"]),
                    structure=MEANINGS[label],
                    dice=dice(a, b),
                    hd95_mm=apart.hd95_mm,
                    assd_mm=apart.assd_mm,
                    truth_ul=float(np.count_nonzero(b) * voxel_ul),
                    predicted_ul=float(np.count_nonzero(a) * voxel_ul),
                )
            )
    return rows


def _by_curve(ds: xr.Dataset, labels: Labels, volumes: NDArray[np.float64]) -> xr.Dataset:
    """Predicted masks at the maximum and the minimum of the volume curve, named ED and ES (ties: the earliest)."""
    phase = np.full(len(volumes), UNLABELLED, "<U10")
    ed, es = int(np.argmax(volumes)), int(np.argmin(volumes))
    phase[ed], phase[es] = ED, ES
    known = np.zeros(len(volumes), bool)
    known[[ed, es]] = True
    bare = ds.drop_vars(list(ds.data_vars))
    return bare.assign({PREDICTED: (DIMS, labels)}).assign_coords(labelled=("frame", known), phase=("frame", phase))


def _measures(m: Measures) -> dict[str, float]:
    return {name: float(getattr(m, name)) for name in MEASURES}
