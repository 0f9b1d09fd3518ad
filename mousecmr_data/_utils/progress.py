"""Report progress to a callback, or as bars on the terminal or in the output of a notebook's cell.

``progress=False`` or the environment variable ``MOUSECMR_PROGRESS=0`` switches bars off.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

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
REDRAW_SECONDS = 0.2
"""Seconds between two drawings in a notebook."""
VARIABLE = "MOUSECMR_PROGRESS"


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
"""None: bars where a person looks (a terminal, a notebook) if the run takes a while; True or False: always or never; or
a callback."""


def are_bars_wanted(progress: bool | None) -> bool:
    """Return whether to draw bars: always, never, or where they are seen (None), on a terminal or in a notebook."""
    if progress is None:
        progress = sys.stderr.isatty() or Console().is_jupyter
    return progress and os.environ.get(VARIABLE) != "0"


class Bars(Progress):
    """Bars on standard error, or in the output of a notebook's cell, where those of rich need ipywidgets."""

    def __init__(self, *columns: Any, console: Console | None = None) -> None:
        self._in_notebook = console is None and Console().is_jupyter
        self._output: Any = None
        self._drawn = 0.0
        shown = console or Console(stderr=True, force_jupyter=False)
        super().__init__(*columns, console=shown, transient=True, auto_refresh=not self._in_notebook)

    def start(self) -> None:
        if self._in_notebook:
            self.draw_soon()
        else:
            super().start()

    def stop(self) -> None:
        if self._in_notebook:
            self.draw()
        else:
            super().stop()

    def draw_soon(self) -> None:
        """Draw in a notebook, where no thread does, unless it was done just now."""
        if self._in_notebook and self.tasks and time.monotonic() - self._drawn > REDRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw the bars in the output of the cell, in place of what was drawn before."""
        from IPython.display import display

        text = Console(file=io.StringIO(), width=100, force_jupyter=False, force_terminal=False)
        text.print(self.get_renderable())
        content = {"text/plain": text.file.getvalue().rstrip()}  # type: ignore[attr-defined]
        if self._output is None:
            self._output = display(content, raw=True, display_id=True)
        else:
            self._output.update(content, raw=True)
        self._drawn = time.monotonic()


_open_bars: list[Bars] = []


@contextmanager
def open_bar(
    progress: bool | Callable[[int], None] | None, title: str, total: float
) -> Iterator[Callable[[float], None]]:
    """Yield a function that counts finished items, of ``total``.

    ``progress`` is called instead if it is a callback; None and True draw a bar with the time left, None only where it
    is seen and no other bar is.
    """
    if callable(progress):
        yield progress  # type: ignore[misc]
        return
    if not are_bars_wanted(progress) or (progress is None and _open_bars):
        yield lambda _: None
        return
    count, left = TextColumn("{task.completed:.1f} of {task.total:.0f}"), TextColumn("left")
    with Bars(TextColumn("{task.description}"), BarColumn(), count, TimeRemainingColumn(), left) as bars:
        _open_bars.append(bars)
        task = bars.add_task(title, total=total)
        bars.draw_soon()

        def advance(n: float) -> None:
            bars.advance(task, n)
            bars.draw_soon()

        try:
            yield advance
        finally:
            _open_bars.remove(bars)


class DownloadBars:
    """A progress listener that draws one bar for the whole run and one per active file, on stderr by default.

    With ``delayed``, nothing is drawn in the first moments, so a short run shows no bars.
    """

    def __init__(self, delayed: bool = False, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[remark]}", style="yellow"),
            console=console,
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
        elif self._drawing:
            self._progress.draw_soon()


@contextmanager
def open_progress(progress: ProgressOption) -> Iterator[ProgressListener]:
    """Yield the listener that ``progress`` selects (callback, bars or none), called by one thread at a time."""
    show_bars = not callable(progress) and are_bars_wanted(progress)
    lock = threading.Lock()
    with DownloadBars(delayed=progress is None) if show_bars else nullcontext() as bars:
        listener = progress if callable(progress) else bars

        def report(event: ProgressEvent) -> None:
            if listener is not None:
                with lock:
                    listener(event)

        yield report
