"""The disk's own troubles, as errors that say what to do."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from mousecmr_data.errors import CacheError
from mousecmr_data.files.progress import human

FULL = (errno.ENOSPC, errno.EDQUOT)
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def existing(folder: Path) -> Path:
    """The folder, or its nearest ancestor that exists."""
    return next(p for p in (folder, *folder.parents) if p.exists())


def free(folder: Path) -> int:
    """Bytes that are free where ``folder`` is, or would be."""
    return shutil.disk_usage(existing(folder)).free


def full(target: Path, needed: int | None = None) -> CacheError:
    """The error of a disk that cannot hold ``target``."""
    room = f"{human(needed)} needed, " if needed else ""
    return CacheError(
        f"The disk is full: {target.name} does not fit into {target.parent}.",
        f"{room}{human(free(target.parent))} free",
        "free some space, or choose another disk: export MOUSECMR_CACHE=/path/with/space",
    )


def trouble(error: OSError, target: Path) -> OSError:
    """The error to raise for an OSError met while writing ``target``; itself where it is none of these."""
    if error.errno in FULL:
        return full(target)
    if error.errno in FORBIDDEN and not isinstance(error, CacheError):
        return CacheError(
            f"The folder {target.parent} cannot be written ({error.strerror}).",
            "a folder you may write to",
            "export MOUSECMR_CACHE=/a/folder/of/yours",
        )
    return error
