"""Find what is wrong with masks whose shape and labels are right. `evaluate` and `reproduce` use the same checks.

Each problem that is found puts the score of the mouse in doubt, or is a remark (:data:`REMARKS`) beside it. None is
repaired here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import product

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mousecmr_data.dataset.model import load_truth
from mousecmr_data.errors import UnlabelledError
from mousecmr_data.evaluation.predictions import Predictions, match_frames
from mousecmr_data.evaluation.result import MouseScore, Problem
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.schema.labels import FOREGROUND, MEANINGS, Label
from mousecmr_data.schema.variables import ED, ES, MASK

Labels = NDArray[np.uint8]

REMARKS = ("empty", "ignored", "truth")
"""Kinds of problems that leave the score as it is. All other kinds put it in doubt."""

BAD_DICE = 0.85
"""Mean Dice below which it is searched whether masks are turned, shifted or of another mouse."""
GOOD_DICE, MIN_GAIN = 0.75, 0.1
"""Mean Dice that another arrangement must reach, and its smallest gain, to be reported. Masks of phantoms that are off
by one pixel score 0.92 to 0.94 as they are; off by one slice, at most 0.74; in any other wrong arrangement, less."""
UNLIKE_DICE, TWIN_DICE = 0.6, 0.85
"""Mean Dice below which masks may be another mouse's, and that they reach with that one."""
TRUTH_DICE = 0.99
"""Mean Dice that no network and no second observer reaches: the masks are the truth, or made from it."""
MAX_SHIFT = 2
"""Slices by which masks are shifted in the search."""
MAX_SEARCHED = 12
"""Mice of which it is searched whether their masks are another mouse's."""


def check_masks(
    mouse: str, truth: xr.Dataset, predicted: Labels, about: Mapping[str, str], rule: str
) -> Iterator[Problem]:
    """Yield the problems of the masks of one mouse.

    ``truth`` holds its labelled frames, ``predicted`` (frame, slice, y, x) the masks of the same frames before the
    post-processing ``rule``, and ``about`` what their file states about itself.
    """
    masks, phases = truth[MASK].values, truth["phase"].values.tolist()
    if (stated := about.get("mouse", mouse)) != mouse:
        yield Problem(mouse, "mouse", f"the file says that it is of {stated}")
    made_with = about.get("postprocessing", "none")
    if rule != "none" and made_with not in ("none", rule):
        text = f"the masks were made with the post-processing {made_with}, which {rule} cannot follow"
        yield Problem(mouse, "postprocessing", f"{text}: mousecmr predict --postprocessing none")
    absent = [label for label in FOREGROUND if not (predicted == label).any()]
    if len(absent) == 1 and (masks == absent[0]).any():
        text = f"no frame has the label {absent[0]:d} ({MEANINGS[absent[0]]}): masks of one structure?"
        yield Problem(mouse, "labels", f"{text} --labels says what the numbers mean")
        return
    scores = [_compute_mean_dice(p, t) for p, t in zip(predicted, masks, strict=True)]
    if min(scores) >= TRUTH_DICE:
        yield Problem(mouse, "truth", f"the masks are those of the truth (mean Dice {np.mean(scores):.4f})")
    if arrangement := find_arrangement_error(predicted[0], masks[0]):
        yield Problem(mouse, "orientation", arrangement)
    elif ED in phases and ES in phases:
        pair = [phases.index(ED), phases.index(ES)]
        if order := _find_phase_error(predicted[pair], masks[pair]):
            yield Problem(mouse, "phases", order)
    for k, label in product(range(len(masks)), FOREGROUND):
        if (masks[k] == label).any() and not (predicted[k] == label).any():
            yield Problem(mouse, "empty", f"nothing of the {MEANINGS[label]} was predicted at {phases[k]}")


def check_cohort(
    scores: Iterable[MouseScore], truth: Mapping[str, xr.Dataset], predictions: Predictions | None
) -> Iterator[Problem]:
    """Yield the problems that show only beside the other mice: masks given twice, or of another mouse.

    ``predictions`` are existing masks, which are read again where they fit their mouse badly.
    """
    first: dict[str, MouseScore] = {}
    unlike: list[str] = []
    for score in scores:
        if any(f.predicted_ul for f in score.frames):
            twin = first.setdefault(score.prediction_sha256, score)
            if twin.truth_sha256 != score.truth_sha256:
                yield Problem(score.mouse, "mouse", f"the masks are the same as those of {twin.mouse}")
            elif not score.doubt and np.mean([f.dice for f in score.frames]) < UNLIKE_DICE:
                unlike.append(score.mouse)
    if predictions is not None and len(truth) > 1:
        yield from _find_other_mice(unlike[:MAX_SEARCHED], truth, predictions)


def find_arrangement_error(prediction: Labels, truth: Labels) -> str | None:
    """Describe what is probably wrong with how ``prediction`` (slice, y, x) was written; None if nothing is.

    A mask of the right shape can still be transposed, mirrored, upside down, shifted along the stack, or have its
    labels swapped. Such a mask scores badly as given and well once turned. Only masks that score badly are searched.
    """
    as_given = _compute_mean_dice(prediction, truth)
    if as_given >= BAD_DICE or not prediction.any():
        return None
    best, description = as_given, ""
    for swapped, flip_z, flip_y, flip_x, transposed in product((False, True), repeat=5):
        turned = np.array([0, 2, 1], np.uint8)[prediction] if swapped else prediction
        if transposed:
            turned = turned.transpose(0, 2, 1)
        turned = turned[:: -1 if flip_z else 1, :: -1 if flip_y else 1, :: -1 if flip_x else 1]
        if turned.shape != truth.shape:
            continue
        mean_dice = _compute_mean_dice(turned, truth)
        if mean_dice > best:
            errors = {
                f"labels {FOREGROUND[0]:d} and {FOREGROUND[1]:d} look swapped": swapped,
                "rows and columns look transposed": transposed,
                "slices look to be in the opposite order": flip_z,
                "rows look mirrored": flip_y,
                "columns look mirrored": flip_x,
            }
            best, description = mean_dice, " and ".join(k for k, v in errors.items() if v)
    for shift in (s for n in range(1, min(MAX_SHIFT, len(truth) - 1) + 1) for s in (-n, n)):
        moved = np.zeros_like(prediction)
        moved[max(0, shift) : len(moved) + min(0, shift)] = prediction[max(0, -shift) : len(moved) - max(0, shift)]
        mean_dice = _compute_mean_dice(moved, truth)
        if mean_dice > best:
            best, description = mean_dice, f"masks look shifted by {abs(shift)} slice{'s'[: abs(shift) > 1]}"
    return _describe(description, as_given, best) if best >= GOOD_DICE and best - as_given >= MIN_GAIN else None


def _find_phase_error(predicted: Labels, truth: Labels) -> str | None:
    """Describe masks (2, slice, y, x) of ED and ES that are in the wrong order, or one for both frames."""
    if np.array_equal(*predicted) and predicted.any() and not np.array_equal(*truth):
        return "the masks at ED and ES are the same"
    before, after = (np.count_nonzero(m == Label.BLOOD_POOL, axis=(1, 2, 3)) for m in (predicted, truth))
    if before[0] >= before[1] or after[0] <= after[1]:
        return None
    as_given, otherwise = (
        float(np.mean([_compute_mean_dice(p, t) for p, t in zip(pair, truth, strict=True)]))
        for pair in (predicted, predicted[::-1])
    )
    return _describe("ED and ES look swapped", as_given, otherwise) if otherwise > as_given else None


def _find_other_mice(
    mice: Iterable[str], truth: Mapping[str, xr.Dataset], predictions: Predictions
) -> Iterator[Problem]:
    """Yield a problem for each of ``mice`` whose masks fit another mouse of ``truth`` much better."""
    masks = {}
    for mouse in mice:
        ds = truth[mouse]
        prediction = predictions.read(predictions.find(mouse, False), ds)
        frame = int(ds["frame"].values[ds["labelled"].values][0])
        masks[mouse] = prediction.labels[match_frames(prediction, ds).index(frame)]
    scores: dict[str, dict[str, float]] = {mouse: {} for mouse in masks}
    for name in truth if masks else ():
        with suppress(UnlabelledError):
            stack = load_truth(truth[name])[MASK].values[0]
            for mouse, mask in masks.items():
                if mask.shape == stack.shape:
                    scores[mouse][name] = _compute_mean_dice(mask, stack)
    for mouse, of_others in scores.items():
        other = max(of_others, key=lambda name: of_others[name])
        if of_others[other] >= max(TWIN_DICE, of_others[mouse] + MIN_GAIN):
            text = _describe(f"the masks look like those of {other}", of_others[mouse], of_others[other])
            yield Problem(mouse, "mouse", text)


def _describe(text: str, as_given: float, otherwise: float) -> str:
    return f"{text} (mean Dice {as_given:.2f} as given, {otherwise:.2f} otherwise)"


def _compute_mean_dice(prediction: Labels, truth: Labels) -> float:
    return float(np.mean(list(dice_by_class(prediction, truth).values())))
