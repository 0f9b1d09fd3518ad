"""Bundles: any selection of files as one file, for machines without a network.

A bundle is an uncompressed zip file: ``bundle.json`` (dataset and version), ``files.csv`` (the rows of
the manifest, for people), ``files/<path>`` and ``weights/<name>/<file>``. What it says of itself is not
trusted: every byte is held against the manifest that this library, or the caller, already has.
"""

from __future__ import annotations

import csv
import io
import json
import re
import stat
import struct
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mousecmr_data._utils.atomic import atomic_path, get_free_bytes, translate_os_error
from mousecmr_data._utils.checksums import CHUNK_BYTES, Checksums, RunningChecksums, describe_mismatch
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.download.cache import (
    FileStatus,
    get_cache_root,
    get_dataset_folder,
    get_entry_statuses,
    get_file_path,
    get_weights_folder,
    make_lock_entry,
    make_weights_entry,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import MAX_UNKNOWN_BYTES, PartialFile, PartialInfo
from mousecmr_data.download.fetch import join_names
from mousecmr_data.errors import CacheError, ChecksumError, ManifestError, MissingDataError, MouseCMRError
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, load_manifest

# MERGED download.bundle: What may come out of a bundle: decided from its directory, before a byte is written.


BUNDLE_INFO = "bundle.json"
BUNDLE_FORMAT = 1
FILES_CSV = "files.csv"
FILES_PREFIX = "files/"
WEIGHTS_PREFIX = "weights/"
MAX_INFO_BYTES = 1 << 20
"""Bytes above which the describing members are no description."""

Member = tuple[zipfile.ZipInfo, FileEntry, bool]
"""A member, its entry in the manifest, and whether it is weights."""


def read_bundle_info(archive: zipfile.ZipFile, path: Path, given: Manifest | None) -> Manifest:
    """The manifest to hold the bundle against: ``given``, or the embedded one of the dataset it names."""
    try:
        about = json.loads(archive.read(BUNDLE_INFO))
        layout, name, version = about["format"], str(about["name"]), str(about["version"])
    except (KeyError, ValueError, TypeError) as e:
        raise ManifestError(f"{path} does not say what it holds ({e}).", f"a bundle with {BUNDLE_INFO}") from e
    if layout != BUNDLE_FORMAT:
        raise ManifestError(
            f"{path} has the bundle format {layout!r}.", f"format {BUNDLE_FORMAT}", "pip install -U mousecmr-data"
        )
    if given is None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or not (MANIFESTS_FOLDER / name).is_dir():
            raise ManifestError(
                f"{path} holds {name!r}, of which this library has no manifest.",
                "a known dataset: what a bundle says of itself is not trusted",
                "mousecmr bundle import FILE --source MANIFEST_FOLDER",
            )
        given = load_manifest(name)
    if (name, version) != (given.name, given.version):
        raise ManifestError(
            f"{path} holds {name} {version[:12]}.",
            f"{given.name} {given.version[:12]}",
            "mousecmr bundle import FILE --source MANIFEST_FOLDER  (of that version)",
        )
    return given


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a bundle with a member that no bundle has, before anything is read from it."""
    seen: set[str] = set()
    for info in archive.infolist():
        if reason := _find_member_problem(info, seen):
            raise _make_member_error(path, info, reason)
        seen.add(info.filename.casefold())
    total, size = sum(i.file_size for i in archive.infolist()), path.stat().st_size
    if total > size:  # members that overlap
        raise ManifestError(
            f"{path} is refused: {format_bytes(size)} cannot hold {format_bytes(total)}, stored as they are."
        )


def select_members(archive: zipfile.ZipFile, path: Path, manifest: Manifest) -> list[Member]:
    """The members to import. One that has no business in a bundle makes the whole bundle refused."""
    known: dict[str, tuple[FileEntry, bool]] = {FILES_PREFIX + e.path: (e, False) for e in manifest.files.values()}
    for name, weights in manifest.weights.items():
        entry = make_weights_entry(weights)
        known[f"{WEIGHTS_PREFIX}{name}/{entry.path}"] = (entry, True)
    members: list[Member] = []
    for info in archive.infolist():
        if info.filename in (BUNDLE_INFO, FILES_CSV):
            continue
        if info.filename not in known:
            raise _make_member_error(path, info, "is not in the manifest")
        entry, is_weights = known[info.filename]
        if info.file_size > (MAX_UNKNOWN_BYTES if entry.size is None else entry.size):
            raise _make_member_error(path, info, f"has {info.file_size:,} bytes, more than it can have")
        members.append((info, entry, is_weights))
    return members


def _make_member_error(path: Path, info: zipfile.ZipInfo, reason: str) -> ManifestError:
    return ManifestError(f"{path} is refused: the member {info.filename[:200]!r} {reason}.")


def _find_member_problem(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
    name, kind = info.filename, stat.S_IFMT(info.external_attr >> 16)
    if info.orig_filename != name or "\0" in name or "\\" in name:
        return "has a name with forbidden characters"
    if name.startswith("/") or ".." in PurePosixPath(name).parts or re.match(r"[A-Za-z]:", name):
        return "would be written outside of the cache"
    if kind not in (0, stat.S_IFREG) or info.is_dir():
        return "is not a plain file (a link, a folder or a device)"
    if name.casefold() in seen:
        return "is there twice"
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x1:
        return "is compressed or encrypted, which bundles never are"
    if info.file_size != info.compress_size:
        return "contradicts itself about its size"
    if name in (BUNDLE_INFO, FILES_CSV) and info.file_size > MAX_INFO_BYTES:
        return "is too large for a description"
    return None


_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, struct.error)
"""What zipfile raises at files that are none, or damaged ones."""
FIXED_DATE = (1980, 1, 1, 0, 0, 0)
"""The members' date: the same files make the same bundle, byte for byte."""


@dataclass(frozen=True)
class ImportedBundle:
    """What came out of a bundle."""

    dataset: str
    paths: dict[str, Path]
    """By mouse (or name of weights)."""
    new: tuple[str, ...]
    """Those that were not in the cache before."""


def create_bundle(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    path: str | Path = "mousecmr.zip",
    cache: str | Path | None = None,
    *,
    weights: Iterable[str] = (),
) -> Path:
    """Pack ``mice`` (all where None), and weights by name, from the cache into the bundle ``path``.

    Each file is hashed while it is packed; what does not match is an error and leaves no bundle.
    """
    target = Path(path).absolute()
    if target.exists():
        raise CacheError(f"{target} exists already.", "a name that is free", "choose another name or remove it")
    members = [
        (FILES_PREFIX + e.path, get_file_path(manifest, e, cache), e) for e in select_entries(manifest, mice).values()
    ]
    for name in weights:
        entry = make_weights_entry(manifest.weights[name])
        folder = get_weights_folder(manifest.weights[name], cache)
        members.append((f"{WEIGHTS_PREFIX}{name}/{entry.path}", folder / entry.path, entry))
    if missing := [e.mouse for _, p, e in members if not p.is_file()]:
        raise MissingDataError(
            f"{len(missing)} of {len(members)} files are not in the cache: {join_names(missing)}.",
            "files that were fetched",
            "mousecmr fetch, or name the mice to pack: mousecmr bundle create FILE Mouse1 Mouse2",
        )
    with (
        atomic_path(target) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        about = {"format": BUNDLE_FORMAT, "name": manifest.name, "version": manifest.version}
        archive.writestr(_make_member_info(BUNDLE_INFO), json.dumps(about, indent=1))
        rows = [(e, _pack_member(archive, name, p, e)) for name, p, e in members]
        archive.writestr(_make_member_info(FILES_CSV), _format_rows(rows))
    return target


def import_bundle(
    path: str | Path, cache: str | Path | None = None, *, manifest: Manifest | None = None
) -> ImportedBundle:
    """Unpack a bundle into the cache. Files that are there and verified are left alone.

    ``manifest``: what the bytes are held against; where None, the embedded manifest of the dataset that
    the bundle names. Raises ManifestError for a file that is no bundle or tries something, ChecksumError
    for wrong bytes (after the others were imported); nothing wrong gets into the cache.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingDataError(f"There is no file {path}.", "a bundle", "mousecmr bundle create FILE")
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive, path)
            known = read_bundle_info(archive, path, manifest)
            return _import_members(archive, select_members(archive, path, known), known, cache)
    except MouseCMRError:
        raise
    except _ZIP_ERRORS as e:
        raise ManifestError(
            f"{path} is not a bundle, or a damaged one ({e}).", "a file that `mousecmr bundle create` wrote"
        ) from e


def _import_members(
    archive: zipfile.ZipFile,
    members: list[tuple[zipfile.ZipInfo, FileEntry, bool]],
    manifest: Manifest,
    cache: str | Path | None,
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
    for info, entry, is_weights in members:
        folder = (
            get_weights_folder(manifest.weights[entry.mouse], cache)
            if is_weights
            else get_dataset_folder(manifest, cache)
        )
        try:
            came, reason = _unpack_member(archive, info, entry, folder)
        except OSError as e:
            PartialFile(folder / entry.path).discard()
            raise translate_os_error(e, folder / entry.path) from e
        if reason:
            wrong.append(f"  {entry.mouse}: {reason}")
            continue
        paths[entry.mouse] = folder / entry.path
        new += [entry.mouse] if came else []
    if wrong:
        raise ChecksumError(
            "\n".join([f"{len(wrong)} of {len(members)} files of {archive.filename} are not what they claim:", *wrong]),
            f"the bytes that the manifest of {manifest.name} names; the other files were imported",
            "mousecmr bundle create, again, on the machine it came from",
        )
    return ImportedBundle(manifest.name, paths, tuple(new))


def _unpack_member(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry, folder: Path
) -> tuple[bool, str | None]:
    """Whether the file is new in the cache, and what is wrong with it."""
    target = folder / entry.path
    with hold_lock(folder, entry.path):
        states = get_entry_statuses(folder, {entry.mouse: entry})
        if states[entry.mouse] is FileStatus.VERIFIED:
            return False, None
        partial = PartialFile(target)
        partial.recover()
        partial.start(PartialInfo("bundle", None, info.file_size))
        running = RunningChecksums(info.file_size)
        try:
            with partial.content.open("wb") as f:
                for data in _read_member(archive, info):
                    f.write(data)
                    running.update(data)
        except _DamagedMember as e:
            partial.discard()
            return False, str(e)
        sums = running.finish()
        if sums is None or not sums.matches(entry):
            partial.discard()
            return False, describe_mismatch(sums, entry) if sums else "it ends early"
        partial.move_content(partial.staged)
        partial.finish()
        update_lockfile(folder, {entry.path: make_lock_entry(target.stat(), sums)})
        return True, None


class _DamagedMember(Exception):
    """A member cannot be read: to be told from a target that cannot be written."""


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as packed:
            while data := packed.read(CHUNK_BYTES):
                yield data
    except _ZIP_ERRORS as e:
        raise _DamagedMember(str(e)) from e


def _pack_member(archive: zipfile.ZipFile, name: str, path: Path, entry: FileEntry) -> Checksums:
    info = _make_member_info(name)
    info.file_size = path.stat().st_size
    running = RunningChecksums(info.file_size)
    with path.open("rb") as f, archive.open(info, "w") as packed:
        while data := f.read(CHUNK_BYTES):
            packed.write(data)
            running.update(data)
    sums = running.finish()
    if sums is None or not sums.matches(entry):
        what = describe_mismatch(sums, entry) if sums else "it changed while it was read"
        raise ChecksumError(
            f"{path} is damaged ({what}); no bundle was made.", None, f"mousecmr verify --repair {entry.mouse}"
        )
    return sums


def _make_member_info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, FIXED_DATE)
    info.external_attr = 0o100644 << 16
    return info


def _format_rows(rows: list[tuple[FileEntry, Checksums]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mouse", "path", "git_blob_sha1", "sha256", "size"])
    writer.writerows([e.mouse, e.path, s.git_blob_sha1, s.sha256, s.size] for e, s in rows)
    return text.getvalue()
