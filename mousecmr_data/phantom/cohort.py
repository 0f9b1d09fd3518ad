"""The synthetic cohorts: which mice there are, and the draws that make each one's plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mousecmr_data.phantom.anatomy import draw_heart, draw_pose, draw_thorax
from mousecmr_data.phantom.physiology import (
    CONSTRICTION,
    CONTROL,
    GROUPS,
    INFARCTION,
    draw_function,
    fullness,
)
from mousecmr_data.phantom.plan import Acquisition, Plan
from mousecmr_data.phantom.protocol import PROTOCOLS, Protocol, protocol
from mousecmr_data.schema.manifest import load_manifest

COHORTS: tuple[str, ...] = tuple(PROTOCOLS)

INFLOW_MICE = ("Mouse17", "Mouse48", "Mouse91", "Mouse125")
"""Mice with labelled inflow frames (source: the dataset's ``Frames_with_ROI``); 44 frames in all."""
INFLOW_FRAMES = 11

_EXTERNAL_GROUPS: dict[str, Sequence[tuple[str, int]]] = {
    "phantom-7T": ((CONTROL, 8), (INFARCTION, 7)),
    "phantom-11.7T": ((CONTROL, 5), (CONSTRICTION, 5)),
}
"""Invented: the published external test sets say how many mice, not which groups."""


def plans(cohort: str) -> dict[str, Plan]:
    """All plans of a cohort by mouse name; deterministic, a few milliseconds, nothing rendered.

    Raises :class:`~mousecmr_data.errors.UnknownNameError` for a cohort that does not exist.
    """
    return dict(_plans(cohort))


@lru_cache(maxsize=len(PROTOCOLS))
def _plans(cohort: str) -> dict[str, Plan]:
    scanner = protocol(cohort)
    phenotypes = list(_phenotypes(cohort))
    # Groups are mixed over the numbers, so that no split holds one group only.
    order = np.random.default_rng(_seed(cohort, "order")).permutation(len(phenotypes))
    names = [scanner.names.format(number + 1) for number in range(len(phenotypes))]
    return {name: _plan(cohort, scanner, name, phenotypes[k]) for name, k in zip(names, order, strict=True)}


def _phenotypes(cohort: str) -> Iterator[str]:
    real = [(group.name, group.n_mice) for group in load_manifest("mousecmr-130").groups]
    for name, count in _EXTERNAL_GROUPS.get(cohort, real):
        yield from [name] * count


def _seed(*names: str) -> int:
    """A seed that is the same in every process and version of Python."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:7], "big")


def _plan(cohort: str, scanner: Protocol, name: str, phenotype: str) -> Plan:
    seed = _seed(cohort, name)
    streams = np.random.SeedSequence(seed).spawn(6)
    timing, beat, shape, place, body, scan = (np.random.default_rng(stream) for stream in streams)

    cycle_ms = float(timing.normal(*GROUPS[phenotype].cycle_ms))
    if timing.random() < 0.05:  # deep anaesthesia slows some hearts
        cycle_ms += float(timing.uniform(25.0, 60.0))
    n_frames = int(np.clip(round(cycle_ms / scanner.frame_time_ms), *scanner.frames))
    function = draw_function(beat, phenotype)
    ed_frame = int(timing.choice([0, 1], p=[0.92, 0.08]))
    es_frame = ed_frame + max(4, round(function.es_fraction * n_frames))
    labelled = {ed_frame, es_frame}
    if name in INFLOW_MICE:
        labelled.update(_inflow_frames(fullness(function, n_frames, ed_frame, es_frame), ed_frame, es_frame))

    heart = draw_heart(shape, phenotype)
    spacing = scanner.voxel_size_mm[0]
    thorax = draw_thorax(body)
    pose, n_slices = draw_pose(place, function, thorax, spacing)
    return Plan(
        mouse=name,
        cohort=cohort,
        phenotype=phenotype,
        seed=seed,
        n_frames=n_frames,
        n_slices=n_slices,
        shape_yx=scanner.shape_yx,
        labelled_frames=tuple(sorted(labelled)),
        ed_frame=ed_frame,
        es_frame=es_frame,
        voxel_size_mm=scanner.voxel_size_mm,
        frame_time_ms=scanner.frame_time_ms,
        pose=pose,
        function=function,
        heart=heart,
        thorax=thorax,
        acquisition=_draw_acquisition(scan, scanner, name in INFLOW_MICE),
    )


def _inflow_frames(full: np.ndarray, ed_frame: int, es_frame: int) -> list[int]:
    """Frames with jets (mid-systole, early diastole), clearly fuller than ES and less full than ED."""
    candidates = [k for k in range(ed_frame + 1, len(full)) if k != es_frame and 0.08 < full[k] < 0.985]
    return sorted(candidates, key=lambda k: abs(k - es_frame))[:INFLOW_FRAMES]


_TISSUES = (
    ("myocardium", 0.06),
    ("skin", 0.25),
    ("fat", 0.35),
    ("muscle", 0.15),
    ("lung", 0.6),
    ("liver", 0.22),
    ("gut_wall", 0.25),
    ("gut_content", 0.4),
    ("gut_paste", 0.3),
    ("bone", 0.4),
    ("marrow", 0.4),
    ("rim", 0.35),
)


def _draw_acquisition(rng: np.random.Generator, scanner: Protocol, strong_inflow: bool) -> Acquisition:
    pulses = float(rng.uniform(25.0, 54.0))
    coil_angle = rng.uniform(0.0, 2.0 * np.pi)
    coil_distance = rng.uniform(4.0, 14.0)
    return Acquisition(
        field_t=scanner.field_t,
        matrix_yx=scanner.matrix_yx,
        te_ms=scanner.te_ms,
        tr_ms=scanner.tr_ms,
        flip_deg=float(scanner.flip_deg * rng.uniform(0.9, 1.1)),
        contrast=tuple((name, float(np.exp(rng.normal(0.0, spread)))) for name, spread in _TISSUES),
        pulses_lv=pulses,
        pulses_rv=pulses * float(rng.uniform(0.85, 1.45)),
        pulses_atria=pulses * float(rng.uniform(0.9, 1.4)),
        pulses_artery=pulses * float(rng.uniform(0.75, 1.4)),
        pulses_vein=pulses * float(rng.uniform(0.8, 1.7)),
        blood_pulsation=float(rng.uniform(0.03, 0.15)),
        inflow_void=float(rng.uniform(0.55, 0.85) if strong_inflow else rng.uniform(0.05, 0.45)),
        fat_turns=0.145 * scanner.te_ms * scanner.field_t,
        coil_at_mm=(float(coil_distance * np.cos(coil_angle)), float(coil_distance * np.sin(coil_angle))),
        coil_reach_mm=float(rng.uniform(11.0, 24.0)),
        coil_depth=float(rng.uniform(0.15, 0.65)),
        snr_myocardium=float(rng.uniform(*scanner.snr_myocardium)),
        ghosting=float(rng.uniform(0.003, 0.02)),
        breathing=float(rng.uniform(0.0, 0.035)),
        apodisation=float(rng.uniform(0.0, 0.5)),
        wrap=float(max(0.0, rng.uniform(-0.9, 0.9))),
        phase_axis=int(rng.integers(0, 2)),
        white=float(np.exp(rng.uniform(np.log(4000.0), np.log(24000.0)))),
    )
