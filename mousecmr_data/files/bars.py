"""Bars on stderr: one for the whole run, one for each file under way."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

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

from mousecmr_data.files.progress import Event

PATIENCE = 0.7
"""Seconds before bars appear that nobody asked for."""


class Bars:
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
        self._from = time.monotonic() + (PATIENCE if patient else 0.0)
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

    def __call__(self, event: Event) -> None:
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

    def _advance(self, event: Event) -> None:
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
