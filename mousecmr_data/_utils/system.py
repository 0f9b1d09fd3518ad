"""What differs between operating systems: reading at a place, moving, syncing and locking; the only module that asks.

Windows has no ``os.pread``, moves no file over one that is open, cannot open a folder, and takes paths of 259
characters. Names that it keeps for devices are in :mod:`mousecmr_data._utils.text`. ``tests/windows_rules.py`` imposes
its rules on another system, and ``make test-windows`` runs the tests of the core under them.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mousecmr_data.errors import CacheError

MAX_PATH = 259
"""Characters of a path on Windows without "long paths": MAX_PATH of its API, less the final zero."""
RETRY_SECONDS = 1.0
"""Virus scanners and indexers open new files for moments."""
_position = threading.Lock()


def is_windows() -> bool:
    """Return whether the rules of Windows hold."""
    return os.name == "nt"


def read_at(file: int, length: int, offset: int) -> bytes:
    """Read up to ``length`` bytes at ``offset`` of an open file; threads may share the file."""
    if hasattr(os, "pread"):
        return os.pread(file, length, offset)
    with _position:
        os.lseek(file, offset, os.SEEK_SET)
        return os.read(file, length)


def move(source: Path, target: Path) -> None:
    """Move a file or folder to ``target`` on the same disk in one step; a file that is there is replaced.

    Raises :class:`CacheError` where Windows refuses because a program has one of them open, for longer than a moment.
    """
    end = time.monotonic() + RETRY_SECONDS
    while True:
        try:
            source.replace(target)
            return
        except PermissionError as e:
            if not is_windows() or not target.exists():
                raise
            if time.monotonic() > end:
                raise CacheError(
                    f"{target} cannot be replaced ({e.strerror}): another program may have it open.",
                    "a file that no program has open",
                    "close it there, and give the same command again",
                ) from e
        time.sleep(0.05)


def fsync_file(path: Path) -> None:
    """Sync the content of a file to disk."""
    with path.open("rb+") as f:
        os.fsync(f.fileno())


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable, on systems that can sync a folder."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


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


def try_flock(path: Path) -> OSError | None:
    """Return why the file system of the lock file ``path``, which is made, has no locks; None if it has."""
    try:
        import fcntl
    except ImportError:  # Windows, whose file systems have locks
        return None
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o664)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EINTR):  # another process holds it
            return e
    finally:
        os.close(handle)
    return None


def make_long_path_error(error: OSError, target: Path) -> CacheError | None:
    """Return the error to raise instead of ``error`` if ``target`` is too long a path; None if it is not."""
    length = len(str(target.absolute()))
    is_too_long = is_windows() and length > MAX_PATH and error.errno in (errno.ENOENT, errno.EINVAL)
    if error.errno != errno.ENAMETOOLONG and not is_too_long:
        return None
    limit = f"a path of {MAX_PATH} characters or fewer" if is_windows() else "a path that this disk takes"
    advice = "choose a folder with a shorter path (for the cache: export MOUSECMR_CACHE=/short/path)"
    more = ", or turn on long paths in Windows" if is_windows() else ""
    return CacheError(f"The path of {target.name} is too long: {length} characters.", limit, advice + more)
