"""What a source of mice is, and the source whose mice are the files of a manifest.

The others are :class:`mousecmr_data.dataset.zarr_store.ZarrSource` and
:class:`mousecmr_data.phantom.source.PhantomSource`. ``mousecmr info`` needs this module only, which imports nothing
heavy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from mousecmr_data.download.cache import get_file_path, get_file_statuses
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.variables import ED, ES, MASKS, NOT_PUBLISHED

if TYPE_CHECKING:
    import xarray as xr


class Summary(Protocol):
    """The sizes and labelled frames of a mouse."""

    @property
    def n_slices(self) -> int: ...
    @property
    def n_frames(self) -> int: ...
    @property
    def labelled_frames(self) -> tuple[int, ...]: ...
    @property
    def ed_frame(self) -> int | None: ...
    @property
    def es_frame(self) -> int | None: ...


@dataclass(frozen=True)
class MouseSummary:
    """The :class:`Summary` of a mouse of a file or store."""

    n_slices: int
    n_frames: int
    labelled_frames: tuple[int, ...]
    ed_frame: int | None
    es_frame: int | None


class Source(Protocol):
    """A source of mice: files on disk, a phantom or a store. Implementations can be pickled."""

    @property
    def name(self) -> str:
        """The source's name, as given to ``load(source=...)``."""

    @property
    def version(self) -> str:
        """Version of the data."""

    @property
    def manifest(self) -> Manifest:
        """Splits, constants and checksums that belong to the data."""

    @property
    def synthetic(self) -> bool:
        """Whether all data of this source are synthetic."""

    def get_path(self, mouse: str) -> Path:
        """Return the path of the mouse's HDF5 file, whether or not it exists yet."""

    def get_address(self, mouse: str) -> str:
        """Return the path or URL of the mouse, for display."""

    def prepare(self, mice: Iterable[str]) -> None:
        """Make sure that the files of ``mice`` exist."""

    def check_file(self, mouse: str) -> None:
        """Check the mouse's file when it is about to be read, where it was not verified when it arrived."""

    def summarize(self, mouse: str) -> Summary:
        """Return the sizes and labelled frames of the mouse, without reading its images."""

    def get_phenotype(self, mouse: str) -> str:
        """Return the mouse's group, or "not published"."""

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        """Return the state of each file in one word: verified, unverified, missing, ..."""


@dataclass(frozen=True)
class FileSource:
    """The files of ``manifest`` in the cache below ``cache_root`` (None: the default folder); see :class:`Source`."""

    manifest: Manifest
    cache_root: Path | None = None

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def synthetic(self) -> bool:
        return self.manifest.synthetic

    def get_path(self, mouse: str) -> Path:
        return get_file_path(self.manifest, self.manifest.files[mouse], self.cache_root)

    def get_address(self, mouse: str) -> str:
        return str(self.get_path(mouse))

    def prepare(self, mice: Iterable[str]) -> None:
        """Do nothing: ``load`` fetched the files; a file deleted since is an error when it is opened."""

    def check_file(self, mouse: str) -> None:
        """Do nothing: ``load`` verified the files."""

    def summarize(self, mouse: str) -> MouseSummary:
        """Return the summary of the mouse's file; reads masks only where the ED/ES rule has a choice."""
        from mousecmr_data.dataset.hdf5 import HDF5Array, read_header
        from mousecmr_data.dataset.model import read_phases

        path = self.get_path(mouse)
        header = read_header(path)
        phases = read_phases(
            HDF5Array(path, MASKS, header.shape, "uint8", axes=header.axes), header.labelled_frames
        ).tolist()
        return make_summary(header.shape, header.labelled_frames, phases)

    def get_phenotype(self, mouse: str) -> str:  # noqa: ARG002 (of the protocol)
        return NOT_PUBLISHED

    def get_statuses(self, mice: Iterable[str]) -> Mapping[str, str]:
        return {k: str(v) for k, v in get_file_statuses(self.manifest, list(mice), self.cache_root).items()}


def make_summary(shape: Sequence[int], labelled_frames: tuple[int, ...], phases: Sequence[str]) -> MouseSummary:
    """Return the summary of a mouse of ``shape`` (frame, slice, y, x) with the ``phases`` of its frames."""
    ed, es = (phases.index(p) if p in phases else None for p in (ED, ES))
    return MouseSummary(shape[1], shape[0], labelled_frames, ed, es)


class Opener(Protocol):
    """Opens a mouse by name."""

    def open_mouse(self, mouse: str, attrs: Mapping[str, Any]) -> xr.Dataset:
        """Return the lazy dataset of ``mouse`` with ``attrs`` in addition."""
