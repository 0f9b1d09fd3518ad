"""Pack a selection of files into one bundle, and unpack it on a machine without a network.

A bundle is an uncompressed zip file: ``bundle.json`` (dataset and version), ``files.csv`` (the rows of the manifest,
for people), ``files/<path>`` and ``weights/<name>/<file>``. Its own description is not trusted: every byte is verified
with the manifest that this library, or the caller, already has.
"""

from __future__ import annotations

import json
import re
import shlex
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath

from mousecmr_data._utils.atomic import get_free_bytes, translate_os_error
from mousecmr_data._utils.checksums import CHUNK_BYTES, Checksums, RunningChecksums, describe_mismatch
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.outputs import check_file, write_file
from mousecmr_data._utils.text import format_bytes, join_names
from mousecmr_data.download.cache import (
    FileStatus,
    get_cache_root,
    get_dataset_folder,
    get_entry_statuses,
    get_weights_folder,
    list_input_folders,
    make_command,
    make_fetch_command,
    make_lock_entry,
    make_weights_entry,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import MAX_UNKNOWN_BYTES, PartialFile, PartialInfo
from mousecmr_data.errors import CacheError, ChecksumError, ManifestError, MissingDataError, MouseCMRError
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, format_files_csv, load_manifest

BUNDLE_INFO = "bundle.json"
BUNDLE_FORMAT = 1
FILES_CSV = "files.csv"
FILES_PREFIX = "files/"
WEIGHTS_PREFIX = "weights/"
MAX_INFO_BYTES = 1 << 20
"""Maximum size of ``bundle.json`` and ``files.csv``, in bytes."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""Date of all members, so that the same files make the same bundle, byte for byte."""
ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, struct.error)
"""Exceptions of zipfile for damaged files and files of other formats."""

Member = tuple[zipfile.ZipInfo, FileEntry, Path]
"""A member, its entry in the manifest, and the folder of the cache that the entry's path is relative to."""


def read_bundle_info(archive: zipfile.ZipFile, path: Path, manifest: Manifest | None) -> Manifest:
    """Return the manifest to verify the bundle with: ``manifest``, or the embedded one of the bundle's dataset."""
    try:
        info = json.loads(archive.read(BUNDLE_INFO))
        layout, name, version = info["format"], str(info["name"]), str(info["version"])
    except (KeyError, ValueError, TypeError) as e:
        raise ManifestError(f"{path} does not describe its content ({e}).", f"a bundle with {BUNDLE_INFO}") from e
    if layout != BUNDLE_FORMAT:
        raise ManifestError(
            f"{path} has the bundle format {layout!r}.", f"format {BUNDLE_FORMAT}", "pip install -U mousecmr-data"
        )
    if manifest is None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not (MANIFESTS_FOLDER / name).is_dir():
            raise ManifestError(
                f"{path} holds {name!r}, for which this library has no manifest.",
                "a known dataset: a bundle's own description is not trusted",
                "mousecmr bundle import FILE --source MANIFEST_FOLDER",
            )
        manifest = load_manifest(name)
    if (name, version) != (manifest.name, manifest.version):
        raise ManifestError(
            f"{path} holds {name} {version[:12]}.",
            f"{manifest.name} {manifest.version[:12]}",
            "mousecmr bundle import FILE --source MANIFEST_FOLDER  (of that version)",
        )
    return manifest


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Reject a bundle with a member that is not allowed in bundles, before anything is read from it."""
    names: set[str] = set()
    for info in archive.infolist():
        if reason := _find_member_problem(info, names):
            raise _make_member_error(path, info, reason)
        names.add(info.filename.casefold())
    total, size = sum(i.file_size for i in archive.infolist()), path.stat().st_size
    if total > size:  # members that overlap
        raise ManifestError(
            f"{path} is rejected: a file of {format_bytes(size)} cannot hold {format_bytes(total)} uncompressed."
        )


def list_members(
    manifest: Manifest, mice: Iterable[str] | str | None, weights: Iterable[str], cache: str | Path | None
) -> dict[str, tuple[FileEntry, Path]]:
    """Return the entry and cache folder of each file, by its name in a bundle."""
    folder = get_dataset_folder(manifest, cache)
    members = {FILES_PREFIX + e.path: (e, folder) for e in select_entries(manifest, mice).values()}
    for name in weights:
        entry = make_weights_entry(manifest.weights[name])
        folder = get_weights_folder(manifest.weights[name], cache)
        members[f"{WEIGHTS_PREFIX}{name}/{entry.path}"] = (entry, folder)
    return members


def select_members(archive: zipfile.ZipFile, path: Path, manifest: Manifest, cache: str | Path | None) -> list[Member]:
    """Return the members to import; a member that the manifest does not name rejects the whole bundle."""
    allowed = list_members(manifest, None, manifest.weights, cache)
    members: list[Member] = []
    for info in archive.infolist():
        if info.filename in (BUNDLE_INFO, FILES_CSV):
            continue
        if info.filename not in allowed:
            raise _make_member_error(path, info, "is not in the manifest")
        entry, folder = allowed[info.filename]
        if info.file_size > (MAX_UNKNOWN_BYTES if entry.size is None else entry.size):
            raise _make_member_error(path, info, f"has {info.file_size:,} bytes, more than it can have")
        members.append((info, entry, folder))
    return members


def _make_member_error(path: Path, info: zipfile.ZipInfo, reason: str) -> ManifestError:
    return ManifestError(f"{path} is rejected: the member {info.filename[:200]!r} {reason}.")


def _find_member_problem(info: zipfile.ZipInfo, names: set[str]) -> str | None:
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if info.orig_filename != name or "\0" in name or "\\" in name:
        return "has a name with forbidden characters"
    if name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
        return "would be written outside of the cache"
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        return "is not a plain file (a link, a folder or a device)"
    if name.casefold() in names:
        return "appears twice"
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        return "is compressed or encrypted, which bundles never are"
    if info.file_size != info.compress_size:
        return "has two different sizes"
    if name in (BUNDLE_INFO, FILES_CSV) and info.file_size > MAX_INFO_BYTES:
        return "is too large for a description"
    return None


@dataclass(frozen=True)
class ImportedBundle:
    """The result of an import."""

    dataset: str
    paths: dict[str, Path]
    """By mouse (or name of weights)."""
    new: tuple[str, ...]
    """Names of the files that were not in the cache before."""


def create_bundle(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    path: str | Path = "mousecmr.zip",
    cache: str | Path | None = None,
    *,
    weights: Iterable[str] = (),
    overwrite: bool = False,
) -> Path:
    """Pack ``mice`` (all if None), and weights by name, from the cache into the bundle ``path``.

    Each file is hashed while it is packed; if one does not match, an error is raised and no bundle is left. Raises
    OutputError if ``path`` exists, unless this library wrote it and nobody edited it, or with ``overwrite``.
    """
    target = Path(path).absolute()
    members = list_members(manifest, mice, weights, cache)
    check_file(target, overwrite=overwrite, inputs=list_input_folders(manifest, cache))
    if missing := [e.mouse for e, folder in members.values() if not (folder / e.path).is_file()]:
        raise MissingDataError(
            f"{len(missing)} of {len(members)} files are not in the cache: {join_names(missing)}.",
            "files that were fetched",
            f"{make_fetch_command(manifest, cache, missing)}; or name the mice to pack: "
            "mousecmr bundle create FILE Mouse1 Mouse2",
        )
    with (
        write_file(target, overwrite=overwrite) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        info = {"format": BUNDLE_FORMAT, "name": manifest.name, "version": manifest.version}
        archive.writestr(_make_member_info(BUNDLE_INFO), json.dumps(info, indent=1))
        rows = []
        for name, (entry, folder) in members.items():
            repair = make_command(f"verify --repair {shlex.quote(entry.mouse)}", manifest, cache)
            if name.startswith(WEIGHTS_PREFIX):
                again = make_fetch_command(manifest, cache, [entry.mouse])
                repair = f"rm {shlex.quote(str(folder / entry.path))}; {again}"
            sums = _pack_member(archive, name, folder / entry.path, entry, repair)
            rows.append(replace(entry, **asdict(sums)))
        archive.writestr(_make_member_info(FILES_CSV), format_files_csv(rows))
    return target


def import_bundle(
    path: str | Path, cache: str | Path | None = None, *, manifest: Manifest | None = None
) -> ImportedBundle:
    """Unpack a bundle into the cache. Files that exist and are verified are not changed.

    ``manifest``: the manifest to verify with; if None, the embedded manifest of the dataset that the bundle names.
    Raises ManifestError for a file that is not a bundle or has members that are not allowed, ChecksumError for wrong
    bytes (after the other files were imported). No wrong bytes get into the cache.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}.", "a bundle", "mousecmr bundle create FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, path)
            manifest = read_bundle_info(archive, path, manifest)
            return _import_members(archive, select_members(archive, path, manifest, cache), manifest, cache)
    except MouseCMRError:
        raise
    except ZIP_ERRORS as e:
        raise ManifestError(
            f"{path} is not a bundle, or is damaged ({e}).", "a file that `mousecmr bundle create` wrote"
        ) from e


def _import_members(
    archive: zipfile.ZipFile, members: list[Member], manifest: Manifest, cache: str | Path | None
) -> ImportedBundle:
    root = get_cache_root(cache)
    needed = sum(info.file_size for info, _, _ in members)
    if needed > (free := get_free_bytes(root)):
        raise CacheError(
            f"The bundle holds {format_bytes(needed)}, but {root} has {format_bytes(free)} free.",
            None,
            "free some space",
        )
    paths: dict[str, Path] = {}
    new, wrong = [], []
    for info, entry, folder in members:
        target = folder / entry.path
        try:
            is_new, reason = _unpack_member(archive, info, entry, folder)
        except OSError as e:
            PartialFile(target).discard()
            raise translate_os_error(e, target) from e
        if reason:
            wrong.append(f"  {entry.mouse}: {reason}")
            continue
        paths[entry.mouse] = target
        if is_new:
            new.append(entry.mouse)
    if wrong:
        raise ChecksumError(
            "\n".join([f"{len(wrong)} of {len(members)} files of {archive.filename} are not valid:", *wrong]),
            f"the bytes of the manifest of {manifest.name}; the other files were imported",
            "run mousecmr bundle create again, on the machine that made the bundle",
        )
    return ImportedBundle(manifest.name, paths, tuple(new))


def _unpack_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry, folder: Path
) -> tuple[bool, str | None]:
    """Unpack one member; return whether the file is new in the cache, and what is wrong with it."""
    target = folder / entry.path
    with hold_lock(folder, entry.path):
        if get_entry_statuses(folder, {entry.mouse: entry})[entry.mouse] is FileStatus.VERIFIED:
            return False, None
        partial = PartialFile(target)
        partial.recover()
        partial.start(PartialInfo("bundle", None, info.file_size))
        running = RunningChecksums(info.file_size)
        try:
            with partial.open_content() as file:
                for data in _read_member(archive, info):
                    file.write(data)
                    running.update(data)
        except _DamagedMember as e:
            partial.discard()
            return False, str(e)
        checksums = running.finish()
        if checksums is None or not checksums.matches(entry):
            partial.discard()
            return False, describe_mismatch(checksums, entry) if checksums else "it ends early"
        partial.move_content(partial.staged)
        partial.finish()
        update_lockfile(folder, {entry.path: make_lock_entry(target.stat(), checksums)})
        return True, None


class _DamagedMember(Exception):
    """A member cannot be read, as opposed to a target that cannot be written."""


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as packed:
            while data := packed.read(CHUNK_BYTES):
                yield data
    except ZIP_ERRORS as e:
        raise _DamagedMember(str(e)) from e


def _pack_member(archive: zipfile.ZipFile, name: str, path: Path, entry: FileEntry, repair: str) -> Checksums:
    """Write a file to the archive and return its checksums; ``repair`` is the next step if they are wrong."""
    info = _make_member_info(name)
    info.file_size = path.stat().st_size
    running = RunningChecksums(info.file_size)
    with path.open("rb") as file, archive.open(info, "w") as packed:
        while data := file.read(CHUNK_BYTES):
            packed.write(data)
            running.update(data)
    checksums = running.finish()
    if checksums is None or not checksums.matches(entry):
        damage = describe_mismatch(checksums, entry) if checksums else "it changed while it was read"
        raise ChecksumError(f"{path} is damaged ({damage}); no bundle was made.", None, repair)
    return checksums


def _make_member_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.external_attr = 0o100644 << 16
    return info
