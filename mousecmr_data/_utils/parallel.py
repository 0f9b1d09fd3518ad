"""Run work on many items in processes or threads; Ctrl-C stops at once.

The threads are not a :class:`concurrent.futures.ThreadPoolExecutor`: the interpreter waits for its threads
at exit, so a thread that waits for a silent host would block the terminal for half a minute.
"""

from __future__ import annotations

import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeAlias, TypeVar

from mousecmr_data._utils.network import enforce_offline

Item = TypeVar("Item")
Result = TypeVar("Result")

ProgressCallback: TypeAlias = Callable[[int], None]
"""Called with the number of items done since the last call."""

GRACE_SECONDS = 2.0
"""Seconds after Ctrl-C in which transfers may end in order."""


def map_in_processes(
    work: Callable[[str], Result],
    items: Sequence[str],
    workers: int,
    on_result: Callable[[str, Result], None] | None = None,
) -> dict[str, Result]:
    """Call ``work`` with each item in ``workers`` processes, and ``on_result`` with each item and its result.

    ``work`` must pickle. More than one process needs a main module that can be imported (``if __name__ ==
    "__main__"``). On an error or Ctrl-C, running items are finished and waiting items are dropped.
    """
    results: dict[str, Result] = {}
    if min(workers, len(items)) <= 1:
        for item in items:
            results[item] = work(item)
            if on_result:
                on_result(item, results[item])
        return results
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(items)), spawn, start_worker) as pool:
        try:
            futures = {pool.submit(work, item): item for item in items}
            for future in as_completed(futures):
                results[futures[future]] = future.result()
                if on_result:
                    on_result(futures[future], results[futures[future]])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def start_worker() -> None:
    """Prepare a new worker process."""
    # Workers ignore Ctrl-C: their parent drops the waiting items, and they end after their current item.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    enforce_offline()


def count_results(progress: ProgressCallback | None) -> Callable[[str, object], None] | None:
    """Return an ``on_result`` that calls ``progress`` with 1, or None without ``progress``."""
    return None if progress is None else lambda _item, _result: progress(1)


def run_in_threads(work: Callable[[Item], None], items: Iterable[Item], workers: int, stop: threading.Event) -> None:
    """Call ``work`` for each item in ``workers`` threads.

    The first exception stops the rest and is raised. KeyboardInterrupt does so too, after setting ``stop``, which
    ``work`` is expected to check.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    for item in items:
        waiting.put(item)
    if waiting.empty():
        return
    errors: list[BaseException] = []
    # Not Thread.join: interrupted by Ctrl-C, it takes a running thread for a finished one (Python < 3.13).
    running, all_done, lock = [min(max(workers, 1), waiting.qsize())], threading.Event(), threading.Lock()

    def loop() -> None:
        try:
            while not stop.is_set():
                work(waiting.get_nowait())
        except queue.Empty:
            pass
        except BaseException as e:  # raised again in the caller's thread below
            errors.append(e)
            stop.set()
        finally:
            with lock:
                running[0] -= 1
                if not running[0]:
                    all_done.set()

    for n in range(running[0]):
        threading.Thread(target=loop, name=f"mousecmr-{n}", daemon=True).start()
    try:
        while not all_done.wait(0.2):
            pass
    except BaseException:
        stop.set()
        all_done.wait(GRACE_SECONDS)
        raise
    if errors:
        raise errors[0]
