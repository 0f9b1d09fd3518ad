"""Fetch missing files into the cache and verify them.

Every file is tried, and one error at the end lists all failures. If another process is downloading a file, this one
waits for it instead of downloading it twice. The received bytes of an interrupted file stay beside its final path; the
next run of any process resumes it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mousecmr_data._utils.atomic import DISK_FULL, get_free_bytes, translate_os_error
from mousecmr_data._utils.checksums import compute_checksums, describe_mismatch
from mousecmr_data._utils.environment import is_offline
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.parallel import run_in_threads
from mousecmr_data._utils.progress import ProgressEvent, ProgressListener, ProgressOption, open_progress
from mousecmr_data._utils.system import move
from mousecmr_data._utils.text import format_bytes, join_names
from mousecmr_data.download.cache import (
    FileStatus,
    LockEntry,
    get_dataset_folder,
    get_entry_statuses,
    get_weights_folder,
    make_fetch_command,
    make_lock_entry,
    make_weights_entry,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import PartialFile, VerifiedDownload, download_with_pooch
from mousecmr_data.download.http import (
    DEFAULT_RETRY_POLICY,
    ChecksumMismatch,
    HostLimiter,
    HttpClient,
    NotFoundError,
    PermanentError,
    RetryPolicy,
    raise_if_stopped,
)
from mousecmr_data.download.sources import MIRROR_VARIABLE, Source, list_sources, redact_url
from mousecmr_data.errors import CacheError, ChecksumError, DownloadError, MissingDataError, UnknownNameError
from mousecmr_data.schema.manifest import FileEntry, Manifest, Weights

log = logging.getLogger("mousecmr_data")

DEFAULT_WORKERS = 4
"""Parallel transfers: fast enough without overloading one host."""
MAX_REASONS = 6
"""Maximum number of reasons in an error message, so that its next step stays on the screen."""
TYPICAL_BYTES = 40_000_000
"""Estimated bytes of a mouse of unpublished size: the manifest's 5.16 GB (uncompressed) for 130 mice."""


@dataclass(frozen=True)
class FetchTask:
    """A file to fetch."""

    folder: Path
    entry: FileEntry
    item: FileEntry | Weights
    """What the manifest states about it: its address is made from this."""
    manifest: Manifest
    offline: bool

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """Return where the file can be had, best first."""
        return list_sources(self.manifest, self.item, self.offline)

    @property
    def name(self) -> str:
        """Return the name of the mouse or weights."""
        return self.entry.mouse

    @property
    def path(self) -> Path:
        """Return the final path of the file."""
        return self.folder / self.entry.path


FailureKind = Literal["host", "wrong bytes", "disk", "folder", "address"]


@dataclass(frozen=True)
class FetchFailure:
    """The reason why a file is still missing."""

    name: str
    reason: str
    kind: FailureKind = "host"


class Fetcher:
    """Fetch the files of one run. ``check`` and ``fetch`` may be called from several threads."""

    def __init__(self, retry_policy: RetryPolicy, progress: ProgressListener, stop: threading.Event) -> None:
        self.verified_names: set[str] = set()
        self.new_records: dict[str, LockEntry] = {}
        """Records of existing files, by path."""
        self.clients: list[HttpClient] = []
        self.downloaded: list[str] = []
        self.notes: list[str] = []
        self.failures: list[FetchFailure] = []
        self._retry_policy, self._progress, self._stop = retry_policy, progress, stop
        self._hosts = HostLimiter()
        self._disk_kind: FailureKind | None = None
        """Why nothing more can be written: "disk" (full) or "folder"."""
        self._thread = threading.local()

    def check(self, task: FetchTask) -> None:
        """Hash an existing file that has no valid record, and note if it matches. Needs no write access."""
        try:
            stat = task.path.stat()
            self._progress(ProgressEvent("start", task.name, total=stat.st_size))
            self._progress(ProgressEvent("bytes", task.name, 0, stat.st_size))
            checksums = compute_checksums(task.path, self._check_stop)
            self._progress(ProgressEvent("done", task.name, stat.st_size, stat.st_size))
        except OSError:
            return  # removed or unreadable: fetch() reports it
        if not checksums.matches(task.entry):
            return
        self.new_records[task.entry.path] = make_lock_entry(stat, checksums)
        self.verified_names.add(task.name)
        partial = PartialFile(task.path)
        if partial.folder.exists() or partial.damaged.exists():  # left by a process killed after the rename
            with suppress(OSError), hold_lock(task.folder, task.entry.path, self._check_stop):
                partial.clean_up()

    def fetch(self, task: FetchTask) -> None:
        """Download and verify the file if needed, or note why it failed."""
        if self._disk_kind:
            reason = "the disk is full" if self._disk_kind == "disk" else "the folder cannot be written"
            self._add_failure(task, f"not tried: {reason}", self._disk_kind)
            return
        self._progress(ProgressEvent("start", task.name, total=task.entry.size))
        try:
            with hold_lock(task.folder, task.entry.path, lambda: self._wait_for_other(task.name)):
                self._fetch_locked(task)
        except OSError as e:
            error = translate_os_error(e, task.path)
            if isinstance(error, CacheError):
                kind: FailureKind = "disk" if error.errno in DISK_FULL else "folder"
                if kind == "disk" or isinstance(e, CacheError):
                    PartialFile(task.path).discard()  # to free the space that it used
                    self._disk_kind = kind
                self._add_failure(task, error.found, kind)
            else:
                self._add_failure(task, f"{e.strerror or e} ({task.path})", "host")

    def _fetch_locked(self, task: FetchTask) -> None:
        if get_entry_statuses(task.folder, {task.name: task.entry})[task.name] is FileStatus.VERIFIED:
            self._mark_verified(task, None)  # another process was faster
            return
        partial = PartialFile(task.path)
        damage = None
        if task.path.exists():
            stat = task.path.stat()
            checksums = compute_checksums(task.path, self._check_stop)
            if checksums.matches(task.entry):
                partial.clean_up()
                self._mark_verified(task, make_lock_entry(stat, checksums))
                return
            damage = describe_mismatch(checksums, task.entry)
            move(task.path, partial.damaged)
            update_lockfile(task.folder, {}, forget=[task.entry.path])
        self._try_sources(task, partial)
        if damage and task.path.exists():
            self._add_note(task.name, f"{task.name}: the file on disk was damaged ({damage}) and was replaced.")

    def _try_sources(self, task: FetchTask, partial: PartialFile) -> None:
        if not hasattr(self._thread, "client"):
            self._thread.client = HttpClient(self._retry_policy)
            self.clients.append(self._thread.client)
        download = VerifiedDownload(
            task.entry, partial, self._thread.client, self._retry_policy, self._hosts, self._progress, self._stop
        )
        errors: list[PermanentError] = []
        for source in task.sources:
            if source.problem:
                errors.append(PermanentError(source.problem))
                self._add_note(task.name, f"{source.problem[:1].upper()}{source.problem[1:]}; it was left out.")
                continue
            for url in source.urls:
                try:
                    download_with_pooch(download, url)
                except PermanentError as e:
                    error = e
                    if isinstance(e, NotFoundError):
                        continue
                    if isinstance(e, ChecksumMismatch):
                        self._add_note(task.name, f"{task.name}: wrong bytes: {e}")
                    break
                self.downloaded.append(task.name)
                record = make_lock_entry(task.path.stat(), download.checksums) if download.checksums else None
                self._mark_verified(task, record)
                return
            errors.append(error)
        reason = "; ".join(dict.fromkeys(map(str, errors))) or "there is no source for it"
        if partial.damaged.exists():
            reason += f" (the damaged file was set aside: {partial.damaged})"
        is_wrong = bool(errors) and all(isinstance(e, ChecksumMismatch) for e in errors)
        has_problem = any(s.problem for s in task.sources)
        self._add_failure(task, reason, "wrong bytes" if is_wrong else "address" if has_problem else "host")

    def _mark_verified(self, task: FetchTask, record: LockEntry | None) -> None:
        if record is not None:
            update_lockfile(task.folder, {task.entry.path: record})
        self.verified_names.add(task.name)
        size = task.path.stat().st_size
        self._progress(ProgressEvent("done", task.name, size, size))

    def _add_failure(self, task: FetchTask, reason: str, kind: FailureKind) -> None:
        self.failures.append(FetchFailure(task.name, reason, kind))
        self._progress(ProgressEvent("failed", task.name, text=reason))

    def _add_note(self, name: str, text: str) -> None:
        if text in self.notes:  # the same for every file
            return
        self.notes.append(text)
        log.warning("%s", text)
        self._progress(ProgressEvent("note", name, text=text))

    def _wait_for_other(self, name: str) -> None:
        self._check_stop()
        self._progress(ProgressEvent("wait", name, text="another process is downloading it"))

    def _check_stop(self) -> None:
        raise_if_stopped(self._stop)


def make_missing_error(title: str, tasks: list[FetchTask], offline: bool, command: str) -> MissingDataError:
    """Return the error for missing files that have no source, or none that may be used offline.

    ``command`` is the one that downloads them.
    """
    names = [t.name for t in tasks]
    count = f"{len(names)} file{'s are' if len(names) > 1 else ' is'}"
    found = f"{title}: {count} not in {tasks[0].folder}: {join_names(names)}."
    if damaged := [t.name for t in tasks if t.path.exists()]:
        found += f" (Present, but damaged: {join_names(damaged)}.)"
    if offline:
        found += f" Network traffic is switched off{' (MOUSECMR_OFFLINE)' if is_offline() else ''}."
        step = (
            f"{command}; or, without a network: mousecmr bundle import FILE, with a FILE that `mousecmr bundle create` "
            "wrote on another machine"
        )
    else:
        found += " The manifest names no URL, and MOUSECMR_MIRROR is not set."
        step = "export MOUSECMR_MIRROR=/folder/or/url/that/has/them"
    return MissingDataError(found, None, step)


def make_failure_error(
    failures: list[FetchFailure], n_files: int, offline: bool, command: str
) -> CacheError | DownloadError | MissingDataError:
    """Return one error for all failures among ``n_files`` files; equal reasons are listed once."""
    by_reason: dict[str, list[str]] = {}
    for failure in failures:
        by_reason.setdefault(failure.reason, []).append(failure.name)
    if len(failures) < n_files:
        lines = [f"{len(failures)} of {n_files} files could not be downloaded; the others are in the cache."]
    else:
        lines = [
            f"None of {n_files} files could be downloaded." if n_files > 1 else "The file could not be downloaded."
        ]
    lines += [f"  {join_names(names)}: {reason}" for reason, names in list(by_reason.items())[:MAX_REASONS]]
    if len(by_reason) > MAX_REASONS:
        lines.append(f"  … and {sum(map(len, list(by_reason.values())[MAX_REASONS:]))} more for other reasons")
    text = "\n".join(lines)
    kinds = {f.kind for f in failures}
    if kinds == {"disk"}:
        return CacheError(text, None, "free some space, or export MOUSECMR_CACHE=/path/with/space; then fetch again")
    if kinds <= {"disk", "folder"}:
        return CacheError(text, "a writable folder", "export MOUSECMR_CACHE=/path/to/your/folder; then fetch again")
    if kinds == {"wrong bytes"}:
        return ChecksumError(
            text,
            "bytes with the manifest's checksums; files that did not match were not kept",
            "try another host: export MOUSECMR_MIRROR=…; or report it, with this message",
        )
    if "address" in kinds:
        step = f"correct {MIRROR_VARIABLE} (or unset it), or the url in the manifest; then: {command}"
        return DownloadError(text, None, step)
    if offline:
        return MissingDataError(text, None, f"{command}; or mousecmr bundle import FILE")
    return DownloadError(text, None, f"{command}  (it resumes the download)")


def plan_download(title: str, tasks: list[FetchTask]) -> ProgressEvent:
    """Return the plan of a run: what, how many bytes, from where, where to; CacheError if the disk is too small.

    No request is made for sizes: 130 more requests would only bring the rate limit nearer. If sizes are unknown, the
    plan says "about" and its total is an estimate; each file is compared with the free space when its size arrives.
    """
    known_sizes: list[int] = []
    received = 0
    for task in tasks:
        partial = PartialFile(task.path)
        length = partial.get_length()
        received += length
        info = partial.read_info()
        if size := task.entry.size or (info.size if info else None):
            known_sizes.append(max(0, size - length))
    n_unknown = len(tasks) - len(known_sizes)
    typical_size = max((t.entry.size or 0 for t in tasks), default=0) or TYPICAL_BYTES
    total = sum(known_sizes) + n_unknown * typical_size
    folder = tasks[0].folder
    free = get_free_bytes(folder)
    if sum(known_sizes) > free:
        raise CacheError(
            f"{format_bytes(sum(known_sizes))} are to be downloaded, but {folder} has {format_bytes(free)} free.",
            "enough free space before the download starts",
            "free some space, fetch fewer mice, or: export MOUSECMR_CACHE=/path/with/space",
        )
    count = f"{len(tasks)} file{'s' if len(tasks) > 1 else ''}"
    size_text = format_bytes(total)
    if n_unknown:
        size_text = f"about {size_text} (an estimate: sizes are not published)"
    urls = [s.urls[0] for t in tasks for s in t.sources if s.urls]
    hosts = ", else ".join(dict.fromkeys(urlsplit(u).netloc.rpartition("@")[2] or redact_url(u) for u in urls))
    parts = [f"{title}: {count}, {size_text}, from {hosts or 'no valid address'} to {folder}"]
    if received:
        parts.append(f"{format_bytes(received)} were received by an interrupted run")
    parts.append(f"{format_bytes(free)} free" + (", which may not be enough" if total > free else ""))
    return ProgressEvent("plan", total=total, text="; ".join(parts) + ".")


@dataclass(frozen=True)
class FetchResult:
    """The result of a fetch."""

    paths: dict[str, Path]
    """Paths of all requested files, by mouse."""
    downloaded: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """Information for the user: hosts that served wrong bytes, damaged files that were replaced, …"""


def fetch_files(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    workers: int = DEFAULT_WORKERS,
    progress: ProgressOption = None,
    offline: bool | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> FetchResult:
    """Fetch ``mice`` (all if None) of ``manifest``.

    ``workers``: parallel transfers. ``progress``: None shows bars on a terminal if the run takes a while, True always,
    False never; a callable receives each :class:`~mousecmr_data._utils.progress.ProgressEvent`.
    ``offline``: no network traffic (default: ``MOUSECMR_OFFLINE``).

    Raises MissingDataError (offline, or no source), DownloadError or its subclass ChecksumError (after all files were
    tried), CacheError (disk full, folder not writable), UnknownNameError (a mouse that is not in the manifest).
    """
    offline = is_offline(offline)
    folder = get_dataset_folder(manifest, cache)
    tasks = [FetchTask(folder, entry, entry, manifest, offline) for entry in select_entries(manifest, mice).values()]
    return _run_tasks(manifest, cache, tasks, workers, progress, offline, retry_policy)


def fetch_weights(
    manifest: Manifest,
    name: str | None = None,
    *,
    cache: str | Path | None = None,
    progress: ProgressOption = None,
    offline: bool | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> Path:
    """Download the weights ``name`` (the manifest's first if None) if missing, and return the path of their file."""
    known = manifest.weights
    if not known or (name is not None and name not in known):
        step = "mousecmr info" if known else "a manifest with weights.toml"
        raise UnknownNameError.from_name("file of weights", name, known, step)
    weights = known[name] if name is not None else next(iter(known.values()))
    offline = is_offline(offline)
    task = FetchTask(get_weights_folder(weights, cache), make_weights_entry(weights), weights, manifest, offline)
    return _run_tasks(manifest, cache, [task], 1, progress, offline, retry_policy).paths[weights.name]


def _run_tasks(
    manifest: Manifest,
    cache: str | Path | None,
    tasks: list[FetchTask],
    workers: int,
    progress: ProgressOption,
    offline: bool,
    retry_policy: RetryPolicy,
) -> FetchResult:
    paths = {t.name: t.path for t in tasks}
    statuses = get_entry_statuses(tasks[0].folder, {t.name: t.entry for t in tasks}) if tasks else {}
    unverified = [t for t in tasks if statuses[t.name] is not FileStatus.VERIFIED]
    if not unverified:
        return FetchResult(paths)
    name, stop = tasks[0].name, threading.Event()
    title = f"weights {name}" if name in manifest.weights else f"{manifest.name} {manifest.version[:12]}"
    with open_progress(progress) as report:
        fetcher = Fetcher(retry_policy, report, stop)
        if existing := [t for t in unverified if t.path.is_file()]:
            size = sum(t.path.stat().st_size for t in existing)
            text = f"{title}: {len(existing)} existing files are not verified yet; hashing {format_bytes(size)}."
            report(ProgressEvent("plan", total=size, text=text))
        run_in_threads(fetcher.check, existing, workers, stop)
        if fetcher.new_records:
            update_lockfile(tasks[0].folder, fetcher.new_records)  # no effect in a read-only cache
        missing = [t for t in unverified if t.name not in fetcher.verified_names]
        if missing:
            if all(not t.sources for t in missing):
                command = make_fetch_command(manifest, cache, [t.name for t in missing])
                raise make_missing_error(title, missing, offline, command)
            report(plan_download(title, missing))
            run_in_threads(fetcher.fetch, missing, workers, stop)
            for client in fetcher.clients:
                client.close()
        report(ProgressEvent("end"))
    if fetcher.failures:
        command = make_fetch_command(manifest, cache, [f.name for f in fetcher.failures])
        raise make_failure_error(fetcher.failures, len(missing), offline, command)
    return FetchResult(paths, tuple(fetcher.downloaded), tuple(fetcher.notes))
