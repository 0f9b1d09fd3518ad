"""Verify files: hash each one again regardless of the lockfile, and repair bad ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path

from mousecmr_data._utils.atomic import PART
from mousecmr_data._utils.checksums import compute_checksums, describe_mismatch
from mousecmr_data._utils.locks import LOCKS
from mousecmr_data._utils.network import check_online
from mousecmr_data._utils.parallel import run_in_threads
from mousecmr_data._utils.progress import ProgressEvent, ProgressOption, open_progress
from mousecmr_data._utils.text import format_bytes, format_count
from mousecmr_data.download.cache import (
    EARLIER_LOCKFILE,
    LOCKFILE,
    LockEntry,
    get_dataset_folder,
    make_fetch_command,
    make_lock_entry,
    read_lockfile,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import PartialFile
from mousecmr_data.download.fetch import fetch_files
from mousecmr_data.download.http import (
    DEFAULT_RETRY_POLICY,
    HostLimiter,
    HttpClient,
    RetryPolicy,
    TransferError,
    parse_size,
    raise_if_stopped,
    retry,
)
from mousecmr_data.download.sources import check_url, redact_url
from mousecmr_data.errors import MouseCMRError
from mousecmr_data.schema.manifest import MANIFESTS_FOLDER, FileEntry, Manifest, Weights, load_manifest


@dataclass(frozen=True)
class UpstreamStatus:
    """The answer of the host to a request for one pinned URL."""

    name: str
    url: str
    answers: bool
    size: int | None
    """Bytes, if the host gave them."""
    trouble: str = ""


def check_upstream(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    workers: int = 4,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> tuple[UpstreamStatus, ...]:
    """Send HEAD requests to the pinned URLs (not mirrors) of ``mice``; if None, of all mice and of the weights."""
    check_online("The upstream check")
    items: list[FileEntry | Weights] = list(select_entries(manifest, mice).values())
    if mice is None:
        items += manifest.weights.values()
    results: dict[int, UpstreamStatus] = {}
    thread, hosts, stop = threading.local(), HostLimiter(), threading.Event()

    def request_size(url: str) -> int | None:
        if not hasattr(thread, "client"):
            thread.client = HttpClient(retry_policy)
        with closing(thread.client.get(url, method="HEAD")) as response:
            return parse_size(response.headers.get("content-length"))

    def check(number: int) -> None:
        item = items[number]
        name = item.mouse if isinstance(item, FileEntry) else item.name
        url, size, trouble = "", None, "the manifest names no URL"
        try:
            url = manifest.file_url(item)
            if url:
                check_url(url)
                size = retry(partial(request_size, url), url, retry_policy, hosts, stop)
                is_wrong = size and item.size and size != item.size
                trouble = f"{size:,} bytes instead of {item.size:,}" if is_wrong else ""
        except TransferError as e:
            trouble = str(e)
        except ValueError as e:  # of the URL
            trouble = e.found if isinstance(e, MouseCMRError) else f"its URL is not valid ({e})"
        results[number] = UpstreamStatus(name, redact_url(url) if url else "", not trouble, size, trouble)

    run_in_threads(check, range(len(items)), workers, stop)
    return tuple(results[n] for n in range(len(items)))


class Verdict(StrEnum):
    """The result of verifying a file."""

    OK = "ok"
    MISSING = "missing"
    CORRUPT = "corrupt"
    """Its bytes are in no known manifest, or are those of another mouse."""
    WRONG_VERSION = "wrong version"
    """Its bytes are those of another version of the dataset, by an embedded manifest or a lockfile of this cache."""
    UNREADABLE = "unreadable"
    UNKNOWN = "unknown"
    """The manifest does not name this file. It is reported and not changed."""


@dataclass(frozen=True)
class VerifyResult:
    """The verdict on one file."""

    mouse: str | None
    """None for an unknown file."""
    path: Path
    verdict: Verdict
    detail: str = ""
    record: LockEntry | None = None
    """Size, time and checksums of the file, if it is readable."""
    repaired: bool = False

    @property
    def has_problem(self) -> bool:
        """Return whether the file needs a repair; an unknown file does not."""
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
    """Return a verdict for each of ``mice`` (if None: for all, and for unknown files in the folder too).

    With ``repair``, files that are not OK are fetched again, and no others: a damaged file is set aside under a hidden
    name and removed when its replacement has arrived. The lockfile is updated before the repair. Raises the errors of
    :func:`~mousecmr_data.download.fetch.fetch_files`.
    """
    folder = get_dataset_folder(manifest, cache)
    entries = select_entries(manifest, mice)
    results = _hash_files(manifest, cache, entries, workers, progress)
    bad = [name for name, result in results.items() if result.has_problem]
    if folder.is_dir():
        records = {entries[n].path: r.record for n, r in results.items() if r.record and not r.has_problem}
        update_lockfile(folder, records, forget=[entries[n].path for n in bad])
    unknown = _find_unknown_files(manifest, folder) if mice is None else []
    if repair and bad:
        fetch_files(manifest, bad, cache=cache, workers=workers, progress=progress, retry_policy=retry_policy)
        repaired = read_lockfile(folder)
        for name in bad:
            result = results[name]
            detail = f"repaired; was {result.verdict}: {result.detail}".rstrip(": ")
            record = repaired.get(entries[name].path)
            results[name] = replace(result, verdict=Verdict.OK, detail=detail, record=record, repaired=True)
    return (*results.values(), *unknown)


def _hash_files(
    manifest: Manifest, cache: str | Path | None, entries: dict[str, FileEntry], workers: int, progress: ProgressOption
) -> dict[str, VerifyResult]:
    folder = get_dataset_folder(manifest, cache)
    results: dict[str, VerifyResult] = {}
    owners = _list_checksum_owners(manifest, folder)
    stop = threading.Event()
    sizes = {n: (folder / e.path).stat().st_size for n, e in entries.items() if (folder / e.path).is_file()}
    with open_progress(progress) as report:

        def verify(name: str) -> None:
            size = sizes.get(name, 0)
            report(ProgressEvent("start", name, total=size))
            report(ProgressEvent("bytes", name, 0, size))
            path = folder / entries[name].path
            try:
                stat = path.stat()
                record = make_lock_entry(stat, compute_checksums(path, partial(raise_if_stopped, stop)))
                results[name] = _judge_file(entries[name], path, record, owners)
            except (FileNotFoundError, NotADirectoryError):
                length = PartialFile(path).get_length()
                command = make_fetch_command(manifest, cache, [name])
                detail = f"{format_bytes(length)} were received; {command} resumes it" if length else ""
                results[name] = VerifyResult(name, path, Verdict.MISSING, detail)
            except OSError as e:
                results[name] = VerifyResult(name, path, Verdict.UNREADABLE, e.strerror or type(e).__name__)
            report(ProgressEvent("done", name, size, size))

        total = sum(sizes.values())
        text = f"Hashing {format_count(len(sizes), 'file')}, {format_bytes(total)}, in {folder}."
        report(ProgressEvent("plan", total=total, text=text))
        run_in_threads(verify, entries, workers, stop)
        report(ProgressEvent("end"))
    return {name: results[name] for name in entries}


def _judge_file(entry: FileEntry, path: Path, record: LockEntry, owners: dict[str, str]) -> VerifyResult:
    checksums = record.checksums
    if checksums.matches(entry):
        return VerifyResult(entry.mouse, path, Verdict.OK, record=record)
    owner = owners.get(checksums.git_blob_sha1) or owners.get(checksums.sha256)
    detail = f"holds the bytes of {owner}" if owner else describe_mismatch(checksums, entry)
    verdict = Verdict.WRONG_VERSION if owner and owner.startswith("version ") else Verdict.CORRUPT
    return VerifyResult(entry.mouse, path, verdict, detail, record)


def _list_checksum_owners(manifest: Manifest, folder: Path) -> dict[str, str]:
    """Return the owner of each known checksum: another version in this cache or package, or a mouse of this one."""
    owners: dict[str, str] = {}
    for other_folder in folder.parent.glob("*/"):
        if other_folder != folder:
            for path, record in read_lockfile(other_folder).items():
                text = f"version {other_folder.name}, {path}"
                owners |= {record.sha256: text, record.git_blob_sha1: text}
    for dataset_file in sorted(MANIFESTS_FOLDER.glob("*/dataset.toml")):
        with suppress(MouseCMRError):  # a damaged manifest of the package does not concern this cache
            other = load_manifest(dataset_file.parent.name)
            if (other.name, other.version) != (manifest.name, manifest.version):
                for entry in other.files.values():
                    text = f"version {other.version[:12]} of {other.name}, {entry.mouse}"
                    owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), text)
    for entry in manifest.files.values():
        owners |= dict.fromkeys(filter(None, (entry.sha256, entry.git_blob_sha1)), entry.mouse)
    return owners


def _find_unknown_files(manifest: Manifest, folder: Path) -> list[VerifyResult]:
    """Return the files below ``folder`` that belong neither to the manifest nor to the cache itself."""
    named = {folder / e.path for e in manifest.files.values()}
    own_names = {f".{p.name}.{end}" for p in named for end in ("part", "corrupt")} | {LOCKS}
    unknown = []
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_dir() and not path.is_symlink():
            continue
        names = (LOCKFILE, EARLIER_LOCKFILE)
        is_record = parts[0] in names or (parts[0].startswith(PART) and parts[0].endswith(names))
        if path in named or is_record or own_names & set(parts):
            continue
        unknown.append(VerifyResult(None, path, Verdict.UNKNOWN, "not in the manifest"))
    return unknown
