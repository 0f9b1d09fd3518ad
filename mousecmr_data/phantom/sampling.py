"""The synthetic cohorts: which mice there are, and the draws that make each one's plan."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mousecmr_data.phantom.plan import (
    CONSTRICTION,
    CONTROL,
    DILATED,
    GROUPS,
    INFARCTION,
    PROTOCOLS,
    Acquisition,
    Function,
    Heart,
    Plan,
    Pose,
    Protocol,
    Thorax,
    compute_fullness,
    draw_function,
    get_protocol,
)
from mousecmr_data.schema.manifest import load_manifest

# MERGED phantom.sampling: Draws of the anatomy: the heart's shape, its place in the field, and the body around it.


def draw_heart(rng: np.random.Generator, phenotype: str) -> Heart:
    """The heart's shape: two papillary muscles, sometimes a third band; a failing RV is larger."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    first = float(rng.normal(115.0, 14.0))
    second = float(rng.normal(-115.0, 14.0))
    angles, radii = [first, second], [between(0.38, 0.62), between(0.38, 0.62)]
    if rng.random() < 0.3:
        angles.append(float(rng.normal(180.0, 25.0)))
        radii.append(between(0.22, 0.38))
    rv = between(1.3, 2.5) * (1.12 if phenotype == DILATED else 1.0)
    return Heart(
        septum_deg=between(-10.0, 110.0),
        widest_level=between(0.22, 0.42),
        base_narrowing=between(0.06, 0.24),
        apex_power=between(1.8, 2.7),
        outline=tuple(float(rng.normal(0.0, sd)) for sd in (0.045, 0.022, 0.012, 0.008)),
        outline_turn=tuple(float(t) for t in rng.uniform(0.0, 2.0 * np.pi, 4)),
        wall_unevenness=between(0.0, 0.14),
        base_wall=between(0.55, 1.0),
        apex_wall=between(0.70, 1.0),
        trabecula_mm=between(0.16, 0.46),
        trabecula_cells=(int(rng.integers(11, 24)), int(rng.integers(3, 8))),
        papillary_deg=tuple(angles),
        papillary_mm=tuple(radii),
        papillary_gap=between(-0.5, 0.5),
        rv_depth_mm=rv,
        rv_half_width_deg=between(62.0, 88.0),
        rv_length=between(0.68, 0.95),
        rv_ejection=between(0.35, 0.6) * (0.85 if phenotype == DILATED else 1.0),
        rv_wall_mm=between(0.22, 0.42) * (1.1 if phenotype == CONSTRICTION else 1.0),
        rv_trabecula_mm=between(0.05, 0.30),
        rim_mm=between(0.08, 0.20),
        rim_tone=between(0.15, 1.0),
        rim_cover=between(0.0, 1.0),
        atrium_scale=between(0.85, 1.2),
    )


def draw_pose(rng: np.random.Generator, function: Function, thorax: Thorax, spacing_mm: float) -> tuple[Pose, int]:
    """Place of the heart, and the number of slices (8 to 11) a planner puts over it."""
    # The LV with its apical wall; planners add slices above the base and, mostly, one below the apex.
    outer_mm = function.cavity_length_mm + 0.8
    above = float(rng.uniform(0.1, 1.8))
    below = float(rng.uniform(0.0, 0.75))
    n_slices = int(np.clip(round((outer_mm + above + below) / spacing_mm), 8, 11))
    spare = n_slices * spacing_mm - outer_mm
    base_mm = float(np.clip(spare * above / (above + below), 0.2, 2.6)) - 0.5 * spacing_mm
    # Most fields are centred between heart and body, some on the heart; any of them is off by a little.
    turn, mirror = float(rng.uniform(-np.pi, np.pi)), bool(rng.random() < 0.5)
    flip = -1.0 if mirror else 1.0
    body = (thorax.aside_mm, 3.9 + thorax.heart_gap_mm + thorax.wall_mm - thorax.body_radius_mm[1])
    share = float(rng.uniform(0.1, 1.0))
    away = (
        flip * np.cos(turn) * body[0] - np.sin(turn) * body[1],
        flip * np.sin(turn) * body[0] + np.cos(turn) * body[1],
    )
    pose = Pose(
        heart_xy_mm=(
            float(np.clip(rng.normal(0.0, 1.3) - share * away[0], -7.5, 7.5)),
            float(np.clip(rng.normal(0.0, 1.3) - share * away[1], -7.5, 7.5)),
        ),
        rotation_deg=float(np.rad2deg(turn)),
        mirror=mirror,
        apex_first=bool(rng.random() < 0.5),
        base_mm=base_mm,
        drift_mm_per_mm=(float(rng.normal(0.0, 0.08)), float(rng.normal(0.0, 0.08))),
    )
    return pose, n_slices


def draw_thorax(rng: np.random.Generator) -> Thorax:
    """The body: habitus, chest wall, lungs, liver, stomach, vessels."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    size = float(np.clip(rng.normal(1.0, 0.08), 0.82, 1.2))
    limbs = (between(3.0, 5.0) if rng.random() < 0.75 else 0.0, between(3.0, 5.0) if rng.random() < 0.5 else 0.0)
    return Thorax(
        body_radius_mm=(size * between(11.6, 14.0), size * between(10.6, 12.8)),
        body_shape=tuple(float(rng.normal(0.0, sd)) for sd in (0.05, 0.04, 0.03, 0.022, 0.015, 0.010)),
        body_growth=between(-0.008, 0.014),
        wall_mm=between(1.2, 3.4),
        flank_mm=between(2.0, 5.0),
        dorsum_mm=between(2.2, 5.5),
        skin_mm=between(0.30, 0.60),
        fat_mm=float(rng.choice([0.0, between(0.1, 0.35), between(0.3, 0.9)])),
        heart_gap_mm=between(-0.3, 0.8),
        closing=between(0.3, 1.4),
        aside_mm=between(-1.0, 4.5),
        limb_mm=limbs,
        limb_deg=(between(115.0, 150.0), between(30.0, 65.0)),
        bone=between(0.25, 0.9),
        shoulder=between(0.1, 0.9),
        fissure=max(0.0, between(-0.4, 0.4)),
        dome_mm=(between(1.0, 6.5), between(-9.0, -5.5)),
        dome_top_mm=between(-6.0, 2.0),
        dome_radius_mm=between(9.0, 13.0),
        dome_gap_mm=between(-0.9, 0.6),
        stomach_mm=between(2.0, 4.2),
        stomach_at_mm=(between(-3.0, 6.5), between(-12.0, -6.0), between(6.5, 10.0)),
        bowel=int(rng.integers(0, 4)),
        liver_vessels=int(rng.integers(5, 14)),
        lung_vessels=int(rng.integers(8, 30)),
        great_vessel_mm=between(0.45, 0.85),
        texture=between(0.03, 0.11),
        patchiness=between(0.04, 0.16),
        fat_lobes=between(0.0, 1.0) ** 2,
    )


COHORTS: tuple[str, ...] = tuple(PROTOCOLS)

INFLOW_MICE = ("Mouse17", "Mouse48", "Mouse91", "Mouse125")
"""Mice with labelled inflow frames (source: the dataset's ``Frames_with_ROI``); 44 frames in all."""
INFLOW_FRAMES = 11

_EXTERNAL_GROUPS: dict[str, Sequence[tuple[str, int]]] = {
    "phantom-7T": ((CONTROL, 8), (INFARCTION, 7)),
    "phantom-11.7T": ((CONTROL, 5), (CONSTRICTION, 5)),
}
"""Invented: the published external test sets say how many mice, not which groups."""


def make_plans(cohort: str) -> dict[str, Plan]:
    """All plans of a cohort by mouse name; deterministic, a few milliseconds, nothing rendered.

    Raises :class:`~mousecmr_data.errors.UnknownNameError` for a cohort that does not exist.
    """
    return dict(_make_plans(cohort))


@lru_cache(maxsize=len(PROTOCOLS))
def _make_plans(cohort: str) -> dict[str, Plan]:
    scanner = get_protocol(cohort)
    phenotypes = list(_list_phenotypes(cohort))
    # Groups are mixed over the numbers, so that no split holds one group only.
    order = np.random.default_rng(_make_seed(cohort, "order")).permutation(len(phenotypes))
    names = [scanner.names.format(number + 1) for number in range(len(phenotypes))]
    return {name: _make_plan(cohort, scanner, name, phenotypes[k]) for name, k in zip(names, order, strict=True)}


def _list_phenotypes(cohort: str) -> Iterator[str]:
    real = [(group.name, group.n_mice) for group in load_manifest("mousecmr-130").groups]
    for name, count in _EXTERNAL_GROUPS.get(cohort, real):
        yield from [name] * count


def _make_seed(*names: str) -> int:
    """A seed that is the same in every process and version of Python."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:7], "big")


def _make_plan(cohort: str, scanner: Protocol, name: str, phenotype: str) -> Plan:
    seed = _make_seed(cohort, name)
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
        labelled.update(
            _choose_inflow_frames(compute_fullness(function, n_frames, ed_frame, es_frame), ed_frame, es_frame)
        )

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


def _choose_inflow_frames(full: np.ndarray, ed_frame: int, es_frame: int) -> list[int]:
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
