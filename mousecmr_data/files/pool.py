"""A bounded pool of threads that Ctrl-C ends at once.

Not :class:`concurrent.futures.ThreadPoolExecutor`: the interpreter waits for its threads, and a thread
that waits for a silent host would keep the terminal hostage for half a minute.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
GRACE = 2.0
"""Seconds after Ctrl-C in which transfers may come to an orderly end."""


def run(work: Callable[[Item], None], items: Iterable[Item], jobs: int, stop: threading.Event) -> None:
    """Call ``work`` for each item in ``jobs`` threads. The first exception stops the rest and is raised;
    so does KeyboardInterrupt, after setting ``stop``, which ``work`` is expected to look at."""
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    count = 0
    for item in items:
        waiting.put(item)
        count += 1
    if not count:
        return
    errors: list[BaseException] = []
    # Not Thread.join: interrupted by Ctrl-C, it takes a running thread for a finished one (Python < 3.13).
    running, over, lock = [min(max(jobs, 1), count)], threading.Event(), threading.Lock()

    def loop() -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as e:  # handed to the caller's thread below
            errors.append(e)
            stop.set()
        finally:
            with lock:
                running[0] -= 1
                if not running[0]:
                    over.set()

    for n in range(running[0]):
        threading.Thread(target=loop, name=f"mousecmr-{n}", daemon=True).start()
    try:
        while not over.wait(0.2):
            pass
    except BaseException:
        stop.set()
        over.wait(GRACE)
        raise
    if errors:
        raise errors[0]
