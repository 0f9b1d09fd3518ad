"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from mousecmr_data._utils.progress import format_bytes
from mousecmr_data.errors import CacheError

# MERGED _utils.atomic: The disk's own troubles, as errors that say what to do.


DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


def find_existing_parent(folder: Path) -> Path:
    """The folder, or its nearest ancestor that exists."""
    return next(p for p in (folder, *folder.parents) if p.exists())


def get_free_bytes(folder: Path) -> int:
    """Bytes that are free where ``folder`` is, or would be."""
    return shutil.disk_usage(find_existing_parent(folder)).free


def make_disk_full_error(target: Path, needed: int | None = None) -> CacheError:
    """The error of a disk that cannot hold ``target``."""
    room = f"{format_bytes(needed)} needed, " if needed else ""
    return CacheError(
        f"The disk is full: {target.name} does not fit into {target.parent}.",
        f"{room}{format_bytes(get_free_bytes(target.parent))} free",
        "free some space, or choose another disk: export MOUSECMR_CACHE=/path/with/space",
    )


def translate_os_error(error: OSError, target: Path) -> OSError:
    """The error to raise for an OSError met while writing ``target``; itself where it is none of these."""
    if error.errno in DISK_FULL:
        return make_disk_full_error(target)
    if error.errno in NOT_WRITABLE and not isinstance(error, CacheError):
        return CacheError(
            f"The folder {target.parent} cannot be written ({error.strerror}).",
            "a folder you may write to",
            "export MOUSECMR_CACHE=/a/folder/of/yours",
        )
    return error


@contextmanager
def atomic_path(path: str | PathLike[str]) -> Iterator[Path]:
    """A temporary path with the same ending beside ``path``, renamed to it when the block ends well."""
    target = Path(path)
    partial = target.with_name(f".{os.getpid()}.part.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as e:
        raise translate_os_error(e, target) from e
    finally:
        partial.unlink(missing_ok=True)
