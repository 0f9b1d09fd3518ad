"""Find the scans in files, folders and archives, each with its files and their format."""

from __future__ import annotations

import glob
import gzip
import hashlib
import logging
import os
import re
import stat
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from h5py import is_hdf5

from mousecmr_data._utils.locks import keep_alive, remove_abandoned
from mousecmr_data._utils.parallel import read_in_child
from mousecmr_data._utils.reading import make_read_error
from mousecmr_data._utils.text import join_names, make_file_name, make_unique
from mousecmr_data.errors import FileLayoutError, MissingExtraError, MouseCMRError
from mousecmr_data.formats.archive import ARCHIVE_SUFFIXES, GZIP_MAGIC, MAX_FILES, ZIP_MAGIC, unpack_archive
from mousecmr_data.formats.masks import (
    MASK_NAME,
    LeftOutFile,
    find_folder_reason,
    find_hdf5_reason,
    find_pair_header,
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
OTHER_DICOM = "no short-axis cine: another view, a localiser, a copy, a segmentation or a report"
READABLE_FORMATS = (
    "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), Analyze (.hdr and .img), DICOM, Bruker (2dseq "
    "with visu_pars), Agilent FDF (.fdf), or HDF5 of the dataset's layout"
)
SCRATCH_PREFIX = "mousecmr-unpacked-"
MAX_FOLDERS = 4
"""Most names of folders that are put in front of names that would be the same."""
_MAGIC_AT, _MAGIC = 128, b"DICM"
_HEAD_BYTES = 512
log = logging.getLogger("mousecmr_data")
_Refused: TypeAlias = dict[Path, MouseCMRError]
"""Errors of files that cannot be read, by their path."""
_Identity: TypeAlias = frozenset[object]


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
    notes: tuple[str, ...] = ()
    """What beside it was left out, and why."""
    incomplete: tuple[str, ...] = ()
    """What may belong to it and was refused."""
    place: Path = Path()
    """Where it lies: a file or a folder, with the name of its archive for a folder."""
    depth: int = 1
    """How many parts of ``place``, from the end, make its name."""

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


def find_scans(path: Path, left_out: list[LeftOutFile] | None = None) -> list[FoundScan]:
    """Return the scans in ``path``: a file, or a folder with all its subfolders and what its links lead to.

    Masks and results of programs are not scans (:mod:`mousecmr_data.formats.masks`); ``left_out`` receives them. A scan
    that is reached twice, by links, is returned once. Raises :class:`MissingDataError` (``path`` does not exist),
    :class:`FileLayoutError` (no known format, or masks) and the error of the first file that cannot be read.
    """
    others: list[LeftOutFile] = [] if left_out is None else left_out
    refused: _Refused = {}
    scans = name_scans(_find_unnamed(path, others, refused))
    if refused:
        raise next(iter(refused.values()))
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
    names = join_names(sorted(p.name for p in _list_files(path, {})), 5) if path.is_dir() else path.name
    found = f"{path.name or path} holds nothing that can be read: {names or 'no file'}."
    return FileLayoutError(found, READABLE_FORMATS)


def _find_unnamed(path: Path, left_out: list[LeftOutFile], refused: _Refused) -> list[FoundScan]:
    """Find the scans without naming them; the given ``path`` is one of them, or holds them.

    Files that cannot be read, and links to nothing, are put into ``refused``.
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
        kind = None if is_folder else _detect_format(path)
    except OSError as e:
        raise make_read_error(path, e, READABLE_FORMATS) from e
    if is_folder:
        files = _list_files(path, refused)
        scans = _drop_repeated_links(list(_group_files(files, path, left_out, refused)), files, path)
    else:
        scans = _find_in_file(path, kind)
    return [_place(scan, path) for scan in scans]


def _find_in_file(path: Path, kind: FormatName | None) -> list[FoundScan]:
    if path.suffix.lower() == ".mat" and not is_hdf5(path):
        raise FileLayoutError(
            f"{path.name} is a MATLAB file of version 7 or older.",
            "one of version 7.3, which is HDF5, with Images (row, column, slice, frame)",
            f"in MATLAB: save('{path.name}', 'Images', '-v7.3')",
        )
    if kind in IMAGE_FORMATS and (numbers := _find_label_numbers(path)):
        raise FileLayoutError(
            f"{path.name} holds masks (the numbers {join_names(numbers)}).",
            "images",
            f"for the volumes of masks: mousecmr measure {path}",
        )
    if kind == "DICOM":
        from mousecmr_data.formats.dicom import list_dicomdir

        if (listed := list_dicomdir(path)) is not None:
            return list(_group_dicom_files(listed))
    return [FoundScan("", kind, (path,))] if kind else []


def _drop_repeated_links(scans: list[FoundScan], files: Sequence[Path], folder: Path) -> list[FoundScan]:
    """Return each scan once; files come before links to them."""
    order = {key: k for k, key in enumerate(files)}
    unique: dict[_Identity, FoundScan] = {}
    for scan in sorted(scans, key=lambda scan: order[scan.paths[0]]):
        unique.setdefault(_identify(scan.paths), scan)
    kept = [scan for scan in scans if unique[_identify(scan.paths)] is scan]
    if repeated := [scan.paths[0].relative_to(folder) for scan in scans if scan not in kept]:
        log.warning("%s: read once, since these are links to other scans of it: %s", folder.name, join_names(repeated))
    return kept


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
            return "DICOM" if kind == "Analyze" and is_dicom(path) else kind  # both have files named .img
    return "DICOM" if is_dicom(path) else None


def _make_absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 (links keep their own names)


def _group_files(
    paths: Sequence[Path], folder: Path, left_out: list[LeftOutFile], refused: _Refused
) -> Iterator[FoundScan]:
    by_folder: dict[Path, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    reasons: dict[Path, str] = {}
    results: set[Path] = set()
    dicom: dict[_Identity, Path] = {}
    bruker: list[Path] = []
    fdf: list[tuple[Path, ...]] = []
    for parent in sorted(by_folder):
        program = find_program(parent, [p.name for p in by_folder[parent]])
        reasons[parent] = (
            next((reasons[above] for above in parent.parents if reasons.get(above)), "")
            or (program and f"results of {program}")
            or find_folder_reason(parent.relative_to(folder).parts)
        )
        results |= {parent / name for name in list_results(parent)}
        if parent / BRUKER_NAME in by_folder[parent] and not reasons[parent]:
            bruker.append(parent / BRUKER_NAME)
            continue
        files: dict[FormatName, list[Path]] = {}
        for path in sorted(by_folder[parent]):
            try:
                kind = _detect_format(path)
                if kind is None or _is_half(path):
                    continue
                reason = reasons[parent] or ("written by mousecmr segment" if path in results else "")
                if reason or (kind == "HDF5" and (reason := find_hdf5_reason(path))):
                    left_out.append(LeftOutFile(path, reason))
                else:
                    files.setdefault(kind, []).append(path)
            except OSError as e:
                _note_unreadable(path, e, refused)
        fdf += [tuple(files["FDF"])] if "FDF" in files else []
        for path in files.get("HDF5", ()):
            yield FoundScan("", "HDF5", (path,))
        for kind in IMAGE_FORMATS:
            if kind in files:
                from mousecmr_data.formats.nifti import sort_nifti_files

                sorted_files = sort_nifti_files(files[kind], left_out)
                yield from (FoundScan("", kind, paths, labels) for paths, labels in sorted_files)
        for path in files.get("DICOM", ()):
            dicom.setdefault(_identify([path]), path)
    if dicom:
        scans = list(_group_dicom_files(list(dicom.values())))
        yield from scans
        others = set(dicom.values()).difference(*(scan.paths for scan in scans))
        left_out += [LeftOutFile(p, OTHER_DICOM) for p in sorted(others)]
    if len(bruker) == 1:
        yield FoundScan("", "Bruker", tuple(bruker))
    elif bruker:
        yield from _group_bruker_files(bruker)
    if fdf:
        from mousecmr_data.formats.fdf import group_fdf_files

        for found in group_fdf_files(fdf):
            yield FoundScan("", "FDF", found.paths, notes=found.notes, incomplete=found.incomplete)


def _group_dicom_files(paths: Sequence[Path]) -> Iterator[FoundScan]:
    from mousecmr_data.formats.dicom_study import group_dicom_files

    for found in group_dicom_files(paths):
        yield FoundScan("", "DICOM", found.paths, notes=found.notes, incomplete=found.incomplete)


def _group_bruker_files(paths: Sequence[Path]) -> Iterator[FoundScan]:
    try:
        from mousecmr_data.formats.bruker import group_bruker_files
    except MissingExtraError:  # reading them raises it
        yield from (FoundScan("", "Bruker", (path,)) for path in paths)
        return
    for found in group_bruker_files(paths):
        yield FoundScan("", "Bruker", found.paths, notes=found.notes, incomplete=found.incomplete)


def _is_half(path: Path) -> bool:
    """Return whether ``path`` holds the pixels of a header beside it."""
    return find_pair_header(path) not in (None, path)


def is_dicom(path: Path) -> bool:
    """Return whether a file, or what is compressed in it, starts as DICOM does, with its magic letters or without."""
    with path.open("rb") as f:
        head = f.read(_HEAD_BYTES)
        if head.startswith(GZIP_MAGIC):
            f.seek(0)
            try:
                with gzip.open(f) as packed:
                    head = packed.read(_HEAD_BYTES)
            except (gzip.BadGzipFile, EOFError, zlib.error):
                return False
    return head[_MAGIC_AT:].startswith(_MAGIC) or _has_dicom_elements(head)


def _has_dicom_elements(head: bytes) -> bool:
    """Return whether ``head`` starts with elements of the groups 2 or 8, as a dataset without a prefix does."""
    at, last = 0, (0, 0)
    for _ in range(2):
        if len(head) < at + 8:
            return False
        group, element, short = (int.from_bytes(head[at + k : at + k + 2], "little") for k in (0, 2, 6))
        if group not in (2, 8) or ((group, element) <= last and at):
            return False
        explicit = head[at + 4 : at + 6].isalpha() and head[at + 4 : at + 6].isupper()
        at += 8 + (short if explicit else int.from_bytes(head[at + 4 : at + 8], "little"))
        last = (group, element)
    return True


def _list_files(folder: Path, refused: _Refused) -> list[Path]:
    """Return the files below ``folder`` without hidden ones, and after them those that its links lead to.

    A file or folder that is reached by its own path and by a link is listed once; a link to a folder that holds
    ``folder`` is left out, since it would never end. What cannot be read is put into ``refused``.
    """
    base, own, linked, seen = folder.resolve(), dict[Path, Path](), list[Path](), set[Path]()
    tops = [folder]
    for top in tops:  # grows meanwhile
        for parent, folders, names in os.walk(top, onerror=lambda e: _note_unreadable(Path(e.filename), e, refused)):
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
                    _note_unreadable(path, e, refused)
                    continue
                if is_file and top is folder and not path.is_symlink():
                    own[real / path.name] = path
                elif is_file:
                    linked.append(path)
                if len(own) + len(linked) > MAX_FILES:
                    raise FileLayoutError(f"{folder} holds more than {MAX_FILES:,} files.", "a folder of mice")
    return [*own.values(), *(path for path in linked if path.resolve() not in own)]


def _note_unreadable(path: Path, error: OSError, refused: _Refused) -> None:
    """Note that ``path`` could not be read, if it may belong to a scan; for a series, its folder once."""
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return  # removed meanwhile
    kind = next((kind for kind, suffixes in SUFFIXES.items() if path.name.lower().endswith(suffixes)), None)
    is_other = kind is None and path.suffix[1:].isalpha() and path.suffix.lower() not in ARCHIVE_SUFFIXES
    if is_other or MASK_NAME.search(make_scan_name(path.name)):
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
            r"(\.(nii|hdr|img))?\.gz$|\.(nii|seq\.nrrd|nrrd|nhdr|mha|mhd|hdr|h5|hdf5?|mat|dcm|ima|fdf|img|zip|pvdatasets)$",
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
        keep_alive(Path(temporary)),
    ):
        found: list[FoundScan] = []
        refused: list[RefusedInput] = []
        whole = [p for p in inputs if not (_is_half(p) and find_pair_header(p) in inputs)]
        for k, path in enumerate(whole):
            items = list(_find_in_path(path, Path(temporary) / str(k)))
            others = [item for item in items if isinstance(item, LeftOutFile)]
            if len(others) == len(items):
                items.append(_refuse(path, _make_nothing_error(path, others), path))
            found += [item for item in items if isinstance(item, FoundScan)]
            refused += [item for item in items if isinstance(item, RefusedInput)]
            if left_out is not None:
                left_out += others
        found = list({_identify(scan.paths): scan for scan in reversed(found)}.values())[::-1]  # links of inputs
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
    inner = r"[\\/](?:in\d+[\\/]\w+|mousecmr-unpacked-\w+[\\/]\d+(?:[\\/]\d+)?)(?:[\\/]|\b)"
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
    archives: list[Path] = []
    with suppress(FileLayoutError):  # too many files: _try_find returns the error
        archives = sorted(p for p in _list_files(path, {}) if p.suffix.lower() in ARCHIVE_SUFFIXES)
    for item in _try_find(path, scratch, path):
        if not (archives and isinstance(item, RefusedInput) and item.path == path):  # nothing but archives
            yield item
    for k, archive in enumerate(archives):
        yield from _try_find(archive, scratch / str(k), path)


def _try_find(path: Path, scratch: Path, base: Path) -> list[_Item]:
    """Return the scans in a file, in a folder outside its archives, or in an archive, read in a child process."""
    try:
        return read_in_child(_find_or_unpack, path.name, path, scratch, base)
    except MouseCMRError as e:
        error = e
    except OSError as e:
        error = make_read_error(e.filename or path, e, READABLE_FORMATS)
    except Exception as e:  # no error of one input may stop the rest
        error = MouseCMRError(f"{path.name}: {type(e).__name__}: {e}", READABLE_FORMATS)
    return [_refuse(path, error, base)]


def _has_zip_magic(path: Path) -> bool:
    with path.open("rb") as f:
        return f.read(len(ZIP_MAGIC)) == ZIP_MAGIC


def _find_or_unpack(path: Path, scratch: Path, base: Path) -> list[_Item]:
    """Find the scans. Those in an archive are named as if it were a folder of its name in ``base``."""
    left_out: list[LeftOutFile] = []
    failed: _Refused = {}
    if path.is_dir() or not (path.suffix.lower() in ARCHIVE_SUFFIXES or _has_zip_magic(path)):
        scans, into = _find_unnamed(path, left_out, failed), path
        refused = [_refuse(inner, error, base) for inner, error in failed.items()]
    else:
        into = unpack_archive(path, scratch / path.name, failed)
        scans = [_place_in_archive(scan, into, path, base) for scan in _find_unnamed(into, left_out, failed)]
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
