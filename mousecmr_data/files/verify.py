"""Verify: hash every file again, whatever the stamps say, and repair what is bad."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mousecmr_data.errors import MouseCMRError
from mousecmr_data.files import cache as places
from mousecmr_data.files import digest, fetch, lock, pool, record, state, watch
from mousecmr_data.files.fault import Stopped
from mousecmr_data.files.partial import Partial
from mousecmr_data.files.patience import PATIENCE, Patience
from mousecmr_data.files.progress import Event, Progress, human
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, load_manifest


class Verdict(StrEnum):
    """What a file turned out to be."""

    OK = "ok"
    MISSING = "missing"
    CORRUPT = "corrupt"
    """Bytes that no manifest known here names."""
    WRONG_VERSION = "wrong version"
    """Bytes that another version of the dataset names, by an embedded manifest or this cache's records."""
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    """A file that the manifest does not name. It is reported and left alone."""


@dataclass(frozen=True)
class Verified:
    """One file's verdict."""

    mouse: str | None
    """None for an unknown file."""
    path: Path
    verdict: Verdict
    detail: str = ""
    stamp: record.Stamp | None = None
    """What its bytes add up to, where it could be read."""
    repaired: bool = False

    @property
    def trouble(self) -> bool:
        """Whether the cohort is the worse for it: an unknown file hurts nobody."""
        return self.verdict not in (Verdict.OK, Verdict.UNKNOWN)


def verify(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    repair: bool = False,
    jobs: int = min(4, os.cpu_count() or 1),
    progress: Progress = None,
    patience: Patience = PATIENCE,
) -> tuple[Verified, ...]:
    """A verdict for each of ``mice`` (all where None, and then for unknown files in the folder too).

    With ``repair`` what is not OK is fetched again, and only that: a damaged file is set aside under a
    hidden name and removed when its replacement is there. Errors are those of
    :func:`~mousecmr_data.files.fetch.fetch_report`; the record is brought up to date before.
    """
    folder = places.folder(manifest, cache)
    entries = state.select(manifest, mice)
    verdicts = _verdicts(manifest, folder, entries, jobs, progress)
    stamps = {entries[v.mouse].path: v.stamp for v in verdicts if v.mouse and v.stamp and not v.trouble}
    bad = [v for v in verdicts if v.trouble and v.mouse]
    if folder.is_dir():
        record.update(folder, stamps, forget=[entries[v.mouse].path for v in bad if v.mouse])
    if mice is None:
        verdicts += _unknown(manifest, folder)
    if not repair or not bad:
        return tuple(verdicts)
    names = [v.mouse for v in bad if v.mouse]
    fetch.fetch_report(manifest, names, cache=cache, jobs=jobs, progress=progress, patience=patience)
    return tuple(_after(v, entries, folder) if v.trouble else v for v in verdicts)


def _after(was: Verified, entries: dict[str, FileEntry], folder: Path) -> Verified:
    """The verdict after a repair that did not fail."""
    return replace(
        was,
        verdict=Verdict.OK,
        detail=f"repaired; was {was.verdict}: {was.detail}".rstrip(": "),
        stamp=record.read(folder).get(entries[was.mouse or ""].path),
        repaired=True,
    )


def _verdicts(
    manifest: Manifest, folder: Path, entries: dict[str, FileEntry], jobs: int, progress: Progress
) -> list[Verified]:
    results: dict[str, Verified] = {}
    others = _others(manifest, folder)
    stop = threading.Event()
    sizes = {n: (folder / e.path).stat().st_size for n, e in entries.items() if (folder / e.path).is_file()}

    def check() -> None:
        if stop.is_set():
            raise Stopped

    with watch.watching(progress) as tell:

        def one(name: str) -> None:
            size = sizes.get(name, 0)
            tell(Event("start", name, total=size))
            tell(Event("bytes", name, 0, size))
            path = folder / entries[name].path
            try:
                stat = path.stat()
                stamp = record.stamp(stat, digest.of_file(path, check))
                results[name] = _verdict(entries[name], path, stamp, others)
            except (FileNotFoundError, NotADirectoryError):
                results[name] = Verified(name, path, Verdict.MISSING, _remains(path))
            except OSError as e:
                results[name] = Verified(name, path, Verdict.UNREADABLE, e.strerror or type(e).__name__)
            tell(Event("done", name, size, size))

        total = sum(sizes.values())
        tell(Event("plan", total=total, text=f"Hashing {len(sizes)} files, {human(total)}, in {folder}."))
        pool.run(one, entries, jobs, stop)
        tell(Event("end"))
    return [results[name] for name in entries]


def _verdict(entry: FileEntry, path: Path, stamp: record.Stamp, others: dict[str, str]) -> Verified:
    sums = stamp.sums
    if sums.agree(entry):
        return Verified(entry.mouse, path, Verdict.OK, stamp=stamp)
    detail = digest.mismatch(sums, entry)
    owner = others.get(sums.git_blob_sha1) or others.get(sums.sha256)
    if owner is None:
        return Verified(entry.mouse, path, Verdict.CORRUPT, detail, stamp)
    foreign = owner.startswith("version ")
    verdict = Verdict.WRONG_VERSION if foreign else Verdict.CORRUPT
    return Verified(entry.mouse, path, verdict, f"holds the bytes of {owner}", stamp)


def _others(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Whose bytes a checksum is: of other versions known here, and of other mice of this one."""
    owners: dict[str, str] = {}
    for record_file in folder.parent.glob(f"*/{places.RECORD}"):
        if record_file.parent != folder:
            for path, stamp in record.read(record_file.parent).items():
                text = f"version {record_file.parent.name}, {path}"
                owners |= {stamp.sha256: text, stamp.git_blob_sha1: text}
    for other in _embedded():
        if (other.name, other.version) != (manifest.name, manifest.version):
            for entry in other.files.values():
                text = f"version {other.version[:12]} of {other.name}, {entry.mouse}"
                owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), text)
    for entry in manifest.files.values():
        owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), entry.mouse)
    return owners


def _embedded() -> list[Manifest]:
    found = []
    for path in sorted(MANIFESTS_FOLDER.glob("*/dataset.toml")):
        try:
            found.append(load_manifest(path.parent.name))
        except MouseCMRError:
            continue  # not this cache's fault
    return found


def _unknown(manifest: Manifest, folder: Path) -> list[Verified]:
    """Files below ``folder`` that neither the manifest nor the cache itself has put there."""
    named = {folder / e.path for e in manifest.files.values()}
    ours = {f".{p.name}.{end}" for p in named for end in ("part", "corrupt")} | {lock.LOCKS}
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_dir() and not path.is_symlink():
            continue
        if path in named or inside[0] in (places.RECORD, f".{places.RECORD}.new") or ours & set(inside):
            continue
        found.append(Verified(None, path, Verdict.UNKNOWN, "not in the manifest"))
    return found


def _remains(path: Path) -> str:
    length = Partial(path).length()
    return f"{human(length)} of an interrupted download are here; mousecmr fetch goes on" if length else ""
