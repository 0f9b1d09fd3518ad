"""A bounded pool of threads that Ctrl-C ends at once.

Not :class:`concurrent.futures.ThreadPoolExecutor`: the interpreter waits for its threads, and a thread
that waits for a silent host would keep the terminal hostage for half a minute.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeAlias, TypeVar

# MERGED _utils.parallel: Work on many items in several processes.


Result = TypeVar("Result")


def map_in_processes(
    work: Callable[[str], Result],
    items: Sequence[str],
    workers: int,
    on_result: Callable[[str, Result], None] | None = None,
) -> dict[str, Result]:
    """Call ``work`` with each item in ``workers`` processes, and ``on_result`` with each item and its result.

    ``work`` pickles. More than one process needs a main module that can be imported (``if __name__ ==
    "__main__"``). On an error or Ctrl-C what runs is finished, what waits is dropped.
    """
    results: dict[str, Result] = {}
    if min(workers, len(items)) <= 1:
        for item in items:
            results[item] = work(item)
            if on_result:
                on_result(item, results[item])
        return results
    # Workers leave Ctrl-C to us: we drop what waits, and they end with what they are doing.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            running = {pool.submit(work, item): item for item in items}
            for future in as_completed(running):
                results[running[future]] = future.result()
                if on_result:
                    on_result(running[future], results[running[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


ProgressCallback: TypeAlias = Callable[[int], None]
"""Called with the number of items done since the last call."""


def count_results(progress: ProgressCallback | None) -> Callable[[str, object], None] | None:
    """Make an ``on_result`` that calls ``progress`` with 1."""
    return None if progress is None else lambda _item, _result: progress(1)


Item = TypeVar("Item")
GRACE_SECONDS = 2.0
"""Seconds after Ctrl-C in which transfers may come to an orderly end."""


def run_in_threads(work: Callable[[Item], None], items: Iterable[Item], workers: int, stop: threading.Event) -> None:
    """Call ``work`` for each item in ``workers`` threads. The first exception stops the rest and is raised;
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
    running, over, lock = [min(max(workers, 1), count)], threading.Event(), threading.Lock()

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
        over.wait(GRACE_SECONDS)
        raise
    if errors:
        raise errors[0]
