"""Work on many items in several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Result = TypeVar("Result")


def each(
    work: Callable[[str], Result],
    items: Sequence[str],
    jobs: int,
    done: Callable[[str], None] | None = None,
) -> dict[str, Result]:
    """``work`` of each item in ``jobs`` processes, calling ``done`` with each that is ready.

    ``work`` pickles. More than one process needs a main module that can be imported (``if __name__ ==
    "__main__"``). On an error or Ctrl-C what runs is finished, what waits is dropped.
    """
    results: dict[str, Result] = {}
    if min(jobs, len(items)) <= 1:
        for item in items:
            results[item] = work(item)
            if done:
                done(item)
        return results
    # Workers leave Ctrl-C to us: we drop what waits, and they end with what they are doing.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(items)), spawn, signal.signal, (signal.SIGINT, signal.SIG_IGN)) as pool:
        try:
            running = {pool.submit(work, item): item for item in items}
            for future in as_completed(running):
                results[running[future]] = future.result()
                if done:
                    done(running[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results
