"""Everything around the heart in one slice, as fractions of tissues: breathing is gated, so it stands still."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.grid import (
    DrawnGrid,
    compute_heart_centre,
    compute_slice_depths,
    make_smooth_noise,
    soft_edge,
)
from mousecmr_data.phantom.heart import ANGLES, Ventricle, compute_heart_outline
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.vessels import make_vessels

# MERGED phantom.thorax: Tissue fractions of a slice, painted one over the other.


Floats = NDArray[np.float32]


@dataclass
class Canvas:
    """Tissue fractions painted one over the other, (tissues, rows, columns)."""

    shape: tuple[int, int]
    parts: dict[str, Floats] = field(default_factory=dict)

    def paint(self, tissue: str, share: Floats) -> None:
        """Lay ``share`` (0..1) of a tissue over what is there."""
        keep = 1.0 - share
        for name, part in self.parts.items():
            if name != tissue:
                part *= keep
        there = self.parts.get(tissue)
        self.parts[tissue] = share.copy() if there is None else there * keep + share

    def part(self, tissue: str) -> Floats:
        """The fraction of a tissue so far."""
        return self.parts.get(tissue, np.zeros(self.shape, np.float32))


# MERGED phantom.thorax: The body's outline in a slice: how deep a pixel lies in it, and how thick its wall is there.


class BodyOutline:
    """Distance into the body, and the thickness of its wall, at each pixel of a slice."""

    def __init__(self, plan: Plan, x: Floats, y: Floats, depth: float) -> None:
        thorax = plan.thorax
        grown = 1.0 + thorax.body_growth * depth
        wide, tall = (r * grown for r in thorax.body_radius_mm)
        front = 3.9 + thorax.heart_gap_mm + thorax.wall_mm
        self.cx, self.cy = thorax.aside_mm, front - thorax.body_radius_mm[1]
        dx, dy = x - np.float32(self.cx), y - np.float32(self.cy)
        turn = np.arctan2(dy, dx)
        angles = np.deg2rad(np.arange(360.0))
        radius = wide * tall / np.hypot(tall * np.cos(angles), wide * np.sin(angles))
        rng = np.random.default_rng([plan.seed, 33])
        for harmonic, size in enumerate(thorax.body_shape, start=2):
            radius = radius * (1.0 + size * np.cos(harmonic * (angles - rng.uniform(0, 2 * np.pi))))
        self.sector = (np.rint(np.rad2deg(turn)).astype(np.intp)) % 360
        self.inside_body = radius.astype(np.float32)[self.sector] - np.hypot(dx, dy)
        self.inside = self.inside_body
        self.limb = np.zeros(x.shape, np.float32)
        """1 inside a limb, 0 in the trunk."""
        self.limb_bones: list[tuple[float, float, float]] = []
        for size, degrees in zip(thorax.limb_mm, thorax.limb_deg, strict=True):
            if size == 0.0:
                continue
            way = np.deg2rad(degrees)
            out = float(radius[round(degrees) % 360]) - 0.35 * size + 0.08 * depth
            lx, ly = self.cx + out * np.cos(way), self.cy + out * np.sin(way)
            limb = np.float32(size) - np.hypot((x - lx) * 0.9, (y - ly) * 0.8)
            # A smooth union leaves the crease of the armpit.
            near = np.clip(0.5 + 0.5 * (limb - self.inside) / 0.7, 0.0, 1.0)
            self.inside = self.inside + (limb - self.inside) * near + 0.7 * near * (1.0 - near)
            self.limb = np.maximum(self.limb, near)
            self.limb_bones.append((lx + 0.2 * size, ly + 0.25 * size, 0.55 + 0.08 * size))
        down, up = np.clip(np.sin(turn), 0.0, 1.0), np.clip(-np.sin(turn), 0.0, 1.0)
        self.wall = (
            np.float32(thorax.flank_mm)
            + np.float32(thorax.wall_mm - thorax.flank_mm) * down**1.5
            + np.float32(thorax.dorsum_mm - thorax.flank_mm) * up**1.5
        )
        # Towards the apex the sternum and the abdominal wall close in on the heart.
        apex = plan.function.cavity_length_mm + 0.9
        self.wall = self.wall + np.float32(thorax.shoulder * np.clip(2.0 - depth, 0.0, 4.0)) * (1.0 - 0.75 * down**2)
        self.wall = self.wall + np.float32(thorax.closing * np.clip(depth - apex + 3.0, 0.0, 4.0)) * down**4
        self.spine = (self.cx - 1.0, self.cy - 0.80 * tall)


# MERGED phantom.thorax: Organs below the diaphragm: the liver's dome, stomach and bowel.


def compute_liver_distance(plan: Plan, x: Floats, y: Floats, depth: float, outside_heart: Floats) -> Floats:
    """Distance into the liver (mm): a dome that widens towards the abdomen, dented by the heart."""
    thorax = plan.thorax
    below = depth - thorax.dome_top_mm
    if below <= 0.0:
        return np.full(x.shape, -9.0, np.float32)
    full = thorax.dome_radius_mm
    radius = np.sqrt(max(2.0 * below * full - below**2, 0.0)) if below < full else full + 0.5 * (below - full)
    centre = (thorax.dome_mm[0] * (1.0 - 0.03 * below), thorax.dome_mm[1] * (1.0 - 0.03 * below))
    dome = np.float32(radius) - np.hypot(x - centre[0], (y - centre[1]) * 1.08)
    dent = outside_heart - np.float32(thorax.dome_gap_mm) + np.float32(max(0.0, depth - 5.0) * 0.5)
    return np.asarray(np.minimum(dome, dent), np.float32)


def paint_gut(plan: Plan, canvas: Canvas, x: Floats, y: Floats, depth: float, content: Floats, cavity: Floats) -> None:
    """Stomach and bowel loops: a bright wall round dark, patchy contents."""
    rng = np.random.default_rng([plan.seed, 34])
    thorax = plan.thorax
    spheres = [(*thorax.stomach_at_mm, thorax.stomach_mm)]
    for _ in range(thorax.bowel):
        spheres.append(
            (
                rng.uniform(-4, 9),
                rng.uniform(-13, -4),
                thorax.stomach_at_mm[2] + rng.uniform(0.0, 2.5),
                rng.uniform(1.2, 2.6),
            )
        )
    for cx, cy, cz, radius in spheres:
        gassy = rng.uniform(-0.6, 1.2)
        through = radius**2 - (depth - cz) ** 2
        if through <= 0.0:
            continue
        inside = np.float32(np.sqrt(through)) - np.hypot((x - cx) * 0.9, (y - cy) * 1.1) + 0.12 * content
        canvas.paint("gut_wall", soft_edge(inside, 0.3) * cavity * np.clip(0.55 + 0.4 * content, 0.1, 1.0))
        filled = soft_edge(inside - 0.3 - 0.1 * content, 0.35) * cavity
        canvas.paint("gut_paste", filled)
        canvas.paint("gut_content", filled * np.clip(1.5 * (content + gassy) - 0.2, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The static tissues of a stack, stored slice order."""

    fractions: tuple[dict[str, Floats], ...]
    """Per slice: tissue -> fraction, (rows, columns) of the drawn field."""
    texture: tuple[Floats, ...]
    """Factor on the signal: mottling and muscle fibres."""
    room: tuple[Floats, ...]
    """1 inside the chest wall, 0 outside: where the atria have place."""


def draw_surroundings(plan: Plan, grid: DrawnGrid, ventricle: Ventricle) -> Surroundings:
    """Draw all slices."""
    depths = compute_slice_depths(plan)
    order = np.argsort(depths)
    rng = np.random.default_rng([plan.seed, 31])
    n, size = len(depths), grid.x.shape
    warp = [make_smooth_noise(rng, (n, *size), (n / 3.0, 7, 7)) for _ in range(2)]
    fine = [make_smooth_noise(rng, (n, *size), (n / 1.5, 22, 22)) for _ in range(2)]
    content = make_smooth_noise(rng, (n, *size), (n / 1.8, 26, 26)) + 0.7 * make_smooth_noise(
        rng, (n, *size), (n / 1.5, 55, 55)
    )
    slow = make_smooth_noise(rng, (n, *size), (n / 2.5, 9, 9))
    vessels = make_vessels(plan)
    spacing = plan.voxel_size_mm[0]
    drawn: dict[int, tuple[dict[str, Floats], Floats, Floats]] = {}
    for rank, index in enumerate(order):
        depth = float(depths[index])
        x = grid.x + np.float32(0.38) * warp[0][rank] + np.float32(0.07) * fine[0][rank]
        y = grid.y + np.float32(0.38) * warp[1][rank] + np.float32(0.07) * fine[1][rank]
        shares = {kind: lines.share(grid, x, y, depth, spacing) for kind, lines in vessels.items()}
        drawn[int(index)] = _draw_slice(plan, ventricle, x, y, depth, content[rank], slow[rank], shares, rank)
    return Surroundings(
        tuple(drawn[k][0] for k in range(n)),
        tuple(drawn[k][1] for k in range(n)),
        tuple(drawn[k][2] for k in range(n)),
    )


def _draw_slice(
    plan: Plan,
    ventricle: Ventricle,
    x: Floats,
    y: Floats,
    depth: float,
    content: Floats,
    slow: Floats,
    vessels: dict[str, Floats],
    rank: int,
) -> tuple[dict[str, Floats], Floats, Floats]:
    """One slice: (fractions, texture, room)."""
    thorax = plan.thorax
    apex = plan.function.cavity_length_mm + 0.9
    canvas = Canvas(x.shape)
    outline = BodyOutline(plan, x, y, depth)
    inside, sector = outline.inside, outline.sector

    rng = np.random.default_rng([plan.seed, 32])  # the same layers in all slices, drifting with depth
    layers = make_smooth_noise(rng, (360, 64, 12), (26, 22, 3.5), (True, False, False))
    shell = np.clip(inside * (63 / 9.0), 0, 63).astype(np.intp)
    layer = layers[sector, shell, min(rank, 11)]
    strands = make_smooth_noise(rng, (360, 128, 12), (48, 58, 5), (True, False, False))
    strand = strands[sector, np.clip(inside * (127 / 9.0), 0, 127).astype(np.intp), min(rank, 11)]

    # A limb's muscles lie in bundles, not in the trunk's layers; so does what is deep.
    layered = (1.0 - 0.9 * outline.limb) * np.clip(1.6 - inside / 4.0, 0.25, 1.0)
    bundles = 0.8 * content + 0.5 * slow
    layer = layer * layered + bundles * (1.0 - layered)
    strand = strand * layered + 0.7 * bundles * (1.0 - layered)

    # Skin, subcutaneous fat, muscle.
    canvas.paint("skin", soft_edge(inside, 0.16))
    under_skin = np.clip(0.45 + 0.7 * layers[sector, 20, min(rank, 11)], 0.0, 1.0) * np.float32(thorax.fat_mm > 0)
    canvas.paint("fat", soft_edge(inside - np.float32(thorax.skin_mm), 0.25) * under_skin)
    thick = np.float32(thorax.fat_mm) * (1.0 + 0.6 * layers[sector, 40, min(rank, 11)])
    canvas.paint("muscle", soft_edge(inside - np.float32(thorax.skin_mm) - np.clip(thick, 0.0, 2.0), 0.25))
    muscle = canvas.part("muscle").copy()
    canvas.paint("fat", muscle * np.clip(1.4 * (layer - 1.15), 0.0, 0.75) * np.float32(min(1.0, 0.35 + thorax.fat_mm)))
    lobes = np.clip(0.9 * (0.7 * content - slow - 1.0), 0.0, 0.9) * np.float32(thorax.fat_lobes)
    canvas.paint("fat", muscle * lobes * np.float32(0.8))
    ribs = np.clip(3.0 * (strand * 0.6 + layer * 0.6 - 1.25), 0.0, 0.8) * (inside < outline.wall) * (1.0 - outline.limb)
    canvas.paint("bone", muscle * ribs)
    canvas.paint("marrow", muscle * np.clip(ribs - 0.55, 0.0, 1.0) * 2.0)
    for cx, cy, radius in outline.limb_bones:
        away = np.hypot(x - cx, (y - cy) * 1.25) - np.float32(radius) + 0.18 * slow
        canvas.paint("bone", soft_edge(-away, 0.3) * np.float32(thorax.bone))
        canvas.paint("marrow", soft_edge(-away - np.float32(0.3), 0.3) * np.float32(thorax.bone))
    # Spine: a ring of bone about the cord.
    cx, cy = outline.spine
    away = np.hypot((x - cx) * 0.85, y - cy)
    away = away + 0.35 * content
    canvas.paint("bone", soft_edge(1.7 - away, 0.5) * muscle * np.float32(thorax.bone))
    canvas.paint("muscle", soft_edge(0.8 - away, 0.3))

    # Cavity: lung, then what displaces it.
    cavity = soft_edge(outline.inside_body - outline.wall + 0.3 * slow, 0.25)
    canvas.paint("lung", cavity)
    hx, hy = compute_heart_centre(plan, depth)
    from_heart = np.hypot(x - hx, y - hy)
    mediastinum = np.hypot((x - hx) / 2.6, (y - hy + 3.8) / 2.2) - 1.0 + 0.35 * content
    canvas.paint("fat", soft_edge(-mediastinum, 0.8) * cavity * np.float32(np.clip(0.35 - 0.2 * depth, 0.0, 0.45)))
    septum = np.deg2rad(plan.heart.septum_deg)
    around = np.rint((np.arctan2(y - hy, x - hx) - septum) * (ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES
    outside_heart = from_heart - compute_heart_outline(plan, ventricle, depth)[around]
    liver = compute_liver_distance(plan, x, y, depth, outside_heart)
    liver_share = soft_edge(liver + 0.45 * slow, 0.35) * cavity
    canvas.paint("liver", liver_share)
    fissure = np.abs(slow * 0.5 + content * 0.04 + x * 0.35 - y * 0.15 + depth * 0.12 + thorax.texture * 20 - 1.5)
    canvas.paint(
        "fat", liver_share * np.clip(1.0 - fissure / 0.07, 0.0, 1.0) * np.float32(thorax.fissure) * (content > -0.4)
    )
    paint_gut(plan, canvas, x, y, depth, content, cavity)
    # Below the apex the sternum's muscle and fat close in.
    closing = soft_edge(np.float32(depth - apex + 0.7) - 0.55 * from_heart + 1.2 * (y - hy) / 3.0 + 0.4 * layer, 0.8)
    closing *= np.float32(np.clip(depth - apex + 1.2, 0.0, 1.0)) * (y > hy - 2.0)
    canvas.paint("muscle", closing * cavity * np.float32(0.8))
    canvas.paint("fat", closing * cavity * np.clip(0.5 * (layer + 0.4), 0.0, 0.6))

    canvas.paint("vein", vessels["liver"] * canvas.part("liver"))
    canvas.paint("vein", vessels["lung"] * np.clip(canvas.part("lung") + canvas.part("fat"), 0, 1))
    body = soft_edge(inside - 0.2, 0.2)
    canvas.paint("vein", vessels["vein"] * body)
    canvas.paint("artery", vessels["artery"] * body)

    grain = 0.6 * content
    texture = (
        1.0
        + np.float32(thorax.patchiness) * slow
        + np.float32(thorax.texture)
        * (grain + 1.6 * strand * canvas.part("muscle") + 0.8 * layer * (1.0 - canvas.part("liver")))
    )
    room = soft_edge(outline.inside_body - np.float32(thorax.skin_mm + 0.45 * thorax.wall_mm), 0.4)
    return canvas.parts, np.clip(texture, 0.3, 2.0).astype(np.float32), room
