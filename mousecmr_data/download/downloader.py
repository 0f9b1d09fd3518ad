"""Download one URL to one verified file, and resume where an earlier attempt stopped.

A :class:`VerifiedDownload` is a pooch downloader, a callable ``(url, output_file, pooch)``. Pooch provides the
temporary file and the rename; nothing is moved to its temporary file before the checksum matches.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from io import FileIO
from pathlib import Path
from urllib.parse import urlsplit

import pooch

from mousecmr_data._utils.atomic import get_free_bytes, make_disk_full_error, write_json
from mousecmr_data._utils.checksums import Checksums, RunningChecksums, compute_checksums, describe_mismatch
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.progress import ProgressEvent, ProgressListener
from mousecmr_data._utils.reading import ABSENT
from mousecmr_data._utils.system import fsync_file, fsync_folder, move
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.download.http import (
    DEFAULT_RETRY_POLICY,
    ChecksumMismatch,
    HostLimiter,
    HttpClient,
    Response,
    RetryPolicy,
    TransferError,
    TransientError,
    parse_size,
    raise_if_stopped,
    retry,
)
from mousecmr_data.download.sources import check_url, redact_url
from mousecmr_data.errors import DownloadError
from mousecmr_data.schema.manifest import FileEntry

RECEIVE_BYTES = 1 << 18
"""Maximum number of bytes read from the network at once. Received bytes are written immediately, however few."""
PROGRESS_BYTES = 1 << 16
"""New bytes that make a broken transfer count as progress, which resets its count of failures."""
MAX_UNKNOWN_BYTES = 2 << 30
"""Maximum size of a file of unknown size, in bytes, so that an endless answer cannot fill the disk."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass(frozen=True)
class PartialInfo:
    """Origin of a partial file."""

    url: str
    """Without secrets."""
    validator: str | None
    """A strong ETag or a modification date, for If-Range."""
    size: int | None
    """Bytes of the whole file, if the host gave them."""


class PartialFile:
    """The partial download of ``target``, in a hidden folder beside it, which a later run resumes.

    ``Data/.Mouse1.h5.part/`` holds ``content`` (the received bytes), ``origin.json`` (their origin, and how to request
    the rest) and, for moments, pooch's temporary files. The folder belongs to the process that holds the file's lock,
    so the lock's holder may use or remove everything in it. In a shared cache others could plant links there: links
    are removed and never followed, so that no file outside the folder is read, written or removed.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.part"
        self.content = self.folder / "content"
        self.staged = self.folder / target.name
        """Where pooch puts the finished file."""
        self.damaged = target.parent / f".{target.name}.corrupt"
        """Where a damaged file is kept until its replacement has arrived."""
        self._info_path = self.folder / "origin.json"

    def recover(self) -> None:
        """Clean up after a killed process: keep the received bytes, remove the rest."""
        if self.folder.is_symlink() or self.folder.is_file():
            self.folder.unlink()
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path in (self.content, self._info_path) and is_own_file(path):
                continue
            # Pooch's temporary file is empty until the verified content is moved onto it.
            if not self.content.exists() and is_own_file(path) and path.stat().st_size:
                move(path, self.content)
            elif path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def get_length(self) -> int:
        """Return the number of received bytes."""
        return self.content.stat().st_size if is_own_file(self.content) else 0

    def open_content(self) -> FileIO:
        """Open the content to append to it, without a buffer; OSError if a link was planted there."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        return FileIO(os.open(self.content, flags, 0o644), "ab")

    def read_info(self) -> PartialInfo | None:
        """Return the origin of the content, or None if unknown."""
        try:
            info = PartialInfo(**json.loads(self._info_path.read_text(encoding="utf-8")))
            valid = isinstance(info.url, str) and (info.size is None or type(info.size) is int)
            return info if valid and re.fullmatch("[ -~]*", info.validator or "") else None
        except (*ABSENT, ValueError, TypeError):
            return None

    def start(self, info: PartialInfo, *, keep_content: bool = False) -> None:
        """Prepare the folder for bytes from ``info``, which replace or continue the present content."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not keep_content:
            self.content.unlink(missing_ok=True)
        write_json(self._info_path, asdict(info))

    def move_content(self, path: str | Path) -> None:
        """Move the verified content to ``path`` in the same folder, synced to disk and readable by all."""
        fsync_file(self.content)
        self.content.chmod(0o644)
        move(self.content, Path(path))

    def finish(self) -> None:
        """Move the staged file to its final name, in one step, and remove everything else."""
        move(self.staged, self.target)
        fsync_folder(self.target.parent)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove partial and damaged files; the target must be verified."""
        self.damaged.unlink(missing_ok=True)
        self.discard()

    def discard(self) -> None:
        """Remove the received bytes."""
        shutil.rmtree(self.folder, ignore_errors=True)  # does not follow links


def is_own_file(path: Path) -> bool:
    """Return whether ``path`` is a file that has no other name: no symbolic link, and no hard link elsewhere."""
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


@dataclass(eq=False)
class VerifiedDownload:
    """Download one file of a manifest, in pooch's protocol for downloaders."""

    entry: FileEntry
    partial: PartialFile
    client: HttpClient
    retry_policy: RetryPolicy
    hosts: HostLimiter
    progress: ProgressListener
    stop: threading.Event
    verify: bool = True
    """If False, the bytes are accepted without a checksum and with any size; the caller verifies them."""
    checksums: Checksums | None = None
    """Set after a download."""
    _reported_at: float = 0.0
    _max_length: int = 0

    def __call__(self, url: str, output_file: str | Path, _pooch: object) -> None:
        """Download ``url`` to ``output_file``; raises TransferError, Cancelled or OSError (disk full)."""
        self._max_length = self.partial.get_length()

        def has_progressed() -> bool:
            before, self._max_length = self._max_length, max(self._max_length, self.partial.get_length())
            return self._max_length >= before + PROGRESS_BYTES

        def report_wait(text: str) -> None:
            self.progress(ProgressEvent("wait", self.entry.mouse, self.partial.get_length(), self.entry.size, text))

        self.checksums = retry(
            lambda: self._transfer(url), url, self.retry_policy, self.hosts, self.stop, report_wait, has_progressed
        )
        self.partial.move_content(output_file)

    def _check_stop(self) -> None:
        raise_if_stopped(self.stop)

    def _transfer(self, url: str) -> Checksums:
        """Send one request, append its body to the partial file, and return the checksums if they match."""
        offset, info = self.partial.get_length(), self.partial.read_info()
        size = self.entry.size or (info.size if info else None)
        if offset and size is not None and offset >= size:  # a process was killed after the last byte
            checksums = compute_checksums(self.partial.content, self._check_stop)
            if self._matches(checksums):
                return checksums
            self.partial.discard()
            offset, info = 0, None
        validator = info.validator if info and info.url == redact_url(url) else None
        with closing(self.client.get(url, offset, validator)) as response:
            resumed = self._prepare_partial(response, url, offset)
            checksums = self._receive(response, url, offset if resumed else 0)
        if self._matches(checksums):
            return checksums
        with self.partial.content.open("rb") as file:
            reason = _identify_wrong_content(file.read(512)) or describe_mismatch(checksums, self.entry)
        self.partial.discard()
        if resumed:  # perhaps two halves of different files: the host is at fault only if a whole download fails
            raise TransientError(f"the resumed file did not match ({reason}); starting again")
        raise ChecksumMismatch(f"{reason}, from {redact_url(url)}")

    def _matches(self, checksums: Checksums) -> bool:
        return not self.verify or checksums.matches(self.entry)

    def _prepare_partial(self, response: Response, url: str, offset: int) -> bool:
        """Prepare the partial file for the body; return True to append, False to write from the start."""
        if response.status == 416:
            self.partial.discard()
            raise TransientError("the host does not have this range; starting again")
        encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
        if response.status == 206:
            span = re.fullmatch(r"bytes (\S+)-(\S+)/(\S+)", response.headers.get("content-range", "").strip())
            first, last, size = map(parse_size, span.groups()) if span else (None, None, None)
            is_whole = size is None or (last == size - 1 and self.entry.size in (None, size))
            if encoded or not offset or first != offset or last is None or last < offset or not is_whole:
                self.partial.discard()
                raise TransientError("the host sent another range than requested; starting again")
        else:
            size = None if encoded else parse_size(response.headers.get("content-length"))
        if size is not None and self.entry.size not in (None, size):
            start = b""
            if response.status == 200:
                with suppress(TransientError):
                    start = response.read(512)
            reason = _identify_wrong_content(start) or f"{size:,} bytes instead of {self.entry.size:,}"
            raise ChecksumMismatch(f"{reason}, from {redact_url(url)}")
        if self.entry.size is None and size is not None and size > self._get_max_bytes():
            raise ChecksumMismatch(f"{format_bytes(size)}, more than any file of the dataset, from {redact_url(url)}")
        self.partial.folder.mkdir(parents=True, exist_ok=True)
        if size is not None and size - offset > get_free_bytes(self.partial.folder):
            self.partial.discard()
            raise make_disk_full_error(self.partial.target, size - offset)
        etag = response.headers.get("etag", "").strip()
        # A weak ETag (W/"…") must not be used for ranges.
        validator = etag if etag.startswith('"') else response.headers.get("last-modified") or None
        resumed = response.status == 206
        self.partial.start(PartialInfo(redact_url(url), validator, size), keep_content=resumed)
        return resumed

    def _get_max_bytes(self) -> float:
        return MAX_UNKNOWN_BYTES if self.verify else math.inf

    def _receive(self, response: Response, url: str, offset: int) -> Checksums:
        info = self.partial.read_info()
        size = info.size if info and info.size is not None else self.entry.size
        running = RunningChecksums(size)
        max_bytes = size if size is not None else self._get_max_bytes()
        with self.partial.open_content() as file:
            if offset:
                self._hash_existing(running, offset)
            self._report_bytes(running.length, size, now=True)
            while data := response.read(RECEIVE_BYTES):
                self._check_stop()
                if running.length + len(data) > max_bytes:
                    break
                _write_all(file.write, data)
                running.update(data)
                self._report_bytes(running.length, size)
        if data:
            self.partial.discard()
            if offset:  # perhaps the kept bytes are at fault
                raise TransientError(f"more than {format_bytes(max_bytes)} arrived; starting again")
            raise ChecksumMismatch(f"more than {format_bytes(max_bytes)}, from {redact_url(url)}")
        if size is not None and running.length < size:
            raise TransientError(f"{urlsplit(url).hostname or 'the folder'} ended the transfer early")
        return running.finish() or compute_checksums(self.partial.content, self._check_stop)

    def _hash_existing(self, running: RunningChecksums, length: int) -> None:
        with self.partial.content.open("rb", buffering=0) as file:
            while running.length < length and (data := file.read(min(RECEIVE_BYTES, length - running.length))):
                running.update(data)
                self._check_stop()

    def _report_bytes(self, done: int, total: int | None, now: bool = False) -> None:
        if now or time.monotonic() - self._reported_at > 0.1:
            self._reported_at = time.monotonic()
            self.progress(ProgressEvent("bytes", self.entry.mouse, done, total))


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def _identify_wrong_content(start: bytes) -> str | None:
    """Return what the content is if it starts like a well-known wrong answer, else None."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page instead of the file (a login or an error page?)"
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer (about 134 bytes of text) instead of the file it stands for"
    return None


class ResumingDownloader:
    """A downloader for pooch that resumes interrupted downloads, also in a later run, and retries failed requests.

    ``pooch.retrieve(url, known_hash, downloader=ResumingDownloader())``, or the argument ``downloader`` of
    :meth:`pooch.Pooch.fetch`. Pooch checks the hash, as with its own downloaders. Received bytes are kept in a hidden
    folder beside the file until it is complete; processes that download the same file wait for one another.
    Transient failures (HTTP 429 and 5xx, broken or silent connections) are retried according to ``retry_policy``, with
    back-off and ``Retry-After``; a host that does not answer is not tried again by this object.

    ``progress`` is called with a :class:`~mousecmr_data._utils.progress.ProgressEvent` of the kind "bytes" or "wait".
    """

    def __init__(
        self, *, progress: ProgressListener = lambda _: None, retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY
    ) -> None:
        self._progress, self._retry_policy = progress, retry_policy
        self._hosts = HostLimiter()

    def __call__(
        self, url: str, output_file: str | Path | None, pooch: object, check_only: bool = False
    ) -> bool | None:
        """Download ``url`` to ``output_file``; with ``check_only``, return whether the host has the file.

        Raises :class:`~mousecmr_data.errors.DownloadError`, and :class:`~mousecmr_data.errors.CacheError` if the
        disk is full. Received bytes then stay for the next call.
        """
        try:
            check_url(url)
        except ValueError as e:
            raise DownloadError(f"{redact_url(url)!r} is not a valid URL: {e}.", "https://… or http://…") from e
        client = HttpClient(self._retry_policy)
        try:
            if check_only or output_file is None:
                with suppress(TransferError), closing(client.get(url, method="HEAD")):
                    return True
                return False
            folder = Path(output_file).absolute().parent
            name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{Path(urlsplit(url).path).name[:80]}"
            download = VerifiedDownload(
                FileEntry(name, name), PartialFile(folder / name), client, self._retry_policy, self._hosts,
                self._progress, threading.Event(), verify=False,
            )  # fmt: skip
            with hold_lock(folder, name):
                download.partial.recover()
                download(url, output_file, pooch)
                download.partial.discard()
        except TransferError as e:
            raise DownloadError(f"{redact_url(url)} could not be downloaded: {e}", None, "try again: it resumes") from e
        finally:
            client.close()
        return None


_THREAD = threading.local()


def download_with_pooch(download: VerifiedDownload, url: str) -> None:
    """Download ``url`` with pooch and ``download``, and move the file to its final name."""
    name = download.partial.target.name
    download.partial.recover()
    # No hash in the registry: pooch would read the file again and does not know git's. ``download`` always verifies.
    registry = pooch.Pooch(path=download.partial.folder, base_url="", registry={name: None}, urls={name: url})
    pooch.get_logger().addFilter(_keep_message)
    _THREAD.is_downloading = True
    try:
        registry.fetch(name, downloader=download)
    finally:
        _THREAD.is_downloading = False
    download.partial.finish()


def _keep_message(record: logging.LogRecord) -> bool:
    """Return False for pooch's messages about this library's downloads, True for those to other users of pooch."""
    return not (getattr(_THREAD, "is_downloading", False) and record.levelno <= logging.INFO)
