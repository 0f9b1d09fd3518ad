"""What a file or folder holds: mice, each in the files of one format."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mousecmr_data.errors import FileLayoutError, MissingDataError, MouseCMRError
from mousecmr_data.formats.archive import MAX_FILES, unpack_archive

FormatName = Literal["NIfTI", "HDF5", "DICOM", "FDF", "Bruker"]

NIFTI_SUFFIXES, HDF5_SUFFIXES, FDF_SUFFIXES = (".nii", ".nii.gz"), (".h5", ".hdf5"), (".fdf",)
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
READABLE_FORMATS = (
    "NIfTI (.nii, .nii.gz), DICOM, Bruker (2dseq with visu_pars), Agilent FDF (.fdf), or HDF5 of the dataset's layout"
)
MASK_NAMES = re.compile(r"[_-](masks?|seg|segmentation|labels?)\.nii(\.gz)?$", re.IGNORECASE)
"""Names of files that hold masks: left out where a folder is searched."""
_MAGIC_AT, _MAGIC = 128, b"DICM"


@dataclass(frozen=True)
class FoundScan:
    """A mouse that was found, not yet read."""

    name: str
    kind: FormatName
    paths: tuple[Path, ...]
    """Its files; of Bruker, the ``2dseq`` alone."""

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return sum(p.stat().st_size for p in self.paths)


def find_scans(path: Path) -> list[FoundScan]:
    """The mice in ``path``: a file, or a folder that is searched to its depths (links are not followed).

    Raises :class:`MissingDataError` (nothing there) and :class:`FileLayoutError` (nothing that is known).
    """
    if not path.exists():
        raise MissingDataError(f"There is no file or folder {path}.", READABLE_FORMATS)
    found = list(_find_in_folder(path)) if path.is_dir() else list(_find_in_file(path))
    if not found:
        some = ", ".join(sorted(p.name for p in _list_files(path))[:5]) if path.is_dir() else path.name
        raise FileLayoutError(f"{path.name} holds nothing that can be read: {some or 'no file'}.", READABLE_FORMATS)
    return _name_scans(found, path)


def _find_in_file(path: Path) -> Iterator[tuple[FormatName, tuple[Path, ...]]]:
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        yield "NIfTI", (path,)
    elif name.endswith(HDF5_SUFFIXES):
        yield "HDF5", (path,)
    elif name.endswith(FDF_SUFFIXES):
        yield "FDF", (path,)
    elif name == "2dseq":
        yield "Bruker", (path,)
    elif name.endswith(DICOM_SUFFIXES) or is_dicom(path):
        yield "DICOM", (path,)


def _find_in_folder(folder: Path) -> Iterator[tuple[FormatName, tuple[Path, ...]]]:
    by_folder: dict[Path, list[Path]] = {}
    for path in _list_files(folder):
        by_folder.setdefault(path.parent, []).append(path)
    dicom: list[Path] = []
    for parent in sorted(by_folder):
        files = sorted(by_folder[parent])
        names = {f.name for f in files}
        if "2dseq" in names:
            yield "Bruker", (parent / "2dseq",)
            continue
        lower = {f: f.name.lower() for f in files}
        if fdf := [f for f in files if lower[f].endswith(FDF_SUFFIXES)]:
            yield "FDF", tuple(fdf)
        yield from (("HDF5", (f,)) for f in files if lower[f].endswith(HDF5_SUFFIXES))
        if nifti := [f for f in files if lower[f].endswith(NIFTI_SUFFIXES) and not MASK_NAMES.search(f.name)]:
            from mousecmr_data.formats.nifti import group_nifti_files

            yield from (("NIfTI", group) for group in group_nifti_files(nifti))
        known = (*FDF_SUFFIXES, *HDF5_SUFFIXES, *NIFTI_SUFFIXES)
        dicom += [
            f for f in files if not lower[f].endswith(known) and (lower[f].endswith(DICOM_SUFFIXES) or is_dicom(f))
        ]
    if dicom:
        from mousecmr_data.formats.dicom import group_dicom_files

        yield from (("DICOM", group) for group in group_dicom_files(dicom))


def is_dicom(path: Path) -> bool:
    """Whether the file has DICOM's magic letters."""
    try:
        with path.open("rb") as f:
            return f.read(_MAGIC_AT + len(_MAGIC))[_MAGIC_AT:] == _MAGIC
    except OSError:
        return False


def _list_files(folder: Path) -> Iterator[Path]:
    """All plain files below ``folder``, hidden ones and links left out."""
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


def _name_scans(found: Sequence[tuple[FormatName, tuple[Path, ...]]], base: Path) -> list[FoundScan]:
    """Names from the paths: of a mouse alone that of ``base``, else the way to it."""
    names = [
        base.name if len(found) == 1 else "_".join((p[0] if len(p) == 1 else p[0].parent).relative_to(base).parts)
        for _, p in found
    ]
    return [
        FoundScan(n, kind, paths) for n, (kind, paths) in zip(make_unique(map(clean_name, names)), found, strict=True)
    ]


def clean_name(name: str) -> str:
    """A name that can be a folder's: without the endings of image files, letters of any file system."""
    name = re.sub(r"(\.nii)?\.gz$|\.(nii|h5|hdf5|dcm|ima|fdf|img|zip)$", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^A-Za-z0-9.+-]+", "_", name).strip("._")[:80] or "mouse"


def make_unique(names: Iterable[str]) -> list[str]:
    """Names with a number behind those that came before."""
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name.lower()] = seen.get(name.lower(), 0) + 1
        out.append(name if seen[name.lower()] == 1 else f"{name}_{seen[name.lower()]}")
    return out


# Inputs of a job: files, folders and archives.


@dataclass(frozen=True)
class RefusedInput:
    """An input, or an archive in one, that could not even be looked into."""

    name: str
    error: MouseCMRError
    path: Path


@contextmanager
def collect_inputs(
    inputs: Sequence[Path], scratch: Path | None = None
) -> Iterator[tuple[list[FoundScan], list[RefusedInput]]]:
    """The mice in ``inputs`` (files, folders, zip archives; archives in folders too), and what was refused.

    Archives are unpacked into a folder below ``scratch`` (default: the system's place for temporary files),
    which is removed at the end of the block.
    """
    with tempfile.TemporaryDirectory(prefix="mousecmr-", dir=scratch) as place:
        every = [one for k, path in enumerate(inputs) for one in _find_in_path(path, Path(place) / str(k))]
        named = [replace(one, name=n) for one, n in zip(every, make_unique(o.name for o in every), strict=True)]
        refused = [replace(r, error=rename_in_error(r.error, scratch)) for r in named if isinstance(r, RefusedInput)]
        yield [f for f in named if isinstance(f, FoundScan)], refused


def hide_temporary_paths(text: str, folder: Path | None = None) -> str:
    """``text`` with a user's own names in place of where archives were unpacked, or uploads lie, below ``folder``
    (default: the system's place for temporary files)."""
    inner = r"[\\/](?:in[\\/]\w+|mousecmr-\w+[\\/]\d+(?:[\\/]\d+)?)(?:[\\/]|\b)"
    return re.sub(re.escape(str(folder or tempfile.gettempdir())) + inner, "", text)


def rename_in_error(error: MouseCMRError, folder: Path | None = None) -> MouseCMRError:
    """``error`` with all its sentences as :func:`without_folder` says them."""
    rest = (text and hide_temporary_paths(text, folder) for text in (error.expected, error.next_step))
    return type(error)(hide_temporary_paths(error.found, folder), *rest)


def _find_in_path(path: Path, scratch: Path) -> Iterator[FoundScan | RefusedInput]:
    if not path.is_dir():
        yield from _try_find(path, scratch)
        return
    inner = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".zip" and p.is_file() and not p.is_symlink()]
    outside = list(_try_find(path, scratch))
    if not inner or isinstance(outside[0], FoundScan):
        yield from outside
    for k, one in enumerate(inner):
        yield from _try_find(one, scratch / str(k))


def _try_find(path: Path, scratch: Path) -> Iterator[FoundScan | RefusedInput]:
    """The mice in a file, in a folder outside its archives, or in an archive, which keeps its name where it is
    unpacked: a mouse alone in it is called so."""
    try:
        packed = path.suffix.lower() == ".zip" and not path.is_dir()
        yield from find_scans(unpack_archive(path, scratch / path.name) if packed else path)
    except MouseCMRError as e:
        yield RefusedInput(clean_name(path.name), e, path)
