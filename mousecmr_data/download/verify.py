"""Verify: hash every file again, whatever the stamps say, and repair what is bad."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from mousecmr_data._utils.checksums import compute_checksums, describe_mismatch
from mousecmr_data._utils.locks import LOCKS
from mousecmr_data._utils.parallel import run_in_threads
from mousecmr_data._utils.progress import ProgressEvent, ProgressOption, format_bytes, open_progress
from mousecmr_data.download.cache import (
    LOCKFILE,
    LockEntry,
    get_dataset_folder,
    make_lock_entry,
    read_lockfile,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import PartialFile
from mousecmr_data.download.errors import Cancelled, TransferError
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.http import HttpClient
from mousecmr_data.download.retry import DEFAULT_RETRY_POLICY, HostLimiter, RetryPolicy, retry
from mousecmr_data.download.sources import is_offline, redact_url
from mousecmr_data.errors import MissingDataError, MouseCMRError
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, Weights, load_manifest

# MERGED download.verify: The upstream watch: do the pinned files still answer? Asks with HEAD, downloads nothing.


@dataclass(frozen=True)
class UpstreamStatus:
    """What the host said of one pinned URL."""

    name: str
    url: str
    answers: bool
    size: int | None
    """Bytes, where the host told."""
    trouble: str = ""


def check_upstream(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    workers: int = 4,
    offline: bool | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> tuple[UpstreamStatus, ...]:
    """Ask the pinned URL (never a mirror) of each mouse, and of the weights where all mice are asked."""
    if is_offline(offline):
        raise MissingDataError("The upstream check needs a network.", None, "unset MOUSECMR_OFFLINE")
    items: list[FileEntry | Weights] = list(select_entries(manifest, mice).values())
    if mice is None:
        items += manifest.weights.values()
    results: dict[int, UpstreamStatus] = {}
    here, hosts, stop = threading.local(), HostLimiter(), threading.Event()

    def one(number: int) -> None:
        if not hasattr(here, "web"):
            here.web = HttpClient(retry_policy)
        results[number] = _check_url(manifest, items[number], here.web, retry_policy, hosts, stop)

    run_in_threads(one, range(len(items)), workers, stop)
    return tuple(results[n] for n in range(len(items)))


def _check_url(
    manifest: Manifest,
    item: FileEntry | Weights,
    web: HttpClient,
    retry_policy: RetryPolicy,
    hosts: HostLimiter,
    stop: threading.Event,
) -> UpstreamStatus:
    name = item.mouse if isinstance(item, FileEntry) else item.name
    url = manifest.file_url(item)
    if not url:
        return UpstreamStatus(name, url, False, None, "the manifest names no URL")

    def attempt() -> int | None:
        with web.get(url, method="HEAD") as answer:
            length = answer.headers.get("content-length", "")
            return int(length) if length.isdigit() else None

    try:
        size = retry(attempt, url, retry_policy, hosts, stop)
    except TransferError as e:
        return UpstreamStatus(name, redact_url(url), False, None, str(e))
    trouble = f"{size:,} bytes instead of {item.size:,}" if size and item.size and size != item.size else ""
    return UpstreamStatus(name, redact_url(url), not trouble, size, trouble)


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
class VerifyResult:
    """One file's verdict."""

    mouse: str | None
    """None for an unknown file."""
    path: Path
    verdict: Verdict
    detail: str = ""
    stamp: LockEntry | None = None
    """What its bytes add up to, where it could be read."""
    repaired: bool = False

    @property
    def has_problem(self) -> bool:
        """Whether the cohort is the worse for it: an unknown file hurts nobody."""
        return self.verdict not in (Verdict.OK, Verdict.UNKNOWN)


def verify_files(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    repair: bool = False,
    workers: int = min(4, os.cpu_count() or 1),
    progress: ProgressOption = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> tuple[VerifyResult, ...]:
    """A verdict for each of ``mice`` (all where None, and then for unknown files in the folder too).

    With ``repair`` what is not OK is fetched again, and only that: a damaged file is set aside under a
    hidden name and removed when its replacement is there. Errors are those of
    :func:`~mousecmr_data.download.fetch.fetch_files`; the record is brought up to date before.
    """
    folder = get_dataset_folder(manifest, cache)
    entries = select_entries(manifest, mice)
    verdicts = _hash_files(manifest, folder, entries, workers, progress)
    stamps = {entries[v.mouse].path: v.stamp for v in verdicts if v.mouse and v.stamp and not v.has_problem}
    bad = [v for v in verdicts if v.has_problem and v.mouse]
    if folder.is_dir():
        update_lockfile(folder, stamps, forget=[entries[v.mouse].path for v in bad if v.mouse])
    if mice is None:
        verdicts += _find_unknown_files(manifest, folder)
    if not repair or not bad:
        return tuple(verdicts)
    names = [v.mouse for v in bad if v.mouse]
    fetch_files(manifest, names, cache=cache, workers=workers, progress=progress, retry_policy=retry_policy)
    return tuple(_make_repaired_result(v, entries, folder) if v.has_problem else v for v in verdicts)


def _make_repaired_result(was: VerifyResult, entries: dict[str, FileEntry], folder: Path) -> VerifyResult:
    """The verdict after a repair that did not fail."""
    return replace(
        was,
        verdict=Verdict.OK,
        detail=f"repaired; was {was.verdict}: {was.detail}".rstrip(": "),
        stamp=read_lockfile(folder).get(entries[was.mouse or ""].path),
        repaired=True,
    )


def _hash_files(
    manifest: Manifest, folder: Path, entries: dict[str, FileEntry], workers: int, progress: ProgressOption
) -> list[VerifyResult]:
    results: dict[str, VerifyResult] = {}
    others = _list_known_checksums(manifest, folder)
    stop = threading.Event()
    sizes = {n: (folder / e.path).stat().st_size for n, e in entries.items() if (folder / e.path).is_file()}

    def check() -> None:
        if stop.is_set():
            raise Cancelled

    with open_progress(progress) as tell:

        def one(name: str) -> None:
            size = sizes.get(name, 0)
            tell(ProgressEvent("start", name, total=size))
            tell(ProgressEvent("bytes", name, 0, size))
            path = folder / entries[name].path
            try:
                stat = path.stat()
                stamp = make_lock_entry(stat, compute_checksums(path, check))
                results[name] = _judge_file(entries[name], path, stamp, others)
            except (FileNotFoundError, NotADirectoryError):
                results[name] = VerifyResult(name, path, Verdict.MISSING, _describe_partial(path))
            except OSError as e:
                results[name] = VerifyResult(name, path, Verdict.UNREADABLE, e.strerror or type(e).__name__)
            tell(ProgressEvent("done", name, size, size))

        total = sum(sizes.values())
        tell(
            ProgressEvent("plan", total=total, text=f"Hashing {len(sizes)} files, {format_bytes(total)}, in {folder}.")
        )
        run_in_threads(one, entries, workers, stop)
        tell(ProgressEvent("end"))
    return [results[name] for name in entries]


def _judge_file(entry: FileEntry, path: Path, stamp: LockEntry, others: dict[str, str]) -> VerifyResult:
    sums = stamp.to_checksums
    if sums.matches(entry):
        return VerifyResult(entry.mouse, path, Verdict.OK, stamp=stamp)
    detail = describe_mismatch(sums, entry)
    owner = others.get(sums.git_blob_sha1) or others.get(sums.sha256)
    if owner is None:
        return VerifyResult(entry.mouse, path, Verdict.CORRUPT, detail, stamp)
    foreign = owner.startswith("version ")
    verdict = Verdict.WRONG_VERSION if foreign else Verdict.CORRUPT
    return VerifyResult(entry.mouse, path, verdict, f"holds the bytes of {owner}", stamp)


def _list_known_checksums(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Whose bytes a checksum is: of other versions known here, and of other mice of this one."""
    owners: dict[str, str] = {}
    for record_file in folder.parent.glob(f"*/{LOCKFILE}"):
        if record_file.parent != folder:
            for path, stamp in read_lockfile(record_file.parent).items():
                text = f"version {record_file.parent.name}, {path}"
                owners |= {stamp.sha256: text, stamp.git_blob_sha1: text}
    for other in _load_shipped_manifests():
        if (other.name, other.version) != (manifest.name, manifest.version):
            for entry in other.files.values():
                text = f"version {other.version[:12]} of {other.name}, {entry.mouse}"
                owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), text)
    for entry in manifest.files.values():
        owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), entry.mouse)
    return owners


def _load_shipped_manifests() -> list[Manifest]:
    found = []
    for path in sorted(MANIFESTS_FOLDER.glob("*/dataset.toml")):
        try:
            found.append(load_manifest(path.parent.name))
        except MouseCMRError:
            continue  # not this cache's fault
    return found


def _find_unknown_files(manifest: Manifest, folder: Path) -> list[VerifyResult]:
    """Files below ``folder`` that neither the manifest nor the cache itself has put there."""
    named = {folder / e.path for e in manifest.files.values()}
    ours = {f".{p.name}.{end}" for p in named for end in ("part", "corrupt")} | {LOCKS}
    found = []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).parts
        if path.is_dir() and not path.is_symlink():
            continue
        if path in named or inside[0] in (LOCKFILE, f".{LOCKFILE}.new") or ours & set(inside):
            continue
        found.append(VerifyResult(None, path, Verdict.UNKNOWN, "not in the manifest"))
    return found


def _describe_partial(path: Path) -> str:
    length = PartialFile(path).get_length()
    return f"{format_bytes(length)} of an interrupted download are here; mousecmr fetch goes on" if length else ""
