"""Geometry of the heart, and its fractions of muscle and blood in each pixel of a slice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import Doubles, DrawnGrid, Floats, compute_heart_centre, make_smooth_noise, soften_edge
from mousecmr_data.phantom.plan import DENSITY_MG_PER_UL, Plan, compute_fullness
from mousecmr_data.schema.labels import Label

ANGLES = 256
"""Samples around the circumference."""

THETA: Doubles = np.linspace(0.0, 2.0 * np.pi, ANGLES, endpoint=False)


ANNULUS_MM, ANNULUS_SHARE = 0.8, 0.25
"""Height over which the wall thins at the valve plane, and what is left of its cross-section above."""
SUBSLICES = 4
"""Depths at which a slice near the apex is drawn; the image is their mean (partial volume)."""
APEX_LEAN = 0.2
"""Near the apex, labels are those of the geometry this share of a slice nearer to the base: experts draw a ventricle
that fills 0.3 of the slice's thickness."""
SMALLEST_MM2, SMALLEST_POOL_MM2 = 1.5, 0.25
"""Areas of ventricle and of blood pool in a slice below which the expert draws none: 150 and 25 pixels of 0.1 mm."""


@dataclass(frozen=True, slots=True)
class Ventricle:
    """The left ventricle: scales that give the planned volumes; :meth:`compute_radii` returns the wall at any depth."""

    plan: Plan
    fullness: Doubles
    """1 at ED, 0 at ES; (frames,)."""
    base: Doubles
    """Depth of the valve plane; (frames,)."""
    radius: float
    """Largest mean endocardial radius at ED."""
    wall: float
    """Mean wall thickness at ED."""
    shrink: Doubles
    """Radial scale of the healthy wall relative to ED; (frames,)."""
    thicken: Doubles
    """Factor on the wall's cross-section relative to ED; (frames,)."""

    @property
    def length(self) -> float:
        """Depth of the endocardial apex (mm)."""
        return self.plan.function.cavity_length_mm

    @property
    def apex(self) -> float:
        """Depth of the epicardial apex (mm)."""
        return self.length + self.wall * self.plan.heart.apex_wall

    def is_apical(self, depth: float) -> bool:
        """Return whether the slice around a depth may hold the end of the cavity."""
        return depth + self.plan.voxel_size_mm[0] > self.length

    def find_labelled_depth(self, depth: float) -> float:
        """Return the depth of the geometry that is labelled in the slice around a depth."""
        return depth - APEX_LEAN * self.plan.voxel_size_mm[0] if self.is_apical(depth) else depth

    def compute_level(self, depth: float, frames: slice = slice(None)) -> Doubles:
        """Return the level of a depth: 0 at the valve plane, 1 at the endocardial apex; (frames,)."""
        base = self.base[frames]
        return (depth - base) / (self.length - base)

    def compute_height(
        self, depth: float, x: NDArray[Any], y: NDArray[Any], frames: slice = slice(None)
    ) -> NDArray[Any]:
        """Return how far points (frames, ...) of the LV's own frame lie below the tilted valve plane (mm)."""
        heart = self.plan.heart
        slope, turn = np.tan(np.deg2rad(heart.valve_tilt_deg)), np.deg2rad(heart.valve_turn_deg)
        below_centre = (depth - self.base[frames]).astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
        along = x * x.dtype.type(np.cos(turn)) + y * x.dtype.type(np.sin(turn))
        return np.asarray(below_centre - along * x.dtype.type(slope))

    def compute_radii(self, depth: float, frames: slice = slice(None)) -> tuple[Doubles, Doubles]:
        """Return the endocardial and the epicardial radius in mm at a depth, each (frames, ANGLES).

        Zero beyond the apex; above the valve plane those of the valve plane, with a thin wall. The wall keeps its
        cross-section while the cavity shrinks, so thickening follows from the motion.
        """
        level = self.compute_level(depth, frames)[:, None]
        at_ed = self.radius * compute_profile(self.plan, level) * compute_roundness(self.plan)
        inner = at_ed * compute_contraction(self.plan, level, self.shrink[frames][:, None])
        section = compute_cross_section(self.plan, level, at_ed, self.wall) * self.thicken[frames][:, None]
        above = -self.compute_height(depth, inner * np.cos(THETA), inner * np.sin(THETA), frames)
        section *= 1.0 - (1.0 - ANNULUS_SHARE) * np.clip((above + 0.2) / ANNULUS_MM, 0.0, 1.0)
        beyond = np.clip((depth - self.length) / max(self.apex - self.length, 1e-6), 0.0, 1.0)
        return inner, np.sqrt(np.where(inner > 0, inner, 0.0) ** 2 + section * (1.0 - beyond**2))


def compute_profile(plan: Plan, level: Doubles) -> Doubles:
    """Return the endocardial radius at a level, 1 where it is largest, 0 from the apex on."""
    widest = plan.heart.widest_level
    above = np.clip((widest - level) / widest, 0.0, 1.0)
    below = np.clip((level - widest) / (1.0 - widest), 0.0, 1.0)
    return (1.0 - plan.heart.base_narrowing * above**2) * np.sqrt(1.0 - below**plan.heart.apex_power)


def compute_roundness(plan: Plan) -> Doubles:
    """Return the relative radius at each angle."""
    shape = np.ones(ANGLES)
    for harmonic, (size, turn) in enumerate(zip(plan.heart.outline, plan.heart.outline_turn, strict=True), start=2):
        shape = shape + size * np.cos(harmonic * THETA + turn)
    return shape


def compute_infarct_share(plan: Plan, level: Doubles) -> Doubles:
    """Return 1 inside the infarct, 0 outside, a soft ramp between; broadcast over level and angle."""
    infarct = plan.function.infarct
    if infarct is None:
        return np.zeros(np.broadcast_shapes(level.shape, THETA.shape))
    angle = np.abs((THETA - np.deg2rad(infarct.angle_deg) + np.pi) % (2 * np.pi) - np.pi)
    across = angle / np.deg2rad(infarct.half_width_deg)
    along = np.abs(level - infarct.centre_level) / infarct.half_length
    return np.asarray(np.clip(2.6 * (1.0 - np.sqrt(across**2 + along**2)), 0.0, 1.0), np.float64)


def compute_contraction(plan: Plan, level: Doubles, shrink: Doubles | float) -> Doubles:
    """Return the radius relative to ED: the apex contracts more than the base, an infarct hardly."""
    gain = 1.0 + 0.18 * (np.clip(level, 0.0, 1.0) - 0.45)
    if plan.function.infarct is not None:
        scar = compute_infarct_share(plan, level)
        gain = gain * (1.0 - scar) + plan.function.infarct.contraction * scar
    return np.asarray(np.clip(1.0 - gain * (1.0 - shrink), 0.0, None), np.float64)


def compute_cross_section(plan: Plan, level: Doubles, at_ed: Doubles, wall: float) -> Doubles:
    """Return the cross-section of the wall at ED divided by pi (mm²): thinner at base, apex and in a scar."""
    heart = plan.heart
    level_inside = np.clip(level, 0.0, 1.0)
    at_base = heart.base_wall + (1.0 - heart.base_wall) * np.clip(level_inside / 0.22, 0.0, 1.0)
    thickness = wall * at_base * (1.0 - (1.0 - heart.apex_wall) * level_inside**2)
    thickness = thickness * (1.0 + heart.wall_unevenness * np.cos(THETA - 0.4))
    if plan.function.infarct is not None:
        thickness = thickness * (1.0 - (1.0 - plan.function.infarct.thinning) * compute_infarct_share(plan, level))
    return np.asarray(2.0 * at_ed * thickness + thickness**2)


def solve_ventricle(plan: Plan, blood: Doubles, muscle: Doubles) -> Ventricle:
    """Find the scales that give the planned volumes.

    ``blood`` and ``muscle`` multiply the target volumes at (ED, ES): papillary muscles and trabeculae take from the
    cavity what these factors give back (see :func:`~mousecmr_data.phantom.rendering.calibrate_ventricle`).
    """
    function = plan.function
    fullness = compute_fullness(function, plan.n_frames, plan.ed_frame, plan.es_frame)
    base = function.base_descent_mm * (1.0 - fullness)
    length = function.cavity_length_mm
    steps = 28
    level = ((np.arange(steps) + 0.5) / steps)[:, None]
    shape = (compute_profile(plan, level) * compute_roundness(plan)) ** 2

    radius = float(np.sqrt(function.edv_ul * blood[0] / (np.pi * shape.mean(1).sum() * length / steps)))
    target = (function.esv_ul + (function.edv_ul - function.esv_ul) * fullness) * (
        blood[1] + (blood[0] - blood[1]) * np.clip(fullness, 0.0, 1.0)
    )
    shrinks = np.linspace(0.05, 1.15, 45)
    relative = np.array([(shape * compute_contraction(plan, level, t) ** 2).mean(1).sum() for t in shrinks.tolist()])
    # A step is (length - base) / steps mm deep, which differs between frames.
    shrink = np.interp(target / (np.pi * radius**2 * ((length - base) / steps)), relative, shrinks)

    at_ed = radius * np.sqrt(shape)
    mass_ul = np.array([function.mass_ed_mg, function.mass_es_mg]) * muscle / DENSITY_MG_PER_UL
    walls = np.linspace(0.3, 2.4, 43)
    sections = np.array([compute_cross_section(plan, level, at_ed, w).mean(1).sum() / steps for w in walls])
    # Below the cavity's apex the cap is two thirds of a cylinder.
    caps = np.pi * (walls * plan.heart.apex_wall) ** 2 * (2.0 / 3.0) * walls * plan.heart.apex_wall
    wall = float(np.interp(mass_ul[0], np.pi * sections * length + caps, walls))
    section, cap = float(np.interp(wall, walls, sections)), float(np.interp(wall, walls, caps))
    muscle_ul = mass_ul[1] + (mass_ul[0] - mass_ul[1]) * fullness
    thicken = muscle_ul / (np.pi * section * (length - base) + cap)
    return Ventricle(plan, fullness, base, radius, wall, shrink, thicken)


REACH_MM = 6.4
"""Half the side of the square around the LV in which the heart is drawn."""


@dataclass(frozen=True, slots=True)
class Window:
    """The square of the drawn field that holds the heart in one slice."""

    rows: slice
    columns: slice
    x: Floats
    """Body-frame mm from the LV centre, (rows, columns)."""
    y: Floats


def make_window(plan: Plan, grid: DrawnGrid, depth: float, reach_mm: float = REACH_MM) -> Window:
    """Make the square around the LV centre at a depth, cut to the drawn field."""
    centre = compute_heart_centre(plan, depth)
    row, column = grid.to_pixels(*centre)
    half = (int(reach_mm / grid.pixel_mm[0]), int(reach_mm / grid.pixel_mm[1]))
    rows = slice(max(0, int(row) - half[0]), min(grid.x.shape[0], int(row) + half[0]))
    columns = slice(max(0, int(column) - half[1]), min(grid.x.shape[1], int(column) + half[1]))
    x, y = grid.x[rows, columns] - np.float32(centre[0]), grid.y[rows, columns] - np.float32(centre[1])
    return Window(rows, columns, x, y)


@dataclass(frozen=True, slots=True)
class Polar:
    """Polar coordinates about the (swaying) LV centre, each (frames, rows, columns); ``x`` in mm towards the RV."""

    r: Floats
    angle: NDArray[np.intp]
    """Index into THETA, 0 at the middle of the septum."""
    flat: NDArray[np.intp]
    """Index into a ravelled (frames, ANGLES) array."""
    x: Floats
    y: Floats


def make_polar(plan: Plan, ventricle: Ventricle, window: Window, frames: slice) -> Polar:
    """Make the coordinates of a window's pixels in the LV's own frame."""
    emptied = (1.0 - ventricle.fullness[frames]).astype(np.float32)[:, None, None]
    dx = window.x - np.float32(plan.function.sway_mm[0]) * emptied
    dy = window.y - np.float32(plan.function.sway_mm[1]) * emptied
    septum = np.deg2rad(plan.heart.septum_deg)
    cos, sin = np.float32(np.cos(septum)), np.float32(np.sin(septum))
    x: Floats = np.asarray(cos * dx + sin * dy, np.float32)
    y: Floats = np.asarray(cos * dy - sin * dx, np.float32)
    turns = np.arctan2(y, x) * np.float32(ANGLES / (2.0 * np.pi))
    angle = np.rint(turns).astype(np.intp) % ANGLES
    flat = angle + np.arange(len(emptied), dtype=np.intp)[:, None, None] * ANGLES
    return Polar(np.sqrt(x * x + y * y), angle, flat, x, y)


SHELLS = 32
"""Samples of the trabecular pattern from the middle of the cavity to its wall."""


def make_trabeculae(plan: Plan) -> Floats:
    """Make the wall's pattern of ridges, (slices, ANGLES, SHELLS), the same in all frames."""
    rng = np.random.default_rng([plan.seed, 11])
    cells, shells = plan.heart.trabecula_cells
    span = plan.n_slices * plan.voxel_size_mm[0] / 1.6
    shape, periodic = (plan.n_slices, ANGLES, SHELLS), (False, True, False)
    coarse = make_smooth_noise(rng, shape, (span, cells, shells), periodic)
    fine = make_smooth_noise(rng, shape, (span * 1.5, cells * 2, shells * 1.6), periodic)
    field = coarse + np.float32(0.55) * fine
    fade = np.clip((np.arange(SHELLS) / (SHELLS - 1) - 0.15) / 0.4, 0.0, 1.0).astype(np.float32)
    pattern: Floats = np.clip(field + np.float32(0.45), 0.0, 2.2) * fade
    return pattern[::-1] if plan.pose.apex_first else pattern


def compute_cavity(
    plan: Plan, ventricle: Ventricle, polar: Polar, inner: Floats, pattern: Floats, depth: float, frames: slice
) -> Floats:
    """Return the signed distance (mm) into the blood pool, (frames, rows, columns): above 0 is blood.

    Ridges and papillary muscles are cut out of the endocardial surface: they are myocardium.
    """
    heart = plan.heart
    level = ventricle.compute_level(depth, frames).astype(np.float32)
    edge = inner.ravel()[polar.flat]
    shell = np.minimum(polar.r * (SHELLS - 1) / np.maximum(edge, np.float32(0.05)), SHELLS - 1).astype(np.intp)
    smooth_base = np.clip(0.3 + level / 0.4, 0.3, 1.0)
    mean = inner.mean(1)
    ridge_depth = np.minimum(heart.trabecula_mm * smooth_base, 0.34 * mean).astype(np.float32)
    twist = np.deg2rad(plan.function.twist_deg) * (1.0 - ventricle.fullness[frames])
    shift = np.rint(twist * (ANGLES / (2 * np.pi)) * (level - 0.4)).astype(np.intp)
    ridge = pattern[(polar.angle - shift[:, None, None]) % ANGLES, shell]
    distance: Floats = edge - polar.r - ridge_depth[:, None, None] * ridge
    # The apical cavity closes while the ventricle empties.
    closed = heart.apex_fill * np.clip((level - 0.68) / 0.3, 0.0, 1.0) * (1.0 - 0.6 * ventricle.fullness[frames])
    distance -= (closed * mean).astype(np.float32)[:, None, None]
    present = np.clip(4.0 * (level - 0.18), 0.0, 1.0) * np.clip(5.0 * (0.92 - level), 0.0, 1.0)
    # At ED a papillary muscle may stand free of the wall; at ES it is drawn into it.
    free = heart.papillary_gap * ventricle.fullness[frames] + 0.55
    for degrees, size_at_ed in zip(heart.papillary_deg, heart.papillary_mm, strict=True):
        radius = np.minimum(size_at_ed * np.sqrt(present), 0.40 * mean)
        angle = np.deg2rad(degrees) + twist * (level - 0.4)
        wall = np.array([row[round(a / (2 * np.pi) * ANGLES) % ANGLES] for row, a in zip(inner, angle, strict=True)])
        reach = np.maximum(wall - radius * free, 0.0)
        cx, cy, size = (
            v.astype(np.float32)[:, None, None] for v in (reach * np.cos(angle), reach * np.sin(angle), radius)
        )
        from_muscle = np.sqrt((polar.x - cx) ** 2 + (polar.y - cy) ** 2) - size
        np.minimum(distance, np.where(size > 0.02, from_muscle, np.float32(9.0)), out=distance)
    return distance


def compute_slice_labels(
    plan: Plan, ventricle: Ventricle, polar: Polar, pattern: Floats, depth: float, frames: slice
) -> tuple[NDArray[np.uint8], Floats, Floats]:
    """Return the labels of a slice and the distance into its blood pool, (frames, rows, columns), and its outer radius.

    As experts do, a slice is labelled as a whole: where its middle lies below the valve plane at the LV's centre, and
    above the apex. Very small ventricles and blood pools are left out.
    """
    depth = ventricle.find_labelled_depth(depth)
    inner, outer = (radii.astype(np.float32) for radii in ventricle.compute_radii(depth, frames))
    pool_distance = compute_cavity(plan, ventricle, polar, inner, pattern, depth, frames)
    inside = polar.r < outer.ravel()[polar.flat]
    pixel_mm2 = float(np.prod(plan.voxel_size_mm[1:]))
    covered = (depth > ventricle.base[frames]) & (np.pi * (outer**2).mean(1) >= SMALLEST_MM2)
    blood = (pool_distance > 0) & inside
    blood &= (blood.sum((1, 2)) * pixel_mm2 >= SMALLEST_POOL_MM2)[:, None, None]
    labels = np.where(blood, np.uint8(Label.BLOOD_POOL), np.uint8(Label.MYOCARDIUM))
    return np.where(inside & covered[:, None, None], labels, np.uint8(Label.BACKGROUND)), pool_distance, outer


def compute_heart_outline(plan: Plan, ventricle: Ventricle, depth: float) -> Floats:
    """Return the outer radius (mm) of the heart at ED at each angle, (ANGLES,): its neighbours end there."""
    ed = slice(plan.ed_frame, plan.ed_frame + 1)
    _, outer = ventricle.compute_radii(max(depth, 0.0), ed)
    rv = compute_right_ventricle(plan, ventricle, ventricle.compute_level(max(depth, 0.0)))[ed]
    return np.asarray((outer + rv + plan.heart.rv_wall_mm * np.clip(rv / 0.25, 0.0, 1.0))[0], np.float32)


def compute_right_ventricle(plan: Plan, ventricle: Ventricle, level: Doubles) -> Doubles:
    """Return the depth of the RV cavity beyond the septum (mm), a crescent, (frames, ANGLES)."""
    heart = plan.heart
    along = np.clip(level / heart.rv_length, -0.2, 1.0)
    half = np.deg2rad(heart.rv_half_width_deg) * (1.35 - 0.7 * np.clip(along, 0.0, 1.0) ** 0.7)
    from_septum = np.abs((THETA + np.pi) % (2 * np.pi) - np.pi)
    across = np.clip(from_septum / half[:, None], 0.0, 1.0)
    crescent = np.cos(0.5 * np.pi * across) ** 0.75
    a, b, c, _ = np.random.default_rng([plan.seed, 14]).normal(0.0, 1.0, 4)
    lobes = 1.0 + 0.16 * a * np.sin(THETA) + 0.10 * b * np.sin(2 * THETA) + 0.08 * c * np.cos(3 * THETA)
    crescent = crescent * lobes
    reach = np.sqrt(np.clip(1.0 - np.clip(along, 0.0, 1.0) ** 2.2, 0.0, 1.0))
    squeeze = 1.0 - heart.rv_ejection * (1.0 - ventricle.fullness)
    return np.asarray(heart.rv_depth_mm * (reach * squeeze)[:, None] * crescent, np.float64)


_CHAMBERS = (
    # name; towards the RV, along the septum, depth (mm); radius, half height (mm); brightness
    ("inlet", 0.2, 0.1, -0.2, 3.0, 1.5, 0.95),
    ("left atrium", -0.8, 0.9, -1.1, 2.1, 2.6, 0.95),
    ("left auricle", -2.0, -0.9, -0.7, 1.6, 1.9, 0.85),
    ("aortic root", 0.5, -0.3, -1.2, 1.15, 3.4, 1.1),
    ("outflow", 1.5, -1.7, -0.9, 1.55, 3.0, 1.05),
    ("right atrium", 2.0, 1.5, -1.0, 2.1, 2.6, 0.85),
    ("right auricle", 2.9, -0.3, -0.7, 1.55, 2.1, 0.9),
)
"""Chambers and arterial roots above the valve plane; none is labelled. Sizes of a 25 g mouse to about 0.3 mm, from
atlases."""


def draw_atria(
    plan: Plan, ventricle: Ventricle, polar: Polar, depth: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Draw the blood and the thin walls of atria, auricles and roots, each (frames, rows, columns), 0..1."""
    # The two largest distances into a chamber at each pixel: a wall lies where they are nearly equal.
    first = second = np.full(polar.x.shape[1:], -9.0, np.float32)
    tone = np.ones_like(first)
    union = np.full_like(first, 1e-9)
    fixed_rng = np.random.default_rng([plan.seed, 13])
    x, y = (v[0] + np.float32(0.3) * make_smooth_noise(fixed_rng, first.shape, (6, 6)) for v in (polar.x, polar.y))
    for number, (_, cx, cy, cz, radius, height, brightness) in enumerate(_CHAMBERS):
        chamber_rng = np.random.default_rng([plan.seed, 13, number])  # the same in all slices
        jitter = chamber_rng.normal(0.0, 1.0, 6)
        scale = plan.heart.atrium_scale * (1.0 + 0.12 * jitter[0])
        through = 1.0 - ((depth - cz + 0.3 * jitter[1]) / (height * scale)) ** 2
        if through <= 0.02:
            continue
        size = np.float32(radius * scale * np.sqrt(through))
        stretch = np.float32(1.0 + 0.18 * jitter[2])
        dx, dy = x - np.float32(cx + 0.25 * jitter[3]), y - np.float32(cy + 0.25 * jitter[4])
        unevenness = np.float32(0.32) * make_smooth_noise(chamber_rng, x.shape, (8, 8))
        inside = size - np.sqrt((dx * stretch) ** 2 + (dy / stretch) ** 2) + unevenness
        tone = np.where(inside > first, np.float32(brightness * np.exp(min(0.4 * jitter[5] - 0.3, 0.1))), tone)
        if number > 0:  # the inlet is open to all chambers: no wall of its own
            second = np.maximum(second, np.minimum(first, inside))
            first = np.maximum(first, inside)
        union += np.exp(inside * 3.0)
    joined = np.log(union) / 3.0 - np.float32(0.15)  # one smooth outline around all chambers
    # Atria fill while the ventricle empties.
    swell = (0.22 * (1.0 - ventricle.fullness)).astype(np.float32)[:, None, None]
    inner = soften_edge(joined + swell - np.float32(0.2), 0.35)
    present = np.clip(0.2 + 0.5 * make_smooth_noise(fixed_rng, x.shape, (7, 7)), 0.0, 0.9)
    between = np.clip(1.0 - (first - np.maximum(second, -1.0)) / np.float32(0.32), 0.0, 1.0) * (first > 0.1) * present
    blood = np.clip(inner * (1.0 - between), 0.0, 1.0)
    walls = np.clip(soften_edge(joined + swell + np.float32(0.12), 0.3) - blood, 0.0, 1.0)
    grain = np.float32(0.94) + np.float32(0.10) * make_smooth_noise(rng, x.shape, (16, 16))
    grain += np.float32(0.14) * make_smooth_noise(rng, x.shape, (5, 5))
    return np.asarray(blood * tone * grain, np.float32), walls.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeartSlice:
    """The heart's tissues in the window of a slice, frame by frame: fractions 0..1, (frames, rows, columns)."""

    muscle: Floats
    lv: Floats
    rv: Floats
    atria: Floats
    rim: Floats
    patch: Floats
    truth: NDArray[np.uint8]
    polar: Polar

    @property
    def cover(self) -> Floats:
        """The heart's share of each pixel, 0..1."""
        whole = self.muscle + self.lv + self.rv + np.clip(self.atria, 0.0, 1.0) + self.rim + self.patch
        return np.asarray(np.clip(whole, 0.0, 1.0), np.float32)


def _average_slab(
    plan: Plan, ventricle: Ventricle, polar: Polar, pattern: Floats, depth: float
) -> tuple[Floats, Floats]:
    """Return the shares of ventricle and of its blood in the voxels of a slice, each (frames, rows, columns)."""
    lv_share, lv_blood = np.zeros((2, *polar.r.shape), np.float32)
    for k in range(SUBSLICES):
        at = depth + ((k + 0.5) / SUBSLICES - 0.5) * plan.voxel_size_mm[0]
        if at >= ventricle.apex:
            break
        inner, outer = (radii.astype(np.float32) for radii in ventricle.compute_radii(at))
        share = soften_edge(outer.ravel()[polar.flat] - polar.r, np.float32(0.2)) / np.float32(SUBSLICES)
        pool_distance = compute_cavity(plan, ventricle, polar, inner, pattern, at, slice(None))
        lv_share += share
        lv_blood += soften_edge(pool_distance, np.float32(0.2)) * share
    return lv_share, lv_blood


def draw_heart_slice(
    plan: Plan, ventricle: Ventricle, window: Window, pattern: Floats, inside_chest: Floats, index: int, depth: float
) -> HeartSlice:
    """Draw one slice in all frames. ``inside_chest`` (rows, columns) is 0 in the chest wall, where no atrium fits."""
    frames = slice(None)
    heart, spacing = plan.heart, plan.voxel_size_mm[0]
    polar = make_polar(plan, ventricle, window, frames)
    truth, pool_distance, outer = compute_slice_labels(plan, ventricle, polar, pattern, depth, frames)
    outside = polar.r - outer.ravel()[polar.flat]
    if ventricle.is_apical(depth):
        lv_share, lv_blood = _average_slab(plan, ventricle, polar, pattern, depth)
    else:
        above, below = ventricle.compute_radii(depth - 0.5 * spacing), ventricle.compute_radii(depth + 0.5 * spacing)
        # A wall that slants through the slice is blurred over its shift between the slice's two faces.
        blur_in, blur_out = (
            np.clip(np.abs(a - b), 0.12, 1.2).astype(np.float32).ravel()[polar.flat]
            for a, b in zip(above, below, strict=True)
        )
        lv_share = soften_edge(-outside, blur_out)
        lv_blood = soften_edge(pool_distance, blur_in) * lv_share

    level = ventricle.compute_level(depth)
    rng = np.random.default_rng([plan.seed, 12, index])
    rough = make_smooth_noise(rng, (ANGLES,), (26,), (True,))
    shape = compute_right_ventricle(plan, ventricle, level)
    rv_depth = (shape * (1.0 - 0.12 * heart.rv_trabecula_mm * rough)).astype(np.float32)
    rv_distance = rv_depth.ravel()[polar.flat] - outside
    rv_wall = (np.clip(rv_depth / 0.25, 0.0, 1.0) * heart.rv_wall_mm).astype(np.float32).ravel()[polar.flat]
    heart_distance = np.maximum(-outside, rv_distance + rv_wall)

    has_rv = np.minimum(rv_wall * np.float32(20.0), np.float32(1.0))
    whole = np.maximum(lv_share, soften_edge(rv_distance + rv_wall, np.float32(0.12)) * has_rv)
    rv_blood = soften_edge(np.minimum(rv_distance, outside + np.float32(0.2)), np.float32(0.15))
    rv_blood *= (1.0 - lv_share) * has_rv
    ridges = make_smooth_noise(rng, (ANGLES, 24), (30, 5), (True, False))
    ridge = ridges[polar.angle, np.clip(outside * 9.0, 0, 23).astype(np.intp)]
    rv_blood *= np.clip(1.0 - heart.rv_trabecula_mm * (0.8 + ridge), 0.0, 1.0)

    cover = make_smooth_noise(rng, (ANGLES,), (9,), (True,)) - np.float32(1.5 - 3.0 * heart.rim_cover)
    band = np.float32(heart.rim_tone) * np.clip(cover, 0.0, 1.0).astype(np.float32)[polar.angle]
    near_apex = np.float32(np.clip(ventricle.length - depth - 0.2, 0.0, 1.0))
    rim = soften_edge(heart_distance + np.float32(heart.rim_mm), np.float32(0.12)) * band * near_apex * (1.0 - whole)
    patch = np.zeros_like(rim)
    if plan.function.infarct is not None:
        infarct = compute_infarct_share(plan, level[:, None]).astype(np.float32).ravel()[polar.flat]
        patch = soften_edge(np.float32(plan.function.infarct.patch_mm) * infarct - outside, 0.2)
        patch = patch * (1.0 - whole) * (infarct > 0.1)
        rim = rim * (1.0 - patch)

    # Where the valve plane crosses the slice, ventricle and atria share it; the muscle reaches above the plane.
    height = ventricle.compute_height(depth, polar.x, polar.y) + np.float32(heart.collar_mm)
    part = np.clip(np.float32(0.5) + height / np.float32(spacing), 0.0, 1.0)
    chambers, walls = (tissue * inside_chest for tissue in draw_atria(plan, ventricle, polar, depth, rng))
    lv, rv = lv_blood * part, rv_blood * part
    atria = chambers * (1.0 - whole * part)
    muscle = np.clip(whole * part - lv - rv, 0.0, 1.0) + walls * (1.0 - whole * part)
    rim = rim * np.clip(2.0 * part, 0.0, 1.0) * (1.0 - np.clip(chambers, 0.0, 1.0)) * (1.0 - walls)
    return HeartSlice(muscle, lv, rv, atria, rim, patch * part, truth, polar)
