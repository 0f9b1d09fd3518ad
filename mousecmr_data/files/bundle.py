"""Bundles: any selection of files as one file, for machines without a network.

A bundle is an uncompressed zip file: ``bundle.json`` (dataset and version), ``files.csv`` (the rows of
the manifest, for people), ``files/<path>`` and ``weights/<name>/<file>``. What it says of itself is not
trusted: every byte is held against the manifest that this library, or the caller, already has.
"""

from __future__ import annotations

import csv
import io
import json
import struct
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mousecmr_data.errors import CacheError, ChecksumError, ManifestError, MissingDataError, MouseCMRError
from mousecmr_data.files import cache as places
from mousecmr_data.files import digest, disk, failure, lock, record, state
from mousecmr_data.files.admission import DESCRIPTION, FORMAT, MEMBERS, ROWS, WEIGHTS, admitted, check_form, description
from mousecmr_data.files.digest import CHUNK, Digest, Sums
from mousecmr_data.files.partial import Origin, Partial
from mousecmr_data.files.progress import human
from mousecmr_data.schema.manifest import FileEntry, Manifest

_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, struct.error)
"""What zipfile raises at files that are none, or damaged ones."""
LONG_AGO = (1980, 1, 1, 0, 0, 0)
"""The members' date: the same files make the same bundle, byte for byte."""


@dataclass(frozen=True)
class Imported:
    """What came out of a bundle."""

    dataset: str
    paths: dict[str, Path]
    """By mouse (or name of weights)."""
    new: tuple[str, ...]
    """Those that were not in the cache before."""


def create(
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
    members = [(MEMBERS + e.path, places.place(manifest, e, cache), e) for e in state.select(manifest, mice).values()]
    for name in weights:
        entry = places.weights_entry(manifest.weights[name])
        folder = places.weights_folder(manifest.weights[name], cache)
        members.append((f"{WEIGHTS}{name}/{entry.path}", folder / entry.path, entry))
    if missing := [e.mouse for _, p, e in members if not p.is_file()]:
        raise MissingDataError(
            f"{len(missing)} of {len(members)} files are not in the cache: {failure.listed(missing)}.",
            "files that were fetched",
            "mousecmr fetch, or name the mice to pack: mousecmr bundle create FILE Mouse1 Mouse2",
        )
    temporary = target.with_name(f".{target.name}.part")
    try:
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            about = {"format": FORMAT, "name": manifest.name, "version": manifest.version}
            archive.writestr(_member(DESCRIPTION), json.dumps(about, indent=1))
            rows = [(e, _pack(archive, name, p, e)) for name, p, e in members]
            archive.writestr(_member(ROWS), _csv(rows))
        temporary.replace(target)
    except OSError as e:
        raise disk.trouble(e, target) from e
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return target


def import_(path: str | Path, cache: str | Path | None = None, *, manifest: Manifest | None = None) -> Imported:
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
            check_form(archive, path)
            known = description(archive, path, manifest)
            return _import(archive, admitted(archive, path, known), known, cache)
    except MouseCMRError:
        raise
    except _DAMAGE as e:
        raise ManifestError(
            f"{path} is not a bundle, or a damaged one ({e}).", "a file that `mousecmr bundle create` wrote"
        ) from e


def _import(
    archive: zipfile.ZipFile,
    members: list[tuple[zipfile.ZipInfo, FileEntry, bool]],
    manifest: Manifest,
    cache: str | Path | None,
) -> Imported:
    root = places.root(cache)
    needed = sum(info.file_size for info, _, _ in members)
    if needed > (free := disk.free(root)):
        raise CacheError(
            f"The bundle holds {human(needed)}, but {root} has {human(free)} free.", None, "free some space"
        )
    paths: dict[str, Path] = {}
    new, wrong = [], []
    for info, entry, is_weights in members:
        folder = (
            places.weights_folder(manifest.weights[entry.mouse], cache)
            if is_weights
            else places.folder(manifest, cache)
        )
        try:
            came, reason = _unpack(archive, info, entry, folder)
        except OSError as e:
            Partial(folder / entry.path).discard()
            raise disk.trouble(e, folder / entry.path) from e
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
    return Imported(manifest.name, paths, tuple(new))


def _unpack(archive: zipfile.ZipFile, info: zipfile.ZipInfo, entry: FileEntry, folder: Path) -> tuple[bool, str | None]:
    """Whether the file is new in the cache, and what is wrong with it."""
    target = folder / entry.path
    with lock.of(folder, entry.path):
        states = state.of_entries(folder, {entry.mouse: entry})
        if states[entry.mouse] is state.FileState.VERIFIED:
            return False, None
        partial = Partial(target)
        partial.recover()
        partial.start(Origin("bundle", None, info.file_size))
        running = Digest(info.file_size)
        try:
            with partial.content.open("wb") as f:
                for data in _body(archive, info):
                    f.write(data)
                    running.update(data)
        except _Damaged as e:
            partial.discard()
            return False, str(e)
        sums = running.sums()
        if sums is None or not sums.agree(entry):
            partial.discard()
            return False, digest.mismatch(sums, entry) if sums else "it ends early"
        partial.deliver(partial.staged)
        partial.finish()
        record.update(folder, {entry.path: record.stamp(target.stat(), sums)})
        return True, None


class _Damaged(Exception):
    """A member cannot be read: to be told from a target that cannot be written."""


def _body(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    try:
        with archive.open(info) as packed:
            while data := packed.read(CHUNK):
                yield data
    except _DAMAGE as e:
        raise _Damaged(str(e)) from e


def _pack(archive: zipfile.ZipFile, name: str, path: Path, entry: FileEntry) -> Sums:
    info = _member(name)
    info.file_size = path.stat().st_size
    running = Digest(info.file_size)
    with path.open("rb") as f, archive.open(info, "w") as packed:
        while data := f.read(CHUNK):
            packed.write(data)
            running.update(data)
    sums = running.sums()
    if sums is None or not sums.agree(entry):
        what = digest.mismatch(sums, entry) if sums else "it changed while it was read"
        raise ChecksumError(
            f"{path} is damaged ({what}); no bundle was made.", None, f"mousecmr verify --repair {entry.mouse}"
        )
    return sums


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, LONG_AGO)
    info.external_attr = 0o100644 << 16
    return info


def _csv(rows: list[tuple[FileEntry, Sums]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["mouse", "path", "git_blob_sha1", "sha256", "size"])
    writer.writerows([e.mouse, e.path, s.git_blob_sha1, s.sha256, s.size] for e, s in rows)
    return text.getvalue()
