"""The rules of Windows, imposed on this process on Linux: what breaks one of them fails as it does there.

No ``os.pread``, no ``fcntl``, no folder that can be opened; no file is moved while it, or the file at its new place, is
open or mapped; no name of a device; no path of more than 259 characters; text files have an encoding, which without a
word would be cp1252. For one test as the fixture ``windows``; for all with ``MOUSECMR_WINDOWS=1`` (make test-windows).
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mousecmr_data._utils import system
from mousecmr_data._utils.text import is_reserved

PACKAGE = str(Path(system.__file__).parents[1])
IN_USE = "The process cannot access the file because it is being used by another process"


def list_open_files() -> set[str]:
    """Return the real paths of the files that this process has open or mapped."""
    found = set()
    for handle in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(handle.readlink()))
        except OSError:  # that of the listing
            continue
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return found | {line.split(maxsplit=5)[5] for line in maps if "/" in line}


def check_free(*paths: Any) -> None:
    """Raise PermissionError if one of ``paths``, or a file in it, is open."""
    opened = list_open_files()
    for path in map(os.path.realpath, paths):
        if any(name == path or name.startswith(f"{path}/") for name in opened):
            raise PermissionError(errno.EACCES, IN_USE, path)


def check_path(path: Any) -> None:
    """Raise OSError if ``path`` is too long, or the name of a device."""
    if isinstance(path, str | os.PathLike):
        text = str(Path(path).absolute())
        if len(text) > system.MAX_PATH:
            raise FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", text)
        if text.startswith(("/tmp/", "/var/tmp/")) and is_reserved(Path(text).name):
            raise OSError(errno.EINVAL, "The filename, directory name, or volume label syntax is incorrect", text)


def impose(patch: pytest.MonkeyPatch) -> None:
    """Impose the rules until ``patch`` is undone."""
    os_open, io_open, os_mkdir, os_replace, os_rename = os.open, io.open, os.mkdir, os.replace, os.rename

    def open_handle(path: Any, *args: Any, **options: Any) -> int:
        check_path(path)
        if (
            isinstance(path, str | os.PathLike)
            and Path(path).is_dir()
            and sys._getframe(1).f_code.co_filename.startswith(PACKAGE)
        ):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return os_open(path, *args, **options)

    def open_file(
        file: Any, mode: str = "r", buffering: int = -1, encoding: str | None = None, *args: Any, **options: Any
    ) -> Any:
        check_path(file)
        caller = sys._getframe(1)
        while caller.f_back and "pathlib" in caller.f_code.co_filename:
            caller = caller.f_back
        if "b" not in mode and encoding in (None, "locale") and caller.f_code.co_filename.startswith(PACKAGE):
            raise AssertionError(f"{file} is opened without an encoding")
        return io_open(file, mode, buffering, encoding, *args, **options)

    def mkdir(path: Any, *args: Any, **options: Any) -> None:
        check_path(path)
        os_mkdir(path, *args, **options)

    def replace(source: Any, target: Any, **options: Any) -> None:
        check_free(source, target)
        os_replace(source, target, **options)

    def rename(source: Any, target: Any, **options: Any) -> None:
        if Path(target).exists():
            raise FileExistsError(errno.EEXIST, "File exists", target)
        check_free(source, target)
        os_rename(source, target, **options)

    for name in ("pread", "O_DIRECTORY"):  # filelock, imported on Linux, needs O_NOFOLLOW
        patch.delattr(os, name)
    patch.setitem(sys.modules, "fcntl", None)
    patch.setattr(system, "is_windows", lambda: True)
    for module, name, function in (
        (os, "open", open_handle),
        (io, "open", open_file),
        (os, "mkdir", mkdir),
        (os, "replace", replace),
        (os, "rename", rename),
    ):
        patch.setattr(module, name, function)
