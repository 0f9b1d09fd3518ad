"""Find the scans in files, folders and archives, each with its files and their format."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from filelock import FileLock
from h5py import is_hdf5

from mousecmr_data._utils.locks import ALIVE, remove_abandoned
from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data._utils.text import join_names, make_file_name, make_unique
from mousecmr_data.errors import FileLayoutError, MissingDataError, MouseCMRError
from mousecmr_data.formats.archive import MAX_FILES, unpack_archive
from mousecmr_data.formats.masks import (
    LeftOutFile,
    find_folder_reason,
    find_hdf5_reason,
    find_program,
    list_results,
)
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
    "HDF5": (*HDF5_SUFFIXES, ".mat"),
    "FDF": (".fdf",),
    "DICOM": (".dcm", ".ima", ".dicom"),
}
BRUKER_NAME = "2dseq"
READABLE_FORMATS = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), Analyze (.hdr and .img), DICOM, Bruker (2dseq "
    "with visu_pars), Agilent FDF (.fdf), or HDF5 of the dataset's layout"
)
SCRATCH_PREFIX = "mousecmr-unpacked-"
MAX_FOLDERS = 4
"""Most names of folders that are put in front of names that would be the same."""
_MAGIC_AT, _MAGIC = 128, b"DICM"


@dataclass(frozen=True)
class FoundScan:
    """A scan of a mouse that was found but not read yet."""

    name: str
    """By the rule of :func:`name_scans`."""
    kind: FormatName
    paths: tuple[Path, ...]
    """Its files; for Bruker, only the ``2dseq``; of a header beside its pixels, only the header."""
    labels: tuple[Path, ...] = ()
    """Files with masks of all or of single frames, such as ACDC's ``patient001_frame01_gt``."""
    place: Path = Path()
    """Where it lies: a file or a folder, with the name of its archive for a folder."""
    depth: int = 1
    """How many parts of ``place``, from the end, make its name."""

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


def find_scans(path: Path, left_out: list[LeftOutFile] | None = None) -> list[FoundScan]:
    """Return the scans in ``path``: a file, or a folder with all its subfolders (links are not followed).

    Masks and results of programs are not scans (:mod:`mousecmr_data.formats.masks`); ``left_out`` receives them.
    Raises :class:`MissingDataError` (``path`` does not exist) and :class:`FileLayoutError` (no known format, or masks).
    """
    others: list[LeftOutFile] = [] if left_out is None else left_out
    scans = name_scans(_find_unnamed(path, others))
    if not scans:
        raise _make_nothing_error(path, others)
    return scans


def _make_nothing_error(path: Path, left_out: Sequence[LeftOutFile]) -> FileLayoutError:
    if left_out:
        names = join_names([f"{file.path.name} ({file.reason})" for file in left_out], 5)
        return FileLayoutError(
            f"{path.name or path} holds masks or results of programs, and no scans: {names}.",
            "images",
            f"if one of them is a scan, give the file itself: mousecmr segment {left_out[0].path} -o results",
        )
    names = join_names(sorted(p.name for p in _list_files(path)), 5) if path.is_dir() else path.name
    return FileLayoutError(
        f"{path.name or path} holds nothing that can be read: {names or 'no file'}.", READABLE_FORMATS
    )


def _find_unnamed(path: Path, left_out: list[LeftOutFile]) -> list[FoundScan]:
    """Find the scans without naming them; the given ``path`` is one of them, or holds them."""
    if not path.exists():
        raise MissingDataError(f"There is no file or folder {path}.", READABLE_FORMATS)
    if path.is_dir():
        scans = list(_find_in_folder(path, left_out))
    else:
        kind = _detect_format(path)
        if path.suffix.lower() == ".mat" and not is_hdf5(path):
            raise FileLayoutError(
                f"{path.name} is a MATLAB file of version 7 or older.",
                "one of version 7.3, which is HDF5, with Images (row, column, slice, frame)",
                f"in MATLAB: save('{path.name}', 'Images', '-v7.3')",
            )
        scans = [FoundScan("", kind, (path,))] if kind else []
        if kind in IMAGE_FORMATS and (numbers := _find_label_numbers(path)):
            raise FileLayoutError(
                f"{path.name} holds masks (the numbers {join_names(numbers)}).",
                "images",
                f"for the volumes of masks: mousecmr measure {path}",
            )
    return [_place(scan, path) for scan in scans]


def _find_label_numbers(path: Path) -> tuple[int, ...]:
    from mousecmr_data.formats.nifti import find_label_numbers

    numbers = find_label_numbers(path)
    return numbers if len(numbers) > 1 else ()


def _place(scan: FoundScan, base: Path) -> FoundScan:
    """Return ``scan``, found in ``base``, with the place that gives it its name."""
    first = scan.paths[0]
    place = owner = first
    if scan.kind == "Bruker" and first.parent.parent.name == "pdata":
        owner = first.parents[3 if first.parents[2].name.isdigit() else 2]  # of ParaVision: STUDY/5/pdata/1/2dseq
    elif len(scan.paths) > 1:
        place = owner = Path(os.path.commonpath([p.parent for p in scan.paths]))
        if scan.kind in IMAGE_FORMATS:
            from mousecmr_data.formats.nifti import find_shared_name

            place = place / find_shared_name(first)
            owner = place
    place, owner, base = (_make_absolute(p) for p in (place, owner, base))
    root = base if base in owner.parents else owner.parent  # the scan itself was given: its own name
    return replace(scan, place=place, depth=len(place.relative_to(root).parts))


def _detect_format(path: Path) -> FormatName | None:
    name = path.name.lower()
    if name == BRUKER_NAME:
        return "Bruker"
    for kind, suffixes in SUFFIXES.items():
        if name.endswith(suffixes):
            return kind
    return "DICOM" if is_dicom(path) else None


def _make_absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links keep their own names)


def _find_in_folder(folder: Path, left_out: list[LeftOutFile]) -> Iterator[FoundScan]:
    by_folder: dict[Path, list[Path]] = {}
    for path in _list_files(folder):
        by_folder.setdefault(path.parent, []).append(path)
    reasons: dict[Path, str] = {}
    results: set[Path] = set()
    dicom: list[Path] = []
    for parent in sorted(by_folder):
        program = find_program(parent, [p.name for p in by_folder[parent]])
        reasons[parent] = (
            next((reasons[above] for above in parent.parents if reasons.get(above)), "")
            or (program and f"results of {program}")
            or find_folder_reason(parent.relative_to(folder).parts)
        )
        results |= {parent / name for name in list_results(parent)}
        if parent / BRUKER_NAME in by_folder[parent] and not reasons[parent]:
            yield FoundScan("", "Bruker", (parent / BRUKER_NAME,))
            continue
        files: dict[FormatName, list[Path]] = {}
        for path in sorted(by_folder[parent]):
            kind = _detect_format(path)
            if kind is None or _is_half(path):
                continue
            reason = reasons[parent] or ("written by mousecmr segment" if path in results else "")
            if reason or (kind == "HDF5" and (reason := find_hdf5_reason(path))):
                left_out.append(LeftOutFile(path, reason))
            else:
                files.setdefault(kind, []).append(path)
        if fdf := files.get("FDF"):
            yield FoundScan("", "FDF", tuple(fdf))
        for path in files.get("HDF5", ()):
            yield FoundScan("", "HDF5", (path,))
        for kind in IMAGE_FORMATS:
            if kind in files:
                from mousecmr_data.formats.nifti import sort_nifti_files

                sorted_files = sort_nifti_files(files[kind], left_out)
                yield from (FoundScan("", kind, paths, labels) for paths, labels in sorted_files)
        dicom += files.get("DICOM", [])
    if dicom:
        from mousecmr_data.formats.dicom import group_dicom_files

        groups = group_dicom_files(dicom)
        yield from (FoundScan("", "DICOM", group) for group in groups)
        others = set(dicom).difference(*groups)
        left_out += [LeftOutFile(p, "a segmentation, a report or a localiser") for p in sorted(others)]


def _is_half(path: Path) -> bool:
    """Return whether ``path`` holds the pixels of a header beside it."""
    return path.suffix.lower() == ".img" and any(path.with_suffix(s).exists() for s in (".hdr", ".HDR"))


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


def name_scans(scans: Iterable[FoundScan]) -> list[FoundScan]:
    """Return the scans with the names of :func:`_name_places`."""
    scans = list(scans)
    names = _name_places([(scan.place, scan.depth) for scan in scans])
    return [replace(scan, name=name) for scan, name in zip(scans, names, strict=True)]


def _name_places(places: Sequence[tuple[Path, int]]) -> list[str]:
    """Return a name for each place, from as many of its last parts as stated. It does not depend on the other scans.

    The exception are scans that would get the same name, also where case is ignored: the names of the folders above are
    put in front of them, and where that does not help (``M1.nii`` and ``M1.nrrd``), characters made from their own
    paths are added. So the name of one scan never becomes that of another.
    """

    def make(more: int) -> list[str]:
        return [make_scan_name("_".join(place.parts[1:][-depth - more :])) for place, depth in places]

    def find_clashing(names: Sequence[str]) -> list[int]:
        count = Counter(name.casefold() for name in names)
        return [k for k, name in enumerate(names) if count[name.casefold()] > 1]

    names = make(0)
    for more in range(1, MAX_FOLDERS + 1):
        longer = make(more)
        for k in find_clashing(names):
            names[k] = longer[k]
    for k in find_clashing(names):
        place, depth = places[k]
        own = "/".join(place.parts[-depth:]).encode("utf-8", "surrogateescape")
        names[k] = f"{make_scan_name('_'.join(place.parts[-depth:]))}_{hashlib.sha256(own).hexdigest()[:6]}"
    return make_unique(names)


def make_scan_name(name: str) -> str:
    """Return the name of a file or folder as the name of a scan: without endings of image files, plain."""
    return make_file_name(
        re.sub(
            r"(\.nii)?\.gz$|\.(nii|seq\.nrrd|nrrd|nhdr|mha|mhd|hdr|h5|hdf5?|mat|dcm|ima|fdf|img|zip)$",
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
    place: Path = Path()
    depth: int = 1


@contextmanager
def collect_inputs(
    inputs: Sequence[Path], scratch: Path | None = None, left_out: list[LeftOutFile] | None = None
) -> Iterator[tuple[list[FoundScan], list[RefusedInput]]]:
    """Yield the scans in ``inputs`` (files, folders, zip archives; archives in folders too), and the refused inputs.

    ``left_out`` receives the files that are masks or results of programs. Archives are unpacked into a folder below
    ``scratch`` (default: the system's temporary folder), which is removed at the end of the block.
    """
    parent = Path(scratch or tempfile.gettempdir())
    remove_abandoned(parent, SCRATCH_PREFIX)
    with (
        tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, dir=parent) as temporary,
        FileLock(Path(temporary) / ALIVE, thread_local=False),
    ):
        found: list[FoundScan] = []
        refused: list[RefusedInput] = []
        for k, path in enumerate(inputs):
            items = list(_find_in_path(path, Path(temporary) / str(k)))
            others = [item for item in items if isinstance(item, LeftOutFile)]
            if len(others) == len(items):
                items.append(_refuse(path, _make_nothing_error(path, others), path))
            found += [item for item in items if isinstance(item, FoundScan)]
            refused += [item for item in items if isinstance(item, RefusedInput)]
            if left_out is not None:
                left_out += others
        named: list[FoundScan | RefusedInput] = [*found, *refused]
        names = _name_places([(item.place, item.depth) for item in named])
        yield (
            [replace(scan, name=name) for scan, name in zip(found, names, strict=False)],
            [
                replace(r, name=name, error=rename_in_error(r.error, scratch))
                for r, name in zip(refused, names[len(found) :], strict=True)
            ],
        )


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


_Item = FoundScan | RefusedInput | LeftOutFile


def _refuse(path: Path, error: MouseCMRError, base: Path) -> RefusedInput:
    place = _make_absolute(path)
    return RefusedInput("", error, path, place, len(place.relative_to(_make_absolute(base)).parts) or 1)


def _find_in_path(path: Path, scratch: Path) -> Iterator[_Item]:
    if not path.is_dir():
        yield from _try_find(path, scratch, path.parent)
        return
    archives = [p for p in sorted(path.rglob("*")) if p.suffix.lower() == ".zip" and p.is_file() and not p.is_symlink()]
    outside = _try_find(path, scratch, path)
    yield from (item for item in outside if not (archives and isinstance(item, RefusedInput)))
    for k, archive in enumerate(archives):
        yield from _try_find(archive, scratch / str(k), path)


def _try_find(path: Path, scratch: Path, base: Path) -> list[_Item]:
    """Return the scans in a file, in a folder outside its archives, or in an archive, read in a child process."""
    try:
        return read_in_child(_find_or_unpack, path.name, path, scratch, base)
    except MouseCMRError as e:
        error = e
    except Exception as e:  # no error of one input may stop the rest
        error = MouseCMRError(f"{path.name}: {type(e).__name__}: {e}", READABLE_FORMATS)
    return [_refuse(path, error, base)]


def _find_or_unpack(path: Path, scratch: Path, base: Path) -> list[_Item]:
    """Find the scans. Those in an archive are named as if it were a folder of its name in ``base``."""
    left_out: list[LeftOutFile] = []
    failed: dict[Path, MouseCMRError] = {}
    if path.suffix.lower() != ".zip" or path.is_dir():
        scans, into = _find_unnamed(path, left_out), path
    else:
        into = unpack_archive(path, scratch / path.name, failed)
        scans = [_place_in_archive(scan, into, path, base) for scan in _find_unnamed(into, left_out)]
        left_out = [replace(file, path=path / file.path.relative_to(into)) for file in left_out]
    refused = [replace(_refuse(inner, error, inner.parent), path=path) for inner, error in failed.items()]
    if not scans and not refused and not left_out:
        raise _make_nothing_error(into, ())
    return [*scans, *refused, *left_out]


def _place_in_archive(scan: FoundScan, unpacked: Path, archive: Path, base: Path) -> FoundScan:
    parts = scan.place.relative_to(_make_absolute(unpacked)).parts
    above = _make_absolute(archive).with_suffix("")
    place = above.joinpath(*parts[parts[:1] == (above.name,) :])  # m1.zip with a folder m1
    return replace(scan, place=place, depth=len(place.relative_to(_make_absolute(base)).parts))
