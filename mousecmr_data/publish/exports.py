"""What the exports share: a folder that appears whole, and what a mouse's sidecar says."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mousecmr_data._utils.atomic import translate_os_error
from mousecmr_data.dataset.model import get_spacing
from mousecmr_data.errors import CacheError


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``path`` when the block ends; nothing stays behind if it fails.

    Raises CacheError if ``path`` exists or cannot be made.
    """
    target = Path(path).absolute()
    if target.exists():
        raise CacheError(f"{target} exists.", "a path where nothing is", f"rm -r {target}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as e:
        raise translate_os_error(e, target) from e
    try:
        yield partial
        partial.chmod(0o755)
        partial.rename(target)
    except OSError as e:
        raise translate_os_error(e, target) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def about(ds: xr.Dataset) -> dict[str, Any]:
    """What an image file cannot say of a mouse."""
    labelled = np.flatnonzero(ds["labelled"].values).tolist()
    phases = ds["phase"].values.astype(str).tolist()
    return {
        "mouse": ds.attrs["mouse"],
        "synthetic": bool(ds.attrs["synthetic"]),
        "source": ds.attrs["source"],
        "version": ds.attrs["version"],
        "split": ds.attrs["split"],
        "phenotype": ds.attrs["phenotype"],
        "voxel_size_mm_zyx": list(get_spacing(ds)),
        "voxel_size_source": ds.attrs["voxel_size_source"],
        "frame_time_ms": float(ds["time"].attrs["frame_time"]),
        "frame_time_source": ds.attrs["frame_time_source"],
        "slice_order": ds.attrs["slice_order"],
        "labelled_frames": labelled,
        "phases": {str(i): phases[i] for i in labelled},
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON for people and programs."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
