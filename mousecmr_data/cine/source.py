"""What a cohort needs to know of the place its mice come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mousecmr_data.cine import hdf5, phases
from mousecmr_data.schema.manifest import Manifest
from mousecmr_data.schema.phases import ED, ES
from mousecmr_data.schema.variables import MASKS


class Summary(Protocol):
    """A mouse in numbers."""

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
class FileSummary:
    """A mouse in numbers, read from its file."""

    n_slices: int
    n_frames: int
    labelled_frames: tuple[int, ...]
    ed_frame: int | None
    es_frame: int | None


class Source(Protocol):
    """Where mice come from: files on disk, a phantom, a store. Implementations pickle."""

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
        """Whether everything from here is synthetic."""

    def file(self, mouse: str) -> Path:
        """The path of the mouse's HDF5 file, whether or not it is there yet."""

    def address(self, mouse: str) -> str:
        """Path or URL of the mouse, for people."""

    def ready(self, mice: Iterable[str]) -> None:
        """Make sure that the files of ``mice`` are there."""

    def summary(self, mouse: str) -> Summary:
        """The mouse in numbers, without reading its images."""

    def phenotype(self, mouse: str) -> str:
        """The mouse's group, or "not published"."""

    def states(self, mice: Iterable[str]) -> Mapping[str, str]:
        """The state of each file in a word: verified, unverified, missing, ..."""


def summarise(path: Path) -> FileSummary:
    """The summary of an HDF5 file; reads masks only where the ED/ES rule has a choice."""
    outline = hdf5.read_outline(path)
    shape = (outline.n_frames, outline.n_slices, *outline.shape_yx)
    labelled = outline.labelled_frames
    names = phases.read(hdf5.FileArray(path, MASKS, shape, "uint8"), labelled).tolist()
    return FileSummary(
        outline.n_slices,
        outline.n_frames,
        labelled,
        names.index(ED) if ED in names else None,
        names.index(ES) if ES in names else None,
    )
