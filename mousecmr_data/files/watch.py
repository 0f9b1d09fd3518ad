"""Who watches a run: the caller's function, bars on the terminal, or nobody."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mousecmr_data.files.progress import Event, Progress, Watcher


@contextmanager
def watching(progress: Progress) -> Iterator[Watcher]:
    """The watcher that ``progress`` asks for, called by one thread at a time."""
    if callable(progress):
        yield _one_at_a_time(progress)
    elif progress or (progress is None and sys.stderr.isatty()):
        from mousecmr_data.files.bars import Bars  # rich's live display costs a tenth of a second to import

        with Bars(patient=progress is None) as bars:
            yield _one_at_a_time(bars)
    else:
        yield _nobody


def _nobody(_event: Event) -> None:
    pass


def _one_at_a_time(watcher: Watcher) -> Watcher:
    lock = threading.Lock()

    def tell(event: Event) -> None:
        with lock:
            watcher(event)

    return tell
