"""Everything around the heart in one slice, as fractions of tissues: breathing is gated, so it stands still."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.phantom.canvas import Canvas
from mousecmr_data.phantom.grid import Grid, heart_centre, slice_depths
from mousecmr_data.phantom.noise import ramp, smooth
from mousecmr_data.phantom.organs import liver_distance, paint_gut
from mousecmr_data.phantom.outline import Outline
from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.rightheart import outline_at
from mousecmr_data.phantom.ventricle import ANGLES, Ventricle
from mousecmr_data.phantom.vessels import vessel_sets

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The static tissues of a stack, stored slice order."""

    fractions: tuple[dict[str, Floats], ...]
    """Per slice: tissue -> fraction, (rows, columns) of the drawn field."""
    texture: tuple[Floats, ...]
    """Factor on the signal: mottling and muscle fibres."""
    room: tuple[Floats, ...]
    """1 inside the chest wall, 0 outside: where the atria have place."""


def surroundings(plan: Plan, grid: Grid, ventricle: Ventricle) -> Surroundings:
    """Draw all slices."""
    depths = slice_depths(plan)
    order = np.argsort(depths)
    rng = np.random.default_rng([plan.seed, 31])
    n, size = len(depths), grid.x.shape
    warp = [smooth(rng, (n, *size), (n / 3.0, 7, 7)) for _ in range(2)]
    fine = [smooth(rng, (n, *size), (n / 1.5, 22, 22)) for _ in range(2)]
    content = smooth(rng, (n, *size), (n / 1.8, 26, 26)) + 0.7 * smooth(rng, (n, *size), (n / 1.5, 55, 55))
    slow = smooth(rng, (n, *size), (n / 2.5, 9, 9))
    vessels = vessel_sets(plan)
    spacing = plan.voxel_size_mm[0]
    drawn: dict[int, tuple[dict[str, Floats], Floats, Floats]] = {}
    for rank, index in enumerate(order):
        depth = float(depths[index])
        x = grid.x + np.float32(0.38) * warp[0][rank] + np.float32(0.07) * fine[0][rank]
        y = grid.y + np.float32(0.38) * warp[1][rank] + np.float32(0.07) * fine[1][rank]
        shares = {kind: lines.share(grid, x, y, depth, spacing) for kind, lines in vessels.items()}
        drawn[int(index)] = _slice(plan, ventricle, x, y, depth, content[rank], slow[rank], shares, rank)
    return Surroundings(
        tuple(drawn[k][0] for k in range(n)),
        tuple(drawn[k][1] for k in range(n)),
        tuple(drawn[k][2] for k in range(n)),
    )


def _slice(
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
    outline = Outline(plan, x, y, depth)
    inside, sector = outline.inside, outline.sector

    rng = np.random.default_rng([plan.seed, 32])  # the same layers in all slices, drifting with depth
    layers = smooth(rng, (360, 64, 12), (26, 22, 3.5), (True, False, False))
    shell = np.clip(inside * (63 / 9.0), 0, 63).astype(np.intp)
    layer = layers[sector, shell, min(rank, 11)]
    strands = smooth(rng, (360, 128, 12), (48, 58, 5), (True, False, False))
    strand = strands[sector, np.clip(inside * (127 / 9.0), 0, 127).astype(np.intp), min(rank, 11)]

    # A limb's muscles lie in bundles, not in the trunk's layers; so does what is deep.
    layered = (1.0 - 0.9 * outline.limb) * np.clip(1.6 - inside / 4.0, 0.25, 1.0)
    bundles = 0.8 * content + 0.5 * slow
    layer = layer * layered + bundles * (1.0 - layered)
    strand = strand * layered + 0.7 * bundles * (1.0 - layered)

    # Skin, subcutaneous fat, muscle.
    canvas.paint("skin", ramp(inside, 0.16))
    under_skin = np.clip(0.45 + 0.7 * layers[sector, 20, min(rank, 11)], 0.0, 1.0) * np.float32(thorax.fat_mm > 0)
    canvas.paint("fat", ramp(inside - np.float32(thorax.skin_mm), 0.25) * under_skin)
    thick = np.float32(thorax.fat_mm) * (1.0 + 0.6 * layers[sector, 40, min(rank, 11)])
    canvas.paint("muscle", ramp(inside - np.float32(thorax.skin_mm) - np.clip(thick, 0.0, 2.0), 0.25))
    muscle = canvas.part("muscle").copy()
    canvas.paint("fat", muscle * np.clip(1.4 * (layer - 1.15), 0.0, 0.75) * np.float32(min(1.0, 0.35 + thorax.fat_mm)))
    lobes = np.clip(0.9 * (0.7 * content - slow - 1.0), 0.0, 0.9) * np.float32(thorax.fat_lobes)
    canvas.paint("fat", muscle * lobes * np.float32(0.8))
    ribs = np.clip(3.0 * (strand * 0.6 + layer * 0.6 - 1.25), 0.0, 0.8) * (inside < outline.wall) * (1.0 - outline.limb)
    canvas.paint("bone", muscle * ribs)
    canvas.paint("marrow", muscle * np.clip(ribs - 0.55, 0.0, 1.0) * 2.0)
    for cx, cy, radius in outline.limb_bones:
        away = np.hypot(x - cx, (y - cy) * 1.25) - np.float32(radius) + 0.18 * slow
        canvas.paint("bone", ramp(-away, 0.3) * np.float32(thorax.bone))
        canvas.paint("marrow", ramp(-away - np.float32(0.3), 0.3) * np.float32(thorax.bone))
    # Spine: a ring of bone about the cord.
    cx, cy = outline.spine
    away = np.hypot((x - cx) * 0.85, y - cy)
    away = away + 0.35 * content
    canvas.paint("bone", ramp(1.7 - away, 0.5) * muscle * np.float32(thorax.bone))
    canvas.paint("muscle", ramp(0.8 - away, 0.3))

    # Cavity: lung, then what displaces it.
    cavity = ramp(outline.inside_body - outline.wall + 0.3 * slow, 0.25)
    canvas.paint("lung", cavity)
    hx, hy = heart_centre(plan, depth)
    from_heart = np.hypot(x - hx, y - hy)
    mediastinum = np.hypot((x - hx) / 2.6, (y - hy + 3.8) / 2.2) - 1.0 + 0.35 * content
    canvas.paint("fat", ramp(-mediastinum, 0.8) * cavity * np.float32(np.clip(0.35 - 0.2 * depth, 0.0, 0.45)))
    septum = np.deg2rad(plan.heart.septum_deg)
    around = np.rint((np.arctan2(y - hy, x - hx) - septum) * (ANGLES / (2 * np.pi))).astype(np.intp) % ANGLES
    outside_heart = from_heart - outline_at(plan, ventricle, depth)[around]
    liver = liver_distance(plan, x, y, depth, outside_heart)
    liver_share = ramp(liver + 0.45 * slow, 0.35) * cavity
    canvas.paint("liver", liver_share)
    fissure = np.abs(slow * 0.5 + content * 0.04 + x * 0.35 - y * 0.15 + depth * 0.12 + thorax.texture * 20 - 1.5)
    canvas.paint(
        "fat", liver_share * np.clip(1.0 - fissure / 0.07, 0.0, 1.0) * np.float32(thorax.fissure) * (content > -0.4)
    )
    paint_gut(plan, canvas, x, y, depth, content, cavity)
    # Below the apex the sternum's muscle and fat close in.
    closing = ramp(np.float32(depth - apex + 0.7) - 0.55 * from_heart + 1.2 * (y - hy) / 3.0 + 0.4 * layer, 0.8)
    closing *= np.float32(np.clip(depth - apex + 1.2, 0.0, 1.0)) * (y > hy - 2.0)
    canvas.paint("muscle", closing * cavity * np.float32(0.8))
    canvas.paint("fat", closing * cavity * np.clip(0.5 * (layer + 0.4), 0.0, 0.6))

    canvas.paint("vein", vessels["liver"] * canvas.part("liver"))
    canvas.paint("vein", vessels["lung"] * np.clip(canvas.part("lung") + canvas.part("fat"), 0, 1))
    body = ramp(inside - 0.2, 0.2)
    canvas.paint("vein", vessels["vein"] * body)
    canvas.paint("artery", vessels["artery"] * body)

    grain = 0.6 * content
    texture = (
        1.0
        + np.float32(thorax.patchiness) * slow
        + np.float32(thorax.texture)
        * (grain + 1.6 * strand * canvas.part("muscle") + 0.8 * layer * (1.0 - canvas.part("liver")))
    )
    room = ramp(outline.inside_body - np.float32(thorax.skin_mm + 0.45 * thorax.wall_mm), 0.4)
    return canvas.parts, np.clip(texture, 0.3, 2.0).astype(np.float32), room
