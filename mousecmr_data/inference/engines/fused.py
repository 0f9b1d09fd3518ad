"""UNet3+'s prediction with less arithmetic: the same numbers up to rounding, described once for every library.

BatchNorm is folded, heads that only training uses are removed, and convolutions of upsampled maps are computed at
the low resolution: 47 instead of 103 GFLOP for a slice at full width. :func:`compute_part` says how the maps are
connected; an :class:`Operations` computes them (:mod:`~mousecmr_data.inference.engines.pytorch`), or writes the nodes
of a graph for other libraries (:mod:`~mousecmr_data.inference.engines.graph`).

**Parts for the region of interest.** A *key frame* is a frame that is computed over the whole field. A *point* is one
of ten maps of the network before their activation: the ends of encoder levels 1–5 and of decoder levels 4–1, and the
logits. The *context* of a window is, at each point, the difference between the key frame's map in the whole field and
its map in the window alone.

The context is needed because the network's receptive field is much larger than a window, and the zeros that pad a plain
crop differ from the surroundings of a heart: on phantoms a crop of 13 mm moved single Dice values below 0.95. The
surroundings hardly change during a beat. Therefore the key frame's context is added at the same points of every other
frame. For the key frame itself the result is that of the whole field, up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.models.structure import EPSILON, LEVELS, UNet3PlusArrays, list_blocks, make_upsampling_matrix

TILE_PIXELS = 32
"""Fine pixels per tile: fewer mean less arithmetic and more copying. 32 and 64 hardly differ."""
DIRECT_BRANCHES = {(2, 1)}
"""Upsampled branches (from level, to level) that are convolved at the fine resolution nevertheless: there the
fixed matrices are the largest, and the convolution has the fewest channels (measured)."""
UPSAMPLED = {
    f"skip.{u}_{d}": (u, 2 ** (u - d))
    for d in range(1, LEVELS)
    for u in range(d + 1, LEVELS + 1)
    if (u, d) not in DIRECT_BRANCHES
}
"""Convolutions that are computed at the low resolution, with the level of their input and the factor."""
N_POINTS = 2 * LEVELS

Part = Literal["whole", "field", "context", "window"]
"""What is computed, of images (N, inputs, Y, X) of one size:

- whole: the logits (N, classes, Y, X).
- field: the points of a key frame; the last are the logits.
- context: of windows of a key frame, and its points cut to the window, the context maps, each of its point's shape.
- window: of windows of any frame, and the context maps, the logits.
"""


@dataclass(frozen=True)
class Kernel:
    """A convolution: ``weight`` (D, C, 3, 3) and ``bias`` (D,), float32."""

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    scale: NDArray[np.float32] | None = None
    """(9 taps, D): each number of the kernel is a whole multiple, -127 to 127, of its scale. None: not rounded."""


def fold_batchnorm(network: UNet3PlusArrays) -> dict[str, Kernel]:
    """Return the convolutions that the prediction needs, by name, with BatchNorm folded into them in float64.

    Names: those of :func:`~mousecmr_data.models.structure.list_blocks`, "head.0", "head.1". The four heads that only
    training uses are left out.
    """
    kernels = {}
    for name, _, _ in list_blocks(network.channels, network.n_inputs):

        def get(part: str, name: str = name) -> NDArray[np.float64]:
            return np.asarray(network.arrays[f"{name}.{part}"], np.float64)

        scale = get("bn.weight") / np.sqrt(get("bn.running_var") + EPSILON)
        bias = (get("conv.bias") - get("bn.running_mean")) * scale + get("bn.bias")
        weight = get("conv.weight") * scale[:, None, None, None]
        kernels[name] = Kernel(weight.astype(np.float32), bias.astype(np.float32))
    for number, part in enumerate(("first", "second")):
        weight, bias = (network.arrays[f"head.1.{part}.{kind}"] for kind in ("weight", "bias"))
        kernels[f"head.{number}"] = Kernel(weight.astype(np.float32), bias.astype(np.float32))
    return kernels


def make_tiles(size: int, factor: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Cut the fixed matrix of one axis into tiles: the coarse pixels that each needs, and its part of the matrix.

    Returns indices (tiles, near), matrices (tiles, fine pixels per tile, near · 3 taps).
    """
    tile = max(k for k in range(1, max(1, TILE_PIXELS // factor) + 1) if size % k == 0)
    whole = make_upsampling_matrix(size, factor).T.reshape(-1, 3, size)
    near = np.arange(-1, tile + 1) + tile * np.arange(size // tile)[:, None]
    inside = (near >= 0) & (near < size)
    near = near.clip(0, size - 1)
    parts = [
        (whole[k * tile * factor : (k + 1) * tile * factor, :, pixels] * valid)
        .swapaxes(1, 2)
        .reshape(tile * factor, -1)
        for k, (pixels, valid) in enumerate(zip(near, inside, strict=True))
    ]
    return near, np.stack(parts).astype(np.float32)


@dataclass(frozen=True)
class UpsampledSteps:
    """The fixed parts of a convolution of upsampled maps of ``size`` (h, w), computed at the low resolution.

    ``conv3x3(upsample(x))`` is the sum over the nine taps of ``shift(upsample(conv1x1_tap(x)))``: nine 1×1 products at
    the low resolution, then one fixed matrix for the columns and one for the rows
    (:mod:`mousecmr_data.models.unet3plus`). Here everything stays in channels-last order, so that each matrix is a
    product from the left without a transposition. The matrices, which are nearly empty, are cut into tiles: a tile of
    the fine grid needs its own part of the coarse one and one more pixel on either side.

    1. Convolve with :func:`stack_taps`: (N, 9 D, h, w). Put the channels last: (N, 3 h w, 3 D).
    2. Take ``columns_from`` of axis 1, as (3 N h, tiles, near, D); multiply from the left by ``columns``.
    3. As (N, 3 h, W D), take ``rows_from`` of axis 1, as (N, tiles, near, W D); multiply by ``rows``: (N, H, W, D).
    """

    size: tuple[int, int]
    columns_from: NDArray[np.int64]
    columns: NDArray[np.float32]
    rows_from: NDArray[np.int64]
    rows: NDArray[np.float32]

    @classmethod
    def make(cls, size: tuple[int, int], factor: int) -> UpsampledSteps:
        """Make the steps for maps of ``size`` that are upsampled by ``factor``."""
        h, w = size
        near, columns = make_tiles(w, factor)
        index = (np.arange(h)[:, None, None, None] * w + near) * 3 + np.arange(3)[:, None, None]
        near, rows = make_tiles(h, factor)  # index: of (y, x, tap y), in the order (y, tap y, tile, x)
        return cls(size, index.reshape(-1), columns, (near[:, :, None] * 3 + np.arange(3)).reshape(-1), rows)


def stack_taps(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a kernel (D, C, 3, 3) as one of 1 × 1 pixels with nine times the outputs: (9 D, C, 1, 1)."""
    return np.ascontiguousarray(weight.transpose(2, 3, 0, 1)).reshape(-1, weight.shape[1], 1, 1)


Map = TypeVar("Map")
"""Maps (N, C, Y, X), or what stands for them in a graph."""


class Operations(Protocol[Map]):
    """What the network computes with, for images of one size."""

    def prepare(self, x: Map) -> Map:
        """Return the input of the first convolution: images averaged as the network asks for."""
        ...

    def convolve(self, name: str, x: Map) -> Map:
        """Convolve with the kernel ``name``, with a zero border; those of :data:`UPSAMPLED` upsample ``x`` first."""
        ...

    def activate(self, x: Map) -> Map:
        """Set negative values to zero."""
        ...

    def code(self, x: Map, name: str) -> Map:
        """Round a map, made by the convolution ``name``, as the engine asks for."""
        ...

    def pool(self, x: Map) -> Map:
        """Take the maxima of 2 × 2 pixels."""
        ...

    def upsample(self, x: Map, factor: int) -> Map:
        """Upsample bilinearly, with half-pixel centres; ``factor`` 1 changes nothing."""
        ...

    def concatenate(self, maps: Sequence[Map]) -> Map:
        """Put the channels of maps one after the other."""
        ...

    def add(self, a: Map, b: Map) -> Map:
        """Add maps of the same shape."""
        ...

    def subtract(self, a: Map, b: Map) -> Map:
        """Subtract ``b`` from ``a``."""
        ...


def compute_part(ops: Operations[Map], part: Part, reduce: int, x: Map, inputs: Sequence[Map] = ()) -> list[Map]:
    """Compute a :data:`Part` of the network from images and, for windows, the ``inputs`` of its points."""
    given = iter(inputs)
    recorded: list[Map] = []

    def point(y: Map) -> Map:
        """Return the map that the network goes on with at this point."""
        if part == "context":
            reference = next(given)
            recorded.append(ops.subtract(reference, y))
            return reference
        if part == "window":
            return ops.add(y, next(given))
        if part == "field":
            recorded.append(y)
        return y

    logits = _connect(ops, reduce, x, point)
    return recorded or [logits]


def _connect(ops: Operations[Map], reduce: int, x: Map, point: Callable[[Map], Map]) -> Map:
    """Return the logits; the activation comes after the point, so that maps can be added before it."""

    def run_block(name: str, x: Map) -> Map:
        return ops.code(ops.activate(ops.convolve(name, x)), name)

    def end_level(name: str, x: Map) -> Map:
        return ops.code(ops.activate(point(ops.convolve(name, x))), name)

    encoded: dict[tuple[int, int], Map] = {}  # encoder u, pooled to level d
    x = ops.prepare(x)
    for level in range(1, LEVELS + 1):
        x = x if level == 1 else encoded[level - 1, level]
        encoded[level, level] = x = end_level(f"encoder.{level}.1", run_block(f"encoder.{level}.0", x))
        for d in range(level + 1, LEVELS + 1):
            encoded[level, d] = ops.pool(encoded[level, d - 1])  # pools of pools: the same maxima
    decoded = {LEVELS: x}
    for d in range(LEVELS - 1, 0, -1):
        branches = []
        for u in range(1, LEVELS + 1):
            name = f"skip.{u}_{d}"
            source = encoded[u, d] if u <= d else decoded[u] if u == d + 1 else encoded[u, u]
            if (u, d) in DIRECT_BRANCHES:
                source = ops.code(ops.upsample(source, 2 ** (u - d)), "")
            branches.append(run_block(name, source))
        decoded[d] = end_level(f"decoder.{d}", ops.concatenate(branches))
    return point(ops.convolve("head.1", ops.upsample(ops.convolve("head.0", decoded[1]), reduce)))


def list_input_shapes(network: UNet3PlusArrays, part: Part, shape_yx: tuple[int, int]) -> list[tuple[int, ...]]:
    """Return the shapes of a part's inputs, without N: the image, then one map per point."""
    image = (network.n_inputs, *shape_yx)
    if part in ("whole", "field"):
        return [image]
    sizes = list_sizes(network, shape_yx)
    levels = [*range(1, LEVELS + 1), *range(LEVELS - 1, 0, -1)]
    return [image, *((network.channels[k - 1], *sizes[k]) for k in levels), (network.classes, *shape_yx)]


def list_sizes(network: UNet3PlusArrays, shape_yx: tuple[int, int]) -> Mapping[int, tuple[int, int]]:
    """Return the size (y, x) of the maps of each level, 1 to 5, for images of ``shape_yx``."""
    y, x = (n // network.reduce for n in shape_yx)
    return {k: (y >> (k - 1), x >> (k - 1)) for k in range(1, LEVELS + 1)}
