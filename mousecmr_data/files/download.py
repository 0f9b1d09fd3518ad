"""The downloader: one URL to one verified file, resumed where an earlier try stopped.

A :class:`Download` is a pooch downloader, a callable ``(url, output_file, pooch)``. Pooch does the
rest: the temporary file, the rename. Nothing gets to pooch's temporary file before the checksum matched.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mousecmr_data.files import digest, disk
from mousecmr_data.files.digest import Digest, Sums
from mousecmr_data.files.fault import Passing, Stopped, WrongBytes
from mousecmr_data.files.insist import insist
from mousecmr_data.files.partial import Origin, Partial
from mousecmr_data.files.patience import Hosts, Patience
from mousecmr_data.files.progress import Event, Watcher, human
from mousecmr_data.files.sources import shown
from mousecmr_data.files.web import Answer, Web
from mousecmr_data.schema.manifest import FileEntry

RECEIVE = 1 << 18
"""Most bytes taken from the network at once; what has arrived is written at once, however little."""
HEADWAY = 1 << 16
"""New bytes that make a broken transfer count as progress, so that its failures are forgotten."""
CEILING = 2 << 30
"""Bytes above which a file of unknown size cannot be a mouse: an endless answer must not fill the disk."""
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class Download:
    """Fetches one entry; after a call that returns, ``sums`` holds its checksums."""

    def __init__(
        self,
        entry: FileEntry,
        partial: Partial,
        web: Web,
        patience: Patience,
        hosts: Hosts,
        watch: Watcher,
        stop: threading.Event,
    ) -> None:
        self.entry, self.partial = entry, partial
        self._web, self._patience, self._hosts = web, patience, hosts
        self._watch, self._stop = watch, stop
        self.sums: Sums | None = None
        self._told = 0.0
        self._furthest = 0

    def __call__(self, url: str, output_file: str | Path, _pooch: Any, check_only: bool = False) -> bool | None:
        """Fill ``output_file`` from ``url``; raises a Fault, Stopped or OSError (disk full)."""
        if check_only:
            with self._web.ask(url, method="HEAD"):
                return True
        self._furthest = self.partial.length()
        self.sums = insist(
            lambda: self._transfer(url),
            url,
            self._patience,
            self._hosts,
            self._stop,
            self._say_wait,
            self._headway,
        )
        self.partial.deliver(output_file)
        return None

    def _headway(self) -> bool:
        before, self._furthest = self._furthest, max(self._furthest, self.partial.length())
        return self._furthest >= before + HEADWAY

    def _say_wait(self, text: str) -> None:
        self._watch(Event("wait", self.entry.mouse, self.partial.length(), self.entry.size, text))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _transfer(self, url: str) -> Sums:
        """One request and its body, appended to the partial; the checksums once they are right."""
        offset, origin = self.partial.length(), self.partial.origin()
        whole = self.entry.size or (origin.size if origin else None)
        if offset and whole is not None and offset >= whole:  # killed between the last byte and the check
            sums = digest.of_file(self.partial.content, self._check_stop)
            if sums.agree(self.entry):
                return sums
            self.partial.discard()
            offset, origin = 0, None
        same_url = origin is not None and origin.url == shown(url)
        with self._web.ask(url, offset, origin.validator if origin and same_url else None) as answer:
            resumed = self._accept(answer, url, offset)
            sums = self._receive(answer, url, offset if resumed else 0)
        if sums.agree(self.entry):
            return sums
        what = self._diagnosis(sums)
        self.partial.discard()
        if resumed:  # two halves of different files, perhaps: not the host's fault until it fails in one piece
            raise Passing(f"the resumed file did not match ({what}); starting again")
        raise WrongBytes(f"{what}, from {shown(url)}")

    def _accept(self, answer: Answer, url: str, offset: int) -> bool:
        """Make the partial ready for the body: True to append, False where it begins from the start."""
        if answer.status == 416:
            self.partial.discard()
            raise Passing("the host has no such range; starting again")
        encoded = answer.headers.get("content-encoding", "identity").lower() != "identity"
        if answer.status == 206:
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", "").strip())
            if encoded or not offset or span is None or int(span[1]) != offset:
                self.partial.discard()
                raise Passing("the host sent another range than asked for; starting again")
            size = None if span[3] == "*" else int(span[3])
        else:
            length = answer.headers.get("content-length", "")
            size = int(length) if length.isdigit() and not encoded else None
        if size is not None and self.entry.size not in (None, size):
            raise WrongBytes(f"{self._wrong_size(answer, size)}, from {shown(url)}")
        if (size or 0) > CEILING and self.entry.size is None:
            raise WrongBytes(f"{human(size or 0)}, more than any file of the dataset, from {shown(url)}")
        self._check_space(size, offset)
        origin = Origin(shown(url), _validator(answer), size)
        if answer.status == 206:
            self.partial.note(origin)
            return True
        self.partial.start(origin)
        return False

    def _wrong_size(self, answer: Answer, size: int) -> str:
        start = b""
        if answer.status == 200:
            with suppress(Passing):
                start = answer.read(512)
        return _lookalike(start) or f"{size:,} bytes instead of {self.entry.size:,}"

    def _check_space(self, size: int | None, offset: int) -> None:
        self.partial.folder.mkdir(parents=True, exist_ok=True)
        if size is not None and size - offset > disk.free(self.partial.folder):
            self.partial.discard()
            raise disk.full(self.partial.target, size - offset)

    def _receive(self, answer: Answer, url: str, offset: int) -> Sums:
        origin = self.partial.origin()
        size = origin.size if origin else None
        expected = size if size is not None else self.entry.size
        running = Digest(expected)
        most = expected if expected is not None else CEILING
        with self.partial.content.open("ab", buffering=0) as f:
            if offset:
                self._take_in(running, offset)
            self._tell(running.length, expected, now=True)
            while data := answer.read(RECEIVE):
                self._check_stop()
                if running.length + len(data) > most:
                    break
                _write_all(f.write, data)
                running.update(data)
                self._tell(running.length, expected)
        if data:
            self.partial.discard()
            raise WrongBytes(f"more than {human(most)}, from {shown(url)}")
        if expected is not None and running.length < expected:
            raise Passing(f"{urlsplit(url).hostname or 'the folder'} ended the transfer early")
        return running.sums() or digest.of_file(self.partial.content, self._check_stop)

    def _take_in(self, running: Digest, length: int) -> None:
        """Bring the checksums to where the partial file ends."""
        with self.partial.content.open("rb", buffering=0) as f:
            while running.length < length and (data := f.read(min(digest.CHUNK, length - running.length))):
                running.update(data)
                self._check_stop()

    def _tell(self, done: int, total: int | None, now: bool = False) -> None:
        if now or time.monotonic() - self._told > 0.1:
            self._told = time.monotonic()
            self._watch(Event("bytes", self.entry.mouse, done, total))

    def _diagnosis(self, sums: Sums) -> str:
        with self.partial.content.open("rb") as f:
            return _lookalike(f.read(512)) or digest.mismatch(sums, self.entry)


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[write(view) or 0 :]


def _validator(answer: Answer) -> str | None:
    etag = answer.headers.get("etag", "").strip()
    if etag.startswith('"'):  # a weak one (W/"…") must not be used for ranges
        return etag
    return answer.headers.get("last-modified") or None


def _lookalike(start: bytes) -> str | None:
    """What the bytes seem to be, where they are a well-known wrong answer."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml")):
        return "a web page instead of the file (a login or an error page?)"
    if start.startswith(LFS_POINTER):
        return "a Git LFS pointer (about 134 bytes of text) instead of the file it stands for"
    return None
