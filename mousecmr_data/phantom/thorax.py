"""Tissue fractions around the heart in each slice; the same in all frames, because breathing is gated."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mousecmr_data.phantom.grid import (
    DrawnGrid,
    Floats,
    compute_heart_centre,
    compute_slice_depths,
    make_smooth_noise,
    soften_edge,
)
from mousecmr_data.phantom.heart import ANGLES, Ventricle, compute_heart_outline
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.vessels import make_vessels


@dataclass
class Canvas:
    """Tissue fractions of a slice, painted one over the other: (rows, columns) by tissue."""

    shape: tuple[int, int]
    parts: dict[str, Floats] = field(default_factory=dict)

    def paint(self, tissue: str, share: Floats) -> None:
        """Paint ``share`` (0..1) of a tissue over the earlier ones."""
        keep = 1.0 - share
        for name, part in self.parts.items():
            if name != tissue:
                part *= keep
        self.parts[tissue] = self.get_part(tissue) * keep + share

    def get_part(self, tissue: str) -> Floats:
        """Return the current fraction of a tissue."""
        return self.parts.get(tissue, np.zeros(self.shape, np.float32))


class BodyOutline:
    """The body's outline in a slice: the distance of each pixel into the body, and the thickness of its wall there."""

    def __init__(self, plan: Plan, x: Floats, y: Floats, depth: float) -> None:
        thorax = plan.thorax
        growth = 1.0 + thorax.body_growth * depth
        wide, tall = (r * growth for r in thorax.body_radius_mm)
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
            angle = np.deg2rad(degrees)
            reach = float(radius[round(degrees) % 360]) - 0.35 * size + 0.08 * depth
            lx, ly = self.cx + reach * np.cos(angle), self.cy + reach * np.sin(angle)
            limb = np.float32(size) - np.hypot((x - lx) * 0.9, (y - ly) * 0.8)
            # A smooth union leaves the crease of the armpit.
            blend = np.clip(0.5 + 0.5 * (limb - self.inside) / 0.7, 0.0, 1.0)
            self.inside = self.inside + (limb - self.inside) * blend + 0.7 * blend * (1.0 - blend)
            self.limb = np.maximum(self.limb, blend)
            self.limb_bones.append((lx + 0.2 * size, ly + 0.25 * size, 0.55 + 0.08 * size))
        ventral, dorsal = np.clip(np.sin(turn), 0.0, 1.0), np.clip(-np.sin(turn), 0.0, 1.0)
        # Towards the apex the sternum and the abdominal wall close in on the heart.
        apex = plan.function.cavity_length_mm + 0.9
        self.wall = (
            np.float32(thorax.flank_mm)
            + np.float32(thorax.wall_mm - thorax.flank_mm) * ventral**1.5
            + np.float32(thorax.dorsum_mm - thorax.flank_mm) * dorsal**1.5
            + np.float32(thorax.shoulder * np.clip(2.0 - depth, 0.0, 4.0)) * (1.0 - 0.75 * ventral**2)
            + np.float32(thorax.closing * np.clip(depth - apex + 3.0, 0.0, 4.0)) * ventral**4
        )
        self.spine = (self.cx - 1.0, self.cy - 0.80 * tall)


def compute_liver_distance(plan: Plan, x: Floats, y: Floats, depth: float, outside_heart: Floats) -> Floats:
    """Return the distance into the liver (mm): a dome that widens towards the abdomen, dented by the heart."""
    thorax = plan.thorax
    below = depth - thorax.dome_top_mm
    if below <= 0.0:
        return np.full(x.shape, -9.0, np.float32)
    largest = thorax.dome_radius_mm
    radius = largest + 0.5 * (below - largest)
    if below < largest:
        radius = np.sqrt(max(2.0 * below * largest - below**2, 0.0))
    cx, cy = (position * (1.0 - 0.03 * below) for position in thorax.dome_mm)
    dome = np.float32(radius) - np.hypot(x - cx, (y - cy) * 1.08)
    dent = outside_heart - np.float32(thorax.dome_gap_mm) + np.float32(max(0.0, depth - 5.0) * 0.5)
    return np.asarray(np.minimum(dome, dent), np.float32)


def paint_gut(plan: Plan, canvas: Canvas, x: Floats, y: Floats, depth: float, content: Floats, cavity: Floats) -> None:
    """Paint stomach and bowel loops: a bright wall around dark, patchy contents."""
    rng = np.random.default_rng([plan.seed, 34])
    thorax = plan.thorax
    spheres = [(*thorax.stomach_at_mm, thorax.stomach_mm)]
    for _ in range(thorax.bowel):
        cx, cy, below = rng.uniform(-4, 9), rng.uniform(-13, -4), rng.uniform(0.0, 2.5)
        spheres.append((cx, cy, thorax.stomach_at_mm[2] + below, rng.uniform(1.2, 2.6)))
    for cx, cy, cz, radius in spheres:
        gas = rng.uniform(-0.6, 1.2)
        through = radius**2 - (depth - cz) ** 2
        if through <= 0.0:
            continue
        inside = np.float32(np.sqrt(through)) - np.hypot((x - cx) * 0.9, (y - cy) * 1.1) + 0.12 * content
        canvas.paint("gut_wall", soften_edge(inside, 0.3) * cavity * np.clip(0.55 + 0.4 * content, 0.1, 1.0))
        filled = soften_edge(inside - 0.3 - 0.1 * content, 0.35) * cavity
        canvas.paint("gut_paste", filled)
        canvas.paint("gut_content", filled * np.clip(1.5 * (content + gas) - 0.2, 0.0, 1.0))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The static tissues of one slice, each (rows, columns) of the drawn field."""

    fractions: dict[str, Floats]
    """By tissue."""
    texture: Floats
    """Factor on the signal: mottling and muscle fibres."""
    inside_chest: Floats
    """1 inside the chest wall, 0 outside: the atria lie inside."""


def draw_surroundings(plan: Plan, grid: DrawnGrid, ventricle: Ventricle) -> list[Surroundings]:
    """Draw all slices, in stored order."""
    depths = compute_slice_depths(plan)
    rng = np.random.default_rng([plan.seed, 31])
    shape = (len(depths), *grid.x.shape)

    def draw_noise(slices_per_cell: float, cells: int) -> Floats:
        return make_smooth_noise(rng, shape, (len(depths) / slices_per_cell, cells, cells))

    warp = [draw_noise(3.0, 7) for _ in range(2)]
    fine = [draw_noise(1.5, 22) for _ in range(2)]
    content = draw_noise(1.8, 26) + 0.7 * draw_noise(1.5, 55)
    slow = draw_noise(2.5, 9)
    vessels = make_vessels(plan)
    slices: dict[int, Surroundings] = {}
    for rank, index in enumerate(np.argsort(depths).tolist()):
        depth = float(depths[index])
        x = grid.x + np.float32(0.38) * warp[0][rank] + np.float32(0.07) * fine[0][rank]
        y = grid.y + np.float32(0.38) * warp[1][rank] + np.float32(0.07) * fine[1][rank]
        shares = {kind: tree.compute_share(grid, x, y, depth, plan.voxel_size_mm[0]) for kind, tree in vessels.items()}
        slices[index] = _draw_slice(plan, ventricle, x, y, depth, content[rank], slow[rank], shares, min(rank, 11))
    return [slices[index] for index in range(len(depths))]


@lru_cache(maxsize=1)
def _make_layers(seed: int) -> tuple[Floats, Floats]:
    """Make the layers and the strands under the skin (sector, shell, rank), which change slowly with depth."""
    rng = np.random.default_rng([seed, 32])
    layers = make_smooth_noise(rng, (360, 64, 12), (26, 22, 3.5), (True, False, False))
    return layers, make_smooth_noise(rng, (360, 128, 12), (48, 58, 5), (True, False, False))


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
) -> Surroundings:
    """Draw one slice; ``rank`` is its number in order of depth, at most 11."""
    thorax = plan.thorax
    apex = plan.function.cavity_length_mm + 0.9
    canvas = Canvas(x.shape)
    outline = BodyOutline(plan, x, y, depth)
    inside, sector = outline.inside, outline.sector

    layers, strands = _make_layers(plan.seed)
    shell = np.clip(inside * (63 / 9.0), 0, 63).astype(np.intp)
    layer = layers[sector, shell, rank]
    strand = strands[sector, np.clip(inside * (127 / 9.0), 0, 127).astype(np.intp), rank]

    # Muscles of limbs and deep muscles lie in bundles, not in the trunk's layers.
    layered = (1.0 - 0.9 * outline.limb) * np.clip(1.6 - inside / 4.0, 0.25, 1.0)
    bundles = 0.8 * content + 0.5 * slow
    layer = layer * layered + bundles * (1.0 - layered)
    strand = strand * layered + 0.7 * bundles * (1.0 - layered)

    # Skin, subcutaneous fat, muscle.
    canvas.paint("skin", soften_edge(inside, 0.16))
    under_skin = np.clip(0.45 + 0.7 * layers[sector, 20, rank], 0.0, 1.0) * np.float32(thorax.fat_mm > 0)
    canvas.paint("fat", soften_edge(inside - np.float32(thorax.skin_mm), 0.25) * under_skin)
    thick = np.float32(thorax.fat_mm) * (1.0 + 0.6 * layers[sector, 40, rank])
    canvas.paint("muscle", soften_edge(inside - np.float32(thorax.skin_mm) - np.clip(thick, 0.0, 2.0), 0.25))
    muscle = canvas.get_part("muscle").copy()
    canvas.paint("fat", muscle * np.clip(1.4 * (layer - 1.15), 0.0, 0.75) * np.float32(min(1.0, 0.35 + thorax.fat_mm)))
    lobes = np.clip(0.9 * (0.7 * content - slow - 1.0), 0.0, 0.9) * np.float32(thorax.fat_lobes)
    canvas.paint("fat", muscle * lobes * np.float32(0.8))
    ribs = np.clip(3.0 * (strand * 0.6 + layer * 0.6 - 1.25), 0.0, 0.8) * (inside < outline.wall) * (1.0 - outline.limb)
    canvas.paint("bone", muscle * ribs)
    canvas.paint("marrow", muscle * np.clip(ribs - 0.55, 0.0, 1.0) * 2.0)
    for cx, cy, radius in outline.limb_bones:
        distance = np.hypot(x - cx, (y - cy) * 1.25) - np.float32(radius) + 0.18 * slow
        canvas.paint("bone", soften_edge(-distance, 0.3) * np.float32(thorax.bone))
        canvas.paint("marrow", soften_edge(-distance - np.float32(0.3), 0.3) * np.float32(thorax.bone))
    # Spine: a ring of bone around the cord.
    cx, cy = outline.spine
    distance = np.hypot((x - cx) * 0.85, y - cy) + 0.35 * content
    canvas.paint("bone", soften_edge(1.7 - distance, 0.5) * muscle * np.float32(thorax.bone))
    canvas.paint("muscle", soften_edge(0.8 - distance, 0.3))

    # Cavity: lung, then the organs that displace it.
    cavity = soften_edge(outline.inside_body - outline.wall + 0.3 * slow, 0.25)
    canvas.paint("lung", cavity)
    hx, hy = compute_heart_centre(plan, depth)
    from_heart = np.hypot(x - hx, y - hy)
    mediastinum = np.hypot((x - hx) / 2.6, (y - hy + 3.8) / 2.2) - 1.0 + 0.35 * content
    canvas.paint("fat", soften_edge(-mediastinum, 0.8) * cavity * np.float32(np.clip(0.35 - 0.2 * depth, 0.0, 0.45)))
    septum = np.deg2rad(plan.heart.septum_deg)
    sector_of_heart = np.rint((np.arctan2(y - hy, x - hx) - septum) * (ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES
    outside_heart = from_heart - compute_heart_outline(plan, ventricle, depth)[sector_of_heart]
    liver = compute_liver_distance(plan, x, y, depth, outside_heart)
    liver_share = soften_edge(liver + 0.45 * slow, 0.35) * cavity
    canvas.paint("liver", liver_share)
    fissure = np.abs(slow * 0.5 + content * 0.04 + x * 0.35 - y * 0.15 + depth * 0.12 + thorax.texture * 20 - 1.5)
    canvas.paint(
        "fat", liver_share * np.clip(1.0 - fissure / 0.07, 0.0, 1.0) * np.float32(thorax.fissure) * (content > -0.4)
    )
    paint_gut(plan, canvas, x, y, depth, content, cavity)
    # Below the apex the sternum's muscle and fat close in.
    closing = soften_edge(np.float32(depth - apex + 0.7) - 0.55 * from_heart + 1.2 * (y - hy) / 3.0 + 0.4 * layer, 0.8)
    closing *= np.float32(np.clip(depth - apex + 1.2, 0.0, 1.0)) * (y > hy - 2.0)
    canvas.paint("muscle", closing * cavity * np.float32(0.8))
    canvas.paint("fat", closing * cavity * np.clip(0.5 * (layer + 0.4), 0.0, 0.6))
    # Diaphragm and chest wall lie against the apex: muscle in layers, about as grey as myocardium.
    reach = np.float32(1.6 + 2.6 * thorax.apex_contact) + 0.6 * slow - np.hypot(x - hx, 0.8 * (y - hy - 0.8))
    contact = soften_edge(reach, 1.4) * cavity * np.float32(thorax.apex_contact**0.3)
    contact *= np.float32(np.clip((depth - apex + 2.0 + 1.2 * thorax.apex_contact) / 1.4, 0.0, 1.0))
    canvas.paint("muscle", contact)
    lines = make_smooth_noise(np.random.default_rng([plan.seed, 35]), (128,), (40,))
    line = lines[np.clip((y - hy + 0.9 * slow + 0.25 * content + 8.0) * 8.0, 0, 127).astype(np.intp)]
    canvas.paint("rim", contact * np.clip(0.8 * line - 0.3 + 0.3 * slow, 0.0, 0.6))
    canvas.paint("fat", contact * np.clip(-0.8 * line - 0.6, 0.0, 0.5))

    canvas.paint("vein", vessels["liver"] * canvas.get_part("liver"))
    canvas.paint("vein", vessels["lung"] * np.clip(canvas.get_part("lung") + canvas.get_part("fat"), 0, 1))
    body = soften_edge(inside - 0.2, 0.2)
    canvas.paint("vein", vessels["vein"] * body)
    canvas.paint("artery", vessels["artery"] * body)

    grain = 0.6 * content + 1.6 * strand * canvas.get_part("muscle") + 0.8 * layer * (1.0 - canvas.get_part("liver"))
    texture = 1.0 + np.float32(thorax.patchiness) * slow + np.float32(thorax.texture) * grain
    inside_chest = soften_edge(outline.inside_body - np.float32(thorax.skin_mm + 0.45 * thorax.wall_mm), 0.4)
    return Surroundings(canvas.parts, np.clip(texture, 0.3, 2.0).astype(np.float32), inside_chest)
