"""Fetch: bring what is missing into the cache, verified.

Every file is tried; what fails is told at the end, in one error. A file that another process is
downloading is waited for, not downloaded twice. What has arrived of an interrupted file stays beside
its place and is resumed by the next run, whoever starts it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from mousecmr_data._utils.atomic import DISK_FULL, get_free_bytes, translate_os_error
from mousecmr_data._utils.checksums import compute_checksums, describe_mismatch
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.parallel import run_in_threads
from mousecmr_data._utils.progress import ProgressEvent, ProgressListener, ProgressOption, format_bytes, open_progress
from mousecmr_data.download.cache import (
    FileStatus,
    LockEntry,
    get_dataset_folder,
    get_entry_statuses,
    get_weights_folder,
    make_lock_entry,
    make_weights_entry,
    select_entries,
    update_lockfile,
)
from mousecmr_data.download.downloader import PartialFile, VerifiedDownload, download_with_pooch
from mousecmr_data.download.errors import Cancelled, ChecksumMismatch, NotFoundError, PermanentError, TransferError
from mousecmr_data.download.http import HttpClient
from mousecmr_data.download.retry import DEFAULT_RETRY_POLICY, HostLimiter, RetryPolicy
from mousecmr_data.download.sources import Source, is_offline, list_sources, redact_url
from mousecmr_data.errors import (
    CacheError,
    ChecksumError,
    DownloadError,
    MissingDataError,
    MouseCMRError,
    UnknownNameError,
)
from mousecmr_data.schema.manifest import FileEntry, Manifest

# MERGED download.fetch: One file from "missing" to "verified": lock, look, ask the sources in turn, stamp.


log = logging.getLogger("mousecmr_data")


@dataclass(frozen=True)
class FetchTask:
    """A file to be had."""

    folder: Path
    entry: FileEntry
    sources: tuple[Source, ...]

    @property
    def path(self) -> Path:
        """Its final name."""
        return self.folder / self.entry.path


@dataclass(frozen=True)
class FetchFailure:
    """Why a file is still missing."""

    entry: FileEntry
    reason: str
    kind: Literal["host", "wrong bytes", "disk"] = "host"


class Fetcher:
    """Obtains the files of one run. ``check`` and ``obtain`` may be called from several threads."""

    def __init__(self, retry_policy: RetryPolicy, progress: ProgressListener, stop: threading.Event) -> None:
        self.good: set[str] = set()
        self.downloaded: list[str] = []
        self.notes: list[str] = []
        self.failed: list[FetchFailure] = []
        self._retry_policy, self._progress, self._stop = retry_policy, progress, stop
        self._hosts = HostLimiter()
        self._full: OSError | None = None
        self._here = threading.local()
        self._webs: list[HttpClient] = []
        self._checked: dict[Path, dict[str, LockEntry]] = {}
        self._lock = threading.Lock()

    def check(self, task: FetchTask) -> None:
        """Hash a file that is there without a stamp; it is good if it matches. Needs no write access."""
        name = task.entry.mouse
        try:
            stat = task.path.stat()
            self._progress(ProgressEvent("start", name, total=stat.st_size))
            self._progress(ProgressEvent("bytes", name, 0, stat.st_size))
            sums = compute_checksums(task.path, self._check_stop)
            self._progress(ProgressEvent("done", name, stat.st_size, stat.st_size))
        except OSError:
            return  # gone, or unreadable: obtain() will say so
        if not sums.matches(task.entry):
            return
        with self._lock:
            self._checked.setdefault(task.folder, {})[task.entry.path] = make_lock_entry(stat, sums)
        self.good.add(name)
        partial = PartialFile(task.path)
        if partial.folder.exists() or partial.aside.exists():  # left by a process that died after the rename
            with suppress(OSError), hold_lock(task.folder, task.entry.path, self._check_stop):
                partial.clean_up()

    def close(self) -> None:
        """Close the connections."""
        for web in self._webs:
            web.close()

    def finish(self) -> None:
        """Write down what was checked; without effect in a read-only cache."""
        for folder, stamps in self._checked.items():
            update_lockfile(folder, stamps)
        self._checked.clear()

    def fetch(self, task: FetchTask) -> None:
        """Make the file be there and verified, or note why not."""
        name = task.entry.mouse
        if self._full is not None:
            self._add_failure(FetchFailure(task.entry, "not tried: the disk is full", "disk"))
            return
        self._progress(ProgressEvent("start", name, total=task.entry.size))
        try:
            with hold_lock(task.folder, task.entry.path, lambda: self._wait_for_other(name)):
                self._fetch_locked(task)
        except OSError as e:
            error = translate_os_error(e, task.path)
            if e.errno in DISK_FULL or isinstance(e, CacheError):
                PartialFile(task.path).discard()  # give the space back: the disk is as it was
                self._full = error
            reason = error.found if isinstance(error, CacheError) else f"{e.strerror or e} ({task.path})"
            self._add_failure(FetchFailure(task.entry, reason, "disk" if isinstance(error, CacheError) else "host"))

    def _fetch_locked(self, task: FetchTask) -> None:
        name = task.entry.mouse
        if get_entry_statuses(task.folder, {name: task.entry})[name] is FileStatus.VERIFIED:
            self._mark_verified(task, None)  # another process was faster
            return
        partial = PartialFile(task.path)
        damage = None
        if task.path.exists():
            stat = task.path.stat()
            sums = compute_checksums(task.path, self._check_stop)
            if sums.matches(task.entry):
                partial.clean_up()
                self._mark_verified(task, make_lock_entry(stat, sums))
                return
            damage = describe_mismatch(sums, task.entry)
            task.path.replace(partial.aside)
            update_lockfile(task.folder, {}, forget=[task.entry.path])
        self._try_sources(task, partial)
        if damage and task.path.exists():
            self._add_note(name, f"{name}: the file on disk was damaged ({damage}) and was replaced.")

    def _try_sources(self, task: FetchTask, partial: PartialFile) -> None:
        if not hasattr(self._here, "web"):
            self._here.web = HttpClient(self._retry_policy)
            self._webs.append(self._here.web)
        download = VerifiedDownload(
            task.entry, partial, self._here.web, self._retry_policy, self._hosts, self._progress, self._stop
        )
        reasons: list[TransferError] = []
        for source in task.sources:
            for url in source.urls:
                try:
                    download_with_pooch(download, url)
                except NotFoundError as e:
                    absent: PermanentError = e
                    continue
                except PermanentError as e:
                    absent = e
                    if isinstance(e, ChecksumMismatch):
                        self._add_note(task.entry.mouse, f"{task.entry.mouse}: wrong bytes: {e}")
                    break
                self.downloaded.append(task.entry.mouse)
                stamp = make_lock_entry(task.path.stat(), download.sums) if download.sums else None
                self._mark_verified(task, stamp)
                return
            reasons.append(absent)
        text = "; ".join(dict.fromkeys(map(str, reasons))) or "no source is set for it"
        if partial.aside.exists():
            text += f" (the damaged file was set aside: {partial.aside})"
        wrong = bool(reasons) and all(isinstance(r, ChecksumMismatch) for r in reasons)
        self._add_failure(FetchFailure(task.entry, text, "wrong bytes" if wrong else "host"))

    def _mark_verified(self, task: FetchTask, stamp: LockEntry | None) -> None:
        if stamp is not None:
            update_lockfile(task.folder, {task.entry.path: stamp})
        self.good.add(task.entry.mouse)
        size = task.path.stat().st_size
        self._progress(ProgressEvent("done", task.entry.mouse, size, size))

    def _add_failure(self, failure: FetchFailure) -> None:
        self.failed.append(failure)
        self._progress(ProgressEvent("failed", failure.entry.mouse, text=failure.reason))

    def _add_note(self, name: str, text: str) -> None:
        self.notes.append(text)
        log.warning("%s", text)
        self._progress(ProgressEvent("note", name, text=text))

    def _wait_for_other(self, name: str) -> None:
        self._check_stop()
        self._progress(ProgressEvent("wait", name, text="another process is downloading it"))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled


# MERGED download.fetch: The one error at the end of a run: what is missing, why, and what to type next.


MAX_REASONS = 6
"""Reasons spelled out; more would scroll the next step out of sight."""


def join_names(names: list[str], limit: int = 8) -> str:
    """Names for a sentence, shortened where there are many."""
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def make_missing_error(title: str, entries: list[FileEntry], folder: Path, offline: bool) -> MissingDataError:
    """The error for files that are missing where nothing may or can be asked."""
    names = [e.mouse for e in entries]
    damaged = [e.mouse for e in entries if (folder / e.path).exists()]
    found = f"{title}: {len(names)} file{'s are' if len(names) > 1 else ' is'} not in {folder}: {join_names(names)}."
    if damaged:
        found += f" (There, but damaged: {join_names(damaged)}.)"
    if offline:
        found += " Network traffic is switched off (MOUSECMR_OFFLINE or offline=True)."
        step = (
            "unset MOUSECMR_OFFLINE, then mousecmr fetch; or, without a network: "
            "mousecmr bundle import FILE, with a FILE that `mousecmr bundle create` wrote elsewhere"
        )
    else:
        found += " The manifest names no URL, and MOUSECMR_MIRROR is not set."
        step = "export MOUSECMR_MIRROR=/folder/or/url/that/has/them"
    return MissingDataError(found, None, step)


def make_failure_error(failed: list[FetchFailure], asked: int, offline: bool) -> MouseCMRError:
    """One error for all files that failed; equal reasons are told once."""
    by_reason: dict[str, list[str]] = {}
    for failure in failed:
        by_reason.setdefault(failure.reason, []).append(failure.entry.mouse)
    if len(failed) < asked:
        lines = [f"{len(failed)} of {asked} files could not be had; the others are in the cache."]
    else:
        lines = [f"None of {asked} files could be had." if asked > 1 else "The file could not be had."]
    lines += [f"  {join_names(names)}: {reason}" for reason, names in list(by_reason.items())[:MAX_REASONS]]
    if len(by_reason) > MAX_REASONS:
        lines.append(f"  … and {sum(map(len, list(by_reason.values())[MAX_REASONS:]))} more for other reasons")
    text = "\n".join(lines)
    if all(f.kind == "disk" for f in failed):
        return CacheError(text, None, "free some space, or export MOUSECMR_CACHE=/path/with/space; then fetch again")
    if all(f.kind == "wrong bytes" for f in failed):
        return ChecksumError(
            text,
            "bytes with the manifest's checksums; what did not match was not kept",
            "try another host: export MOUSECMR_MIRROR=…; or report it, with this message",
        )
    if offline:
        return MissingDataError(text, None, "unset MOUSECMR_OFFLINE, or mousecmr bundle import FILE")
    return DownloadError(text, None, "mousecmr fetch  (it goes on where this stopped)")


# MERGED download.fetch: What will be downloaded, how much, where to, and whether it fits: asked before the first byte.


TYPICAL_BYTES = 40_000_000
"""Bytes of a mouse whose size nobody published: 5.16 GB uncompressed for 130 mice (source: repo)."""


@dataclass(frozen=True)
class DownloadPlan:
    """What a run is about to do. ``total``: bytes still to come, estimated where ``text`` says so."""

    total: int
    text: str


def plan_download(title: str, tasks: list[FetchTask]) -> DownloadPlan:
    """The plan of a run; CacheError where the disk cannot hold what is known to come.

    Nobody is asked for sizes: 130 more requests would only bring the rate limit nearer. Where sizes are
    not known, the plan says "about", and each file is checked against the disk when its host tells its size.
    """
    known: dict[str, int] = {}
    here = 0
    for task in tasks:
        partial = PartialFile(task.path)
        length = partial.get_length()
        here += length
        origin = partial.read_info()
        if size := task.entry.size or (origin.size if origin else None):
            known[task.entry.mouse] = max(0, size - length)
    unknown = len(tasks) - len(known)
    typical = max((t.entry.size or 0 for t in tasks), default=0) or TYPICAL_BYTES
    total = sum(known.values()) + unknown * typical
    folder = tasks[0].folder
    free = get_free_bytes(folder)
    if sum(known.values()) > free:
        raise CacheError(
            f"{format_bytes(sum(known.values()))} are to be downloaded, but {folder} has {format_bytes(free)} free.",
            "enough free space before the first byte",
            "free some space, fetch fewer mice, or: export MOUSECMR_CACHE=/path/with/space",
        )
    count = f"{len(tasks)} file{'s' if len(tasks) > 1 else ''}"
    size_text = (
        f"about {format_bytes(total)} (an estimate: sizes are not published)" if unknown else format_bytes(total)
    )
    parts = [f"{title}: {count}, {size_text}, from {_describe_hosts(tasks)} to {folder}"]
    if here:
        parts.append(f"{format_bytes(here)} are here from an interrupted run")
    parts.append(f"{format_bytes(free)} free" + (", which may not be enough" if total > free else ""))
    return DownloadPlan(total, "; ".join(parts) + ".")


def _describe_hosts(tasks: list[FetchTask]) -> str:
    names = [urlsplit(s.urls[0]).netloc.rpartition("@")[2] or redact_url(s.urls[0]) for t in tasks for s in t.sources]
    return ", else ".join(dict.fromkeys(names))


DEFAULT_WORKERS = 4
"""Transfers at a time: fast enough, and polite to one host."""


@dataclass(frozen=True)
class FetchResult:
    """What a fetch did."""

    paths: dict[str, Path]
    """By mouse: all that were asked for."""
    downloaded: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What the user should know: hosts that served wrong bytes, damaged files that were replaced, …"""


def fetch_paths(
    manifest: Manifest,
    mice: Iterable[str] | str | None = None,
    *,
    cache: str | Path | None = None,
    workers: int = DEFAULT_WORKERS,
    progress: ProgressOption = None,
    offline: bool | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> dict[str, Path]:
    """The path of each mouse's verified file; downloads what is missing.

    Parameters are those of :func:`fetch_report`, which also tells what was done.
    """
    return fetch_files(
        manifest, mice, cache=cache, workers=workers, progress=progress, offline=offline, retry_policy=retry_policy
    ).paths


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
    """Fetch ``mice`` (all where None) of ``manifest``.

    ``workers``: transfers at a time. ``progress``: None shows bars on a terminal when it takes a while,
    True always, False never, a callable gets each :class:`~mousecmr_data._utils.progress.ProgressEvent`.
    ``offline``: no network traffic (default: ``MOUSECMR_OFFLINE``).

    Raises MissingDataError (offline, or nothing to download from), DownloadError and its kind
    ChecksumError (after all files were tried), CacheError (disk full, folder not writable),
    UnknownNameError (a mouse that is not in the manifest).
    """
    barred = is_offline(offline)
    folder = get_dataset_folder(manifest, cache)
    tasks = [
        FetchTask(folder, entry, list_sources(manifest, entry, barred))
        for entry in select_entries(manifest, mice).values()
    ]
    return _run_tasks(tasks, f"{manifest.name} {manifest.version[:12]}", workers, progress, barred, retry_policy)


def fetch_weights(
    manifest: Manifest,
    name: str | None = None,
    *,
    cache: str | Path | None = None,
    progress: ProgressOption = None,
    offline: bool | None = None,
    retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
) -> Path:
    """The path of the weights file ``name`` (the manifest's first where None); downloads it if missing."""
    known = manifest.weights
    if not known or (name is not None and name not in known):
        raise UnknownNameError(
            f"{manifest.name} has no weights {name!r}.",
            f"one of {', '.join(map(repr, known))}" if known else "a manifest with weights.toml",
            "mousecmr info",
        )
    weights = known[name] if name is not None else next(iter(known.values()))
    barred = is_offline(offline)
    task = FetchTask(
        get_weights_folder(weights, cache),
        make_weights_entry(weights),
        list_sources(manifest, weights, barred),
    )
    return _run_tasks([task], f"weights {weights.name}", 1, progress, barred, retry_policy).paths[weights.name]


def _run_tasks(
    tasks: list[FetchTask], title: str, workers: int, progress: ProgressOption, barred: bool, retry_policy: RetryPolicy
) -> FetchResult:
    paths = {t.entry.mouse: t.path for t in tasks}
    entries = {t.entry.mouse: t.entry for t in tasks}
    states = get_entry_statuses(tasks[0].folder, entries) if tasks else {}
    missing = [t for t in tasks if states[t.entry.mouse] is not FileStatus.VERIFIED]
    if not missing:
        return FetchResult(paths)
    stop = threading.Event()
    with open_progress(progress) as tell:
        obtainer = Fetcher(retry_policy, tell, stop)
        here = [t for t in missing if t.path.is_file()]
        if here:
            size = sum(t.path.stat().st_size for t in here)
            text = f"{title}: {len(here)} files are here without a stamp; hashing {format_bytes(size)}."
            tell(ProgressEvent("plan", total=size, text=text))
        run_in_threads(obtainer.check, here, workers, stop)
        obtainer.finish()
        wanted = [t for t in missing if t.entry.mouse not in obtainer.good]
        if wanted:
            if all(not t.sources for t in wanted):
                raise make_missing_error(title, [t.entry for t in wanted], wanted[0].folder, barred)
            plan = plan_download(title, wanted)
            tell(ProgressEvent("plan", total=plan.total, text=plan.text))
            run_in_threads(obtainer.fetch, wanted, workers, stop)
            obtainer.close()
        tell(ProgressEvent("end"))
    if obtainer.failed:
        raise make_failure_error(obtainer.failed, len(wanted), barred)
    return FetchResult(paths, tuple(obtainer.downloaded), tuple(obtainer.notes))
