"""Segment a cine by its region of interest: most frames are computed in a window around the heart.

1. The first frame is computed over the whole field; the heart's box in it gives the windows to try.
2. The frame that differs most from it in the window (usually end-systole) is computed over the whole field, too.
3. With the context of the first frame alone, the window must agree with the whole field for the second:
   the hardest case, since other frames lie between the two. If it does not, the next larger window is tried.
4. The others are computed in the window, with the contexts of the two key frames mixed by similarity; slices
   in which neither key frame may contain ventricle are background.

If no window agrees, no heart is found, the heart reaches the border of the field, or there are few frames, the whole
field is computed, and the reason is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mousecmr_data.inference.engines import Engine, Network
from mousecmr_data.inference.engines.base import get_arrays
from mousecmr_data.inference.engines.fused import Part
from mousecmr_data.inference.grid import (
    PixelGrid,
    argmax_labels,
    compute_softmax,
    estimate_dice,
    list_neighbours,
    make_training_grid,
    normalize,
)
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.schema.labels import Label

RegionMode = Literal["full", "auto"]
"""The whole field of every frame; or, of most frames, a window around the heart, if that is safe."""
DEFAULT_REGION: RegionMode = "auto"
Maps = NDArray[np.float32]
StackRule = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]

MARGIN_PIXELS = 8
"""Smallest margin in pixels (0.1 mm) that the first window leaves around the heart of the key frame."""
MAX_FIELD_SHARE = 0.4
"""Share of the field above which a window saves no time."""
MIN_SLICES = 3
MIN_VOXELS = 300
"""Of each class, in a key frame, below which the heart counts as not found. A mouse's blood pool at end-systole,
27 ± 10 µL (article), is some 2,700 voxels."""
EDGE_PIXELS = 2
"""Labels this close to the window's edge may continue beyond it."""
MIN_AGREEMENT = 0.97
"""Smallest Dice of each class between the window with the first frame's context and the whole field, at the second
key frame."""
MIN_FRAMES = 6
"""Below this, key frames and checks cost more than the window saves."""
MIX_STEPS = 4
"""Contexts are mixed in steps of 1 / MIX_STEPS."""
EMPTY_PROBABILITY = 0.02
"""A slice whose pixels all have less than this probability of ventricle, in both key frames, has none in any frame."""
BACKGROUND_LOGIT = 20.0
"""Logit of background, against 0 for the others, in slices that are not computed."""
CACHED_NETWORKS = 8
"""Largest number of compiled modules kept in memory."""


@dataclass(frozen=True)
class Box:
    """Pixels ``top`` to ``top + rows`` and ``left`` to ``left + columns`` of the training grid."""

    top: int
    left: int
    rows: int
    columns: int

    def cut(self, maps: Maps, outer: Box) -> Maps:
        """Cut this box out of maps (…, Y, X) of the box ``outer``, at any fraction of its resolution."""
        step = outer.rows // maps.shape[-2]
        top, left = (self.top - outer.top) // step, (self.left - outer.left) // step
        return maps[..., top : top + self.rows // step, left : left + self.columns // step]

    @property
    def index(self) -> tuple[slice, slice]:
        """The box as an index of the last two axes."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)


def find_heart(labels: NDArray[np.uint8]) -> Box | str:
    """Return the bounding box of a post-processed stack (slice, y, x), or the reason why it is not reliable."""
    for label in (Label.MYOCARDIUM, Label.BLOOD_POOL):
        counts = np.count_nonzero(labels == label, axis=(1, 2))
        if np.count_nonzero(counts) < MIN_SLICES or counts.sum() < MIN_VOXELS:
            return "no heart was found"
    heart = (labels != Label.BACKGROUND).any(0)
    rows, columns = np.flatnonzero(heart.any(1)), np.flatnonzero(heart.any(0))
    margins = rows[0], columns[0], heart.shape[0] - 1 - rows[-1], heart.shape[1] - 1 - columns[-1]
    if min(margins) < EDGE_PIXELS:
        return "the heart reaches the border of the field"
    return Box(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


def list_windows(heart: Box, field: tuple[int, int], step: int) -> list[Box]:
    """List square windows around ``heart`` in a ``field`` (rows, columns), smallest first, on multiples of ``step``.

    The first leaves :data:`MARGIN_PIXELS` on each side (if the field has them), the last is at most
    :data:`MAX_FIELD_SHARE` of the field.
    """
    windows = []
    for side in range(step, min(field) + 1, step):
        corner = []
        for start, size, limit in ((heart.top, heart.rows, field[0]), (heart.left, heart.columns, field[1])):
            nearest = round((start + size / 2 - side / 2) / step) * step
            corner.append(min(max(nearest, 0), limit - side))
        window = Box(corner[0], corner[1], side, side)
        if side * side <= MAX_FIELD_SHARE * field[0] * field[1] and _contains(window, heart, field):
            windows.append(window)
    return windows


def touches_edge(labels: NDArray[np.uint8], window: Box, field: tuple[int, int]) -> bool:
    """Return whether labels (slice, y, x) of a ``window`` reach an edge beyond which the field continues."""
    heart = (labels != Label.BACKGROUND).any(0)
    sides = (
        (window.top > 0, heart[:EDGE_PIXELS]),
        (window.left > 0, heart[:, :EDGE_PIXELS]),
        (window.top + window.rows < field[0], heart[-EDGE_PIXELS:]),
        (window.left + window.columns < field[1], heart[:, -EDGE_PIXELS:]),
    )
    return any(continues and bool(edge.any()) for continues, edge in sides)


def _contains(window: Box, heart: Box, field: tuple[int, int]) -> bool:
    """Return whether ``window`` holds ``heart`` with its margin, as far as the field has it."""
    return (
        window.top <= max(heart.top - MARGIN_PIXELS, 0)
        and window.left <= max(heart.left - MARGIN_PIXELS, 0)
        and window.top + window.rows >= min(heart.top + heart.rows + MARGIN_PIXELS, field[0])
        and window.left + window.columns >= min(heart.left + heart.columns + MARGIN_PIXELS, field[1])
    )


@dataclass(frozen=True)
class RoiOutcome:
    """The window for a mouse, or the reason for the whole field."""

    window: Box | None = None
    """None: the whole field, for a ``reason``."""
    reason: str = ""
    agreement: tuple[float, ...] = ()
    """Dice of myocardium and blood pool at the last check."""
    whole_frames: int = 0
    """Number of frames computed over the whole field, key frames included."""

    def to_attrs(self) -> dict[str, Any]:
        """Return the attributes of a result."""
        attrs: dict[str, Any] = {"region": "window" if self.window else "whole field"}
        if self.reason:
            attrs["region_reason"] = self.reason
        if self.window:
            attrs["region_window"] = list(astuple(self.window))
            attrs["region_whole_frames"] = self.whole_frames
        if self.agreement:
            attrs["region_agreement"] = list(self.agreement)
        return attrs


@dataclass(frozen=True)
class KeyFrame:
    """A frame that was computed whole."""

    frame: int
    logits: Maps
    """(slice, classes, Y, X)."""
    points: tuple[Maps, ...]
    """Only of the part ``box`` of the field, which holds all windows to try: they are large."""
    box: Box
    labels: NDArray[np.uint8]
    """(slice, Y, X) of the training grid, not post-processed."""
    maps: tuple[Maps, ...] = ()
    """Its context in the chosen window."""

    def cut(self, box: Box) -> KeyFrame:
        """Return the key frame with only the points in ``box``."""
        return replace(self, points=tuple(box.cut(p, self.box).copy() for p in self.points), box=box)


class RoiPredictor:
    """Segments cines by the region of interest, with a network and the engine whose arithmetic it uses.

    OpenVINO and ONNX Runtime compute windows in their engine's own precision, the other engines in PyTorch, float32.
    """

    def __init__(self, network: Network, engine: Engine) -> None:
        engine = getattr(engine, "chosen", engine)  # AutoEngine holds the engine that it chose
        arrays = get_arrays(network)
        self.is_known, self.on_cpu = arrays is not None, str(getattr(engine, "device", "cpu")) == "cpu"
        self.step, self.context, self.scaling = network.step, network.context, network.scaling

        @lru_cache(maxsize=CACHED_NETWORKS)
        def get_module(part: Part, shape_yx: tuple[int, int]) -> Callable[..., tuple[Maps, ...]]:
            from mousecmr_data.inference.engines.pytorch import make_part

            assert arrays is not None  # noqa: S101 (for the type checker: choose_window has refused others)
            return make_part(arrays, part, shape_yx)

        def compute_in_pytorch(part: Part, *inputs: Maps) -> tuple[Maps, ...]:
            return get_module(part, _get_shape(inputs[0]))(*inputs)

        self._compute: Callable[..., tuple[Maps, ...]] = getattr(engine, "compute", compute_in_pytorch)

    def predict_labels(
        self,
        images: NDArray[np.generic],
        spacing_yx: tuple[float, float],
        rule: StackRule,
        progress: Callable[[int], None] | None = None,
        expected: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.uint8] | None, RoiOutcome]:
        """Return labels uint8 of a cine (frame, slice, y, x) at its own pixels of ``spacing_yx`` mm, and the outcome.

        Labels are not post-processed; None if the whole field has to be computed, for the reason in the outcome.
        ``progress`` is called with the number of 2D slices done. The Dice that the network expects in each slice is
        written to ``expected`` (frame, slice).
        """
        native = (int(images.shape[2]), int(images.shape[3]))
        if len(images) < MIN_FRAMES:
            return None, RoiOutcome(reason=f"too few frames: {len(images)}")
        grid = make_training_grid(native, spacing_yx)
        x = np.stack([_resample_stack(grid, stack, spacing_yx, self.scaling) for stack in images])
        outcome, keys = self.choose_window(x, rule)
        if outcome.window is None:
            return None, outcome
        out, whole_frames = np.zeros(images.shape, np.uint8), 0
        for frame, logits, window in self.predict_frames(x, outcome.window, keys):
            maps = compute_softmax(logits)
            whole_frames += window is None
            if window:
                inside = maps
                maps = np.zeros((len(logits), logits.shape[1], *grid.shape_yx), np.float32)
                maps[:, Label.BACKGROUND] = 1.0
                maps[..., *window.index] = inside
            maps = grid.to_native(maps, native, spacing_yx)
            out[frame] = labels = argmax_labels(maps)
            if expected is not None:
                expected[frame] = estimate_dice(maps, labels)
            if progress:
                progress(len(labels))
        return out, replace(outcome, whole_frames=whole_frames)

    def choose_window(self, x: Maps, rule: StackRule) -> tuple[RoiOutcome, list[KeyFrame]]:
        """Choose the window for images ``x`` (frame, slice, Y, X), normalised, on the training grid.

        Returns the outcome and the key frames. ``rule`` is the post-processing that stacks go through before they are
        compared.
        """
        if not self.is_known:
            return RoiOutcome(reason="windows are for UNet3+; the weights have another network"), []
        if not self.on_cpu:
            return RoiOutcome(reason="windows are for the CPU; this engine computes on another device"), []
        first = self._compute_key_frame(x, 0)
        heart = find_heart(_postprocess_labels(first.labels))
        if isinstance(heart, str):
            return RoiOutcome(reason=f"{heart} (frame 0)"), [first]
        windows = list_windows(heart, _get_shape(x), self.step)
        if not windows:
            return RoiOutcome(reason="the heart fills the field"), [first]
        far = 1 + int(_compute_differences(x, windows[0], 0)[1:].argmax())  # another frame, even if all are equal
        first = first.cut(windows[-1])
        second = self._compute_key_frame(x, far).cut(windows[-1])
        heart = find_heart(_postprocess_labels(second.labels))
        if isinstance(heart, str):
            return RoiOutcome(reason=f"{heart} (frame {far})"), [first, second]
        agreement: tuple[float, ...] = ()
        for window in windows:
            labels = np.zeros_like(second.labels)
            maps = self._compute_context(x, first, window, np.arange(x.shape[1]))
            labels[:, *window.index] = _to_labels(self._compute_window(x[far], window, maps, np.arange(x.shape[1])))
            agreement = tuple(dice_by_class(rule(labels), rule(second.labels)).values())
            if min(agreement) >= MIN_AGREEMENT:
                return RoiOutcome(window, agreement=agreement), [replace(first, maps=maps), second]
        return RoiOutcome(reason="no window agrees with the whole field", agreement=agreement), [first, second]

    def predict_frames(self, x: Maps, window: Box, keys: list[KeyFrame]) -> Iterator[tuple[int, Maps, Box | None]]:
        """Yield each frame's number, logits (slice, classes, y, x), and their window (None: the whole field)."""
        for key in keys:
            yield key.frame, key.logits, None
        slices = np.flatnonzero(np.any([_find_ventricle_slices(key.logits) for key in keys], axis=0))
        first, second = [m[slices] for m in keys[0].maps], self._compute_context(x, keys[1], window, slices)
        near, far = (_compute_differences(x, window, key.frame) for key in keys)
        shares = np.rint(MIX_STEPS * near / np.maximum(near + far, 1e-12)).astype(int)
        for share in range(MIX_STEPS + 1):
            frames = [k for k in np.flatnonzero(shares == share) if k not in {key.frame for key in keys}]
            if not frames:
                continue
            maps = [a + np.float32(share / MIX_STEPS) * (b - a) for a, b in zip(first, second, strict=True)]
            for k in frames:
                logits = np.zeros((x.shape[1], *maps[-1].shape[1:]), np.float32)
                logits[:, Label.BACKGROUND] = BACKGROUND_LOGIT
                logits[slices] = self._compute_window(x[k], window, maps, slices)
                if touches_edge(_postprocess_labels(_to_labels(logits)), window, _get_shape(x)):
                    yield int(k), self._compute_whole(x[k])[-1], None
                else:
                    yield int(k), logits, window

    def _gather(self, stack: Maps, slices: NDArray[np.intp]) -> Maps:
        """Return what the network sees for ``slices`` of a stack (slice, y, x): (len(slices), inputs, y, x)."""
        return stack[list_neighbours(len(stack), self.context)[slices]]

    def _compute_key_frame(self, x: Maps, frame: int) -> KeyFrame:
        points = self._compute_whole(x[frame])
        return KeyFrame(frame, points[-1], points, Box(0, 0, *_get_shape(x)), _to_labels(points[-1]))

    def _compute_whole(self, stack: Maps) -> tuple[Maps, ...]:
        images = self._gather(stack, np.arange(len(stack)))
        return self._compute("field", images)

    def _compute_context(self, x: Maps, key: KeyFrame, window: Box, slices: NDArray[np.intp]) -> tuple[Maps, ...]:
        points = [window.cut(point, key.box)[slices] for point in key.points]
        images = self._gather(x[key.frame][:, *window.index], slices)
        return self._compute("context", images, *points)

    def _compute_window(self, stack: Maps, window: Box, maps: Sequence[Maps], slices: NDArray[np.intp]) -> Maps:
        images = self._gather(stack[:, *window.index], slices)
        return self._compute("window", images, *maps)[0]


def _resample_stack(grid: PixelGrid, stack: NDArray[np.generic], spacing_yx: tuple[float, float], scaling: str) -> Maps:
    """Resample a stack (slice, y, x) to the training grid and normalise it: (slice, Y, X)."""
    images = stack.astype(np.float32)[:, None]
    return normalize(grid.from_native(images, spacing_yx), scaling)[:, 0]


def _get_shape(images: Maps) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])


def _compute_differences(x: Maps, window: Box, frame: int) -> NDArray[np.float64]:
    """Return the mean squared difference in the window of every frame from ``frame``."""
    inside = x[..., *window.index]
    return np.array([float(np.square(stack - inside[frame]).mean()) for stack in inside])


def _find_ventricle_slices(logits: Maps) -> NDArray[np.bool_]:
    """Return, for each slice, whether it may hold ventricle."""
    ventricle = 1.0 - compute_softmax(logits)[:, Label.BACKGROUND]
    return np.asarray(ventricle.max((-2, -1)) >= EMPTY_PROBABILITY)


_postprocess_labels = partial(postprocess, rule="paper")


def _to_labels(logits: Maps) -> NDArray[np.uint8]:
    return np.asarray(argmax_labels(logits))
