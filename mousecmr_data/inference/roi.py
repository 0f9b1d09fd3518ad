"""A mouse's cine by the region of interest: two key frames whole, the others in a window around the heart.

1. The first frame is computed whole; the heart's box in it gives the windows that are tried.
2. The frame that differs most from it in the window (end-systole, as a rule) is computed whole as well.
3. With the context of the first frame alone, the window must give what the whole field gave for the second:
   the worst case, since other frames lie between the two. If it does not, the next larger window is tried.
4. The others are computed in the window, with the context of the two key frames mixed by likeness; slices
   in which neither key frame has a trace of ventricle are background.

No window that agrees, no heart, a heart at the border of the field, or few frames: the whole field, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.inference.engines import Engine
from mousecmr_data.inference.engines.roi_network import ContextNetwork, FieldNetwork, RoiNetwork, WindowNetwork
from mousecmr_data.inference.grid import PixelGrid, argmax_labels, make_training_grid
from mousecmr_data.inference.preprocessing import normalize_min_max
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.models.unet3plus import LEVELS, UNet3Plus
from mousecmr_data.schema.labels import Label

# MERGED inference.roi: Where the heart is: a window of the training grid, the same for every slice and frame of a mouse.


RegionMode = Literal["full", "auto"]
"""Every frame whole; or most in a window around the heart, where that is safe."""
DEFAULT_REGION: RegionMode = "auto"

MARGIN_PIXELS = 8
"""Pixels (0.1 mm) that the first window leaves around the heart of the key frame, at the least."""
MAX_FIELD_SHARE = 0.4
"""Share of the field from which a window no longer pays."""
MIN_SLICES = 3
MIN_VOXELS = 300
"""Of each class, in a key frame, to believe that the heart was found. A mouse's blood pool at end-systole,
27 ± 10 µL (article), is some 2,700 voxels."""
EDGE_PIXELS = 2
"""Pixels. Labels this close to the window's rim may go on beyond it."""


@dataclass(frozen=True)
class Box:
    """Pixels ``top`` to ``top + rows`` and ``left`` to ``left + columns`` of the training grid."""

    top: int
    left: int
    rows: int
    columns: int

    def cut(self, maps: Tensor, around: Box) -> Tensor:
        """The box of maps (…, Y, X) of a box ``around`` it, at whatever fraction of its resolution."""
        step = around.rows // maps.shape[-2]
        top, left = (self.top - around.top) // step, (self.left - around.left) // step
        return maps[..., top : top + self.rows // step, left : left + self.columns // step]

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index of the last two axes."""
        return slice(self.top, self.top + self.rows), slice(self.left, self.left + self.columns)

    @property
    def area(self) -> int:
        """In pixels."""
        return self.rows * self.columns


def find_heart(labels: NDArray[np.uint8]) -> Box | str:
    """The bounding box of a post-processed stack (slice, y, x), or the reason why it is not to be trusted."""
    for label in (Label.MYOCARDIUM, Label.BLOOD_POOL):
        counts = np.count_nonzero(labels == label, axis=(1, 2))
        if np.count_nonzero(counts) < MIN_SLICES or counts.sum() < MIN_VOXELS:
            return "no heart was found"
    seen = (labels != Label.BACKGROUND).any(0)
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    ends = rows[0], columns[0], seen.shape[0] - 1 - rows[-1], seen.shape[1] - 1 - columns[-1]
    if min(ends) < EDGE_PIXELS:
        return "the heart reaches the border of the field"
    return Box(int(rows[0]), int(columns[0]), int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1)


def list_windows(found: Box, field: tuple[int, int], step: int) -> list[Box]:
    """Square windows around ``found`` in a ``field`` (rows, columns), smallest first; all on multiples of ``step``.

    The first leaves :data:`MARGIN` on each side (where the field has it), the last is below :data:`LARGEST`.
    """
    made = []
    for side in range(step, min(field) + 1, step):
        corner = []
        for start, size, limit in ((found.top, found.rows, field[0]), (found.left, found.columns, field[1])):
            nearest = round((start + size / 2 - side / 2) / step) * step
            corner.append(min(max(nearest, 0), limit - side))
        box = Box(corner[0], corner[1], side, side)
        if side * side <= MAX_FIELD_SHARE * field[0] * field[1] and _contains(box, found, field):
            made.append(box)
    return made


def touches_edge(labels: NDArray[np.uint8], window: Box, field: tuple[int, int]) -> bool:
    """Whether labels (slice, y, x) of a ``window`` come to its rim where the field goes on."""
    seen = (labels != Label.BACKGROUND).any(0)
    sides = (
        (window.top > 0, seen[:EDGE_PIXELS]),
        (window.left > 0, seen[:, :EDGE_PIXELS]),
        (window.top + window.rows < field[0], seen[-EDGE_PIXELS:]),
        (window.left + window.columns < field[1], seen[:, -EDGE_PIXELS:]),
    )
    return any(inner and bool(rim.any()) for inner, rim in sides)


def _contains(window: Box, found: Box, field: tuple[int, int]) -> bool:
    return (
        window.top <= max(found.top - MARGIN_PIXELS, 0)
        and window.left <= max(found.left - MARGIN_PIXELS, 0)
        and window.top + window.rows >= min(found.top + found.rows + MARGIN_PIXELS, field[0])
        and window.left + window.columns >= min(found.left + found.columns + MARGIN_PIXELS, field[1])
    )


MIN_AGREEMENT = 0.97
"""Least Dice of each class, window with the first frame's context against the whole field, at the second key frame."""
MIN_FRAMES = 6
"""Below this, key frames and checks cost more than the window saves."""
MIX_STEPS = 4
"""Contexts are mixed in steps of 1 / SHARES."""

EMPTY_PROBABILITY = 0.02
"""A slice whose pixels all have less than this probability of ventricle, in both key frames, has none in any frame."""
BACKGROUND_LOGIT = 20.0
"""Logit of background, against 0 for the others, in slices that are not computed."""
CACHED_NETWORKS = 8
"""Compiled modules that are kept at a time."""

RoiModule = Callable[..., Any]
StackRule = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class RoiOutcome:
    """What was decided for a mouse."""

    window: Box | None = None
    """None: the whole field, for a ``reason``."""
    reason: str = ""
    agreement: tuple[float, ...] = ()
    """Dice of myocardium and blood pool at the last check."""
    whole_frames: int = 0
    """Frames computed over the whole field, the key frames among them."""

    def to_attrs(self) -> dict[str, Any]:
        """What a result says of it."""
        about: dict[str, Any] = {"region": "window" if self.window else "whole field"}
        if self.reason:
            about["region_reason"] = self.reason
        if self.window:
            w = self.window
            about["region_window"] = [w.top, w.left, w.rows, w.columns]
            about["region_whole_frames"] = self.whole_frames
        if self.agreement:
            about["region_agreement"] = list(self.agreement)
        return about


@dataclass(frozen=True)
class KeyFrame:
    """A frame that was computed whole."""

    frame: int
    logits: Tensor
    """(slice, classes, Y, X)."""
    points: tuple[Tensor, ...]
    """Of the part of the field ``around`` the windows that may be tried: they are large."""
    around: Box
    labels: NDArray[np.uint8]
    """(slice, Y, X) of the training grid, not post-processed."""
    maps: tuple[Tensor, ...] = ()
    """Its context in the window that was decided for."""

    def cut(self, around: Box) -> KeyFrame:
        """With the points of ``around`` only."""
        return replace(self, points=tuple(around.cut(p, self.around).clone() for p in self.points), around=around)


class RoiPredictor:
    """Computes cines by the region of interest; made of a network and the engine whose arithmetic it uses.

    OpenVINO computes windows in its engine's own precision, the other engines in PyTorch, float32.
    """

    def __init__(self, network: UNet3Plus, engine: Engine) -> None:
        engine = getattr(engine, "chosen", engine)  # of "auto"

        @lru_cache(maxsize=CACHED_NETWORKS)
        def of_size(kind: type[RoiNetwork], shape_yx: tuple[int, int]) -> RoiModule:
            if engine.name.startswith("openvino"):
                from mousecmr_data.inference.engines.openvino import CompiledRoiNetwork

                return CompiledRoiNetwork(engine, kind, shape_yx)  # type: ignore[arg-type]
            made = kind(network, shape_yx).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return torch.inference_mode()(made)  # type: ignore[no-any-return]

        self._part = of_size
        device = getattr(engine, "device", None)
        self.elsewhere = device is not None and torch.device(device).type != "cpu"
        self.step = 2 ** (LEVELS - 1) * network.reduce

    def predict_labels(
        self,
        images: NDArray[np.generic],
        spacing_yx: tuple[float, float],
        rule: StackRule,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[np.uint8] | None, RoiOutcome]:
        """Labels uint8 of a cine (frame, slice, y, x) at its own pixels of ``spacing_yx`` mm, not post-processed.

        None where the whole field should be computed, for the reason in the outcome. ``progress`` is called with
        the number of 2D slices done.
        """
        native = (int(images.shape[2]), int(images.shape[3]))
        if len(images) < MIN_FRAMES:
            return None, RoiOutcome(reason=f"too few frames: {len(images)}")
        grid = make_training_grid(native, spacing_yx)
        with torch.inference_mode():
            x = torch.stack([_resample_stack(grid, stack, spacing_yx) for stack in images])
            outcome, keys = self.decide(x, rule)
            if outcome.window is None:
                return None, outcome
            out, whole = np.zeros(images.shape, np.uint8), 0
            for frame, logits, window in self.predict_frames(x, outcome.window, keys):
                maps = logits.softmax(1)
                whole += window is None
                if window:
                    maps, inside = torch.zeros((len(logits), logits.shape[1], *grid.shape_yx)), maps
                    maps[:, Label.BACKGROUND] = 1.0
                    maps[..., *window.where] = inside
                out[frame] = argmax_labels(grid.to_native(maps, native, spacing_yx)).numpy()
                if progress:
                    progress(len(out[frame]))
        return out, replace(outcome, whole_frames=whole)

    def decide(self, x: Tensor, rule: StackRule) -> tuple[RoiOutcome, list[KeyFrame]]:
        """The window for images ``x`` (frame, slice, Y, X), normalised, on the training grid; and the key frames.

        ``rule`` is the post-processing of a stack, which what is compared goes through.
        """
        if self.elsewhere:
            return RoiOutcome(reason="windows are for processors; this engine computes elsewhere"), []
        first = self._compute_key_frame(x, 0)
        found = find_heart(_keep_largest(first.labels))
        if isinstance(found, str):
            return RoiOutcome(reason=f"{found} (frame 0)"), [first]
        size = _get_shape(x)
        tried = list_windows(found, size, self.step)
        if not tried:
            return RoiOutcome(reason="the heart fills the field"), [first]
        far = 1 + int(_compute_differences(x, tried[0], 0)[1:].argmax())  # another frame, even where all are alike
        first = first.cut(tried[-1])
        second = self._compute_key_frame(x, far).cut(tried[-1])
        found = find_heart(_keep_largest(second.labels))
        if isinstance(found, str):
            return RoiOutcome(reason=f"{found} (frame {far})"), [first, second]
        agreement: tuple[float, ...] = ()
        for window in tried:
            labels = np.zeros_like(second.labels)
            maps = self._compute_context(x, first, window, np.arange(x.shape[1]))
            labels[:, *window.where] = _to_labels(self._compute_window(x[far], window, maps))
            agreement = tuple(dice_by_class(rule(labels), rule(second.labels)).values())
            if min(agreement) >= MIN_AGREEMENT:
                return RoiOutcome(window, agreement=agreement), [replace(first, maps=maps), second]
        return RoiOutcome(reason="no window agrees with the whole field", agreement=agreement), [first, second]

    def predict_frames(self, x: Tensor, window: Box, keys: list[KeyFrame]) -> Iterator[tuple[int, Tensor, Box | None]]:
        """Each frame's number, logits (slice, classes, y, x), and the window they are of (None: the whole field)."""
        size = _get_shape(x)
        for key in keys:
            yield key.frame, key.logits, None
        live = np.flatnonzero(np.any([_find_ventricle_slices(key.logits) for key in keys], axis=0))
        first, second = [m[live] for m in keys[0].maps], self._compute_context(x, keys[1], window, live)
        near, far = (_compute_differences(x, window, key.frame) for key in keys)
        shares = np.rint(MIX_STEPS * near / np.maximum(near + far, 1e-12)).astype(int)
        for share in range(MIX_STEPS + 1):
            chosen = [k for k in np.flatnonzero(shares == share) if k not in {key.frame for key in keys}]
            if not chosen:
                continue
            maps = [torch.lerp(a, b, share / MIX_STEPS) for a, b in zip(first, second, strict=True)]
            for k in chosen:
                logits = keys[0].logits.new_zeros((x.shape[1], *maps[-1].shape[1:]))
                logits[:, Label.BACKGROUND] = BACKGROUND_LOGIT
                logits[live] = self._compute_window(x[k][live], window, maps)
                if touches_edge(_keep_largest(_to_labels(logits)), window, size):
                    yield int(k), self._compute_whole(x[k])[-1], None
                else:
                    yield int(k), logits, window

    def _compute_key_frame(self, x: Tensor, frame: int) -> KeyFrame:
        points = self._compute_whole(x[frame])
        return KeyFrame(frame, points[-1], points, Box(0, 0, *_get_shape(x)), _to_labels(points[-1]))

    def _compute_whole(self, stack: Tensor) -> tuple[Tensor, ...]:
        images = stack[:, None].contiguous()
        return tuple(self._part(FieldNetwork, _get_shape(images))(images))

    def _compute_context(self, x: Tensor, key: KeyFrame, window: Box, slices: NDArray[np.intp]) -> tuple[Tensor, ...]:
        points = [window.cut(point, key.around)[slices].contiguous() for point in key.points]
        images = x[key.frame][slices][:, None, *window.where].contiguous()
        return tuple(self._part(ContextNetwork, _get_shape(images))(images, *points))

    def _compute_window(self, stack: Tensor, window: Box, maps: Sequence[Tensor]) -> Tensor:
        images = stack[:, None, *window.where].contiguous()
        logits: Tensor = self._part(WindowNetwork, _get_shape(images))(images, *maps)
        return logits


def _resample_stack(grid: PixelGrid, stack: NDArray[np.generic], spacing_yx: tuple[float, float]) -> Tensor:
    """A stack (slice, y, x) on the training grid, normalised: (slice, Y, X)."""
    images = torch.from_numpy(stack.astype(np.float32))[:, None]
    return normalize_min_max(grid.from_native(images, spacing_yx))[:, 0]


def _get_shape(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])


def _compute_differences(x: Tensor, window: Box, frame: int) -> NDArray[np.float64]:
    """Mean squared difference in the window of every frame from ``frame``."""
    inside = x[..., *window.where]
    return np.array([float((stack - inside[frame]).square().mean()) for stack in inside])


def _find_ventricle_slices(logits: Tensor) -> NDArray[np.bool_]:
    """Of each slice, whether ventricle is to be reckoned with."""
    ventricle = 1.0 - logits.softmax(1)[:, Label.BACKGROUND]
    return np.asarray((ventricle.amax((-2, -1)) >= EMPTY_PROBABILITY).numpy())


_keep_largest = partial(postprocess, rule="paper")


def _to_labels(logits: Tensor) -> NDArray[np.uint8]:
    return argmax_labels(logits).numpy()
