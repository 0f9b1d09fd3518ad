"""Tell what the system refused (permission, locks, a lost disk, too many open files) from what a file holds.

A reader that fails calls :func:`check_access` before it calls a file damaged: a sound file must not be thrown away, or
written again, because a disk did not answer.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from mousecmr_data.errors import FileLayoutError, MissingDataError, MouseCMRError, ReadError

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
    for cause in _list_causes(error):
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


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__
