"""Read files of others: how much they may take, and what the system refused apart from what a file holds.

A few kilobytes can state gigabytes. Readers call :func:`check_size` with what a file states before they take memory.
A reader that fails calls :func:`check_access` before it calls a file damaged: a sound file must not be thrown away, or
written again, because a disk did not answer (permission, locks, a lost disk, too many open files).
"""

from __future__ import annotations

import errno
import math
import os
import re
import shlex
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from mousecmr_data._utils.text import format_bytes
from mousecmr_data.errors import ArgumentError, FileLayoutError, MissingDataError, MouseCMRError, ReadError

ABSENT = (FileNotFoundError, NotADirectoryError)
"""Errors of a file that does not exist; all others with a number say nothing about it."""
OF_CONTENT = {errno.EINVAL, errno.EFBIG, errno.EOVERFLOW, errno.ERANGE, errno.EDOM, errno.EILSEQ, errno.ESPIPE}
"""Errors that a damaged file can cause, such as a jump to a position before its start."""
NEXT_STEPS = {
    "chmod -R u+rX {0}, or ask its owner": (errno.EACCES, errno.EPERM),
    "ulimit -n 4096  (the open files that a program may have), then the same command again": (
        errno.EMFILE,
        errno.ENFILE,
    ),
    "close other programs, or use a machine with more memory": (errno.ENOMEM,),
    "free some space; or for temporary files: export TMPDIR=/path/with/space": (errno.ENOSPC, errno.EDQUOT),
    "export HDF5_USE_FILE_LOCKING=FALSE  (this file system has no locks), then the same command again": (
        errno.ENOLCK,
        errno.ENOTSUP,
        errno.ENOSYS,
    ),
    "remove the link, which leads back to itself": (errno.ELOOP,),
    "give the path of a file": (errno.EISDIR,),
    "use a shorter path": (errno.ENAMETOOLONG,),
}
OTHER_STEP = "the same command again, when the disk answers; or copy the file to a local disk"
ANNEX = re.compile(r"(^|[\\/])annex[\\/]objects[\\/]")
"""In the path of a file's content that git-annex, and so DataLad, keeps."""
POINTERS = {
    rb"version https://git-lfs": "git lfs pull --include {0}",
    rb"[./\\a-z]*annex[/\\]objects[/\\]": "datalad get {0}  (or: git annex get {0})",
}
"""First bytes of the small text that stands for a file whose content was not fetched, and what fetches it."""
POINTER_BYTES = 32 * 1024
BLOCK = 1 << 20
_HDF5_NUMBER = re.compile(r"\berrno = (\d+)")
MAX_GB, GB_VARIABLE = 2.0, "MOUSECMR_MAX_GB"
"""Largest array that is read, and the variable that raises it: a cine of 256 × 256 × 30 × 200 float32 has 1.6 GB."""
MAX_SECONDS, SECONDS_VARIABLE = 300.0, "MOUSECMR_MAX_SECONDS"
"""Longest time to read one scan, and the variable that raises it: a scan takes seconds, also on a network disk."""
COPIES = 4
"""A process may take so many times the memory of the largest array: it sorts, converts and checks the values."""
RATIO_FROM = 64 * 10**6
"""What is larger than this may be only so many times as large as the file that it is packed in:"""
MAX_RATIO = 1000
"""an almost empty mask, compressed with gzip, reaches about 700;"""
MAX_IMAGE_RATIO = 100
"""images reach 2, with an empty background 20."""


def check_input(path: str | PathLike[str], expected: str, next_step: str | None = None) -> None:
    """Raise an error unless ``path`` is a file, or a link to one; ``expected`` and ``next_step`` are its sentences.

    It is a :class:`MissingDataError` (there is none), :class:`FileLayoutError` (a folder) or :class:`ReadError`.
    """
    try:
        mode = Path(path).stat().st_mode
    except OSError as e:
        raise make_read_error(path, e, expected, next_step) from e
    if not stat.S_ISREG(mode):
        raise FileLayoutError(f"{path} is not a file.", expected, next_step)


def check_access(error: BaseException, *paths: Path) -> None:
    """Raise :class:`ReadError` or :class:`MissingDataError` if ``error``, of a reader of ``paths``, is the system's.

    Return if the content is at fault. Libraries hide the system's errors behind their own, so the files are also read,
    as plain bytes.
    """
    for cause in list_causes(error):
        if isinstance(cause, MemoryError):
            raise make_read_error(paths[0], OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))) from cause
        number = cause.errno if isinstance(cause, OSError) and not isinstance(cause, MouseCMRError) else None
        if number is None and (match := _HDF5_NUMBER.search(str(cause))):  # HDF5 states it in words
            number = int(match[1])
        if number is not None and number not in OF_CONTENT:
            name = getattr(cause, "filename", None) or paths[0]
            raise make_read_error(name, OSError(number, os.strerror(number))) from error
    for path in paths:
        try:
            if path.is_dir():
                next(path.iterdir(), None)
                continue
            with path.open("rb", buffering=0) as f:
                head = f.read(BLOCK)
                while f.read(BLOCK):
                    pass
        except OSError as e:
            raise make_read_error(path, e) from error
        for pattern, command in POINTERS.items():
            if len(head) < POINTER_BYTES and re.match(pattern, head):
                raise MissingDataError(
                    f"{path} holds only a pointer ({len(head)} bytes of text); its content is not on this disk.",
                    "the file itself",
                    command.format(shlex.quote(str(path))),
                ) from error


def make_read_error(
    path: str | bytes | PathLike[str],
    error: OSError,
    expected: str | None = None,
    next_step: str | None = None,
    folder: Path | None = None,
) -> MouseCMRError:
    """Return the error to raise for ``error`` of the system about ``path``.

    It is a :class:`MissingDataError` with ``expected`` and ``next_step`` if there is no such file, else a
    :class:`ReadError`. An error of this library is returned as it is. ``folder`` is given if the file is one of many in
    it, which are likely to share the fault: the next step is then for all of them.
    """
    if isinstance(error, MouseCMRError):
        return error
    name = os.fsdecode(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return _make_missing_error(Path(name), expected, next_step, folder)
    step = next((text for text, numbers in NEXT_STEPS.items() if error.errno in numbers), OTHER_STEP)
    return ReadError(
        f"{name} cannot be read: {error.strerror or error}. The system says so; the file itself may be sound.",
        "a file that the system lets this program read",
        step.format(shlex.quote(str(folder or name))),
    )


def _make_missing_error(
    path: Path, expected: str | None, next_step: str | None, folder: Path | None
) -> MissingDataError:
    link = next((p for p in (path, *path.parents) if p.is_symlink() and not p.exists()), None)
    if link is None:
        return MissingDataError(f"There is no file {path}.", expected, next_step)
    get = "datalad get {0}  (or: git annex get {0})".format(shlex.quote(str(folder or path)))
    is_annexed = ANNEX.search(os.path.realpath(link))
    return MissingDataError(
        f"{link} is a link to {link.readlink()}, which is not there.",
        "a link to a file on this disk",
        get if is_annexed else f"bring back what it leads to, or remove the link; in a DataLad dataset: {get}",
    )


def list_causes(error: BaseException) -> Iterator[BaseException]:
    """Yield ``error``, its cause, the cause of that, and so on; each once, also if one is its own cause."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def get_max_bytes() -> int:
    """Return the bytes of the largest array that is read."""
    return int(_read_number(GB_VARIABLE, MAX_GB) * 1e9)


def get_max_memory() -> int:
    """Return the bytes of memory that a process may take to read a scan."""
    return COPIES * get_max_bytes()


def get_max_seconds() -> float:
    """Return the seconds that reading a scan may take."""
    return _read_number(SECONDS_VARIABLE, MAX_SECONDS)


def check_size(name: str, size: int, stored: int | None = None, max_ratio: int = MAX_RATIO) -> None:
    """Raise :class:`FileLayoutError` if ``name`` states too many bytes, or too many for its ``stored`` bytes."""
    if size > get_max_bytes():
        raise FileLayoutError(
            f"{name} states that it holds {format_bytes(size)}.",
            f"at most {format_bytes(get_max_bytes())}",
            f"if that is right: export {GB_VARIABLE}={math.ceil(size / 1e9) if size < 1e12 else 1000}",
        )
    if stored is not None and size > max(RATIO_FROM, max_ratio * stored):
        raise FileLayoutError(
            f"{name} ({format_bytes(stored)}) states that it holds {format_bytes(size)}.",
            f"at most {max_ratio} times the size of the file",
            "if that is right: write the images again, uncompressed",
        )


def _read_number(variable: str, default: float) -> float:
    text = os.environ.get(variable, "").strip()
    try:
        number = float(text or default)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ArgumentError(f"{variable} is {text!r}.", "a number above 0", f"export {variable}={default:g}")
    return number
