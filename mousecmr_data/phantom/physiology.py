"""How the four groups differ: volumes, ejection fraction, mass, heart rate; and the volume over one beat.

The cohort's mean ± SD is the published one (test mice of the paper: EDV 65.6 ± 10.0 µL, EF 59.3 ± 10.7 %,
mass 105 ± 27 mg). How it divides among the groups is not published: the numbers of :data:`GROUPS`
are choices within the ranges usual for these models (healthy EF 60-70 %, infarction below 50 %,
pressure overload with 30-50 % more mass), weighted so that the whole comes out as published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONTROL = "control"
INFARCTION = "myocardial infarction with patch"
DILATED = "transgenic dilated cardiomyopathy"
CONSTRICTION = "transverse aortic constriction"

DENSITY_MG_PER_UL = 1.05
"""Density of myocardium (source: the paper)."""


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


@dataclass(frozen=True, slots=True)
class Infarct:
    """An akinetic region: where on the wall, how wide, how thin, and the patch laid over it."""

    angle_deg: float
    """Centre, anticlockwise from the middle of the septum seen from the apex."""
    half_width_deg: float
    centre_level: float
    """0 at the base, 1 at the apex."""
    half_length: float
    thinning: float
    """Wall there, as a fraction of the healthy wall's."""
    contraction: float
    """Inward motion there, as a fraction of the healthy wall's; below 0 bulges."""
    patch_mm: float


@dataclass(frozen=True, slots=True)
class Function:
    """What this heart does in a beat."""

    edv_ul: float
    esv_ul: float
    mass_ed_mg: float
    mass_es_mg: float
    cavity_length_mm: float
    """Base to endocardial apex at end-diastole."""
    base_descent_mm: float
    """How far the valve plane moves towards the apex by end-systole."""
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

    def near(mean_sd: tuple[float, float], low: float, high: float) -> float:
        return float(np.clip(rng.normal(*mean_sd), low, high))

    edv = near(group.edv_ul, 42.0, 105.0)
    fraction = near(group.ejection_fraction, 0.26, 0.78)
    # A heart that pumps badly is larger: part of the spread of the volume goes with the fraction.
    edv *= 1.0 + 0.5 * (group.ejection_fraction[0] - fraction)
    mass = near(group.mass_mg, 62.0, 205.0) * (edv / group.edv_ul[0]) ** 0.35
    length = 1.86 * edv ** (1 / 3) / (group.sphericity * float(np.clip(rng.normal(1.0, 0.06), 0.87, 1.15)))
    infarct = None
    if phenotype == INFARCTION:
        infarct = Infarct(
            angle_deg=float(rng.normal(150.0, 25.0)),
            half_width_deg=float(rng.uniform(35.0, 65.0)),
            centre_level=float(rng.uniform(0.65, 0.85)),
            half_length=float(rng.uniform(0.30, 0.45)),
            thinning=float(rng.uniform(0.40, 0.65)),
            contraction=float(rng.uniform(-0.15, 0.25)),
            patch_mm=float(rng.uniform(0.3, 1.1)),
        )
    return Function(
        edv_ul=edv,
        esv_ul=edv * (1.0 - fraction),
        mass_ed_mg=mass,
        # The published mass at ES is 6 % above the one at ED, and closer to the mean.
        mass_es_mg=mass * float(rng.normal(1.05, 0.035)) + 0.10 * (105.0 - mass),
        cavity_length_mm=length,
        base_descent_mm=float(rng.uniform(0.25, 0.8)) * (0.5 + fraction),
        es_fraction=float(rng.uniform(0.36, 0.46)),
        filling_early=float(rng.uniform(0.55, 0.80)),
        twist_deg=float(rng.normal(9.0, 4.0)),
        sway_mm=(float(rng.normal(0.0, 0.15)), float(rng.normal(0.0, 0.15))),
        infarct=infarct,
    )


def fullness(
    function: Function, n_frames: int, ed_frame: int, es_frame: int, beats: float = 1.0
) -> NDArray[np.float64]:
    """The stroke volume still (or again) in the ventricle, per frame: 1 at ED, 0 at ES; shape (n_frames,).

    The ejection is half a cosine between the two frames; the early wave fills ``filling_early`` of the
    stroke volume, the rest comes with the atrial kick, and 3 % is missing when the cine ends.
    """
    frame = np.arange(n_frames, dtype=np.float64)
    period = n_frames / beats
    ejected = np.clip((frame - ed_frame) / (es_frame - ed_frame), 0.0, 1.0)
    curve = 0.5 * (1.0 + np.cos(np.pi * ejected**0.92))
    late = np.clip((frame - es_frame) / (period - es_frame), 0.0, 1.2)
    early_wave = 0.5 * (1.0 - np.cos(np.pi * np.clip(late / 0.45, 0.0, 1.0)))
    kick = 0.5 * (1.0 - np.cos(np.pi * np.clip((late - 0.62) / 0.38, 0.0, 1.0)))
    filled = function.filling_early * early_wave + (0.97 - function.filling_early) * kick
    curve = np.where(frame > es_frame, filled, curve)
    # Before ED (a trigger that comes a frame early) the ventricle is a little short of full.
    return np.where(frame < ed_frame, 1.0 - 0.015 * (ed_frame - frame), curve)
