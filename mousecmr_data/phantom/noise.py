"""Smooth random fields, evaluated on any grid by B-spline weights: a few small matrix products."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@lru_cache(maxsize=256)
def _weights(n: int, cells: float, periodic: bool) -> Floats:
    """Cubic B-spline weights, shape (n, control points): ``cells`` cells over ``n`` samples."""
    position = np.arange(n) * (cells / (n if periodic else max(n - 1, 1)))
    first = np.floor(position).astype(int)
    t = position - first
    basis = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6.0
    points = int(np.ceil(cells)) if periodic else int(np.floor(cells)) + 4
    weights = np.zeros((n, points), np.float32)
    for k in range(4):
        column = (first + k) % points if periodic else first + k
        np.add.at(weights, (np.arange(n), column), basis[:, k])
    return weights


def smooth(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    cells: tuple[float, ...],
    periodic: tuple[bool, ...] | None = None,
) -> Floats:
    """A smooth random field with mean about 0 and SD about 1.

    ``cells`` is the number of independent cells along each axis (whole numbers on periodic axes);
    any number of axes. Returns float32 of ``shape``.
    """
    wraps = periodic or (False,) * len(shape)
    weights = [_weights(n, c, p) for n, c, p in zip(shape, cells, wraps, strict=True)]
    field: Floats = rng.standard_normal([w.shape[1] for w in weights], dtype=np.float32)
    # A cubic B-spline of white noise keeps a share 0.48 of the variance along each axis.
    field *= np.float32(0.48 ** (-0.5 * len(shape)))
    for axis, w in enumerate(weights[:-1]):
        after = field.shape[axis + 1 :]
        flat = field.reshape(int(np.prod(shape[:axis])), w.shape[1], -1)
        field = np.matmul(w, flat).reshape(*shape[: axis + 1], *after)
    return np.asarray(field @ weights[-1].T, np.float32)


def ramp(x: NDArray[np.floating[Any]], width: float | np.float32 | Floats) -> Floats:
    """0 below -width/2, 1 above +width/2, linear between: a soft edge at 0."""
    return np.asarray(np.clip(x / width + np.float32(0.5), 0.0, 1.0), np.float32)
