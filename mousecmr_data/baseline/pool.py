"""Training images made by the phantom: mice recombined from a cohort's plans, with widened appearance."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mousecmr_data.baseline.slices import Slices, eight_bits
from mousecmr_data.phantom import VERSION, Plan, render
from mousecmr_data.phantom.plan import Acquisition

FRAMES = 4
"""Frames rendered of each mouse: end-diastole, mid-systole, end-systole, early filling."""
ES_FRAME = 2

CONTRAST_SPREAD = 0.30
"""SD of the logarithm of the factor on each tissue's signal, beside the phantom's own spread."""


def invented(rng: np.random.Generator, plans: Sequence[Plan], name: str, any_scanner: bool = False) -> Plan:
    """A new mouse: pose and function of one plan, heart, body and scan of three others, scan randomised."""
    body, heart, thorax, scan = (plans[int(k)] for k in rng.integers(len(plans), size=4))
    pose = replace(
        body.pose,
        rotation_deg=float(rng.uniform(-180.0, 180.0)),
        mirror=bool(rng.random() < 0.5),
        base_mm=body.pose.base_mm + float(rng.uniform(-0.5, 0.5)),
        drift_mm_per_mm=(float(rng.normal(0.0, 0.1)), float(rng.normal(0.0, 0.1))),
    )
    made = _randomised(rng, scan.acquisition)
    return replace(
        body,
        mouse=name,
        seed=int(rng.integers(2**48)),
        n_frames=FRAMES,
        ed_frame=0,
        es_frame=ES_FRAME,
        labelled_frames=(0, ES_FRAME),
        pose=pose,
        heart=replace(heart.heart, septum_deg=float(rng.uniform(-40.0, 150.0))),
        thorax=thorax.thorax,
        acquisition=_elsewhere(rng, made) if any_scanner else made,
    )


def _randomised(rng: np.random.Generator, scan: Acquisition) -> Acquisition:
    """The scan with contrast, inflow, coil, noise and artefacts drawn anew and wider."""

    def factor(spread: float) -> float:
        return float(np.exp(rng.normal(0.0, spread)))

    pulses = float(np.exp(rng.uniform(np.log(12.0), np.log(90.0))))
    angle, distance = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(3.0, 14.0)
    return replace(
        scan,
        contrast=tuple((tissue, value * factor(CONTRAST_SPREAD)) for tissue, value in scan.contrast),
        pulses_lv=pulses,
        pulses_rv=pulses * factor(0.3),
        pulses_atria=pulses * factor(0.3),
        pulses_artery=pulses * factor(0.4),
        pulses_vein=pulses * factor(0.4),
        blood_pulsation=float(rng.uniform(0.0, 0.25)),
        inflow_void=float(rng.uniform(0.0, 0.85)),
        fat_turns=float(rng.uniform(0.0, 1.0)) if rng.random() < 0.5 else scan.fat_turns,
        coil_at_mm=(float(distance * np.cos(angle)), float(distance * np.sin(angle))),
        coil_reach_mm=float(rng.uniform(9.0, 24.0)),
        coil_depth=float(rng.uniform(0.0, 0.8)),
        snr_myocardium=float(np.exp(rng.uniform(np.log(3.5), np.log(25.0)))),
        ghosting=float(rng.uniform(0.0, 0.03)),
        breathing=float(rng.uniform(0.0, 0.06)),
        apodisation=float(rng.uniform(0.0, 0.8)),
        wrap=float(max(0.0, rng.uniform(-0.9, 0.9))),
        phase_axis=int(rng.integers(0, 2)),
    )


def _elsewhere(rng: np.random.Generator, scan: Acquisition) -> Acquisition:
    """The scan at another scanner: field strength, echo and repetition time, flip angle, matrix."""
    matrix = int(rng.integers(100, 224))
    te_ms, field_t = float(rng.uniform(0.8, 2.2)), float(rng.uniform(4.7, 14.0))
    return replace(
        scan,
        field_t=field_t,
        te_ms=te_ms,
        tr_ms=float(rng.uniform(4.0, 10.0)),
        flip_deg=float(rng.uniform(10.0, 25.0)),
        matrix_yx=(matrix, matrix),
    )


def rendered(
    plans: Mapping[str, Plan],
    mice: int,
    seed: int,
    *,
    any_scanner: float = 0.0,
    cache: Path | None = None,
    done: Callable[[int], None] | None = None,
) -> Slices:
    """Slices of ``mice`` invented mice, the same for the same arguments; kept as .npy below ``cache``.

    ``any_scanner`` is the share of them that another scanner than the cohort's sees.

    Takes about half a second a mouse, and 128 KiB a slice (some 36 slices a mouse).
    """
    name = f"pool-{VERSION}-{any_scanner:g}-{_digest(plans)}-{mice}-{seed}"
    files = None if cache is None else (cache / f"{name}-image.npy", cache / f"{name}-label.npy")
    if files and all(f.exists() for f in files):
        return Slices(*(np.load(f, mmap_mode="r") for f in files))
    rng = np.random.default_rng([seed, mice])
    known = list(plans.values())
    images, labels = [], []
    for number in range(mice):
        made = render(invented(rng, known, f"pool-{number}", any_scanner=number < any_scanner * mice))
        shape = (-1, *made.image.shape[-2:])
        images.append(eight_bits(made.image.reshape(shape)))
        labels.append(made.truth.reshape(shape))
        if done:
            done(1)
    pool = Slices(np.concatenate(images), np.concatenate(labels))
    if files:
        files[0].parent.mkdir(parents=True, exist_ok=True)
        for file, array in zip(files, (pool.image, pool.label), strict=True):
            partial = file.with_name(f".{file.name}.{os.getpid()}.part")
            with partial.open("wb") as f:
                np.save(f, array)
            partial.replace(file)
    return pool


def _digest(plans: Mapping[str, Plan]) -> str:
    """Which plans: eight hex digits."""
    return hashlib.sha256(repr(sorted(plans.items())).encode()).hexdigest()[:8]
