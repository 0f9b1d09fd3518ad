"""The plan of a synthetic mouse: everything drawn about it, before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass

from mousecmr_data.phantom.physiology import Function


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the heart lies in the field, and how the stack was planned."""

    heart_xy_mm: tuple[float, float]
    """LV centre relative to the middle of the field (x to the right, y down)."""
    rotation_deg: float
    mirror: bool
    apex_first: bool
    """The stored stack runs apex to base."""
    base_mm: float
    """Depth of the valve plane at ED below the middle of the most basal slice."""
    drift_mm_per_mm: tuple[float, float]
    """In-plane shift of the LV centre per mm towards the apex (an oblique long axis)."""


@dataclass(frozen=True, slots=True)
class Heart:
    """Shape of the heart at end-diastole. Angles from the middle of the septum; lengths in mm."""

    septum_deg: float
    """Direction from the LV to the middle of the RV, in the body's frame (90 = ventral)."""
    widest_level: float
    """Level (0 base, 1 apex) of the largest short-axis radius."""
    base_narrowing: float
    apex_power: float
    outline: tuple[float, ...]
    """Relative amplitudes of the harmonics 2, 3, ... of the short-axis outline."""
    outline_turn: tuple[float, ...]
    """Their phases (rad)."""
    wall_unevenness: float
    base_wall: float
    """Wall at the valve plane as a fraction of the free wall's."""
    apex_wall: float
    """Wall at the apex as a fraction of the free wall's."""
    trabecula_mm: float
    trabecula_cells: tuple[int, int]
    """Noise cells round the circumference and over the radius."""
    papillary_deg: tuple[float, ...]
    papillary_mm: tuple[float, ...]
    papillary_gap: float
    rv_depth_mm: float
    rv_half_width_deg: float
    rv_length: float
    """How far towards the apex the RV reaches, as a fraction of the LV's length."""
    rv_ejection: float
    rv_wall_mm: float
    rv_trabecula_mm: float
    rim_mm: float
    rim_tone: float
    rim_cover: float
    """Share of the circumference with a bright epicardial rim."""
    atrium_scale: float


@dataclass(frozen=True, slots=True)
class Thorax:
    """The body around the heart; lengths in mm, in the body's frame (y towards the sternum)."""

    body_radius_mm: tuple[float, float]
    body_shape: tuple[float, ...]
    """Fourier amplitudes (relative) of the outline, harmonics 2 to 5."""
    body_growth: float
    """Relative growth of the outline per mm towards the abdomen."""
    wall_mm: float
    """Chest wall between the heart and the skin."""
    flank_mm: float
    dorsum_mm: float
    skin_mm: float
    fat_mm: float
    heart_gap_mm: float
    closing: float
    """Growth of the ventral wall per mm towards the apex."""
    aside_mm: float
    """Body centre to the side of the heart."""
    limb_mm: tuple[float, float]
    """Radius of a forelimb beside the chest on either side; 0 for none in the field."""
    limb_deg: tuple[float, float]
    shoulder: float
    """Growth of the chest wall per mm above the valve plane."""
    fissure: float
    """Share of fat in the cleft between liver lobes."""
    bone: float
    """How dark the limb bones are, 0..1."""
    dome_mm: tuple[float, float]
    """Liver dome: centre, towards (side, back) of the heart."""
    dome_top_mm: float
    """Depth at which the dome begins, from the valve plane."""
    dome_radius_mm: float
    dome_gap_mm: float
    stomach_mm: float
    stomach_at_mm: tuple[float, float, float]
    bowel: int
    liver_vessels: int
    lung_vessels: int
    great_vessel_mm: float
    texture: float
    patchiness: float
    """Slow variation of brightness within a tissue."""
    fat_lobes: float
    """Fat between the muscles, 0..1."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """From tissue to stored numbers: sequence, coil, noise, scaling."""

    field_t: float
    matrix_yx: tuple[int, int]
    te_ms: float
    tr_ms: float
    flip_deg: float
    contrast: tuple[tuple[str, float], ...]
    """Factor on each tissue's signal: what differs between mice beside relaxation."""
    pulses_lv: float
    """RF pulses the LV blood has seen at most: few is bright (inflow)."""
    pulses_rv: float
    pulses_atria: float
    pulses_artery: float
    pulses_vein: float
    blood_pulsation: float
    inflow_void: float
    """Share of the signal lost in the jets of mid-systole and early diastole."""
    fat_turns: float
    """Phase of fat against water at the echo, in turns."""
    coil_at_mm: tuple[float, float]
    coil_reach_mm: float
    coil_depth: float
    """0 is a homogeneous volume coil, 1 a surface coil."""
    snr_myocardium: float
    ghosting: float
    breathing: float
    """Amplitude of the coherent ghost of breathing, along phase encoding."""
    apodisation: float
    wrap: float
    """Share of the signal from beyond the field that wraps into it."""
    phase_axis: int
    """Image axis of phase encoding (0 rows, 1 columns), along which the body wraps."""
    white: float
    """Stored number of the LV blood's signal at the coil's mean sensitivity."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One synthetic mouse. Change parts with ``dataclasses.replace`` and render again."""

    mouse: str
    cohort: str
    phenotype: str
    seed: int
    n_frames: int
    n_slices: int
    shape_yx: tuple[int, int]
    labelled_frames: tuple[int, ...]
    ed_frame: int
    es_frame: int
    voxel_size_mm: tuple[float, float, float]
    """(slice, row, column) = (z, y, x)."""
    frame_time_ms: float
    pose: Pose
    function: Function
    heart: Heart
    thorax: Thorax
    acquisition: Acquisition
