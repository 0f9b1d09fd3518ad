"""Report the progress of downloads and checks to a callback or as bars on the terminal."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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

DELAY_SECONDS = 0.7
"""Seconds before bars appear that were not requested explicitly."""


@dataclass(frozen=True)
class ProgressEvent:
    """One event of a run.

    ``plan`` comes first (``text``: what, how much, where to; ``total``: bytes to come), and again before a download
    if files had to be hashed before it. Then for each file ``start``, ``bytes`` (``done`` of ``total`` so far),
    ``wait`` (``text``: why and how long), ``note`` (``text``: something the user should know), ``done`` or
    ``failed``. At the end: ``end``.
    """

    kind: Literal["plan", "start", "bytes", "wait", "note", "done", "failed", "end"]
    name: str = ""
    done: int = 0
    total: int | None = None
    text: str = ""


ProgressListener: TypeAlias = Callable[[ProgressEvent], None]
"""Called from several threads, one call at a time."""

ProgressOption: TypeAlias = bool | ProgressListener | None
"""None: bars if stderr is a terminal and the run takes a while; True or False: always or never; or a callback."""


class DownloadBars:
    """A progress listener that draws one bar for the whole run and one per active file, on stderr by default.

    With ``delayed``, nothing is drawn in the first moments, so a short run shows no bars.
    """

    def __init__(self, delayed: bool = False, console: Console | None = None) -> None:
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
        self._draw_after = time.monotonic() + (DELAY_SECONDS if delayed else 0.0)
        self._drawing = False
        self._total: TaskID | None = None
        self._files: dict[str, TaskID] = {}
        self._done: dict[str, int] = {}
        self._first_done: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._drawing:
            self._progress.stop()

    def __call__(self, event: ProgressEvent) -> None:
        """Draw ``event``."""
        if event.kind == "plan":
            self._console.print(event.text, highlight=False, markup=False)
            if self._total is not None:
                self._progress.remove_task(self._total)
            self._first_done.clear()
            self._done.clear()
            self._total = self._progress.add_task("all", total=event.total, remark="")
        elif event.kind == "note":
            self._console.print(event.text, highlight=False, markup=False, style="yellow")
        elif event.kind == "start":
            self._files[event.name] = self._progress.add_task(escape(event.name), total=event.total, remark="")
        elif event.name in self._files:
            task = self._files[event.name]
            if event.kind == "wait":
                self._progress.update(task, remark=escape(event.text))
            elif event.kind == "bytes" or (event.kind == "done" and event.name in self._first_done):
                self._progress.update(task, completed=event.done, total=event.total, remark="")
                self._first_done.setdefault(event.name, event.done)
                self._done[event.name] = event.done
                if self._total is not None:
                    received = sum(max(0, self._done[n] - self._first_done[n]) for n in self._done)
                    self._progress.update(self._total, completed=received)
            if event.kind in ("done", "failed"):
                self._progress.remove_task(self._files.pop(event.name))
        if not self._drawing and self._total is not None and time.monotonic() >= self._draw_after:
            self._drawing = True
            self._progress.start()


@contextmanager
def open_progress(progress: ProgressOption) -> Iterator[ProgressListener]:
    """Yield the listener that ``progress`` selects (callback, bars or none), called by one thread at a time."""
    show_bars = not callable(progress) and (progress or (progress is None and sys.stderr.isatty()))
    lock = threading.Lock()
    with DownloadBars(delayed=progress is None) if show_bars else nullcontext() as bars:
        listener = progress if callable(progress) else bars

        def report(event: ProgressEvent) -> None:
            if listener is not None:
                with lock:
                    listener(event)

        yield report
