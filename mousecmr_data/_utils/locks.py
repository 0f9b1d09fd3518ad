"""Locks between processes, so that only one process at a time downloads or writes a file.

The operating system holds the lock and releases it when its holder ends, even if it is killed. The empty
lock files stay in the folder ``.locks``: removing one would let two processes hold the same lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

LOCKS = ".locks"


@contextmanager
def hold_lock(folder: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``name`` (a path below ``folder``). Raises OSError if the folder is not writable.

    ``on_wait`` is called every 0.5 s while another process holds the lock, and may raise to stop waiting.
    """
    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{quote(name, safe='')}.lock", mode=0o664)
    while True:
        try:
            lock.acquire(timeout=0.5, poll_interval=0.05)
            break
        except Timeout:
            on_wait()
    try:
        yield
    finally:
        lock.release()
