"""Locks between processes, so that only one process at a time downloads or writes a file.

The operating system holds the lock and releases it when its holder ends, even if it is killed. The empty
lock files stay in the folder ``.locks``: removing one would let two processes hold the same lock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

LOCKS = ".locks"
ALIVE = "alive"
"""Lock in a temporary folder, held as long as the folder is used."""
MIN_AGE_SECONDS = 60
"""Younger folders may not have their lock yet."""
MAX_NAME = 200
"""Longer names would not be valid names of files; their SHA-256 is used instead."""


@contextmanager
def hold_lock(folder: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``name`` (a path below ``folder``). Raises OSError if the folder is not writable.

    ``on_wait`` is called every 0.5 s while another process holds the lock, and may raise to stop waiting.
    """
    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    file = quote(name, safe="")
    if len(file) > MAX_NAME:
        file = hashlib.sha256(name.encode()).hexdigest()
    lock = FileLock(locks / f"{file}.lock", mode=0o664)
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


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Hold a lock of ``folder`` itself, which needs no lock file; wait while another process holds it.

    For moments only, while files are moved there. Does nothing where the system or the disk cannot lock a folder.
    """
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        yield
        return
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the temporary folders of killed processes: this user's own, whose lock :data:`ALIVE` nobody holds."""
    own = getattr(os, "getuid", lambda: 0)()
    for folder in parent.glob(f"{prefix}*"):
        try:
            about = folder.lstat()
            is_old = time.time() - about.st_mtime > MIN_AGE_SECONDS
            if is_old and stat.S_ISDIR(about.st_mode) and about.st_uid == own:
                with FileLock(folder / ALIVE, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
