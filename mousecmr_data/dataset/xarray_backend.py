"""The dataset's layout as an engine of xarray: ``xarray.open_dataset("Mouse4.h5", engine="mousecmr")``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from mousecmr_data.dataset.hdf5 import open_mouse_file


class MouseBackend(BackendEntrypoint):
    """Opens a mouse's HDF5 file; used only when named, never guessed from a file name."""

    description: ClassVar[str] = "Mouse cardiac MRI in the layout of mousecmr-130"

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        spacing: Sequence[float] | None = None,
        frame_time_ms: float | None = None,
    ) -> xr.Dataset:
        """Return the dataset of a mouse; see :func:`mousecmr_data.open_mouse`."""
        dataset = open_mouse_file(Path(filename_or_obj), spacing=spacing, frame_time_ms=frame_time_ms)
        return dataset.drop_vars(drop_variables or (), errors="ignore")
