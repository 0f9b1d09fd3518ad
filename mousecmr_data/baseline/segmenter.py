"""A network with its weights, applied to whole mice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray
from torch import Tensor

from mousecmr_data.baseline.classes import most_probable
from mousecmr_data.baseline.engines import Engine, make
from mousecmr_data.baseline.grid import training_grid
from mousecmr_data.baseline.randomisation import normalised
from mousecmr_data.baseline.region_pass import Region
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import ArgumentError, FileLayoutError
from mousecmr_data.metrics.postprocessing import PostprocessingRule, postprocess
from mousecmr_data.models.unet3plus import UNet3Plus
from mousecmr_data.schema.labels import MEANINGS
from mousecmr_data.schema.variables import DIMS, IMAGE, PREDICTED, UNPROCESSED

REGIONS = ("full", "auto")


@dataclass(frozen=True)
class Origin:
    """Where a segmenter's weights come from, in words that go with every result."""

    name: str
    trained_on: str
    limits: str
    synthetic_training: bool
    """Trained on synthetic mice only."""


class Segmenter:
    """Made by :func:`mousecmr_data.baseline.load`. Holds a network, what computes it, and where it comes from."""

    def __init__(
        self, network: UNet3Plus, origin: Origin, device: str = "auto", *, engine: str | Engine = "eager"
    ) -> None:
        self.network, self.origin = network, origin
        self.engine = make(engine, network, device) if isinstance(engine, str) else engine
        """Images (N, 1, Y, X) to logits (N, classes, Y, X); see :class:`mousecmr_data.baseline.engines.Engine`."""
        self._region: Region | None = None

    def segment(
        self,
        ds: xr.Dataset,
        *,
        postprocessing: PostprocessingRule = "paper",
        region: Literal["full", "auto"] = "full",
        batch_size: int = 16,
        progress: Callable[[int], None] | None = None,
        unprocessed: bool = False,
    ) -> xr.Dataset:
        """``ds`` with the variable ``predicted`` (frame, slice, y, x) uint8: labels of every frame.

        ``ds`` is a dataset of the cine model; images are read a few frames at a time, resampled to 0.1 mm by
        the dataset's own spacing, min–max normalised per slice, and the probabilities brought back to the
        native pixels. ``region="auto"`` computes most frames in a window around the heart only, where that is
        safe (see docs/predicting.md); the attributes of ``predicted`` say what was done. ``progress`` is called
        with the number of 2D slices done. ``unprocessed`` adds the labels before post-processing, as
        ``predicted_unprocessed``; with a window they are background outside it. Raises
        :class:`~mousecmr_data.errors.UnitsError` where the spacing is not known.
        """
        if IMAGE not in ds or set(ds[IMAGE].dims) != set(DIMS):
            raise FileLayoutError(f"There is no variable {IMAGE!r} of {DIMS}.", "a dataset of the cine model")
        if region not in REGIONS:
            raise ArgumentError(f"There is no region {region!r}.", " or ".join(map(repr, REGIONS)))
        images = ds[IMAGE].transpose(*DIMS)
        n_frames, n_slices, *_ = images.shape
        spacing = get_spacing(ds)[1:] if images.size else (0.1, 0.1)
        rule = partial(postprocess, rule=postprocessing)
        about: dict[str, Any] = {}
        labels = None if images.size else np.zeros(images.shape, np.uint8)
        if region == "auto" and images.size:
            about, labels = self._by_region(images, spacing, rule, progress)
        if labels is None:
            labels = np.zeros(images.shape, np.uint8)
            at_a_time = max(1, batch_size // max(n_slices, 1))
            for start in range(0, n_frames, at_a_time):
                part = slice(start, start + at_a_time)
                stacks = np.asarray(images.isel(frame=part).values)
                flat = self.labels(stacks.reshape(-1, *stacks.shape[2:]), spacing, batch_size)
                labels[part] = flat.reshape(stacks.shape)
                if progress:
                    progress(len(flat))
        kept = np.stack([rule(stack) for stack in labels]) if labels.size else labels
        made = ds.assign({PREDICTED: (DIMS, kept, self._attrs(postprocessing) | about)})
        return made.assign({UNPROCESSED: (DIMS, labels)}) if unprocessed else made

    def labels(
        self, images: NDArray[np.generic], spacing_yx: tuple[float, float], batch_size: int = 16
    ) -> NDArray[np.uint8]:
        """Labels uint8 (n, y, x) of 2D slices (n, y, x) with pixels of ``spacing_yx`` mm; no post-processing."""
        out = np.empty(images.shape, np.uint8)
        for start in range(0, len(images), batch_size):
            x = torch.from_numpy(images[start : start + batch_size].astype(np.float32))
            out[start : start + batch_size] = most_probable(self.probabilities(x, spacing_yx)).cpu().numpy()
        return out

    @torch.inference_mode()
    def probabilities(self, images: Tensor, spacing_yx: tuple[float, float]) -> Tensor:
        """Class probabilities (n, classes, y, x) of slices (n, y, x), at their own pixels."""
        native = (int(images.shape[-2]), int(images.shape[-1]))
        grid = training_grid(native, spacing_yx)
        x = normalised(grid.from_native(images[:, None].float(), spacing_yx))
        return grid.to_native(self.engine(x).softmax(1), native, spacing_yx)

    def _by_region(
        self,
        images: xr.DataArray,
        spacing_yx: tuple[float, float],
        rule: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
        progress: Callable[[int], None] | None,
    ) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """What was decided, as attributes; and labels, or None where the whole field has to be computed."""
        self._region = self._region or Region(self.network, self.engine)
        labels, outcome = self._region.labels(np.asarray(images.values), spacing_yx, rule, progress)
        return outcome.attrs(), labels

    def _attrs(self, rule: str) -> dict[str, object]:
        return {
            "long_name": f"segmentation by {self.origin.name}",
            "flag_values": [int(label) for label in MEANINGS],
            "flag_meanings": " ".join(m.replace(" ", "_") for m in MEANINGS.values()),
            "weights": self.origin.name,
            "engine": self.engine.name,
            "trained_on": self.origin.trained_on,
            "synthetic_training": self.origin.synthetic_training,
            "limits": self.origin.limits,
            "postprocessing": rule,
        }
