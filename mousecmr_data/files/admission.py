"""What may come out of a bundle: decided from its directory, before a byte is written."""

from __future__ import annotations

import json
import re
import stat
import zipfile
from pathlib import Path, PurePosixPath

from mousecmr_data.errors import ManifestError
from mousecmr_data.files import cache as places
from mousecmr_data.files.download import CEILING
from mousecmr_data.files.progress import human
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, load_manifest

DESCRIPTION = "bundle.json"
FORMAT = 1
ROWS = "files.csv"
MEMBERS = "files/"
WEIGHTS = "weights/"
SMALL = 1 << 20
"""Bytes above which the describing members are no description."""

Member = tuple[zipfile.ZipInfo, FileEntry, bool]
"""A member, its entry in the manifest, and whether it is weights."""


def description(archive: zipfile.ZipFile, path: Path, given: Manifest | None) -> Manifest:
    """The manifest to hold the bundle against: ``given``, or the embedded one of the dataset it names."""
    try:
        about = json.loads(archive.read(DESCRIPTION))
        layout, name, version = about["format"], str(about["name"]), str(about["version"])
    except (KeyError, ValueError, TypeError) as e:
        raise ManifestError(f"{path} does not say what it holds ({e}).", f"a bundle with {DESCRIPTION}") from e
    if layout != FORMAT:
        raise ManifestError(
            f"{path} has the bundle format {layout!r}.", f"format {FORMAT}", "pip install -U mousecmr-data"
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


def check_form(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse a bundle with a member that no bundle has, before anything is read from it."""
    seen: set[str] = set()
    for info in archive.infolist():
        if reason := _bad_form(info, seen):
            raise _refusal(path, info, reason)
        seen.add(info.filename.casefold())
    total, size = sum(i.file_size for i in archive.infolist()), path.stat().st_size
    if total > size:  # members that overlap
        raise ManifestError(f"{path} is refused: {human(size)} cannot hold {human(total)}, stored as they are.")


def admitted(archive: zipfile.ZipFile, path: Path, manifest: Manifest) -> list[Member]:
    """The members to import. One that has no business in a bundle makes the whole bundle refused."""
    known: dict[str, tuple[FileEntry, bool]] = {MEMBERS + e.path: (e, False) for e in manifest.files.values()}
    for name, weights in manifest.weights.items():
        entry = places.weights_entry(weights)
        known[f"{WEIGHTS}{name}/{entry.path}"] = (entry, True)
    members: list[Member] = []
    for info in archive.infolist():
        if info.filename in (DESCRIPTION, ROWS):
            continue
        if info.filename not in known:
            raise _refusal(path, info, "is not in the manifest")
        entry, is_weights = known[info.filename]
        if info.file_size > (CEILING if entry.size is None else entry.size):
            raise _refusal(path, info, f"has {info.file_size:,} bytes, more than it can have")
        members.append((info, entry, is_weights))
    return members


def _refusal(path: Path, info: zipfile.ZipInfo, reason: str) -> ManifestError:
    return ManifestError(f"{path} is refused: the member {info.filename[:200]!r} {reason}.")


def _bad_form(info: zipfile.ZipInfo, seen: set[str]) -> str | None:
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
    if name in (DESCRIPTION, ROWS) and info.file_size > SMALL:
        return "is too large for a description"
    return None
