"""Locks between processes, so that only one process at a time downloads or writes a file.

The operating system holds the lock and releases it when its holder ends, even if it is killed. The empty
lock files stay in the folder ``.locks``: removing one would let two processes hold the same lock.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from mousecmr_data._utils.system import try_flock
from mousecmr_data.errors import LockError, MouseCMRError

LOCKS = ".locks"
ALIVE = "alive"
"""Lock in a temporary folder, held as long as the folder is used."""
MIN_AGE_SECONDS = 60
"""Younger folders may not have their lock yet."""
MAX_NAME = 200
"""Longer names would not be valid names of files; their SHA-256 is used instead."""
log = logging.getLogger("mousecmr_data")


@contextmanager
def hold_lock(folder: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of ``name`` (a path below ``folder``).

    Raises OSError if the folder is not writable, :class:`LockError` if its file system has no locks.

    ``on_wait`` is called every 0.5 s while another process holds the lock, and may raise to stop waiting.
    """
    locks = folder / LOCKS
    locks.mkdir(parents=True, exist_ok=True)
    file = quote(name, safe="")
    if len(file) > MAX_NAME:
        file = hashlib.sha256(name.encode()).hexdigest()
    path = locks / f"{file}.lock"
    _check_locks(path)
    lock = FileLock(path, mode=0o664)
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
def try_lock(folder: Path, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold a lock like :func:`hold_lock`; where there can be none, continue without it.

    That is where ``folder`` is read-only, or its file system has no locks, which is said once.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(folder, name, on_wait))
        except LockError as e:
            report_no_locks(e)
        except MouseCMRError:  # of on_wait
            raise
        except OSError:
            pass
        yield


def report_no_locks(error: LockError) -> None:
    """Say that something goes on without locks, once for each folder."""
    _warn_once(f"{error.found} It goes on without: run one program at a time, or {error.next_step}")


@cache
def _warn_once(text: str) -> None:
    log.warning("%s", text)


def _check_locks(path: Path) -> None:
    """Raise :class:`LockError` if the file system of the lock file ``path``, which is made, has no locks.

    filelock takes some errors of such file systems for a lock that somebody else holds, and waits without end.
    """
    if error := try_flock(path):
        raise LockError(
            f"{path.parent.parent} has no locks ({error.strerror}): two programs could write the same file in it.",
            "a file system with locks, such as a local disk",
            "export MOUSECMR_CACHE=/folder/on/a/local/disk",
        ) from error


@contextmanager
def keep_alive(folder: Path) -> Iterator[None]:
    """Hold the lock that keeps :func:`remove_abandoned` of other processes from removing ``folder``.

    Without locks nothing is held, and nothing is ever removed.
    """
    lock = FileLock(folder / ALIVE, thread_local=False)
    with suppress(LockError):
        _check_locks(folder / ALIVE)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the temporary folders of killed processes: this user's own, whose lock :data:`ALIVE` nobody holds."""
    own = getattr(os, "getuid", lambda: 0)()
    for folder in parent.glob(f"{prefix}*"):
        try:
            about = folder.lstat()
            is_old = time.time() - about.st_mtime > MIN_AGE_SECONDS
            if is_old and stat.S_ISDIR(about.st_mode) and about.st_uid == own:
                _check_locks(folder / ALIVE)
                with FileLock(folder / ALIVE, timeout=0):
                    shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, OSError):
            continue
