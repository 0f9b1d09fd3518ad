"""The heart in pixels: fractions of muscle and blood in every frame of a slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import DrawnGrid, compute_heart_centre, make_smooth_noise, soft_edge
from mousecmr_data.phantom.plan import DENSITY_MG_PER_UL, Plan, compute_fullness
from mousecmr_data.schema.labels import Label

# MERGED phantom.heart: The left ventricle as radii: endocardium and epicardium over angle, depth and frame, with the planned volumes.


Doubles = NDArray[np.float64]

ANGLES = 256
"""Samples round the circumference."""

THETA: Doubles = np.linspace(0.0, 2.0 * np.pi, ANGLES, endpoint=False)


@dataclass(frozen=True, slots=True)
class Ventricle:
    """Solved scales: with them :meth:`radii` gives the wall anywhere."""

    plan: Plan
    full: Doubles
    """1 at ED, 0 at ES; (frames,)."""
    base: Doubles
    """Depth of the valve plane; (frames,)."""
    radius: float
    """Largest mean endocardial radius at ED."""
    wall: float
    """Mean wall thickness at ED."""
    shrink: Doubles
    """Radial scale of the healthy wall against ED; (frames,)."""
    thicken: Doubles
    """Factor on the wall's cross-section against ED; (frames,)."""

    @property
    def length(self) -> float:
        """Depth of the endocardial apex (mm)."""
        return self.plan.function.cavity_length_mm

    @property
    def apex(self) -> float:
        """Depth of the epicardial apex (mm)."""
        return self.length + self.wall * self.plan.heart.apex_wall

    def level(self, depth: float, frames: slice = slice(None)) -> Doubles:
        """0 at the valve plane, 1 at the endocardial apex; (frames,)."""
        base = self.base[frames]
        return (depth - base) / (self.length - base)

    def radii(self, depth: float, frames: slice = slice(None)) -> tuple[Doubles, Doubles]:
        """Endocardial and epicardial radius in mm at a depth, each (frames, ANGLES).

        Zero beyond the apex; above the valve plane those of the valve plane. The wall keeps its
        cross-section while the cavity shrinks, so thickening follows from the motion.
        """
        level = self.level(depth, frames)[:, None]
        at_ed = self.radius * compute_profile(self.plan, level) * compute_roundness(self.plan)
        inner = at_ed * compute_contraction(self.plan, level, self.shrink[frames][:, None])
        section = compute_cross_section(self.plan, level, at_ed, self.wall) * self.thicken[frames][:, None]
        beyond = np.clip((depth - self.length) / max(self.apex - self.length, 1e-6), 0.0, 1.0)
        return inner, np.sqrt(np.where(inner > 0, inner, 0.0) ** 2 + section * (1.0 - beyond**2))


def compute_profile(plan: Plan, level: Doubles) -> Doubles:
    """Endocardial radius over level, 1 at the widest, 0 from the apex on."""
    widest = plan.heart.widest_level
    up = np.clip((widest - level) / widest, 0.0, 1.0)
    down = np.clip((level - widest) / (1.0 - widest), 0.0, 1.0)
    return (1.0 - plan.heart.base_narrowing * up**2) * np.sqrt(1.0 - down**plan.heart.apex_power)


def compute_roundness(plan: Plan) -> Doubles:
    """Relative radius over the angle."""
    shape = np.ones(ANGLES)
    for harmonic, (size, turn) in enumerate(zip(plan.heart.outline, plan.heart.outline_turn, strict=True), start=2):
        shape = shape + size * np.cos(harmonic * THETA + turn)
    return shape


def compute_infarct_share(plan: Plan, level: Doubles) -> Doubles:
    """1 inside the infarct, 0 outside, soft between; broadcast over level and angle."""
    infarct = plan.function.infarct
    if infarct is None:
        return np.zeros(np.broadcast_shapes(level.shape, THETA.shape))
    apart = np.abs((THETA - np.deg2rad(infarct.angle_deg) + np.pi) % (2 * np.pi) - np.pi)
    across = apart / np.deg2rad(infarct.half_width_deg)
    along = np.abs(level - infarct.centre_level) / infarct.half_length
    return np.asarray(np.clip(2.6 * (1.0 - np.sqrt(across**2 + along**2)), 0.0, 1.0), np.float64)


def compute_contraction(plan: Plan, level: Doubles, shrink: Doubles | float) -> Doubles:
    """Radius relative to ED: the apex contracts more than the base, an infarct hardly."""
    gain = 1.0 + 0.18 * (np.clip(level, 0.0, 1.0) - 0.45)
    infarct = plan.function.infarct
    if infarct is not None:
        scar = compute_infarct_share(plan, level)
        gain = gain * (1.0 - scar) + infarct.contraction * scar
    return np.asarray(np.clip(1.0 - gain * (1.0 - shrink), 0.0, None), np.float64)


def compute_cross_section(plan: Plan, level: Doubles, at_ed: Doubles, wall: float) -> Doubles:
    """Cross-section of the wall at ED divided by pi (mm²): thinner at base, apex and in a scar."""
    heart = plan.heart
    up = np.clip(level, 0.0, 1.0)
    thickness = (
        wall
        * (heart.base_wall + (1.0 - heart.base_wall) * np.clip(up / 0.22, 0.0, 1.0))
        * (1.0 - (1.0 - heart.apex_wall) * up**2)
    )
    thickness = thickness * (1.0 + heart.wall_unevenness * np.cos(THETA - 0.4))
    if plan.function.infarct is not None:
        thickness = thickness * (1.0 - (1.0 - plan.function.infarct.thinning) * compute_infarct_share(plan, level))
    return np.asarray(2.0 * at_ed * thickness + thickness**2)


def solve_ventricle(
    plan: Plan, blood: tuple[float, float] = (1.0, 1.0), muscle: tuple[float, float] = (1.0, 1.0)
) -> Ventricle:
    """Find the scales that give the planned volumes.

    ``blood`` and ``muscle`` multiply the volumes aimed at, at (ED, ES): papillary muscles and
    trabeculae take from the cavity what these give back (see :func:`heart.calibrated`).
    """
    function = plan.function
    full = compute_fullness(function, plan.n_frames, plan.ed_frame, plan.es_frame)
    base = function.base_descent_mm * (1.0 - full)
    length = function.cavity_length_mm
    steps = 28
    level = ((np.arange(steps) + 0.5) / steps)[:, None]
    shape = (compute_profile(plan, level) * compute_roundness(plan)) ** 2
    per_step = (length - base) / steps  # mm of depth a step stands for, by frame

    radius = float(np.sqrt(function.edv_ul * blood[0] / (np.pi * shape.mean(1).sum() * length / steps)))
    target = (function.esv_ul + (function.edv_ul - function.esv_ul) * full) * (
        blood[1] + (blood[0] - blood[1]) * np.clip(full, 0.0, 1.0)
    )
    tries = np.linspace(0.05, 1.15, 45)
    relative = np.array([(shape * compute_contraction(plan, level, t) ** 2).mean(1).sum() for t in tries.tolist()])
    wanted = target / (np.pi * radius**2 * per_step)
    shrink = np.interp(wanted, relative, tries)

    at_ed = radius * np.sqrt(shape)
    mass_ul = np.array([function.mass_ed_mg * muscle[0], function.mass_es_mg * muscle[1]]) / DENSITY_MG_PER_UL
    walls = np.linspace(0.3, 2.4, 43)
    sections = np.array([compute_cross_section(plan, level, at_ed, w).mean(1).sum() / steps for w in walls])
    # Below the cavity's apex the cap is two thirds of a cylinder.
    cap = np.pi * (walls * plan.heart.apex_wall) ** 2 * (2.0 / 3.0) * walls * plan.heart.apex_wall
    wall = float(np.interp(mass_ul[0], np.pi * sections * length + cap, walls))
    section = float(np.interp(wall, walls, sections))
    tip = float(np.interp(wall, walls, cap))
    now = mass_ul[1] + (mass_ul[0] - mass_ul[1]) * full
    thicken = now / (np.pi * section * (length - base) + tip)
    return Ventricle(plan, full, base, radius, wall, shrink, thicken)


# MERGED phantom.heart: The square of the field that holds the heart, and the LV's own coordinates in it.


Floats = NDArray[np.float32]

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
    """The square around the LV centre at a depth, cut to the drawn field."""
    centre = compute_heart_centre(plan, depth)
    row, column = grid.to_pixels(*centre)
    half = (int(reach_mm / grid.pixel_mm[0]), int(reach_mm / grid.pixel_mm[1]))
    rows = slice(max(0, int(row) - half[0]), min(grid.x.shape[0], int(row) + half[0]))
    columns = slice(max(0, int(column) - half[1]), min(grid.x.shape[1], int(column) + half[1]))
    return Window(
        rows,
        columns,
        grid.x[rows, columns] - np.float32(centre[0]),
        grid.y[rows, columns] - np.float32(centre[1]),
    )


@dataclass(frozen=True, slots=True)
class Polar:
    """Polar coordinates about the (swaying) LV centre, each (frames, rows, columns)."""

    r: Floats
    angle: NDArray[np.intp]
    """Index into THETA, 0 at the middle of the septum."""
    flat: NDArray[np.intp]
    """Index into a ravelled (frames, ANGLES) array."""
    x: Floats
    """mm towards the RV."""
    y: Floats


def make_polar(plan: Plan, ventricle: Ventricle, view: Window, frames: slice) -> Polar:
    """Coordinates in the LV's own frame."""
    empty = (1.0 - ventricle.full[frames]).astype(np.float32)[:, None, None]
    dx = view.x - np.float32(plan.function.sway_mm[0]) * empty
    dy = view.y - np.float32(plan.function.sway_mm[1]) * empty
    septum = np.deg2rad(plan.heart.septum_deg)
    cos, sin = np.float32(np.cos(septum)), np.float32(np.sin(septum))
    x: Floats = np.asarray(cos * dx + sin * dy, np.float32)
    y: Floats = np.asarray(cos * dy - sin * dx, np.float32)
    turns = np.arctan2(y, x) * np.float32(ANGLES / (2.0 * np.pi))
    angle = np.rint(turns).astype(np.intp) % ANGLES
    flat = angle + np.arange(len(empty), dtype=np.intp)[:, None, None] * ANGLES
    return Polar(np.sqrt(x * x + y * y), angle, flat, x, y)


# MERGED phantom.heart: The blood pool's jagged border, and the labels that follow from it.


SHELLS = 32
"""Samples of the trabecular pattern from the middle of the cavity to its wall."""


def make_trabeculae(plan: Plan) -> Floats:
    """The wall's pattern of ridges, (slices, ANGLES, SHELLS), the same in all frames."""
    rng = np.random.default_rng([plan.seed, 11])
    round_cells, shells = plan.heart.trabecula_cells
    span = plan.n_slices * plan.voxel_size_mm[0] / 1.6
    field = make_smooth_noise(
        rng, (plan.n_slices, ANGLES, SHELLS), (span, round_cells, shells), (False, True, False)
    ) + np.float32(0.55) * make_smooth_noise(
        rng, (plan.n_slices, ANGLES, SHELLS), (span * 1.5, round_cells * 2, shells * 1.6), (False, True, False)
    )
    fade = np.clip((np.arange(SHELLS) / (SHELLS - 1) - 0.15) / 0.4, 0.0, 1.0).astype(np.float32)
    pattern: Floats = np.clip(field + np.float32(0.45), 0.0, 2.2) * fade
    return pattern[::-1] if plan.pose.apex_first else pattern


def compute_cavity(
    plan: Plan, ventricle: Ventricle, at: Polar, inner: Floats, pattern: Floats, depth: float, frames: slice
) -> Floats:
    """Signed distance (mm) into the blood pool, (frames, rows, columns): above 0 is blood.

    Ridges and papillary muscles are cut out of the endocardial surface: they are myocardium.
    """
    heart = plan.heart
    level = ventricle.level(depth, frames).astype(np.float32)
    edge = inner.ravel()[at.flat]
    shell = np.minimum(at.r * (SHELLS - 1) / np.maximum(edge, np.float32(0.05)), SHELLS - 1).astype(np.intp)
    smooth_base = np.clip(0.3 + level / 0.4, 0.3, 1.0)
    mean = inner.mean(1)
    depth_of_ridges = np.minimum(heart.trabecula_mm * smooth_base, 0.34 * mean).astype(np.float32)
    twist = np.deg2rad(plan.function.twist_deg) * (1.0 - ventricle.full[frames])
    shift = np.rint(twist * (ANGLES / (2 * np.pi)) * (level - 0.4)).astype(np.intp)
    ridge = pattern[(at.angle - shift[:, None, None]) % ANGLES, shell]
    into: Floats = edge - at.r - depth_of_ridges[:, None, None] * ridge
    for degrees, size in zip(heart.papillary_deg, heart.papillary_mm, strict=True):
        present = np.clip(4.0 * (level - 0.18), 0.0, 1.0) * np.clip(5.0 * (0.92 - level), 0.0, 1.0)
        radius = np.minimum(size * np.sqrt(present), 0.40 * mean)
        angle = np.deg2rad(degrees) + twist * (level - 0.4)
        wall = np.array([row[round(a / (2 * np.pi) * ANGLES) % ANGLES] for row, a in zip(inner, angle, strict=True)])
        # At ED the muscle may stand free of the wall; at ES it is drawn into it.
        free = heart.papillary_gap * ventricle.full[frames] + 0.55
        reach = np.maximum(wall - radius * free, 0.0)
        cx, cy, size_now = (
            (v.astype(np.float32))[:, None, None] for v in (reach * np.cos(angle), reach * np.sin(angle), radius)
        )
        from_muscle = np.sqrt((at.x - cx) ** 2 + (at.y - cy) ** 2) - size_now
        np.minimum(into, np.where(size_now > 0.02, from_muscle, np.float32(9.0)), out=into)
    return into


def compute_slice_labels(
    ventricle: Ventricle, at: Polar, into: Floats, outer: Floats, depth: float, frames: slice
) -> NDArray[np.uint8]:
    """Labels of a slice, (frames, rows, columns): nothing above the valve plane or below the apex."""
    inside = at.r < outer.ravel()[at.flat]
    covered = ((depth > ventricle.base[frames]) & (depth < ventricle.apex))[:, None, None]
    labels = np.where(into > 0, np.uint8(Label.BLOOD_POOL), np.uint8(Label.MYOCARDIUM))
    return np.where(inside & covered, labels, np.uint8(Label.BACKGROUND))


# MERGED phantom.heart: The right ventricle: a crescent round the septum, and the outline it gives the heart.


def compute_heart_outline(plan: Plan, ventricle: Ventricle, depth: float) -> Floats:
    """Outer radius (mm) of the heart at ED over the angle, (ANGLES,): what its neighbours give way to."""
    ed = slice(plan.ed_frame, plan.ed_frame + 1)
    _, outer = ventricle.radii(max(depth, 0.0), ed)
    rv = compute_right_ventricle(plan, ventricle, ventricle.level(max(depth, 0.0)))
    rv = rv[ed]
    return np.asarray((outer + rv + plan.heart.rv_wall_mm * np.clip(rv / 0.25, 0.0, 1.0))[0], np.float32)


def compute_right_ventricle(plan: Plan, ventricle: Ventricle, level: Doubles) -> Doubles:
    """Depth of the RV cavity beyond the septum (mm), (frames, ANGLES)."""
    heart = plan.heart
    along = np.clip(level / heart.rv_length, -0.2, 1.0)
    half = np.deg2rad(heart.rv_half_width_deg) * (1.35 - 0.7 * np.clip(along, 0.0, 1.0) ** 0.7)
    apart = np.abs((THETA + np.pi) % (2 * np.pi) - np.pi)
    across = np.clip(apart / half[:, None], 0.0, 1.0)
    crescent = np.cos(0.5 * np.pi * across) ** 0.75
    lobes = np.random.default_rng([plan.seed, 14]).normal(0.0, 1.0, 4)
    crescent = crescent * (
        1.0
        + 0.16 * lobes[0] * np.sin(THETA)
        + 0.10 * lobes[1] * np.sin(2 * THETA)
        + 0.08 * lobes[2] * np.cos(3 * THETA)
    )
    reach = np.sqrt(np.clip(1.0 - np.clip(along, 0.0, 1.0) ** 2.2, 0.0, 1.0))
    squeeze = 1.0 - heart.rv_ejection * (1.0 - ventricle.full)
    return np.asarray(heart.rv_depth_mm * (reach * squeeze)[:, None] * crescent, np.float64)


# MERGED phantom.heart: Above the valve plane: atria, auricles and the roots of the great arteries. None of it is labelled.


_CHAMBERS = (
    # towards the RV, along the septum, depth (mm); radius, half height (mm), tone
    ("inlet", 0.2, 0.1, -0.2, 3.0, 1.5, 0.95),
    ("left atrium", -0.8, 0.9, -1.1, 2.1, 2.6, 0.95),
    ("left auricle", -2.0, -0.9, -0.7, 1.6, 1.9, 0.85),
    ("aortic root", 0.5, -0.3, -1.2, 1.15, 3.4, 1.1),
    ("outflow", 1.5, -1.7, -0.9, 1.55, 3.0, 1.05),
    ("right atrium", 2.0, 1.5, -1.0, 2.1, 2.6, 0.85),
    ("right auricle", 2.9, -0.3, -0.7, 1.55, 2.1, 0.9),
)
"""Chambers above the valve plane; sizes of a 25 g mouse to about 0.3 mm, read off atlases."""


def draw_atria(
    plan: Plan, ventricle: Ventricle, at: Polar, depth: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Blood and thin walls of atria, auricles and roots, each (frames, rows, columns), 0..1."""
    first = second = np.full(at.x.shape[1:], -9.0, np.float32)
    tone = np.ones_like(first)
    union = np.full_like(first, 1e-9)
    fixed = np.random.default_rng([plan.seed, 13])
    x, y = at.x[0], at.y[0]
    x = x + np.float32(0.3) * make_smooth_noise(fixed, x.shape, (6, 6))
    y = y + np.float32(0.3) * make_smooth_noise(fixed, y.shape, (6, 6))
    for number, (_, cx, cy, cz, radius, height, bright) in enumerate(_CHAMBERS):
        own = np.random.default_rng([plan.seed, 13, number])  # the same in every slice
        jitter = own.normal(0.0, 1.0, 6)
        scale = plan.heart.atrium_scale * (1.0 + 0.12 * jitter[0])
        through = 1.0 - ((depth - cz + 0.3 * jitter[1]) / (height * scale)) ** 2
        if through <= 0.02:
            continue
        size = np.float32(radius * scale * np.sqrt(through))
        stretch = np.float32(1.0 + 0.18 * jitter[2])
        dx, dy = x - np.float32(cx + 0.25 * jitter[3]), y - np.float32(cy + 0.25 * jitter[4])
        inside = (
            size
            - np.sqrt((dx * stretch) ** 2 + (dy / stretch) ** 2)
            + np.float32(0.32) * make_smooth_noise(own, x.shape, (8, 8))
        )
        tone = np.where(inside > first, np.float32(bright * (1.0 + 0.12 * jitter[5])), tone)
        if number > 0:  # the inlet is open to all chambers: no wall of its own
            second = np.maximum(second, np.minimum(first, inside))
            first = np.maximum(first, inside)
        union += np.exp(inside * 3.0)
    joined = np.log(union) / 3.0 - np.float32(0.15)  # one smooth outline round all chambers
    # Atria fill while the ventricle empties.
    swell = (0.22 * (1.0 - ventricle.full)).astype(np.float32)[:, None, None]
    inner = soft_edge(joined + swell - np.float32(0.2), 0.35)
    present = np.clip(0.2 + 0.5 * make_smooth_noise(fixed, x.shape, (7, 7)), 0.0, 0.9)
    between = np.clip(1.0 - (first - np.maximum(second, -1.0)) / np.float32(0.32), 0.0, 1.0) * (first > 0.1) * present
    blood = np.clip(inner * (1.0 - between), 0.0, 1.0)
    walls = np.clip(soft_edge(joined + swell + np.float32(0.12), 0.3) - blood, 0.0, 1.0)
    grain = (
        np.float32(0.94)
        + np.float32(0.10) * make_smooth_noise(rng, x.shape, (16, 16))
        + np.float32(0.14) * make_smooth_noise(rng, x.shape, (5, 5))
    )
    return np.asarray(blood * tone * grain, np.float32), walls.astype(np.float32)


@dataclass(frozen=True, slots=True)
class HeartSlice:
    """What fills the window of a slice, frame by frame: fractions 0..1, (frames, rows, columns)."""

    muscle: Floats
    lv: Floats
    rv: Floats
    atria: Floats
    rim: Floats
    patch: Floats
    truth: NDArray[np.uint8]
    at: Polar

    @property
    def cover(self) -> Floats:
        """How much of each pixel is heart, 0..1."""
        whole = self.muscle + self.lv + self.rv + np.clip(self.atria, 0.0, 1.0) + self.rim + self.patch
        return np.asarray(np.clip(whole, 0.0, 1.0), np.float32)


def draw_heart_slice(
    plan: Plan, ventricle: Ventricle, view: Window, pattern: Floats, room: Floats, index: int, depth: float
) -> HeartSlice:
    """Draw one slice in all frames. ``room`` (rows, columns) is 0 where the chest wall leaves no place to the atria."""
    frames = slice(None)
    heart, spacing = plan.heart, plan.voxel_size_mm[0]
    at = make_polar(plan, ventricle, view, frames)
    inner, outer = (part.astype(np.float32) for part in ventricle.radii(depth))
    above, below = ventricle.radii(depth - 0.5 * spacing), ventricle.radii(depth + 0.5 * spacing)
    # A wall that slants through the slice is blurred over its shift between the slice's two faces.
    blur_in, blur_out = (
        np.maximum(np.abs(a - b), 0.12).astype(np.float32).ravel()[at.flat] for a, b in zip(above, below, strict=True)
    )
    into = compute_cavity(plan, ventricle, at, inner, pattern, depth, frames)
    truth = compute_slice_labels(ventricle, at, into, outer, depth, frames)
    outside = at.r - outer.ravel()[at.flat]

    level = ventricle.level(depth)
    shape = compute_right_ventricle(plan, ventricle, level)
    rng = np.random.default_rng([plan.seed, 12, index])
    rough = make_smooth_noise(rng, (ANGLES,), (26,), (True,))
    depth_rv = (shape * (1.0 - 0.12 * heart.rv_trabecula_mm * rough)).astype(np.float32)
    to_rv = depth_rv.ravel()[at.flat] - outside
    has_rv = np.clip(depth_rv / 0.25, 0.0, 1.0)
    shell = (has_rv * heart.rv_wall_mm).astype(np.float32).ravel()[at.flat]

    lv_part = soft_edge(-outside, blur_out)
    lv_blood = soft_edge(into, np.minimum(blur_in, 1.2)) * lv_part
    whole = soft_edge(np.maximum(-outside, to_rv + shell), np.float32(0.12))
    rv_blood = np.clip(soft_edge(to_rv, np.float32(0.15)) * (1.0 - lv_part), 0.0, 1.0) * (to_rv > -1.0)
    rv_ridges = make_smooth_noise(rng, (ANGLES, 24), (30, 5), (True, False))
    tone = rv_ridges[at.angle, np.clip(outside * 9.0, 0, 23).astype(np.intp)]
    rv_blood *= np.clip(1.0 - heart.rv_trabecula_mm * (0.8 + tone), 0.0, 1.0)

    cover = make_smooth_noise(rng, (ANGLES,), (9,), (True,)) - np.float32(1.5 - 3.0 * heart.rim_cover)
    band = np.float32(heart.rim_tone) * np.clip(cover, 0.0, 1.0).astype(np.float32)[at.angle]
    off = np.maximum(-outside, to_rv + shell) + np.float32(heart.rim_mm)
    alive = np.float32(1.0 if depth < ventricle.apex - 0.6 else 0.3)
    rim = soft_edge(off, np.float32(0.12)) * band * alive * (1.0 - whole)
    patch = np.zeros_like(rim)
    if plan.function.infarct is not None:
        where = compute_infarct_share(plan, level[:, None]).astype(np.float32).ravel()[at.flat]
        patch = (
            soft_edge(np.float32(plan.function.infarct.patch_mm) * where - outside, 0.2) * (1.0 - whole) * (where > 0.1)
        )
        rim = rim * (1.0 - patch)

    # Where the valve plane crosses the slice, ventricle and atria share it.
    if depth >= ventricle.apex:
        share = np.zeros(plan.n_frames)
    else:
        share = np.clip(0.5 + (depth - ventricle.base) / (0.7 * spacing), 0.0, 1.0)
    part = share.astype(np.float32)[:, None, None]
    chambers, walls = (part_of * room for part_of in draw_atria(plan, ventricle, at, depth, rng))
    lv, rv = lv_blood * part, rv_blood * part
    blood_atria = chambers * (1.0 - whole * part)
    muscle = np.clip(whole * part - lv - rv, 0.0, 1.0) + walls * (1.0 - whole * part)
    rim = rim * np.clip(2.0 * part, 0.0, 1.0) * (1.0 - np.clip(chambers, 0.0, 1.0)) * (1.0 - walls)
    return HeartSlice(muscle, lv, rv, blood_atria, rim, patch * part, truth, at)
