"""Mice of the synthetic cohorts, and the random draws of their plans."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mousecmr_data.errors import UnknownNameError
from mousecmr_data.phantom.plan import (
    CONSTRICTION,
    CONTROL,
    DILATED,
    GROUPS,
    INFARCTION,
    PROTOCOLS,
    TISSUES,
    Acquisition,
    Function,
    Heart,
    Plan,
    Pose,
    Protocol,
    Thorax,
    compute_fullness,
    draw_function,
)
from mousecmr_data.schema import PHANTOM, PHANTOMS, SMALL_PHANTOM
from mousecmr_data.schema.manifest import load_manifest


def draw_heart(rng: np.random.Generator, phenotype: str) -> Heart:
    """Draw the heart's shape: two papillary muscles, sometimes a third band; a failing RV is larger."""
    between = rng.uniform
    papillary_deg = [rng.normal(115.0, 14.0), rng.normal(-115.0, 14.0)]
    papillary_mm = [between(0.38, 0.62), between(0.38, 0.62)]
    if rng.random() < 0.3:
        papillary_deg.append(rng.normal(180.0, 25.0))
        papillary_mm.append(between(0.22, 0.38))
    rv_depth_mm = between(1.3, 2.5) * (1.12 if phenotype == DILATED else 1.0)
    return Heart(
        septum_deg=between(-10.0, 110.0),
        widest_level=between(0.22, 0.42),
        base_narrowing=between(0.06, 0.24),
        apex_power=between(1.8, 2.7),
        outline=tuple(rng.normal(0.0, sd) for sd in (0.045, 0.022, 0.012, 0.008)),
        outline_turn=tuple(rng.uniform(0.0, 2.0 * np.pi, 4).tolist()),
        wall_unevenness=between(0.0, 0.14),
        base_wall=between(0.55, 1.0),
        apex_wall=between(0.70, 1.35),
        trabecula_mm=between(0.16, 0.46),
        trabecula_cells=(int(rng.integers(11, 24)), int(rng.integers(3, 8))),
        papillary_deg=tuple(papillary_deg),
        papillary_mm=tuple(papillary_mm),
        papillary_gap=between(-0.5, 0.5),
        rv_depth_mm=rv_depth_mm,
        rv_half_width_deg=between(62.0, 88.0),
        rv_length=between(0.68, 0.95),
        rv_ejection=between(0.35, 0.6) * (0.85 if phenotype == DILATED else 1.0),
        rv_wall_mm=between(0.22, 0.42) * (1.1 if phenotype == CONSTRICTION else 1.0),
        rv_trabecula_mm=between(0.05, 0.30),
        rim_mm=between(0.08, 0.20),
        rim_tone=between(0.15, 1.0),
        rim_cover=between(0.0, 1.0),
        atrium_scale=between(0.85, 1.2),
        valve_tilt_deg=between(0.0, 24.0),
        valve_turn_deg=rng.normal(0.0, 50.0),
        collar_mm=between(0.0, 1.2),
        apex_fill=between(0.0, 1.0),
    )


def draw_pose(rng: np.random.Generator, function: Function, thorax: Thorax, spacing_mm: float) -> tuple[Pose, int]:
    """Draw the heart's position, and the number of slices (8 to 11) that a planner puts over it."""
    # The LV with its apical wall. Most planners add slices at both ends; some stacks begin or end in the ventricle.
    outer_mm = function.cavity_length_mm + 0.8
    above, below = rng.uniform(-0.5, 2.4), rng.uniform(-0.4, 1.5)
    n_slices = int(np.clip(round((outer_mm + above + below) / spacing_mm), 8, 11))
    spare = n_slices * spacing_mm - outer_mm - above - below
    base_mm = float(np.clip(above + 0.5 * spare, -0.6, 3.2)) - 0.5 * spacing_mm
    # Most fields are centred between heart and body, some on the heart; all of them are off by a little.
    turn, mirror = rng.uniform(-np.pi, np.pi), rng.random() < 0.5
    flip = -1.0 if mirror else 1.0
    body_x, body_y = thorax.aside_mm, 3.9 + thorax.heart_gap_mm + thorax.wall_mm - thorax.body_radius_mm[1]
    share = rng.uniform(0.1, 1.0)
    body_in_image = (
        flip * np.cos(turn) * body_x - np.sin(turn) * body_y,
        flip * np.sin(turn) * body_x + np.cos(turn) * body_y,
    )
    x, y = (float(np.clip(rng.normal(0.0, 1.3) - share * away, -7.5, 7.5)) for away in body_in_image)
    pose = Pose(
        heart_xy_mm=(x, y),
        rotation_deg=float(np.rad2deg(turn)),
        mirror=mirror,
        apex_first=rng.random() < 0.5,
        base_mm=base_mm,
        drift_mm_per_mm=(rng.normal(0.0, 0.08), rng.normal(0.0, 0.08)),
    )
    return pose, n_slices


def draw_thorax(rng: np.random.Generator) -> Thorax:
    """Draw the body: habitus, chest wall, lungs, liver, stomach, vessels."""
    between = rng.uniform
    size = float(np.clip(rng.normal(1.0, 0.08), 0.82, 1.2))
    limbs = (between(3.0, 5.0) if rng.random() < 0.75 else 0.0, between(3.0, 5.0) if rng.random() < 0.5 else 0.0)
    return Thorax(
        body_radius_mm=(size * between(11.6, 14.0), size * between(10.6, 12.8)),
        body_shape=tuple(rng.normal(0.0, sd) for sd in (0.05, 0.04, 0.03, 0.022, 0.015, 0.010)),
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
        apex_contact=max(0.0, between(-0.2, 1.0)),
    )


COHORTS: tuple[str, ...] = PHANTOMS
"""Names of the synthetic cohorts, as ``load(source=...)`` takes them."""

INFLOW_MICE = ("Mouse17", "Mouse48", "Mouse91", "Mouse125")
"""Mice with labelled inflow frames (source: the dataset's ``Frames_with_ROI``); 44 frames in all."""
INFLOW_FRAMES = 11

_EXTERNAL_GROUPS: dict[str, Sequence[tuple[str, int]]] = {
    "phantom-7T": ((CONTROL, 8), (INFARCTION, 7)),
    "phantom-11.7T": ((CONTROL, 5), (CONSTRICTION, 5)),
}
"""Our choice: of the external test sets, the numbers of mice are published, the groups are not."""


def make_plans(cohort: str) -> dict[str, Plan]:
    """Return all plans of a cohort by mouse name; deterministic, a few milliseconds, without rendering.

    Raises :class:`~mousecmr_data.errors.UnknownNameError` for a cohort that does not exist.
    """
    return dict(_make_plans(cohort))


@lru_cache(maxsize=len(PROTOCOLS))
def _make_plans(cohort: str) -> dict[str, Plan]:
    if cohort not in PROTOCOLS:
        raise UnknownNameError.from_name("phantom", cohort, PROTOCOLS, "mousecmr_data.load(source='phantom')")
    protocol = PROTOCOLS[cohort]
    published = [(group.name, group.n_mice) for group in load_manifest().groups]
    phenotypes = [name for name, count in _EXTERNAL_GROUPS.get(cohort, published) for _ in range(count)]
    # Groups are mixed over the numbers, so that no split holds one group only.
    order = np.random.default_rng(_make_seed(_get_seed_name(cohort), "order")).permutation(len(phenotypes))
    names = [protocol.names.format(number + 1) for number in range(len(phenotypes))]
    return {name: _make_plan(cohort, protocol, name, phenotypes[k]) for name, k in zip(names, order, strict=True)}


def _get_seed_name(cohort: str) -> str:
    """Return the cohort whose mice these are: the small cohort images those of the first with fewer pixels."""
    return PHANTOM if cohort == SMALL_PHANTOM else cohort


def _make_seed(*names: str) -> int:
    """Make a seed that is the same in every process and version of Python."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest()[:7], "big")


def _make_plan(cohort: str, protocol: Protocol, name: str, phenotype: str) -> Plan:
    seed = _make_seed(_get_seed_name(cohort), name)
    streams = np.random.SeedSequence(seed).spawn(6)
    timing, function_rng, heart_rng, pose_rng, thorax_rng, scan_rng = (
        np.random.default_rng(stream) for stream in streams
    )

    cycle_ms = timing.normal(*GROUPS[phenotype].cycle_ms)
    if timing.random() < 0.05:  # deep anaesthesia slows some hearts
        cycle_ms += timing.uniform(25.0, 60.0)
    n_frames = int(np.clip(round(cycle_ms / protocol.frame_time_ms), *protocol.frames))
    function = draw_function(function_rng, phenotype)
    ed_frame = int(timing.choice([0, 1], p=[0.92, 0.08]))
    es_frame = ed_frame + max(4, round(function.es_fraction * n_frames))
    labelled = {ed_frame, es_frame}
    if name in INFLOW_MICE:
        # Frames with jets (mid-systole, early diastole), clearly fuller than ES and less full than ED.
        full = compute_fullness(function, n_frames, ed_frame, es_frame)
        candidates = [k for k in range(ed_frame + 1, n_frames) if k != es_frame and 0.08 < full[k] < 0.985]
        labelled.update(sorted(candidates, key=lambda k: abs(k - es_frame))[:INFLOW_FRAMES])
    thorax = draw_thorax(thorax_rng)
    pose, n_slices = draw_pose(pose_rng, function, thorax, protocol.voxel_size_mm[0])
    return Plan(
        mouse=name,
        cohort=cohort,
        phenotype=phenotype,
        seed=seed,
        n_frames=n_frames,
        n_slices=n_slices,
        shape_yx=protocol.shape_yx,
        labelled_frames=tuple(sorted(labelled)),
        ed_frame=ed_frame,
        es_frame=es_frame,
        voxel_size_mm=protocol.voxel_size_mm,
        frame_time_ms=protocol.frame_time_ms,
        pose=pose,
        function=function,
        heart=draw_heart(heart_rng, phenotype),
        thorax=thorax,
        acquisition=_draw_acquisition(scan_rng, protocol, name in INFLOW_MICE),
    )


def _draw_acquisition(rng: np.random.Generator, protocol: Protocol, strong_inflow: bool) -> Acquisition:
    pulses = rng.uniform(25.0, 54.0)
    coil_angle = rng.uniform(0.0, 2.0 * np.pi)
    coil_distance = rng.uniform(4.0, 14.0)
    return Acquisition(
        field_t=protocol.field_t,
        matrix_yx=protocol.matrix_yx,
        te_ms=protocol.te_ms,
        tr_ms=protocol.tr_ms,
        flip_deg=protocol.flip_deg * rng.uniform(0.9, 1.1),
        contrast=tuple(
            (name, float(np.exp(rng.normal(0.0, tissue.spread)))) for name, tissue in TISSUES.items() if name != "blood"
        ),
        pulses_lv=pulses,
        pulses_rv=pulses * rng.uniform(0.85, 1.45),
        pulses_atria=pulses * rng.uniform(0.9, 1.4),
        pulses_artery=pulses * rng.uniform(0.75, 1.4),
        pulses_vein=pulses * rng.uniform(0.8, 1.7),
        blood_pulsation=rng.uniform(0.03, 0.15),
        inflow_void=rng.uniform(0.55, 0.85) if strong_inflow else rng.uniform(0.05, 0.45),
        fat_turns=0.145 * protocol.te_ms * protocol.field_t,
        coil_at_mm=(float(coil_distance * np.cos(coil_angle)), float(coil_distance * np.sin(coil_angle))),
        coil_reach_mm=rng.uniform(11.0, 24.0),
        coil_depth=rng.uniform(0.15, 0.65),
        snr_myocardium=rng.uniform(*protocol.snr_myocardium),
        ghosting=rng.uniform(0.003, 0.02),
        breathing=rng.uniform(0.0, 0.035),
        apodisation=rng.uniform(0.0, 0.5),
        wrap=max(0.0, rng.uniform(-0.9, 0.9)),
        phase_axis=int(rng.integers(0, 2)),
        white=float(np.exp(rng.uniform(np.log(4000.0), np.log(24000.0)))),
    )
