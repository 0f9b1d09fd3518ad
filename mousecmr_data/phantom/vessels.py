"""Vessels: random trees and trunks in three dimensions, by organ."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from mousecmr_data.phantom.plan import Plan
from mousecmr_data.phantom.tubes import Segment, SegmentArray

Doubles = NDArray[np.float64]


def tree(
    rng: np.random.Generator,
    root: Doubles,
    heading: Doubles,
    radius: float,
    length: float,
    generations: int,
    flatten: float,
) -> list[Segment]:
    """A branching vessel. ``flatten`` below 1 keeps the branches closer to the slice plane."""
    segments: list[Segment] = []
    tone = float(rng.uniform(0.5, 1.0))
    tips = [(root, heading / np.linalg.norm(heading), radius, length)]
    for _ in range(generations):
        grown = []
        for at, direction, r, step in tips:
            bend = direction
            position = at
            for half in (0, 1):
                bend = bend + rng.normal(0.0, 0.22, 3) * (1.0, 1.0, flatten)
                bend = bend / np.linalg.norm(bend)
                end = position + bend * step * 0.5
                segments.append(Segment(position, end, (r * (1 - 0.1 * half), r * (0.9 - 0.1 * half)), tone))
                position = end
            for _child in range(2 if rng.random() < 0.85 else 1):
                way = bend + rng.normal(0.0, 0.62, 3) * (1.0, 1.0, flatten)
                grown.append(
                    (position, way / np.linalg.norm(way), r * rng.uniform(0.68, 0.9), step * rng.uniform(0.7, 1.0))
                )
        tips = grown
    return segments


def liver_vessels(plan: Plan) -> list[Segment]:
    """Hepatic and portal veins: a confluence behind the heart and trees spreading from it."""
    rng = np.random.default_rng([plan.seed, 21])
    thorax = plan.thorax
    segments: list[Segment] = []
    for k in range(thorax.liver_vessels):
        root = np.array(
            [
                thorax.dome_mm[0] * 0.6 + rng.normal(0.0, 2.8),
                thorax.dome_mm[1] + rng.normal(1.0, 2.4),
                thorax.dome_top_mm + rng.uniform(2.0, 9.5),
            ]
        )
        heading = np.append(rng.normal(0.0, 1.0, 2), rng.normal(0.0, 0.35))
        radius = rng.uniform(0.24, 0.55) if k < 2 else rng.uniform(0.15, 0.30)
        segments += tree(rng, root, heading, radius, rng.uniform(1.4, 2.8), 4, 0.45)
    return segments


def lung_vessels(plan: Plan) -> list[Segment]:
    """Pulmonary vessels: from the hilum outwards, mostly across the slices, so they show as dots."""
    rng = np.random.default_rng([plan.seed, 22])
    segments: list[Segment] = []
    for _ in range(plan.thorax.lung_vessels):
        side = rng.choice([-1.0, 1.0])
        root = np.array([side * rng.uniform(1.5, 8.0), rng.uniform(-8.5, 1.0), rng.uniform(-3.0, 1.5)])
        heading = np.array([side * rng.uniform(-0.2, 0.7), rng.normal(-0.1, 0.5), rng.uniform(0.4, 1.6)])
        segments += tree(rng, root, heading, rng.uniform(0.16, 0.34), rng.uniform(1.8, 3.4), 4, 1.0)
    return segments


def trunks(plan: Plan) -> tuple[list[Segment], list[Segment]]:
    """Arteries and veins: descending aorta, caval veins, pulmonary and arch vessels at the base."""
    rng = np.random.default_rng([plan.seed, 23])
    size = plan.thorax.great_vessel_mm
    deep = plan.n_slices * plan.voxel_size_mm[0]

    def line(points: list[list[float]], radius: float) -> list[Segment]:
        """A smooth trunk through the points, with uneven calibre and its own brightness."""
        control = np.array(points) + rng.normal(0.0, 0.25, (len(points), 3)) * (1.0, 1.0, 0.4)
        fine = CubicSpline(np.arange(len(points)), control)(np.linspace(0, len(points) - 1, 5 * len(points)))
        scale = radius * np.exp(np.convolve(rng.normal(0.0, 0.30, len(fine) + 4), np.ones(5) / 5, "valid"))
        tone = rng.uniform(0.55, 1.0)
        return [
            Segment(a, b, (float(ra), float(rb)), tone)
            for a, b, ra, rb in zip(fine[:-1], fine[1:], scale[:-1], scale[1:], strict=True)
        ]

    back = -rng.uniform(7.0, 11.0)
    aside = rng.normal(-1.0, 2.2)
    arteries = line(
        [
            [aside * 0.3, -3.2, -3.0],
            [aside, back * 0.6, 0.5],
            [aside + rng.normal(0, 1), back, 5.0],
            [aside + rng.normal(0.5, 1), back * 1.05, deep + 1],
        ],
        size * 0.85,
    )
    side = rng.uniform(1.0, 3.5)
    veins = line(
        [
            [side * 0.6, -2.6, -2.5],
            [side, -4.6, 0.2],
            [side + 1.0, -6.5, 2.6],
            [side + 0.6, -8.0, 5.5],
            [side + rng.normal(0, 1.0), -8.6, deep + 1],
        ],
        size,
    )
    # Caval, azygos and pulmonary veins run almost in the planes above the base.
    for sign in (-1.0, 1.0):
        if rng.random() < 0.8:
            x, tip = sign * rng.uniform(0.6, 3.4), -rng.uniform(7.5, 12.5)
            depth = rng.uniform(-2.2, -0.4)
            veins += line(
                [
                    [x * 0.8, -2.2, depth],
                    [x + rng.normal(0, 0.6), tip * 0.55, depth + rng.uniform(-0.2, 0.8)],
                    [x + rng.normal(0.8, 0.9), tip, depth + rng.uniform(0.5, 2.2)],
                ],
                size * rng.uniform(0.5, 1.0),
            )
    for _ in range(int(rng.integers(2, 6))):
        x, y = rng.normal(0.0, 2.2), rng.uniform(-5.0, -2.6)
        veins += line([[x, y, -2.6], [x * 1.3, y - 0.6, rng.uniform(-0.5, 2.4)]], rng.uniform(0.2, 0.5))
    # Internal thoracic and superficial vessels in the chest wall.
    for _ in range(int(rng.integers(2, 7))):
        x = rng.normal(0.0, 4.0)
        y = 4.4 + rng.uniform(-0.2, 1.0) - 0.05 * x * x
        veins += line([[x, y, -3.0], [x + rng.normal(0, 0.5), y, deep + 1.0]], rng.uniform(0.12, 0.26))
    return arteries, veins


def vessel_sets(plan: Plan) -> dict[str, SegmentArray]:
    """All vessels of a mouse by kind."""
    arteries, veins = trunks(plan)
    return {
        "liver": SegmentArray(liver_vessels(plan)),
        "lung": SegmentArray(lung_vessels(plan)),
        "artery": SegmentArray(arteries),
        "vein": SegmentArray(veins),
    }
