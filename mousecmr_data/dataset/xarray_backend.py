"""The layout as an engine of xarray: ``xarray.open_dataset("Mouse4.h5", engine="mousecmr")``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import xarray as xr
from xarray.backends import BackendEntrypoint

from mousecmr_data.dataset.hdf5 import open_mouse_file


class MouseBackend(BackendEntrypoint):
    """Opens a mouse's HDF5 file; never guessed, only used when named."""

    description: ClassVar[str] = "Mouse cardiac MRI in the layout of mousecmr-130"
    open_dataset_parameters: ClassVar[tuple[Any, ...] | None] = (
        "filename_or_obj",
        "drop_variables",
        "spacing",
        "frame_time_ms",
    )

    def open_dataset(
        self,
        filename_or_obj: Any,
        *,
        drop_variables: str | Iterable[str] | None = None,
        spacing: Sequence[float] | None = None,
        frame_time_ms: float | None = None,
    ) -> xr.Dataset:
        """See :func:`mousecmr_data.open_mouse`."""
        path = Path(os.fspath(filename_or_obj))
        dataset = open_mouse_file(path, spacing=spacing, frame_time_ms=frame_time_ms)
        names = [drop_variables] if isinstance(drop_variables, str) else list(drop_variables or ())
        return dataset.drop_vars(names, errors="ignore")
