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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.baseline import region
from mousecmr_data.baseline.classes import most_probable
from mousecmr_data.baseline.engines import Engine
from mousecmr_data.baseline.grid import Grid, training_grid
from mousecmr_data.baseline.randomisation import normalised
from mousecmr_data.baseline.region import Box
from mousecmr_data.baseline.region_network import Context, Pointed, WholeField, Window
from mousecmr_data.metrics.overlap import dice_by_class
from mousecmr_data.metrics.postprocessing import postprocess
from mousecmr_data.models.unet3plus import LEVELS, UNet3Plus
from mousecmr_data.schema.labels import Label

AGREEMENT = 0.97
"""Least Dice of each class, window with the first frame's context against the whole field, at the second key frame."""
LEAST_FRAMES = 6
"""Below this, key frames and checks cost more than the window saves."""
SHARES = 4
"""Contexts are mixed in steps of 1 / SHARES."""

EMPTY = 0.02
"""A slice whose pixels all have less than this probability of ventricle, in both key frames, has none in any frame."""
BACKGROUND = 20.0
"""Logit of background, against 0 for the others, in slices that are not computed."""
SIZES = 8
"""Compiled modules that are kept at a time."""

Part = Callable[..., Any]
Rule = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Outcome:
    """What was decided for a mouse."""

    window: Box | None = None
    """None: the whole field, for a ``reason``."""
    reason: str = ""
    agreement: tuple[float, ...] = ()
    """Dice of myocardium and blood pool at the last check."""
    whole_frames: int = 0
    """Frames computed over the whole field, the key frames among them."""

    def attrs(self) -> dict[str, Any]:
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
class Key:
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

    def cut(self, around: Box) -> Key:
        """With the points of ``around`` only."""
        return replace(self, points=tuple(around.cut(p, self.around).clone() for p in self.points), around=around)


class Region:
    """Computes cines by the region of interest; made of a network and the engine whose arithmetic it uses.

    OpenVINO computes windows in its engine's own precision, the other engines in PyTorch, float32.
    """

    def __init__(self, network: UNet3Plus, engine: Engine) -> None:
        engine = getattr(engine, "chosen", engine)  # of "auto"

        @lru_cache(maxsize=SIZES)
        def of_size(kind: type[Pointed], shape_yx: tuple[int, int]) -> Part:
            if engine.name.startswith("openvino"):
                from mousecmr_data.baseline import region_openvino

                return region_openvino.Part(engine, kind, shape_yx)  # type: ignore[arg-type]
            made = kind(network, shape_yx).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return torch.inference_mode()(made)  # type: ignore[no-any-return]

        self._part = of_size
        device = getattr(engine, "device", None)
        self.elsewhere = device is not None and torch.device(device).type != "cpu"
        self.step = 2 ** (LEVELS - 1) * network.reduce

    def labels(
        self,
        images: NDArray[np.generic],
        spacing_yx: tuple[float, float],
        rule: Rule,
        progress: Callable[[int], None] | None = None,
    ) -> tuple[NDArray[np.uint8] | None, Outcome]:
        """Labels uint8 of a cine (frame, slice, y, x) at its own pixels of ``spacing_yx`` mm, not post-processed.

        None where the whole field should be computed, for the reason in the outcome. ``progress`` is called with
        the number of 2D slices done.
        """
        native = (int(images.shape[2]), int(images.shape[3]))
        if len(images) < LEAST_FRAMES:
            return None, Outcome(reason=f"too few frames: {len(images)}")
        grid = training_grid(native, spacing_yx)
        with torch.inference_mode():
            x = torch.stack([_on(grid, stack, spacing_yx) for stack in images])
            outcome, keys = self.decide(x, rule)
            if outcome.window is None:
                return None, outcome
            out, whole = np.zeros(images.shape, np.uint8), 0
            for frame, logits, window in self.frames(x, outcome.window, keys):
                maps = logits.softmax(1)
                whole += window is None
                if window:
                    maps, inside = torch.zeros((len(logits), logits.shape[1], *grid.shape_yx)), maps
                    maps[:, Label.BACKGROUND] = 1.0
                    maps[..., *window.where] = inside
                out[frame] = most_probable(grid.to_native(maps, native, spacing_yx)).numpy()
                if progress:
                    progress(len(out[frame]))
        return out, replace(outcome, whole_frames=whole)

    def decide(self, x: Tensor, rule: Rule) -> tuple[Outcome, list[Key]]:
        """The window for images ``x`` (frame, slice, Y, X), normalised, on the training grid; and the key frames.

        ``rule`` is the post-processing of a stack, which what is compared goes through.
        """
        if self.elsewhere:
            return Outcome(reason="windows are for processors; this engine computes elsewhere"), []
        first = self._key(x, 0)
        found = region.heart(_largest(first.labels))
        if isinstance(found, str):
            return Outcome(reason=f"{found} (frame 0)"), [first]
        size = _size(x)
        tried = region.windows(found, size, self.step)
        if not tried:
            return Outcome(reason="the heart fills the field"), [first]
        far = 1 + int(_unlikeness(x, tried[0], 0)[1:].argmax())  # another frame, even where all are alike
        first = first.cut(tried[-1])
        second = self._key(x, far).cut(tried[-1])
        found = region.heart(_largest(second.labels))
        if isinstance(found, str):
            return Outcome(reason=f"{found} (frame {far})"), [first, second]
        agreement: tuple[float, ...] = ()
        for window in tried:
            labels = np.zeros_like(second.labels)
            maps = self._context(x, first, window, np.arange(x.shape[1]))
            labels[:, *window.where] = _labels(self._window(x[far], window, maps))
            agreement = tuple(dice_by_class(rule(labels), rule(second.labels)).values())
            if min(agreement) >= AGREEMENT:
                return Outcome(window, agreement=agreement), [replace(first, maps=maps), second]
        return Outcome(reason="no window agrees with the whole field", agreement=agreement), [first, second]

    def frames(self, x: Tensor, window: Box, keys: list[Key]) -> Iterator[tuple[int, Tensor, Box | None]]:
        """Each frame's number, logits (slice, classes, y, x), and the window they are of (None: the whole field)."""
        size = _size(x)
        for key in keys:
            yield key.frame, key.logits, None
        live = np.flatnonzero(np.any([_seen(key.logits) for key in keys], axis=0))
        first, second = [m[live] for m in keys[0].maps], self._context(x, keys[1], window, live)
        near, far = (_unlikeness(x, window, key.frame) for key in keys)
        shares = np.rint(SHARES * near / np.maximum(near + far, 1e-12)).astype(int)
        for share in range(SHARES + 1):
            chosen = [k for k in np.flatnonzero(shares == share) if k not in {key.frame for key in keys}]
            if not chosen:
                continue
            maps = [torch.lerp(a, b, share / SHARES) for a, b in zip(first, second, strict=True)]
            for k in chosen:
                logits = keys[0].logits.new_zeros((x.shape[1], *maps[-1].shape[1:]))
                logits[:, Label.BACKGROUND] = BACKGROUND
                logits[live] = self._window(x[k][live], window, maps)
                if region.reaches_rim(_largest(_labels(logits)), window, size):
                    yield int(k), self._whole(x[k])[-1], None
                else:
                    yield int(k), logits, window

    def _key(self, x: Tensor, frame: int) -> Key:
        points = self._whole(x[frame])
        return Key(frame, points[-1], points, Box(0, 0, *_size(x)), _labels(points[-1]))

    def _whole(self, stack: Tensor) -> tuple[Tensor, ...]:
        images = stack[:, None].contiguous()
        return tuple(self._part(WholeField, _size(images))(images))

    def _context(self, x: Tensor, key: Key, window: Box, slices: NDArray[np.intp]) -> tuple[Tensor, ...]:
        points = [window.cut(point, key.around)[slices].contiguous() for point in key.points]
        images = x[key.frame][slices][:, None, *window.where].contiguous()
        return tuple(self._part(Context, _size(images))(images, *points))

    def _window(self, stack: Tensor, window: Box, maps: Sequence[Tensor]) -> Tensor:
        images = stack[:, None, *window.where].contiguous()
        logits: Tensor = self._part(Window, _size(images))(images, *maps)
        return logits


def _on(grid: Grid, stack: NDArray[np.generic], spacing_yx: tuple[float, float]) -> Tensor:
    """A stack (slice, y, x) on the training grid, normalised: (slice, Y, X)."""
    images = torch.from_numpy(stack.astype(np.float32))[:, None]
    return normalised(grid.from_native(images, spacing_yx))[:, 0]


def _size(images: Tensor) -> tuple[int, int]:
    return int(images.shape[-2]), int(images.shape[-1])


def _unlikeness(x: Tensor, window: Box, frame: int) -> NDArray[np.float64]:
    """Mean squared difference in the window of every frame from ``frame``."""
    inside = x[..., *window.where]
    return np.array([float((stack - inside[frame]).square().mean()) for stack in inside])


def _seen(logits: Tensor) -> NDArray[np.bool_]:
    """Of each slice, whether ventricle is to be reckoned with."""
    ventricle = 1.0 - logits.softmax(1)[:, Label.BACKGROUND]
    return np.asarray((ventricle.amax((-2, -1)) >= EMPTY).numpy())


_largest = partial(postprocess, rule="paper")


def _labels(logits: Tensor) -> NDArray[np.uint8]:
    return most_probable(logits).numpy()
