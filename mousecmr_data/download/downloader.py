"""The downloader: one URL to one verified file, resumed where an earlier try stopped.

A :class:`Download` is a pooch downloader, a callable ``(url, output_file, pooch)``. Pooch does the
rest: the temporary file, the rename. Nothing gets to pooch's temporary file before the checksum matched.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pooch

from mousecmr_data._utils.atomic import fsync_folder, get_free_bytes, make_disk_full_error
from mousecmr_data._utils.checksums import (
    CHUNK_BYTES,
    Checksums,
    RunningChecksums,
    compute_checksums,
    describe_mismatch,
)
from mousecmr_data._utils.json import write_json
from mousecmr_data._utils.locks import hold_lock
from mousecmr_data._utils.progress import ProgressEvent, ProgressListener, format_bytes
from mousecmr_data.download.errors import Cancelled, ChecksumMismatch, TransferError, TransientError
from mousecmr_data.download.http import HttpClient, Response
from mousecmr_data.download.retry import DEFAULT_RETRY_POLICY, HostLimiter, RetryPolicy, retry
from mousecmr_data.download.sources import redact_url
from mousecmr_data.errors import DownloadError
from mousecmr_data.schema.manifest import FileEntry

# MERGED download.downloader: A download under way: a hidden folder beside the target, which a later run picks up.
#
# ``Data/.Mouse1.h5.part/`` holds ``content`` (what has arrived), ``origin.json`` (from where, and how to
# ask for the rest) and, for moments, pooch's own temporary files. All of it belongs to whoever holds
# the file's lock, so what is found here under the lock is ours to take over or to remove.


@dataclass(frozen=True)
class PartialInfo:
    """Where a partial file comes from."""

    url: str
    """As shown: without secrets."""
    validator: str | None
    """A strong ETag or a modification date, for If-Range."""
    size: int | None
    """Bytes of the whole file, where the host said so."""


class PartialFile:
    """The partial download of ``target``."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.folder = target.parent / f".{target.name}.part"
        self.content = self.folder / "content"
        self.staged = self.folder / target.name
        """Where pooch puts the finished file."""
        self.aside = target.parent / f".{target.name}.corrupt"
        """Where a damaged file waits until its replacement is there."""
        self._info_path = self.folder / "origin.json"

    def recover(self) -> None:
        """Tidy up after a killed process: keep the bytes, drop the rest."""
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if path in (self.content, self._info_path):
                continue
            # Pooch's temporary file is empty until the verified content is moved onto it.
            if not self.content.exists() and path.is_file() and path.stat().st_size:
                path.replace(self.content)
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    def get_length(self) -> int:
        """Bytes that have arrived."""
        try:
            return self.content.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return 0

    def read_info(self) -> PartialInfo | None:
        """Where the content comes from, or None where that is not known."""
        try:
            return PartialInfo(**json.loads(self._info_path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def start(self, origin: PartialInfo) -> None:
        """Begin anew with the content of ``origin``."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.content.unlink(missing_ok=True)
        self.write_info(origin)

    def write_info(self, origin: PartialInfo) -> None:
        """Note where the rest of the content comes from."""
        write_json(self._info_path, asdict(origin))

    def move_content(self, path: str | Path) -> None:
        """Move the verified content to ``path`` (in the same folder), safe on disk and readable by all."""
        with self.content.open("rb+") as f:
            os.fsync(f.fileno())
        self.content.chmod(0o644)
        self.content.replace(path)

    def finish(self) -> None:
        """Move the staged file to its final name, in one step, and clean up."""
        self.staged.replace(self.target)
        fsync_folder(self.target.parent)
        self.clean_up()

    def clean_up(self) -> None:
        """The target is there and right: nothing else is needed any more."""
        self.aside.unlink(missing_ok=True)
        self.discard()

    def discard(self) -> None:
        """Remove what has arrived."""
        shutil.rmtree(self.folder, ignore_errors=True)


RECEIVE_BYTES = 1 << 18
"""Most bytes taken from the network at once; what has arrived is written at once, however little."""
PROGRESS_BYTES = 1 << 16
"""New bytes that make a broken transfer count as progress, so that its failures are forgotten."""
MAX_UNKNOWN_BYTES = 2 << 30
"""Bytes above which a file of unknown size cannot be a mouse: an endless answer must not fill the disk."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class VerifiedDownload:
    """Downloads one file of a manifest, in pooch's protocol for downloaders; ``sums`` then holds its checksums."""

    max_unknown_bytes: float = MAX_UNKNOWN_BYTES

    def __init__(
        self,
        entry: FileEntry,
        partial: PartialFile,
        web: HttpClient,
        retry_policy: RetryPolicy,
        hosts: HostLimiter,
        progress: ProgressListener,
        stop: threading.Event,
    ) -> None:
        self.entry, self.partial = entry, partial
        self._web, self._retry_policy, self._hosts = web, retry_policy, hosts
        self._progress, self._stop = progress, stop
        self.sums: Checksums | None = None
        self._told = 0.0
        self._furthest = 0

    def __call__(self, url: str, output_file: str | Path, _pooch: Any, check_only: bool = False) -> bool | None:
        """Fill ``output_file`` from ``url``; raises TransferError, Cancelled or OSError (disk full)."""
        if check_only:
            return _is_available(self._web, url)
        self._furthest = self.partial.get_length()
        self.sums = retry(
            lambda: self._transfer(url),
            url,
            self._retry_policy,
            self._hosts,
            self._stop,
            self._report_wait,
            self._has_progressed,
        )
        self.partial.move_content(output_file)
        return None

    def _has_progressed(self) -> bool:
        before, self._furthest = self._furthest, max(self._furthest, self.partial.get_length())
        return self._furthest >= before + PROGRESS_BYTES

    def _report_wait(self, text: str) -> None:
        self._progress(ProgressEvent("wait", self.entry.mouse, self.partial.get_length(), self.entry.size, text))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Cancelled

    def _transfer(self, url: str) -> Checksums:
        """One request and its body, appended to the partial; the checksums once they are right."""
        offset, origin = self.partial.get_length(), self.partial.read_info()
        whole = self.entry.size or (origin.size if origin else None)
        if offset and whole is not None and offset >= whole:  # killed between the last byte and the check
            sums = compute_checksums(self.partial.content, self._check_stop)
            if self._is_right(sums):
                return sums
            self.partial.discard()
            offset, origin = 0, None
        same_url = origin is not None and origin.url == redact_url(url)
        with self._web.get(url, offset, origin.validator if origin and same_url else None) as answer:
            resumed = self._prepare_partial(answer, url, offset)
            sums = self._receive(answer, url, offset if resumed else 0)
        if self._is_right(sums):
            return sums
        what = self._diagnose(sums)
        self.partial.discard()
        if resumed:  # two halves of different files, perhaps: not the host's fault until it fails in one piece
            raise TransientError(f"the resumed file did not match ({what}); starting again")
        raise ChecksumMismatch(f"{what}, from {redact_url(url)}")

    def _is_right(self, sums: Checksums) -> bool:
        return sums.matches(self.entry)

    def _prepare_partial(self, answer: Response, url: str, offset: int) -> bool:
        """Make the partial ready for the body: True to append, False where it begins from the start."""
        if answer.status == 416:
            self.partial.discard()
            raise TransientError("the host has no such range; starting again")
        encoded = answer.headers.get("content-encoding", "identity").lower() != "identity"
        if answer.status == 206:
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", "").strip())
            if encoded or not offset or span is None or int(span[1]) != offset:
                self.partial.discard()
                raise TransientError("the host sent another range than asked for; starting again")
            size = None if span[3] == "*" else int(span[3])
        else:
            length = answer.headers.get("content-length", "")
            size = int(length) if length.isdigit() and not encoded else None
        if size is not None and self.entry.size not in (None, size):
            raise ChecksumMismatch(f"{self._describe_wrong_size(answer, size)}, from {redact_url(url)}")
        if (size or 0) > self.max_unknown_bytes and self.entry.size is None:
            raise ChecksumMismatch(
                f"{format_bytes(size or 0)}, more than any file of the dataset, from {redact_url(url)}"
            )
        self._check_space(size, offset)
        origin = PartialInfo(redact_url(url), _get_validator(answer), size)
        if answer.status == 206:
            self.partial.write_info(origin)
            return True
        self.partial.start(origin)
        return False

    def _describe_wrong_size(self, answer: Response, size: int) -> str:
        start = b""
        if answer.status == 200:
            with suppress(TransientError):
                start = answer.read(512)
        return _identify_wrong_content(start) or f"{size:,} bytes instead of {self.entry.size:,}"

    def _check_space(self, size: int | None, offset: int) -> None:
        self.partial.folder.mkdir(parents=True, exist_ok=True)
        if size is not None and size - offset > get_free_bytes(self.partial.folder):
            self.partial.discard()
            raise make_disk_full_error(self.partial.target, size - offset)

    def _receive(self, answer: Response, url: str, offset: int) -> Checksums:
        origin = self.partial.read_info()
        size = origin.size if origin else None
        expected = size if size is not None else self.entry.size
        running = RunningChecksums(expected)
        most = expected if expected is not None else self.max_unknown_bytes
        with self.partial.content.open("ab", buffering=0) as f:
            if offset:
                self._hash_existing(running, offset)
            self._report_bytes(running.length, expected, now=True)
            while data := answer.read(RECEIVE_BYTES):
                self._check_stop()
                if running.length + len(data) > most:
                    break
                _write_all(f.write, data)
                running.update(data)
                self._report_bytes(running.length, expected)
        if data:
            self.partial.discard()
            raise ChecksumMismatch(f"more than {format_bytes(most)}, from {redact_url(url)}")
        if expected is not None and running.length < expected:
            raise TransientError(f"{urlsplit(url).hostname or 'the folder'} ended the transfer early")
        return running.finish() or compute_checksums(self.partial.content, self._check_stop)

    def _hash_existing(self, running: RunningChecksums, length: int) -> None:
        """Bring the checksums to where the partial file ends."""
        with self.partial.content.open("rb", buffering=0) as f:
            while running.length < length and (data := f.read(min(CHUNK_BYTES, length - running.length))):
                running.update(data)
                self._check_stop()

    def _report_bytes(self, done: int, total: int | None, now: bool = False) -> None:
        if now or time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            self._progress(ProgressEvent("bytes", self.entry.mouse, done, total))

    def _diagnose(self, sums: Checksums) -> str:
        with self.partial.content.open("rb") as f:
            return _identify_wrong_content(f.read(512)) or describe_mismatch(sums, self.entry)


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def _get_validator(answer: Response) -> str | None:
    etag = answer.headers.get("etag", "").strip()
    if etag.startswith('"'):  # a weak one (W/"…") must not be used for ranges
        return etag
    return answer.headers.get("last-modified") or None


def _identify_wrong_content(start: bytes) -> str | None:
    """What the bytes seem to be, where they are a well-known wrong answer."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page instead of the file (a login or an error page?)"
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer (about 134 bytes of text) instead of the file it stands for"
    return None


class ResumingDownloader:
    """A downloader for pooch that resumes interrupted downloads, in a later run too, and retries with patience.

    ``pooch.retrieve(url, known_hash, downloader=ResumingDownloader())``, or the argument ``downloader`` of
    :meth:`pooch.Pooch.fetch`. Pooch checks the hash, as with its own downloaders. What has arrived lies in a hidden
    folder beside the file until it is complete; processes that download the same file wait for one another.
    Transient failures (HTTP 429 and 5xx, broken or silent connections) are tried again as ``retry_policy`` says, with
    back-off and ``Retry-After``; a host that does not answer is left alone for as long as this object lives.

    ``progress`` is called with a :class:`~mousecmr_data._utils.progress.ProgressEvent` of the kind "bytes" or "wait".
    """

    def __init__(
        self,
        *,
        progress: ProgressListener = lambda _: None,
        retry_policy: RetryPolicy = DEFAULT_RETRY_POLICY,
    ) -> None:
        self._progress, self._retry_policy = progress, retry_policy
        self._hosts = HostLimiter()

    def __call__(
        self, url: str, output_file: str | Path | None, pooch: object, check_only: bool = False
    ) -> bool | None:
        """Download ``url`` to ``output_file``; with ``check_only``, say whether the host has the file.

        Raises :class:`~mousecmr_data.errors.DownloadError`, and :class:`~mousecmr_data.errors.CacheError` where the
        disk is full. What has arrived then stays for the next call.
        """
        web = HttpClient(self._retry_policy)
        try:
            if check_only or output_file is None:
                return _is_available(web, url)
            folder = Path(output_file).absolute().parent
            name = f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{Path(urlsplit(url).path).name[:80]}"
            download = _UnverifiedDownload(
                FileEntry(name, name), PartialFile(folder / name), web, self._retry_policy, self._hosts,
                self._progress, threading.Event(),
            )  # fmt: skip
            with hold_lock(folder, name):
                download.partial.recover()
                download(url, output_file, pooch)
                download.partial.discard()
        except TransferError as e:
            raise DownloadError(f"{redact_url(url)} could not be downloaded: {e}", None, "try again: it resumes") from e
        finally:
            web.close()
        return None


def _is_available(web: HttpClient, url: str) -> bool:
    try:
        with web.get(url, method="HEAD"):
            return True
    except TransferError:
        return False


class _UnverifiedDownload(VerifiedDownload):
    """A download whose checksum somebody else checks."""

    max_unknown_bytes = math.inf

    def _is_right(self, sums: Checksums) -> bool:  # noqa: ARG002
        return True


# MERGED download.downloader: From a URL to the final name, through pooch's machinery with our downloader.


def download_with_pooch(download: VerifiedDownload, url: str) -> None:
    """Let pooch fetch the file with our downloader, and put it in its place."""
    partial = download.partial
    name = partial.target.name
    partial.recover()
    # No registry hash: pooch would read the file again, and does not know git's. Ours cannot be switched off.
    pup = pooch.Pooch(path=partial.folder, base_url="", registry={name: None}, urls={name: url})
    pooch.get_logger().addFilter(_SILENCE)
    _SILENCE.here.on = True
    try:
        pup.fetch(name, downloader=download)
    finally:
        _SILENCE.here.on = False
    partial.finish()


class _SilencePooch(logging.Filter):
    """Keeps pooch from announcing our transfers on stderr; other users of pooch in this process are heard."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not (getattr(self.here, "on", False) and record.levelno <= logging.INFO)


_SILENCE = _SilencePooch()
