"""Small mice with exact volumes, for the tests of the evaluation."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import layout_files
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import mousecmr_data as md
from mousecmr_data.dataset.manifest_builder import DatasetInfo, create_manifest
from mousecmr_data.dataset.model import build_dataset, resolve_sizes

VOXEL = (1.0, 0.1, 0.1)
VOXEL_UL = 0.01


def stack(pool_ul: float, mass_mg: float, shape: tuple[int, int, int] = (5, 64, 64)) -> NDArray[np.uint8]:
    """Return labels (slice, y, x) with exact volumes of blood pool and myocardium, one after the other in memory."""
    pool, muscle = round(pool_ul / VOXEL_UL), round(mass_mg / 1.05 / VOXEL_UL)
    flat = np.zeros(int(np.prod(shape)), np.uint8)
    assert pool + muscle <= flat.size
    flat[:pool], flat[pool : pool + muscle] = 2, 1
    return flat.reshape(shape)


def mouse(
    name: str,
    masks: NDArray[np.uint8],
    labelled: Sequence[int] | None = None,
    voxel: Sequence[float] = VOXEL,
    **attrs: Any,
) -> xr.Dataset:
    """Return a mouse with ``masks`` (frame, slice, y, x); every frame is labelled, or those in ``labelled``."""
    frames = list(range(len(masks))) if labelled is None else list(labelled)
    image = (masks.astype(np.uint16) + 1) * 1000
    about = {"mouse": name, "source": "test", "version": "1", "synthetic": False, "phenotype": "control", **attrs}
    return build_dataset(image, masks, frames, resolve_sizes({}, voxel, 5.0), about)


def ring(centre: tuple[float, float], inner: float, outer: float, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the labels (slice, y, x) of a round heart that gets narrower along the slices, off the plane's centre."""
    n, n_y, n_x = shape
    z, y, x = np.mgrid[:n, :n_y, :n_x]
    scale = 1 - 0.6 * z / n
    r = np.hypot(y - centre[0], x - centre[1])
    return np.where(r < inner * scale, 2, np.where(r < outer * scale, 1, 0)).astype(np.uint8)


def beating(name: str, frames: int = 6, seed: int = 0, **attrs: Any) -> xr.Dataset:
    """Return a mouse that contracts until the middle frame; ED and ES are labelled."""
    rng = np.random.default_rng(seed)
    centre = (18 + rng.uniform(-1, 1), 24 + rng.uniform(-1, 1))
    size = rng.uniform(6.5, 8.0)
    masks = np.stack(
        [ring(centre, size - 2.5 * np.sin(np.pi * f / frames) ** 2, size + 4, (4, 40, 44)) for f in range(frames)]
    )
    return mouse(name, masks, [0, frames // 2], **attrs)


def cohort(n: int = 6, **attrs: Any) -> dict[str, xr.Dataset]:
    """Return ``n`` mice of :func:`beating`, by name."""
    return {f"M{k}": beating(f"M{k}", seed=k, **attrs) for k in range(n)}


def shifted(mice: Mapping[str, xr.Dataset], by: int = 1) -> dict[str, NDArray[np.uint8]]:
    """Return the masks of ``mice``, whole cines, moved by ``by`` pixels along x."""
    return {name: np.roll(ds["mask"].values, by, axis=3) for name, ds in mice.items()}


def make_dataset(folder: Path, mice: Mapping[str, xr.Dataset]) -> md.Cohort:
    """Write ``mice`` as files with a manifest whose test split has all of them, and load it."""
    for name, ds in mice.items():
        images, masks = (ds[v].values.transpose(2, 3, 1, 0) for v in ("image", "mask"))
        labelled = np.flatnonzero(ds["labelled"].values).tolist()
        sizes = {"voxel_size_mm": list(VOXEL), "frame_time_ms": 5.0}
        layout_files.write(folder / "files" / f"{name}.h5", labelled, images, masks, sizes)
    create_manifest(folder / "files", folder / "lab", DatasetInfo("lab"), splits={"test": list(mice)})
    return md.load("test", source=folder / "lab", cache=folder / "cache", layout_cache=False)


def load_benchmark(name: str) -> Any:
    """Import a script of ``benchmarks/``."""
    path = Path(__file__).parents[1] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    with patch.object(sys, "path", [*sys.path, str(path.parent)]):
        spec.loader.exec_module(module)
    return module
