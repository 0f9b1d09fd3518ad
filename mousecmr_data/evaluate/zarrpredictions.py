"""Predictions in a Zarr store: one written by this library, or a group of arrays named for their mice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from mousecmr_data.dataset.source import ZarrSource
from mousecmr_data.dataset.zarr_store import open_store as zarr_store
from mousecmr_data.errors import FileLayoutError
from mousecmr_data.evaluate.predictions import Prediction, checked, four_axes, from_dataset
from mousecmr_data.schema.variables import MASK, MASKS, PREDICTED


@dataclass(frozen=True)
class ZarrPredictions:
    """A store of ``mousecmr convert`` (its masks count), or arrays ``MOUSE`` or ``MOUSE/predicted`` (or ``mask``)."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    def names(self) -> Sequence[str]:
        """The groups and arrays at the root."""
        return sorted(self._root())

    def find(self, mouse: str, alone: bool) -> Any | None:  # noqa: ARG002 (names here are exact)
        """The mouse's own name."""
        return mouse if mouse in self._root() else None

    def read(self, key: Any) -> Prediction:
        """The labels of a mouse."""
        try:
            source = ZarrSource(str(self.path))
            ours = key in source.rows
        except FileLayoutError:
            ours = False  # not written by this library
        if ours:
            return from_dataset(source.dataset(key, {}), str(key))
        node = self._root()[key]
        if isinstance(node, zarr.Group):
            held = [n for n in (PREDICTED, MASK, MASKS) if n in node]
            if not held:
                raise FileLayoutError(f"{self.path}: {key} has none of {PREDICTED}, {MASK}.", "an array of labels")
            node = node[held[0]]
        labels = checked(np.asarray(node[...]), f"{self.path}: {key}")  # type: ignore[index]
        return Prediction(four_axes(labels, str(key)))

    def _root(self) -> zarr.Group:
        try:
            return zarr.open_group(zarr_store(str(self.path)), mode="r")
        except (ValueError, KeyError, OSError) as e:
            raise FileLayoutError(f"{self.path} is no Zarr group: {e}", "a Zarr store") from e
