"""A student: a network that learns the class probabilities of another one, its teacher, instead of masks.

It learns them on every slice of every frame, as training sees images: on the training grid, in 256 grey values. The
teacher computes them once; its own weights say how it scales these images and which neighbours it sees.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mousecmr_data._utils.checksums import hash_arrays
from mousecmr_data._utils.parallel import ProgressCallback
from mousecmr_data._utils.progress import open_bar
from mousecmr_data.dataset.cohort import Cohort
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.download.cache import get_cache_root
from mousecmr_data.inference.engines.base import read_cache_file, write_cache_file
from mousecmr_data.inference.grid import make_training_grid, normalize_to_uint8, to_numpy
from mousecmr_data.inference.predictor import Predictor, score_model
from mousecmr_data.inference.speed import count_gflop
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.metrics.volumes import find_ed_es
from mousecmr_data.schema.labels import FOREGROUND, Label
from mousecmr_data.schema.variables import DIMS, IMAGE
from mousecmr_data.training.data import POOL_FRAMES, SliceData, join_slices

TARGETS_FORMAT = 1


def read_mice(cohort: Cohort) -> Iterator[SliceData]:
    """Yield the slices of all frames of each mouse; the labels are zeros, whatever masks there are."""
    grid = make_training_grid()
    for ds in cohort.values():
        images = ds[IMAGE].transpose(*DIMS).values
        x = images.reshape(-1, 1, *images.shape[2:]).astype(np.float32)
        image = normalize_to_uint8(grid.from_native(x, get_spacing(ds)[1:])[:, 0])
        yield SliceData(image, np.zeros_like(image), (images.shape[1],) * len(images))


def split_pool(pool: SliceData) -> Iterator[SliceData]:
    """Yield the slices of each synthetic mouse of :func:`mousecmr_data.training.data.render_slices`."""
    start = 0
    for k in range(0, len(pool.stacks), POOL_FRAMES):
        stacks = pool.stacks[k : k + POOL_FRAMES]
        part = slice(start, start + sum(stacks))
        yield SliceData(pool.image[part], pool.label[part], stacks)
        start = part.stop


def teach(
    mice: Iterable[SliceData],
    teacher: Predictor,
    *,
    total: int,
    cache: str | Path | None = None,
    progress: ProgressCallback | None = None,
) -> list[SliceData]:
    """Return mice with the probabilities of ``teacher`` as ``soft``, and the most probable class as ``label``.

    Those of a mouse are kept in ``cache``, with their checksum, for its images and the teacher's SHA-256: a run that
    was stopped computes only what is missing. ``progress`` is called with 1 after each of ``total`` mice; without it, a
    bar is drawn where it is seen. In memory, a slice takes 256 KiB.
    """
    taught = []
    with open_bar(progress, f"{teacher.origin.name} labels mice", total) as advance:
        for mouse in mice:
            images = hash_arrays(mouse.image, np.array(mouse.stacks))
            name = f"{TARGETS_FORMAT}-{teacher.origin.sha256[:20]}-{images[:20]}.npz"
            path = get_cache_root(cache) / "teachers" / name
            if data := read_cache_file(path):
                soft = np.load(io.BytesIO(data))["soft"]
            else:
                soft = _predict(mouse, teacher)
                packed = io.BytesIO()
                np.savez_compressed(packed, soft=soft)  # mostly zeros: a fiftieth of the size
                write_cache_file(path, packed.getvalue())
            background = 255 - soft.sum(1, dtype=np.int16, keepdims=True)
            label = np.concatenate([background, soft], 1).argmax(1).astype(np.uint8)
            taught.append(replace(mouse, label=label, soft=soft))
            advance(1)
    return taught


def join_mice(mice: Sequence[SliceData]) -> SliceData:
    """Return mice of :func:`teach` as one."""
    return replace(join_slices(mice), known=None, soft=np.concatenate([mouse.soft for mouse in mice]))


def _predict(mouse: SliceData, teacher: Predictor) -> NDArray[np.uint8]:
    """Return the teacher's probabilities of :data:`FOREGROUND`, 0…255, (n, 2, Y, X), computed stack by stack."""
    spacing = make_training_grid().spacing_mm
    parts = []
    for stack in np.split(mouse.image, np.cumsum(mouse.stacks)[:-1]):
        maps = to_numpy(teacher.predict_probabilities(stack.astype(np.float32), (spacing, spacing)))
        parts.append(np.rint(maps[:, list(FOREGROUND)] * 255.0).astype(np.uint8))
    return np.concatenate(parts)


# How well the student learned


def compare_with_teacher(
    student: Predictor, teacher: Predictor, mice: Sequence[SliceData], cohort: Cohort
) -> dict[str, float]:
    """Compare a student with its teacher on mice of :func:`teach` that it did not learn from.

    Returns the Dice with the teacher's labels (mean and smallest over mice, all frames of a mouse together, before
    post-processing), the absolute difference in EF (percentage points) and EDV (percent) after post-processing (mean
    and largest over the ``mice_with_ef``, which have a blood pool in both), the GFLOP of a slice, and, if ``cohort``
    has manual masks, the mean Dice of both with these.
    """
    spacing = make_training_grid().spacing_mm
    rows = []
    for mouse in mice:
        images = mouse.image.reshape(len(mouse.stacks), -1, *mouse.image.shape[1:])
        labels, expected = student.predict_labels(images, (spacing, spacing))[0], mouse.label.reshape(images.shape)
        (edv, ef), (teacher_edv, teacher_ef) = _measure(labels), _measure(expected)
        dice = dice_by_class(labels, expected)
        rows.append((*dice.values(), abs(ef - teacher_ef), 100.0 * abs(edv / teacher_edv - 1.0)))
    table = np.array(rows, dtype=np.float64)
    defined = ~np.isnan(table).any(1)
    volumes = table[defined, 2:]
    report = {
        "mice": len(mice),
        "frames": sum(len(mouse.stacks) for mouse in mice),
        "dice_myocardium": float(table[:, 0].mean()),
        "dice_blood_pool": float(table[:, 1].mean()),
        "dice": float(table[:, :2].mean()),
        "dice_smallest": float(table[:, :2].min()),
        "mice_with_ef": int(defined.sum()),
        "gflop": count_gflop(student.network),
        "gflop_teacher": count_gflop(teacher.network),
    }
    if defined.any():
        for name, values in zip(("ef_points", "edv_percent"), volumes.T, strict=True):
            report |= {name: float(values.mean()), f"{name}_largest": float(values.max())}
    report["times_fewer_operations"] = report["gflop_teacher"] / report["gflop"]
    scores = [score_model(predictor, cohort) for predictor in (student, teacher)]
    if len(scores[0]):
        means = [float(s[[c for c in s if str(c).startswith("dice")]].to_numpy().mean()) for s in scores]
        report |= {"truth_dice": means[0], "truth_dice_teacher": means[1]}
    return report


def describe_report(report: dict[str, float]) -> dict[str, str]:
    """Return :func:`compare_with_teacher` in words, by what was measured; the lines of a card."""
    r = report
    lines = {
        "Dice to the teacher": f"{r['dice']:.4f} (myocardium {r['dice_myocardium']:.4f}, blood pool "
        f"{r['dice_blood_pool']:.4f}; smallest of {r['mice']} mice {r['dice_smallest']:.4f})",
        "GFLOP a slice": f"{r['gflop']:.3g}, of the teacher {r['gflop_teacher']:.3g}: "
        f"{r['times_fewer_operations']:.1f} times fewer",
    }
    if r["mice_with_ef"]:
        of = f" ({r['mice_with_ef']} of {r['mice']} mice)"
        lines |= {
            "EF, difference from the teacher": f"{r['ef_points']:.2f} points, at most {r['ef_points_largest']:.2f}{of}",
            "EDV, difference from the teacher": f"{r['edv_percent']:.2f} %, at most {r['edv_percent_largest']:.2f} %",
        }
    if "truth_dice" in r:
        lines["Dice to manual masks"] = f"{r['truth_dice']:.4f}, of the teacher {r['truth_dice_teacher']:.4f}"
    return lines


def _measure(labels: NDArray[np.uint8]) -> tuple[float, float]:
    """Return EDV in pixels and EF in percent of labels (frame, slice, Y, X); NaN where they are not defined."""
    pools = np.array([np.count_nonzero(postprocess(stack) == Label.BLOOD_POOL) for stack in labels], np.float64)
    if (found := find_ed_es(pools)) is None or not pools[found[0]]:
        return float("nan"), float("nan")
    edv, esv = pools[list(found)]
    return float(edv), float(100.0 * (edv - esv) / edv)
