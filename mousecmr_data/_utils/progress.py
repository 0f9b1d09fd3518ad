"""What a run tells whoever watches it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, TypeAlias

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)


@dataclass(frozen=True)
class ProgressEvent:
    """One thing that happened.

    ``plan`` comes first (``text``: what, how much, where to; ``total``: bytes to come), and once more
    before a download where files had to be hashed before it. Then for each
    file ``start``, ``bytes`` (``done`` of ``total`` so far), ``wait`` (``text``: why and how long),
    ``note`` (``text``: something the user should know), ``done`` or ``failed``. At the end: ``end``.
    """

    kind: Literal["plan", "start", "bytes", "wait", "note", "done", "failed", "end"]
    name: str = ""
    done: int = 0
    total: int | None = None
    text: str = ""


ProgressListener: TypeAlias = Callable[[ProgressEvent], None]
"""Called from several threads, one call at a time."""

ProgressOption: TypeAlias = bool | ProgressListener | None
"""None: bars where stderr is a terminal and it takes a while; True or False: always or never."""


def format_bytes(size: float) -> str:
    """Bytes for people, in decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} GB"


# MERGED _utils.progress: Bars on stderr: one for the whole run, one for each file under way.


DELAY_SECONDS = 0.7
"""Seconds before bars appear that nobody asked for."""


class DownloadBars:
    """A watcher that draws. With ``patient`` nothing is drawn of a run that is over in a moment."""

    def __init__(self, patient: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}", style="yellow"),
            console=self._console,
            transient=True,
        )
        self._from = time.monotonic() + (DELAY_SECONDS if patient else 0.0)
        self._drawing = False
        self._whole: TaskID | None = None
        self._files: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._begun: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._drawing:
            self._progress.stop()

    def __call__(self, event: ProgressEvent) -> None:
        """Draw what happened."""
        if event.kind == "plan":
            self._console.print(event.text, highlight=False, markup=False)
            if self._whole is not None:
                self._progress.remove_task(self._whole)
            self._begun.clear()
            self._done.clear()
            self._whole = self._progress.add_task("all", total=event.total, remark="")
        elif event.kind == "note":
            self._console.print(event.text, highlight=False, markup=False, style="yellow")
        elif event.kind == "start":
            self._files[event.name] = self._progress.add_task(escape(event.name), total=event.total, remark="")
        elif event.kind in ("bytes", "wait") and event.name in self._files:
            self._advance(event)
        elif event.kind in ("done", "failed") and event.name in self._files:
            if event.kind == "done" and event.name in self._begun:
                self._advance(event)
            self._progress.remove_task(self._files.pop(event.name))
        if not self._drawing and self._whole is not None and time.monotonic() >= self._from:
            self._drawing = True
            self._progress.start()

    def _advance(self, event: ProgressEvent) -> None:
        task = self._files[event.name]
        if event.kind == "wait":
            self._progress.update(task, remark=escape(event.text))
            return
        self._progress.update(task, completed=event.done, total=event.total, remark="")
        self._begun.setdefault(event.name, event.done)
        self._done[event.name] = event.done
        if self._whole is not None:
            came = sum(max(0, self._done[n] - self._begun[n]) for n in self._done)
            self._progress.update(self._whole, completed=came)


# MERGED _utils.progress: Who watches a run: the caller's function, bars on the terminal, or nobody.


@contextmanager
def open_progress(progress: ProgressOption) -> Iterator[ProgressListener]:
    """The watcher that ``progress`` asks for, called by one thread at a time."""
    if callable(progress):
        yield _serialize_calls(progress)
    elif progress or (progress is None and sys.stderr.isatty()):
        with DownloadBars(patient=progress is None) as bars:
            yield _serialize_calls(bars)
    else:
        yield _ignore


def _ignore(_event: ProgressEvent) -> None:
    pass


def _serialize_calls(watcher: ProgressListener) -> ProgressListener:
    lock = threading.Lock()

    def tell(event: ProgressEvent) -> None:
        with lock:
            watcher(event)

    return tell
