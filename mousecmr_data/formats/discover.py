"""Find the scans in files, folders and archives, each with its files and their format."""

from __future__ import annotations

import glob
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from mousecmr_data._utils.locks import keep_alive, remove_abandoned
from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data._utils.reading import make_read_error
from mousecmr_data._utils.text import join_names, make_file_name, make_unique
from mousecmr_data.errors import FileLayoutError, MouseCMRError
from mousecmr_data.formats.archive import MAX_FILES, unpack_archive
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
log = logging.getLogger("mousecmr_data")
_MAGIC_AT, _MAGIC = 128, b"DICM"

_ScanFiles = tuple[FormatName, tuple[Path, ...]]
_Refused: TypeAlias = dict[Path, MouseCMRError]
"""Errors of files that cannot be read, by their path."""
_Identity: TypeAlias = frozenset[object]


@dataclass(frozen=True)
class FoundScan:
    """A scan of a mouse that was found but not read yet."""

    name: str
    kind: FormatName
    paths: tuple[Path, ...]
    """Its files; for Bruker, only the ``2dseq``; of a header beside its pixels, only the header."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, with the pixels beside headers."""
        beside = [p for p in self.paths if p.suffix.lower() in (".hdr", ".mhd", ".nhdr")]
        pixels = {p for header in beside for p in header.parent.glob(f"{glob.escape(header.stem)}.*")}
        return (*self.paths, *sorted(pixels.difference(self.paths)))

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(p.stat().st_size for p in self.files)


def find_scans(path: Path, refused: _Refused | None = None) -> list[FoundScan]:
    """Return the scans in ``path``: a file, or a folder with all its subfolders and what its links lead to.

    A scan that is reached twice, by links, is returned once. Files that cannot be read, and links to nothing, are put
    into ``refused``; without it, the first one is raised. Raises :class:`MissingDataError` (``path`` does not exist)
    and :class:`FileLayoutError` (no known format).
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
        kind = None if is_folder else _detect_format(path)
    except OSError as e:
        raise make_read_error(path, e, READABLE_FORMATS) from e
    found: _Refused = {}
    files = _list_files(path, found) if is_folder else [path]
    scans = list(_group_files(files, found)) if is_folder else [(kind, (path,))] if kind else []
    if found and refused is None:
        raise next(iter(found.values()))
    if refused is not None:
        refused.update(found)
    if not scans and not found:
        names = ", ".join(sorted(p.name for p in files)[:5])
        raise FileLayoutError(f"{path.name} holds nothing that can be read: {names or 'no file'}.", READABLE_FORMATS)
    order = {key: k for k, key in enumerate(files)}
    unique: dict[_Identity, _ScanFiles] = {}
    for scan in sorted(scans, key=lambda scan: order[scan[1][0]]):  # files come before links to them
        unique.setdefault(_identify(scan[1]), scan)
    kept = [scan for scan in scans if unique[_identify(scan[1])] is scan]
    if repeated := [scan[1][0].relative_to(path) for scan in scans if scan not in kept]:
        log.warning("%s: read once, since these are links to other scans of it: %s", path.name, join_names(repeated))
    return _name_scans(kept, path)


def _detect_format(path: Path) -> FormatName | None:
    name = path.name.lower()
    if name == BRUKER_NAME:
        return "Bruker"
    for kind, suffixes in SUFFIXES.items():
        if name.endswith(suffixes):
            return kind
    return "DICOM" if is_dicom(path) else None


def _group_files(paths: Sequence[Path], refused: _Refused) -> Iterator[_ScanFiles]:
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    dicom: dict[_Identity, Path] = {}
    for parent in sorted(by_folder):
        if parent / BRUKER_NAME in by_folder[parent]:
            yield "Bruker", (parent / BRUKER_NAME,)
            continue
        files: dict[FormatName | None, list[Path]] = {}
        for path in sorted(by_folder[parent]):
            try:
                files.setdefault(_detect_format(path), []).append(path)
            except OSError as e:
                _refuse(path, e, refused)
        if fdf := files.get("FDF"):
            yield "FDF", tuple(fdf)
        for path in files.get("HDF5", ()):
            yield "HDF5", (path,)
        for kind in IMAGE_FORMATS:
            if images := [p for p in files.get(kind, ()) if not MASK_NAMES.search(p.name) and not _is_half(p)]:
                from mousecmr_data.formats.nifti import group_nifti_files

                yield from ((kind, group) for group in group_nifti_files(images))
        for path in files.get("DICOM", ()):
            dicom.setdefault(_identify([path]), path)
    if dicom:
        from mousecmr_data.formats.dicom import group_dicom_files

        yield from (("DICOM", group) for group in group_dicom_files(list(dicom.values())))


def _is_half(path: Path) -> bool:
    """Return whether ``path`` holds the pixels of a header beside it."""
    return path.suffix.lower() == ".img" and any(path.with_suffix(s).exists() for s in (".hdr", ".HDR"))


def is_dicom(path: Path) -> bool:
    """Return whether the file has DICOM's magic letters."""
    with path.open("rb") as f:
        return f.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC


def _list_files(folder: Path, refused: _Refused) -> list[Path]:
    """Return the files below ``folder`` without hidden ones, and after them those that its links lead to.

    A file or folder that is reached by its own path and by a link is listed once; a link to a folder that holds
    ``folder`` is left out, since it would never end. What cannot be read is put into ``refused``.
    """
    base, own, linked, seen = folder.resolve(), dict[Path, Path](), list[Path](), set[Path]()
    tops = [folder]
    for top in tops:  # grows meanwhile
        for parent, folders, names in os.walk(top, onerror=lambda e: _refuse(Path(e.filename), e, refused)):
            real = Path(parent).resolve()
            if real in seen or real in base.parents:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(d for d in folders if not d.startswith((".", "__MACOSX")))
            tops += [path for d in folders if (path := Path(parent) / d).is_symlink()]
            for path in (Path(parent) / name for name in sorted(names) if not name.startswith(".")):
                try:
                    is_file = stat.S_ISREG(path.stat().st_mode)
                except OSError as e:
                    _refuse(path, e, refused)
                    continue
                if is_file and top is folder and not path.is_symlink():
                    own[real / path.name] = path
                elif is_file:
                    linked.append(path)
                if len(own) + len(linked) > MAX_FILES:
                    raise FileLayoutError(f"{folder} holds more than {MAX_FILES:,} files.", "a folder of mice")
    return [*own.values(), *(path for path in linked if path.resolve() not in own)]


def _refuse(path: Path, error: OSError, refused: _Refused) -> None:
    """Note that ``path`` could not be read, if it may belong to a scan; for a series, its folder once."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return  # removed meanwhile
    kind = next((kind for kind, suffixes in SUFFIXES.items() if path.name.lower().endswith(suffixes)), None)
    is_other = kind is None and path.suffix[1:].isalpha() and path.suffix.lower() != ".zip"
    if is_other or MASK_NAMES.search(path.name):
        return
    if kind in (None, "DICOM", "FDF"):
        refused.setdefault(path.parent, make_read_error(path, error, READABLE_FORMATS, folder=path.parent))
    else:
        refused[path] = make_read_error(path, error, READABLE_FORMATS)


def _identify(paths: Sequence[Path]) -> _Identity:
    """Return what two paths, or groups of them, have in common if they are links to the same files."""
    status = [path.stat() for path in paths]
    return frozenset(
        (s.st_dev, s.st_ino) if s.st_nlink > 1 and s.st_ino else path.resolve()
        for path, s in zip(paths, status, strict=True)
    )


def _name_scans(scans: Sequence[_ScanFiles], base: Path) -> list[FoundScan]:
    """Name the scans by their paths: ``base.name`` for one scan, else the path relative to ``base``."""
    names = [
        base.name if len(scans) == 1 else "_".join((p[0] if len(p) == 1 else p[0].parent).relative_to(base).parts)
        for _, p in scans
    ]
    unique = make_unique(map(make_scan_name, names))
    return [FoundScan(name, kind, paths) for name, (kind, paths) in zip(unique, scans, strict=True)]


def make_scan_name(name: str) -> str:
    """Return the name of a file or folder as the name of a scan: without endings of image files, plain."""
    return make_file_name(
        re.sub(
            r"(\.nii)?\.gz$|\.(nii|seq\.nrrd|nrrd|nhdr|mha|mhd|hdr|h5|hdf5?|dcm|ima|fdf|img|zip)$",
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
        keep_alive(Path(temporary)),
    ):
        items = list(
            _drop_repeated(
                item for k, path in enumerate(inputs) for item in _find_in_path(path, Path(temporary) / str(k))
            )
        )
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
    archives: list[Path] = []
    with suppress(FileLayoutError):  # too many files: _try_find returns the error
        archives = sorted(p for p in _list_files(path, {}) if p.suffix.lower() == ".zip")
    outside = _try_find(path, scratch)
    if archives and isinstance(outside[0], RefusedInput) and outside[0].path == path:
        outside = []  # nothing but archives
    yield from outside
    for k, archive in enumerate(archives):
        yield from _try_find(archive, scratch / str(k))


def _drop_repeated(items: Iterable[FoundScan | RefusedInput]) -> Iterator[FoundScan | RefusedInput]:
    """Yield ``items`` without scans of the same files as an earlier one: an input may be a link to another."""
    seen: set[_Identity] = set()
    for item in items:
        key = _identify(item.paths) if isinstance(item, FoundScan) else frozenset([item.path, item.name])
        if key not in seen:
            seen.add(key)
            yield item


def _try_find(path: Path, scratch: Path) -> list[FoundScan | RefusedInput]:
    """Return the scans in a file, in a folder outside its archives, or in an archive, read in a child process."""
    try:
        return read_in_child(_find_or_unpack, path.name, path, scratch)
    except MouseCMRError as e:
        error = e
    except OSError as e:
        error = make_read_error(e.filename or path, e, READABLE_FORMATS)
    except Exception as e:  # no error of one input may stop the rest
        error = MouseCMRError(f"{path.name}: {type(e).__name__}: {e}", READABLE_FORMATS)
    return [RefusedInput(make_scan_name(path.name), error, path)]


def _find_or_unpack(path: Path, scratch: Path) -> list[FoundScan | RefusedInput]:
    """Find the scans; an archive is unpacked under its own name, since a scan alone in it gets that name."""
    failed: _Refused = {}
    if path.suffix.lower() != ".zip" or path.is_dir():
        scans = find_scans(path, failed)
        return [*scans, *(RefusedInput(make_scan_name(inner.name), error, inner) for inner, error in failed.items())]
    folder = unpack_archive(path, scratch / path.name, failed)
    refused = [RefusedInput(make_scan_name(inner.name), error, path) for inner, error in failed.items()]
    try:
        return [*find_scans(folder), *refused]
    except FileLayoutError:
        if not refused:
            raise
        return [*refused]
