"""Find the scans in files, folders and archives, each with its files and their format."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from filelock import FileLock

from mousecmr_data._utils.locks import ALIVE, remove_abandoned
from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data._utils.text import make_file_name, make_unique
from mousecmr_data.errors import FileLayoutError, MissingDataError, MissingExtraError, MouseCMRError
from mousecmr_data.formats.archive import ARCHIVE_SUFFIXES, MAX_FILES, unpack_archive
from mousecmr_data.formats.build import find_pair_header
from mousecmr_data.schema.variables import (
    ANALYZE_SUFFIXES,
    HDF5_SUFFIXES,
    METAIMAGE_SUFFIXES,
    NIFTI_SUFFIXES,
    NRRD_SUFFIXES,
)

FormatName = Literal["NIfTI", "NRRD", "MetaImage", "Analyze", "HDF5", "DICOM", "FDF", "Bruker"]
IMAGE_FORMATS: tuple[FormatName, ...] = ("NIfTI", "NRRD", "MetaImage", "Analyze")
"""Formats of an array with a place in space, which ``formats.nifti`` reads."""

SUFFIXES: dict[FormatName, tuple[str, ...]] = {
    "NIfTI": NIFTI_SUFFIXES,
    "NRRD": NRRD_SUFFIXES,
    "MetaImage": METAIMAGE_SUFFIXES,
    "Analyze": ANALYZE_SUFFIXES,
    "HDF5": HDF5_SUFFIXES,
    "FDF": (".fdf",),
    "DICOM": (".dcm", ".ima", ".dicom"),
}
BRUKER_NAME = "2dseq"
READABLE_FORMATS = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), Analyze (.hdr and .img), DICOM, Bruker (2dseq "
    "with visu_pars), Agilent FDF (.fdf), or HDF5 of the dataset's layout"
)
MASK_NAMES = re.compile(
    r"([_-](masks?|seg|segmentation|labels?)|\.seg)\.(nii|nii\.gz|nrrd|nhdr|mha|mhd|hdr)$", re.IGNORECASE
)
"""Names of files that hold masks: left out when a folder is searched."""
SCRATCH_PREFIX = "mousecmr-unpacked-"
_MAGIC_AT, _MAGIC = 128, b"DICM"


class _ScanFiles(NamedTuple):
    kind: FormatName
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()
    incomplete: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundScan:
    """A scan of a mouse that was found but not read yet."""

    name: str
    kind: FormatName
    paths: tuple[Path, ...]
    """Its files; for Bruker, only the ``2dseq``; of a header beside its pixels, only the header."""
    notes: tuple[str, ...] = ()
    """What beside it was left out, and why."""
    incomplete: tuple[str, ...] = ()
    """What may belong to it and was refused."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, with the pixels beside headers."""
        beside = [p for p in self.paths if re.search(r"\.(hdr|mhd|nhdr|hdr\.gz)$", p.name, re.IGNORECASE)]
        stems = {p: p.name[: p.name.lower().rindex(".hdr" if ".hdr" in p.name.lower() else ".")] for p in beside}
        pixels = {p for header, stem in stems.items() for p in header.parent.glob(f"{glob.escape(stem)}.*")}
        return (*self.paths, *sorted(pixels.difference(self.paths)))

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(p.stat().st_size for p in self.files)


def find_scans(path: Path) -> list[FoundScan]:
    """Return the scans in ``path``: a file, or a folder with all its subfolders (links are not followed).

    Raises :class:`MissingDataError` (``path`` does not exist) and :class:`FileLayoutError` (no known format).
    """
    if not path.exists():
        raise MissingDataError(f"There is no file or folder {path}.", READABLE_FORMATS)
    scans: list[_ScanFiles]
    if path.is_dir():
        scans = list(_find_in_folder(path))
    else:
        kind = _detect_format(path)
        scans = [_ScanFiles(kind, (path,))] if kind else []
    if not scans:
        names = ", ".join(sorted(p.name for p in _list_files(path))[:5]) if path.is_dir() else path.name
        raise FileLayoutError(f"{path.name} holds nothing that can be read: {names or 'no file'}.", READABLE_FORMATS)
    return _name_scans(scans, path)


def _detect_format(path: Path) -> FormatName | None:
    name = path.name.lower()
    if name == BRUKER_NAME:
        return "Bruker"
    for kind, suffixes in SUFFIXES.items():
        if name.endswith(suffixes):
            return "DICOM" if kind == "Analyze" and is_dicom(path) else kind  # both have files named .img
    return "DICOM" if is_dicom(path) else None


def _find_in_folder(folder: Path) -> Iterator[_ScanFiles]:
    by_folder: dict[Path, list[Path]] = {}
    for path in _list_files(folder):
        by_folder.setdefault(path.parent, []).append(path)
    dicom: list[Path] = []
    bruker: list[Path] = []
    fdf: list[tuple[Path, ...]] = []
    for parent in sorted(by_folder):
        if parent / BRUKER_NAME in by_folder[parent]:
            bruker.append(parent / BRUKER_NAME)
            continue
        files: dict[FormatName | None, list[Path]] = {}
        for path in sorted(by_folder[parent]):
            files.setdefault(_detect_format(path), []).append(path)
        fdf += [tuple(files["FDF"])] if "FDF" in files else []
        for path in files.get("HDF5", ()):
            yield _ScanFiles("HDF5", (path,))
        for kind in IMAGE_FORMATS:
            if images := [p for p in files.get(kind, ()) if not MASK_NAMES.search(p.name) and not _is_half(p)]:
                from mousecmr_data.formats.nifti import group_nifti_files

                yield from (_ScanFiles(kind, group) for group in group_nifti_files(images))
        dicom += files.get("DICOM", [])
    if dicom:
        from mousecmr_data.formats.dicom import group_dicom_files

        yield from (_ScanFiles("DICOM", group) for group in group_dicom_files(dicom))
    if len(bruker) == 1:
        yield _ScanFiles("Bruker", tuple(bruker))
    elif bruker:
        yield from _group_bruker_files(bruker)
    if fdf:
        from mousecmr_data.formats.fdf import group_fdf_files

        for scan in group_fdf_files(fdf):
            yield _ScanFiles("FDF", scan.paths, scan.notes, scan.incomplete)


def _group_bruker_files(paths: Sequence[Path]) -> Iterator[_ScanFiles]:
    try:
        from mousecmr_data.formats.bruker import group_bruker_files
    except MissingExtraError:  # reading them raises it
        yield from (_ScanFiles("Bruker", (path,)) for path in paths)
        return
    for scan in group_bruker_files(paths):
        yield _ScanFiles("Bruker", scan.paths, scan.notes, scan.incomplete)


def _is_half(path: Path) -> bool:
    """Return whether ``path`` holds the pixels of a header beside it."""
    return find_pair_header(path) not in (None, path)


def is_dicom(path: Path) -> bool:
    """Return whether the file has DICOM's magic letters."""
    try:
        with path.open("rb") as f:
            return f.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def _list_files(folder: Path) -> Iterator[Path]:
    """Yield all plain files below ``folder``, without hidden ones and links."""
    n = 0
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(d for d in folders if not d.startswith((".", "__MACOSX")))
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                continue
            n += 1
            if n > MAX_FILES:
                raise FileLayoutError(f"{folder} holds more than {MAX_FILES:,} files.", "a folder of mice")
            yield path


def _name_scans(scans: Sequence[_ScanFiles], base: Path) -> list[FoundScan]:
    """Name the scans by their paths: ``base.name`` for one scan, else the path relative to ``base``."""
    names = [
        base.name if len(scans) == 1 else "_".join((p[0] if len(p) == 1 else p[0].parent).relative_to(base).parts)
        for p in (scan.paths for scan in scans)
    ]
    unique = make_unique(map(make_scan_name, names))
    return [FoundScan(name, *scan) for name, scan in zip(unique, scans, strict=True)]


def make_scan_name(name: str) -> str:
    """Return the name of a file or folder as the name of a scan: without endings of image files, plain."""
    return make_file_name(
        re.sub(
            r"(\.(nii|hdr|img))?\.gz$|\.(nii|seq\.nrrd|nrrd|nhdr|mha|mhd|hdr|h5|hdf5?|dcm|ima|fdf|img|zip|pvdatasets)$",
            "",
            name,
            flags=re.IGNORECASE,
        )
    )


@dataclass(frozen=True)
class RefusedInput:
    """An input, or an archive in one, that could not be searched."""

    name: str
    error: MouseCMRError
    path: Path


@contextmanager
def collect_inputs(
    inputs: Sequence[Path], scratch: Path | None = None
) -> Iterator[tuple[list[FoundScan], list[RefusedInput]]]:
    """Yield the scans in ``inputs`` (files, folders, zip archives; archives in folders too), and the refused inputs.

    Archives are unpacked into a folder below ``scratch`` (default: the system's temporary folder), which is removed
    at the end of the block.
    """
    parent = Path(scratch or tempfile.gettempdir())
    remove_abandoned(parent, SCRATCH_PREFIX)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=parent) as temporary,
        FileLock(Path(temporary) / ALIVE, thread_local=False),
    ):
        whole = [p for p in inputs if not (_is_half(p) and find_pair_header(p) in inputs)]
        items = [item for k, path in enumerate(whole) for item in _find_in_path(path, Path(temporary) / str(k))]
        unique = make_unique(item.name for item in items)
        named = [replace(item, name=name) for item, name in zip(items, unique, strict=True)]
        refused = [replace(r, error=rename_in_error(r.error, scratch)) for r in named if isinstance(r, RefusedInput)]
        yield [item for item in named if isinstance(item, FoundScan)], refused


def hide_temporary_paths(text: str, folder: Path | None = None) -> str:
    """Remove the paths below ``folder`` to which archives were unpacked, or uploads written, from ``text``.

    The user's own names remain. ``folder`` defaults to the system's temporary folder.
    """
    inner = r"[\\/](?:in[\\/]\w+|mousecmr-unpacked-\w+[\\/]\d+(?:[\\/]\d+)?)(?:[\\/]|\b)"
    return re.sub(re.escape(str(folder or tempfile.gettempdir())) + inner, "", text)


def rename_in_error(error: MouseCMRError, folder: Path | None = None) -> MouseCMRError:
    """Return ``error`` with :func:`hide_temporary_paths` applied to all its sentences."""
    rest = (text and hide_temporary_paths(text, folder) for text in (error.expected, error.next_step))
    return type(error)(hide_temporary_paths(error.found, folder), *rest)


def _find_in_path(path: Path, scratch: Path) -> Iterator[FoundScan | RefusedInput]:
    if not path.is_dir():
        yield from _try_find(path, scratch)
        return
    archives = [
        p
        for p in sorted(path.rglob("*"))
        if p.suffix.lower() in ARCHIVE_SUFFIXES and p.is_file() and not p.is_symlink()
    ]
    outside = _try_find(path, scratch)
    if not archives or isinstance(outside[0], FoundScan):
        yield from outside
    for k, archive in enumerate(archives):
        yield from _try_find(archive, scratch / str(k))


def _try_find(path: Path, scratch: Path) -> list[FoundScan | RefusedInput]:
    """Return the scans in a file, in a folder outside its archives, or in an archive, read in a child process."""
    try:
        return read_in_child(_find_or_unpack, path.name, path, scratch)
    except MouseCMRError as e:
        error = e
    except Exception as e:  # no error of one input may stop the rest
        error = MouseCMRError(f"{path.name}: {type(e).__name__}: {e}", READABLE_FORMATS)
    return [RefusedInput(make_scan_name(path.name), error, path)]


def _find_or_unpack(path: Path, scratch: Path) -> list[FoundScan | RefusedInput]:
    """Find the scans; an archive is unpacked under its own name, since a scan alone in it gets that name."""
    if path.suffix.lower() not in ARCHIVE_SUFFIXES or path.is_dir():
        return list(find_scans(path))
    failed: dict[Path, MouseCMRError] = {}
    folder = unpack_archive(path, scratch / path.name, failed)
    refused = [RefusedInput(make_scan_name(inner.name), error, path) for inner, error in failed.items()]
    try:
        return [*find_scans(folder), *refused]
    except FileLayoutError:
        if not refused:
            raise
        return [*refused]
