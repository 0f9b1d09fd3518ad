"""One file from "missing" to "verified": lock, look, ask the sources in turn, stamp."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mousecmr_data.errors import CacheError
from mousecmr_data.files import delivery, digest, disk, lock, record, state
from mousecmr_data.files.download import Download
from mousecmr_data.files.fault import Absent, Fault, Lasting, Stopped, WrongBytes
from mousecmr_data.files.partial import Partial
from mousecmr_data.files.patience import Hosts, Patience
from mousecmr_data.files.progress import Event, Watcher
from mousecmr_data.files.sources import Source
from mousecmr_data.files.state import FileState
from mousecmr_data.files.web import Web
from mousecmr_data.schema.manifest import FileEntry

log = logging.getLogger("mousecmr_data")


@dataclass(frozen=True)
class Task:
    """A file to be had."""

    folder: Path
    entry: FileEntry
    sources: tuple[Source, ...]

    @property
    def path(self) -> Path:
        """Its final name."""
        return self.folder / self.entry.path


@dataclass(frozen=True)
class Failure:
    """Why a file is still missing."""

    entry: FileEntry
    reason: str
    kind: Literal["host", "wrong bytes", "disk"] = "host"


class Obtainer:
    """Obtains the files of one run. ``check`` and ``obtain`` may be called from several threads."""

    def __init__(self, patience: Patience, watch: Watcher, stop: threading.Event) -> None:
        self.good: set[str] = set()
        self.downloaded: list[str] = []
        self.notes: list[str] = []
        self.failed: list[Failure] = []
        self._patience, self._watch, self._stop = patience, watch, stop
        self._hosts = Hosts()
        self._full: OSError | None = None
        self._here = threading.local()
        self._webs: list[Web] = []
        self._checked: dict[Path, dict[str, record.Stamp]] = {}
        self._lock = threading.Lock()

    def check(self, task: Task) -> None:
        """Hash a file that is there without a stamp; it is good if it matches. Needs no write access."""
        name = task.entry.mouse
        try:
            stat = task.path.stat()
            self._watch(Event("start", name, total=stat.st_size))
            self._watch(Event("bytes", name, 0, stat.st_size))
            sums = digest.of_file(task.path, self._check_stop)
            self._watch(Event("done", name, stat.st_size, stat.st_size))
        except OSError:
            return  # gone, or unreadable: obtain() will say so
        if not sums.agree(task.entry):
            return
        with self._lock:
            self._checked.setdefault(task.folder, {})[task.entry.path] = record.stamp(stat, sums)
        self.good.add(name)
        partial = Partial(task.path)
        if partial.folder.exists() or partial.aside.exists():  # left by a process that died after the rename
            with suppress(OSError), lock.of(task.folder, task.entry.path, self._check_stop):
                partial.settle()

    def close(self) -> None:
        """Close the connections."""
        for web in self._webs:
            web.close()

    def settle(self) -> None:
        """Write down what was checked; without effect in a read-only cache."""
        for folder, stamps in self._checked.items():
            record.update(folder, stamps)
        self._checked.clear()

    def obtain(self, task: Task) -> None:
        """Make the file be there and verified, or note why not."""
        name = task.entry.mouse
        if self._full is not None:
            self._fail(Failure(task.entry, "not tried: the disk is full", "disk"))
            return
        self._watch(Event("start", name, total=task.entry.size))
        try:
            with lock.of(task.folder, task.entry.path, lambda: self._wait_for_other(name)):
                self._obtain(task)
        except OSError as e:
            error = disk.trouble(e, task.path)
            if e.errno in disk.FULL or isinstance(e, CacheError):
                Partial(task.path).discard()  # give the space back: the disk is as it was
                self._full = error
            reason = error.found if isinstance(error, CacheError) else f"{e.strerror or e} ({task.path})"
            self._fail(Failure(task.entry, reason, "disk" if isinstance(error, CacheError) else "host"))

    def _obtain(self, task: Task) -> None:
        name = task.entry.mouse
        if state.of_entries(task.folder, {name: task.entry})[name] is FileState.VERIFIED:
            self._have(task, None)  # another process was faster
            return
        partial = Partial(task.path)
        damage = None
        if task.path.exists():
            stat = task.path.stat()
            sums = digest.of_file(task.path, self._check_stop)
            if sums.agree(task.entry):
                partial.settle()
                self._have(task, record.stamp(stat, sums))
                return
            damage = digest.mismatch(sums, task.entry)
            task.path.replace(partial.aside)
            record.update(task.folder, {}, forget=[task.entry.path])
        self._ask_sources(task, partial)
        if damage and task.path.exists():
            self._note(name, f"{name}: the file on disk was damaged ({damage}) and was replaced.")

    def _ask_sources(self, task: Task, partial: Partial) -> None:
        if not hasattr(self._here, "web"):
            self._here.web = Web(self._patience)
            self._webs.append(self._here.web)
        download = Download(task.entry, partial, self._here.web, self._patience, self._hosts, self._watch, self._stop)
        reasons: list[Fault] = []
        for source in task.sources:
            for url in source.urls:
                try:
                    delivery.deliver(download, url)
                except Absent as e:
                    absent: Lasting = e
                    continue
                except Lasting as e:
                    absent = e
                    if isinstance(e, WrongBytes):
                        self._note(task.entry.mouse, f"{task.entry.mouse}: wrong bytes: {e}")
                    break
                self.downloaded.append(task.entry.mouse)
                stamp = record.stamp(task.path.stat(), download.sums) if download.sums else None
                self._have(task, stamp)
                return
            reasons.append(absent)
        text = "; ".join(dict.fromkeys(map(str, reasons))) or "no source is set for it"
        if partial.aside.exists():
            text += f" (the damaged file was set aside: {partial.aside})"
        wrong = bool(reasons) and all(isinstance(r, WrongBytes) for r in reasons)
        self._fail(Failure(task.entry, text, "wrong bytes" if wrong else "host"))

    def _have(self, task: Task, stamp: record.Stamp | None) -> None:
        if stamp is not None:
            record.update(task.folder, {task.entry.path: stamp})
        self.good.add(task.entry.mouse)
        size = task.path.stat().st_size
        self._watch(Event("done", task.entry.mouse, size, size))

    def _fail(self, failure: Failure) -> None:
        self.failed.append(failure)
        self._watch(Event("failed", failure.entry.mouse, text=failure.reason))

    def _note(self, name: str, text: str) -> None:
        self.notes.append(text)
        log.warning("%s", text)
        self._watch(Event("note", name, text=text))

    def _wait_for_other(self, name: str) -> None:
        self._check_stop()
        self._watch(Event("wait", name, text="another process is downloading it"))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped
