"""Plan of a synthetic mouse: all parameters that are drawn before rendering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.schema.manifest import get_constant

VERSION = "2"
"""Version of the generator: changes whenever the same name gives other arrays."""

DENSITY_MG_PER_UL = float(get_constant("myocardial_density"))


@dataclass(frozen=True, slots=True)
class Tissue:
    """T1 and T2* in ms, proton density relative to muscle, and the SD of the mice's factors on the signal (log)."""

    t1_ms: float
    t2star_ms: float
    density: float = 1.0
    spread: float = 0.0


TISSUES: dict[str, Tissue] = {
    "myocardium": Tissue(1400.0, 11.0, spread=0.06),
    "blood": Tissue(2200.0, 14.0, 1.05),
    "skin": Tissue(1100.0, 5.0, 0.80, 0.25),
    "fat": Tissue(420.0, 8.0, 0.62, 0.35),
    "muscle": Tissue(1600.0, 10.0, spread=0.15),
    "lung": Tissue(1300.0, 0.8, 0.45, 0.6),
    "liver": Tissue(1150.0, 4.5, 0.90, 0.22),
    "gut_wall": Tissue(1300.0, 7.0, spread=0.25),
    "gut_content": Tissue(1100.0, 1.6, 0.75, 0.4),
    "gut_paste": Tissue(900.0, 3.0, 0.75, 0.3),
    "bone": Tissue(1000.0, 0.5, 0.35, 0.4),
    "marrow": Tissue(700.0, 3.0, 0.65, 0.4),
    "rim": Tissue(450.0, 8.0, 0.70, 0.35),
}
"""Values at 9.4 T: T1 and T2* of mouse myocardium, blood, liver and muscle rounded from the small-animal literature
(myocardium 1.4 s, blood 2.2 s, liver 1.1 s, muscle 1.6 s); lung has little water and a T2* well under 1 ms."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """Short-axis cine protocol of one site: the grid, the timing and the noise."""

    field_t: float
    shape_yx: tuple[int, int]
    matrix_yx: tuple[int, int]
    """Acquired k-space; zero-filled where it is smaller than ``shape_yx``."""
    voxel_size_mm: tuple[float, float, float]
    te_ms: float
    tr_ms: float
    flip_deg: float
    frame_time_ms: float
    frames: tuple[int, int]
    """Minimum and maximum number of frames of a cine, which covers about one beat."""
    snr_myocardium: tuple[float, float]
    """Range to draw from: myocardial signal over the noise SD of one channel in the stored image."""
    names: str
    """``str.format`` pattern of the mice's names."""


PROTOCOLS: dict[str, Protocol] = {
    # The published protocol (source: the paper): 128 x 128 zero-filled to 256 x 256, 0.1 mm, 9.4 T.
    "phantom": Protocol(
        9.4, (256, 256), (128, 128), (1.0, 0.1, 0.1), 1.2, 5.0, 16.0, 5.0, (17, 36), (5.5, 15.0), "Mouse{}"
    ),
    # The two external sites' protocols are not published; these are plausible small-animal ones.
    "phantom-7T": Protocol(
        7.0, (192, 192), (192, 192), (1.0, 0.156, 0.156), 1.8, 8.0, 15.0, 8.0, (11, 24), (5.0, 9.0), "7T-Mouse{}"
    ),
    "phantom-11.7T": Protocol(
        11.7, (288, 288), (192, 192), (0.8, 0.1, 0.1), 1.5, 6.0, 18.0, 6.0, (14, 30), (5.0, 10.0), "11.7T-Mouse{}"
    ),
    # The field of view of the first, in fewer pixels, slices and frames.
    "phantom-64": Protocol(
        9.4, (64, 64), (64, 64), (1.0, 0.4, 0.4), 1.2, 5.0, 16.0, 12.0, (8, 12), (8.0, 20.0), "Mouse{}"
    ),
}


CONTROL = "control"
INFARCTION = "myocardial infarction with patch"
DILATED = "transgenic dilated cardiomyopathy"
CONSTRICTION = "transverse aortic constriction"


@dataclass(frozen=True, slots=True)
class Group:
    """(mean, SD) over the mice of a group, as drawn before the limits of :func:`draw_function`."""

    edv_ul: tuple[float, float]
    ejection_fraction: tuple[float, float]
    mass_mg: tuple[float, float]
    cycle_ms: tuple[float, float]
    sphericity: float
    """LV cavity length is divided by this: above 1 is rounder than healthy."""


GROUPS: dict[str, Group] = {
    CONTROL: Group((62.0, 8.0), (0.655, 0.060), (91.0, 12.0), (105.0, 14.0), 1.00),
    INFARCTION: Group((78.0, 11.0), (0.450, 0.080), (109.0, 15.0), (106.0, 15.0), 1.06),
    DILATED: Group((67.0, 9.0), (0.575, 0.090), (99.0, 16.0), (108.0, 15.0), 1.07),
    CONSTRICTION: Group((63.5, 9.5), (0.590, 0.095), (135.0, 24.0), (108.0, 15.0), 1.00),
}
"""The cohort's mean ± SD is the published one (test mice of the paper: EDV 65.6 ± 10.0 µL, EF 59.3 ± 10.7 %, mass
105 ± 27 mg). How it divides among the groups is not published: these numbers are choices within the ranges usual for
these models (healthy EF 60-70 %, infarction below 50 %, pressure overload with 30-50 % more mass), weighted so that
the whole cohort has the published values."""


@dataclass(frozen=True, slots=True)
class Infarct:
    """An akinetic region of the wall, and the patch over it.

    ``thinning`` and ``contraction`` are the thickness and the inward motion relative to the healthy wall; a negative
    contraction bulges.
    """

    angle_deg: float
    """Centre, anticlockwise from the middle of the septum seen from the apex."""
    half_width_deg: float
    centre_level: float
    """0 at the base, 1 at the apex."""
    half_length: float
    thinning: float
    contraction: float
    patch_mm: float


@dataclass(frozen=True, slots=True)
class Function:
    """Function of one heart over a beat: volumes, mass, motion."""

    edv_ul: float
    esv_ul: float
    mass_ed_mg: float
    mass_es_mg: float
    cavity_length_mm: float
    """Base to endocardial apex at end-diastole."""
    base_descent_mm: float
    """Shift of the valve plane towards the apex at end-systole."""
    es_fraction: float
    """End-systole as a fraction of the beat."""
    filling_early: float
    """Share of the stroke volume that returns in the early wave."""
    twist_deg: float
    sway_mm: tuple[float, float]
    """In-plane shift of the heart at end-systole."""
    infarct: Infarct | None


def draw_function(rng: np.random.Generator, phenotype: str) -> Function:
    """Draw one mouse's function from its group."""
    group = GROUPS[phenotype]

    def draw_clipped(mean_sd: tuple[float, float], low: float, high: float) -> float:
        return float(np.clip(rng.normal(*mean_sd), low, high))

    edv = draw_clipped(group.edv_ul, 42.0, 105.0)
    fraction = draw_clipped(group.ejection_fraction, 0.26, 0.78)
    # A heart with a low ejection fraction is larger: part of the spread of the volume follows the fraction.
    edv *= 1.0 + 0.5 * (group.ejection_fraction[0] - fraction)
    mass = draw_clipped(group.mass_mg, 62.0, 205.0) * (edv / group.edv_ul[0]) ** 0.35
    length = 1.86 * edv ** (1 / 3) / (group.sphericity * draw_clipped((1.0, 0.08), 0.82, 1.18))
    infarct = None
    if phenotype == INFARCTION:
        infarct = Infarct(
            angle_deg=rng.normal(150.0, 25.0),
            half_width_deg=rng.uniform(35.0, 65.0),
            centre_level=rng.uniform(0.65, 0.85),
            half_length=rng.uniform(0.30, 0.45),
            thinning=rng.uniform(0.40, 0.65),
            contraction=rng.uniform(-0.15, 0.25),
            patch_mm=rng.uniform(0.3, 1.1),
        )
    return Function(
        edv_ul=edv,
        esv_ul=edv * (1.0 - fraction),
        mass_ed_mg=mass,
        # The published mass at ES is 6 % above the one at ED, and closer to the mean.
        mass_es_mg=mass * rng.normal(1.05, 0.035) + 0.10 * (105.0 - mass),
        cavity_length_mm=length,
        base_descent_mm=rng.uniform(0.25, 0.8) * (0.5 + fraction),
        es_fraction=rng.uniform(0.36, 0.46),
        filling_early=rng.uniform(0.55, 0.80),
        twist_deg=rng.normal(9.0, 4.0),
        sway_mm=(rng.normal(0.0, 0.15), rng.normal(0.0, 0.15)),
        infarct=infarct,
    )


def compute_fullness(function: Function, n_frames: int, ed_frame: int, es_frame: int) -> NDArray[np.float64]:
    """Return the share of the stroke volume in the ventricle, per frame: 1 at ED, 0 at ES; shape (n_frames,).

    The ejection is half a cosine between the two frames; the early wave fills ``filling_early`` of the stroke volume,
    the rest comes with the atrial kick, and 3 % is missing when the cine ends.
    """
    frame = np.arange(n_frames, dtype=np.float64)
    ejected = np.clip((frame - ed_frame) / (es_frame - ed_frame), 0.0, 1.0)
    curve = 0.5 * (1.0 + np.cos(np.pi * ejected**0.92))
    late = np.clip((frame - es_frame) / (n_frames - es_frame), 0.0, 1.2)
    early_wave = 0.5 * (1.0 - np.cos(np.pi * np.clip(late / 0.45, 0.0, 1.0)))
    kick = 0.5 * (1.0 - np.cos(np.pi * np.clip((late - 0.62) / 0.38, 0.0, 1.0)))
    filled = function.filling_early * early_wave + (0.97 - function.filling_early) * kick
    curve = np.where(frame > es_frame, filled, curve)
    # Before ED (a trigger one frame early) the ventricle is not quite full.
    return np.where(frame < ed_frame, 1.0 - 0.015 * (ed_frame - frame), curve)


@dataclass(frozen=True, slots=True)
class Pose:
    """Position of the heart in the field, and the planning of the stack."""

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
    """Shape of the heart at end-diastole. Angles from the middle of the septum; lengths in mm.

    Levels are 0 at the base and 1 at the apex; ``base_wall`` and ``apex_wall`` are the wall at the valve plane and at
    the apex relative to the free wall.
    """

    septum_deg: float
    """Direction from the LV to the middle of the RV, in the body's frame (90 = ventral)."""
    widest_level: float
    """Level of the largest short-axis radius."""
    base_narrowing: float
    apex_power: float
    outline: tuple[float, ...]
    """Relative amplitudes of the harmonics 2, 3, ... of the short-axis outline."""
    outline_turn: tuple[float, ...]
    """Their phases (rad)."""
    wall_unevenness: float
    base_wall: float
    apex_wall: float
    trabecula_mm: float
    trabecula_cells: tuple[int, int]
    """Noise cells around the circumference and over the radius."""
    papillary_deg: tuple[float, ...]
    papillary_mm: tuple[float, ...]
    papillary_gap: float
    rv_depth_mm: float
    rv_half_width_deg: float
    rv_length: float
    """Extent of the RV towards the apex, as a fraction of the LV's length."""
    rv_ejection: float
    rv_wall_mm: float
    rv_trabecula_mm: float
    rim_mm: float
    rim_tone: float
    rim_cover: float
    """Share of the circumference with a bright epicardial rim."""
    atrium_scale: float
    valve_tilt_deg: float
    """Tilt of the valve plane against the slices."""
    valve_turn_deg: float
    """Direction in which the valve plane comes down towards the apex, from the middle of the septum."""
    collar_mm: float
    """Height above the valve plane to which the muscle continues: a ring that is not labelled."""
    apex_fill: float
    """Share of the apical cavity that is muscle at end-systole, 0..1."""


@dataclass(frozen=True, slots=True)
class Thorax:
    """The body around the heart; lengths in mm, in the body's frame (y towards the sternum)."""

    body_radius_mm: tuple[float, float]
    body_shape: tuple[float, ...]
    """Fourier amplitudes (relative) of the outline, harmonics 2 to 7."""
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
    """Sideways distance of the body's centre from the heart."""
    limb_mm: tuple[float, float]
    """Radius of the forelimb on either side of the chest; 0 if it is outside the field."""
    limb_deg: tuple[float, float]
    shoulder: float
    """Growth of the chest wall per mm above the valve plane."""
    fissure: float
    """Share of fat in the cleft between liver lobes."""
    bone: float
    """Darkness of the limb bones, 0..1."""
    dome_mm: tuple[float, float]
    """Centre of the liver dome, relative to the heart (side, back)."""
    dome_top_mm: float
    """Depth of the top of the dome below the valve plane."""
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
    apex_contact: float
    """Share of muscle (diaphragm, chest wall), about as grey as myocardium, that surrounds the apex, 0..1."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Parameters of the scan: sequence, coil, noise, scaling."""

    field_t: float
    matrix_yx: tuple[int, int]
    te_ms: float
    tr_ms: float
    flip_deg: float
    contrast: tuple[tuple[str, float], ...]
    """Factor on each tissue's signal: differences between mice beyond relaxation."""
    pulses_lv: float
    """Maximum number of RF pulses on the LV blood: a small number is bright (inflow)."""
    pulses_rv: float
    pulses_atria: float
    pulses_artery: float
    pulses_vein: float
    blood_pulsation: float
    inflow_void: float
    """Share of the signal lost in the jets of mid-systole and early diastole."""
    fat_turns: float
    """Phase of fat relative to water at the echo, in turns."""
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
