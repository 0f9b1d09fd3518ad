"""Locks between processes: one file is downloaded once, whoever asks.

The operating system holds the lock and lets it go when its holder dies, however it dies. The empty
lock files stay in the folder ``.locks``: removing one would let two processes hold "the" lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

LOCKS = ".locks"
POLL_SECONDS = 0.05
"""Seconds between two looks at a lock that another process holds."""


@contextmanager
def hold_lock(folder: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``name`` (a path below ``folder``). OSError where the folder cannot be written.

    ``on_wait`` is called every so often while another process holds it, and may raise to give up.
    """
    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    held = FileLock(locks / f"{quote(name, safe='')}.lock", mode=0o664)
    while True:
        try:
            held.acquire(timeout=0.5, poll_interval=POLL_SECONDS)
            break
        except Timeout:
            on_wait()
    try:
        yield
    finally:
        held.release()
