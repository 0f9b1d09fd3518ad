"""Write files (bytes, text, JSON) and folders atomically: temporary name, fsync, rename, readable by all (0644, 0755).

A write that fails leaves the target unchanged and no temporary file. A process that is killed can leave one, whose
name begins with ``.part-``; :func:`remove_leftovers` removes it. Disk errors become
:class:`~mousecmr_data.errors.CacheError` with a next step.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from functools import cache
from glob import escape
from os import PathLike
from pathlib import Path
from typing import Any

from mousecmr_data._utils.system import fsync_file, fsync_folder, make_long_path_error, move
from mousecmr_data._utils.text import format_bytes
from mousecmr_data.errors import CacheError, MouseCMRError, OutputError

PART = ".part-"
"""Prefix of temporary names."""
TOKEN_BYTES = 4
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


@contextmanager
def atomic_path(path: str | PathLike[str], *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path with the same ending beside ``path``; rename it when the block ends without an error.

    ``durable``: sync the file and its folder to disk, so that the file survives a power cut.
    """
    target = Path(path)
    partial = _make_temporary_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.chmod(0o644)
        if durable:
            fsync_file(partial)
        move(partial, target)
        if durable:
            fsync_folder(target.parent)
    except OSError as e:
        raise _translate_target_error(e, target) from e
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_bytes(path: str | PathLike[str], data: bytes) -> Path:
    """Write ``data`` to ``path`` and return the path."""
    with atomic_path(path) as partial:
        partial.write_bytes(data)
    return Path(path)


def write_text(path: str | PathLike[str], text: str) -> Path:
    """Write ``text`` to ``path`` in UTF-8, with unchanged line endings, and return the path."""
    return write_bytes(path, text.encode())


def to_json_value(value: Any) -> Any:
    """Return ``value`` in JSON types: NaN and infinity as null, NumPy scalars as numbers, other objects as text."""
    if isinstance(value, Mapping):
        return {str(k): to_json_value(v) for k, v in value.items()}
    if isinstance(value, list | tuple | Set):
        return [to_json_value(v) for v in value]
    if hasattr(value, "item") and not isinstance(value, str):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def dump_json(value: Any, *, ascii_only: bool = False) -> str:
    """Return ``value`` as indented JSON text with a newline at the end; ``ascii_only`` escapes all other characters."""
    return json.dumps(to_json_value(value), indent=1, ensure_ascii=ascii_only) + "\n"


def write_json(path: str | PathLike[str], value: Any) -> Path:
    """Write ``value`` to ``path`` as JSON, atomically, and return the path."""
    return write_text(path, dump_json(value))


@contextmanager
def atomic_folder(path: str | PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``; rename it when the block ends without an error.

    With ``overwrite`` an older folder is replaced. A folder cannot be replaced in one step, so it is moved aside
    first: at any moment there is the old one, none, or the new one. Without, raises CacheError if ``path`` exists.
    """
    target = Path(path).absolute()
    if target.exists() and not overwrite:
        raise make_exists_error(target)
    with temporary_folder(target) as partial:
        yield partial
        if target.exists() and not overwrite:  # somebody else made it meanwhile
            raise make_exists_error(target)
        replace_folder(partial, target)


@contextmanager
def temporary_folder(path: str | PathLike[str]) -> Iterator[Path]:
    """Yield a new temporary folder beside ``path``, on the same disk; remove it when the block ends."""
    target = Path(path).absolute()
    partial = _make_temporary_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
        yield partial
    except OSError as e:
        raise _translate_target_error(e, target) from e
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def replace_folder(partial: Path, target: Path) -> None:
    """Sync the folder ``partial`` to disk and rename it to ``target``; move an older folder aside first."""
    for file in partial.rglob("*"):
        if file.is_file():
            fsync_file(file)
    partial.chmod(0o755)
    old = _make_temporary_name(target)
    if target.exists():
        move(target, old)
    move(partial, target)
    fsync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@cache
def list_leftovers(folder: Path) -> frozenset[str]:
    """Return the names of which killed processes left something in ``folder``, which may hold thousands of others.

    It is listed once by each process: what is left later is found by the next.
    """
    return frozenset(path.name[len(PART) + 2 * TOKEN_BYTES + 1 :] for path in folder.glob(f"{PART}*"))


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes left in ``folder``, of ``name`` or of all names; the caller must hold a lock."""
    for leftover in folder.glob(f"{PART}{'?' * 2 * TOKEN_BYTES}-{escape(name) if name else '*'}"):
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def get_free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of ``folder``, which need not exist yet."""
    return shutil.disk_usage(next(p for p in (folder, *folder.parents) if p.exists())).free


def make_disk_full_error(target: Path, needed: int | None = None) -> CacheError:
    """Return the error for a disk that is too full for ``target``."""
    needed_text = f"{format_bytes(needed)} needed, " if needed else ""
    place = re.sub(rf"{re.escape(PART)}\w{{{2 * TOKEN_BYTES}}}-", "", str(target.parent))
    error = CacheError(
        f"The disk is full: {target.name} does not fit into {place}.",
        f"{needed_text}{format_bytes(get_free_bytes(target.parent))} free",
        "free some space, or choose a folder on another disk (for the cache: export MOUSECMR_CACHE=/path/with/space)",
    )
    error.errno = errno.ENOSPC
    return error


def make_exists_error(target: Path) -> OutputError:
    """Return the error for a target path that exists."""
    return OutputError(f"{target} exists.", "a path that does not exist", "give another path, or move it away")


def translate_os_error(error: OSError, target: Path) -> OSError:
    """Return the error to raise for an OSError while writing ``target``: a CacheError if the disk is the cause."""
    if isinstance(error, MouseCMRError):
        return error
    if long := make_long_path_error(error, target):
        return long
    lost = error.errno is None and not get_free_bytes(target.parent)  # NumPy gives no number
    if error.errno in DISK_FULL or lost:
        return make_disk_full_error(target)
    if error.errno in NOT_WRITABLE:
        return CacheError(
            f"The folder {target.parent} cannot be written ({error.strerror}).",
            "a writable folder",
            "choose another folder (for the cache: export MOUSECMR_CACHE=/path/to/your/folder)",
        )
    return error


def _translate_target_error(error: OSError, target: Path) -> OSError:
    """Translate ``error`` only if it concerns ``target``: the block may read other files, too."""
    if error.filename is not None:
        path = Path(os.fsdecode(error.filename))
        if not (path.is_relative_to(target.parent) or target.is_relative_to(path)):
            return error
    return translate_os_error(error, target)


def _make_temporary_name(target: Path) -> Path:
    return target.with_name(f"{PART}{secrets.token_hex(TOKEN_BYTES)}-{target.name}")
